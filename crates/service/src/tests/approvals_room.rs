//! Others are not asked to approve what there is no room for, nor what is there already or is not there.

use super::approvals::{approvals, approve, arn, asked, attach, bench, by, created, put};
use super::bench::{Bench, exception};
use crate::core::room;
use crate::{Attached, CreateAliasInput, CreateGrantInput, Error};
use model::exception::Exception;
use model::limits;
use model::operation::Operation;

fn tags(from: usize, to: usize) -> Vec<(String, String)> {
    (from..to).map(|at| (format!("tag-{at}"), "x".into())).collect()
}

async fn alias(bench: &Bench, who: &str, name: &str, key: &str) -> Result<(), Error> {
    let input = CreateAliasInput {
        alias_name: format!("alias/{name}"),
        target_key_id: key.into(),
        ..CreateAliasInput::default()
    };
    bench.service.create_alias(&by(bench, who), input).await
}

fn every_change() -> Vec<Operation> {
    Operation::ALL.iter().copied().filter(|one| one.can_need_approval()).collect()
}

#[tokio::test]
async fn nobody_is_asked_for_what_there_is_no_room_for() {
    let bench = bench().await;
    let (full, other, admin, anna) =
        (created(&bench).await, created(&bench).await, by(&bench, "admin"), by(&bench, "anna"));
    let service = &bench.service;
    for at in 0..limits::ALIASES_PER_KEY {
        alias(&bench, "admin", &format!("a-{at}"), &full).await.unwrap();
    }
    alias(&bench, "admin", "other", &other).await.unwrap();
    service.tag_resource(&admin, &full, tags(0, limits::TAGS_PER_KEY)).await.unwrap();
    service.tag_principal(&admin, &arn("bert"), tags(0, limits::TAGS_PER_PRINCIPAL)).await.unwrap();
    for at in 1..limits::IDENTITIES_PER_PRINCIPAL {
        service.add_principal_identity(&admin, &arn("bert"), &format!("cn:bert-{at}")).await.unwrap();
    }
    for _ in 0..limits::ACCESS_KEYS_PER_PRINCIPAL {
        service.create_access_key(&admin, &arn("bert")).await.map(drop).unwrap();
    }
    for at in 0..=limits::GROUPS_PER_PRINCIPAL {
        service.create_group(&admin, &format!("group-{at}")).await.unwrap();
    }
    for at in 0..limits::GROUPS_PER_PRINCIPAL {
        service.add_group_member(&admin, &format!("group-{at}"), &arn("bert")).await.unwrap();
    }
    // Bert has one of the program's attached.
    for at in 0..limits::POLICIES_PER_HOLDER {
        put(&bench, &format!("policy-{at}"), "{\"Effect\":\"Deny\",\"Action\":\"kms:Sign\",\"Resource\":\"*\"}").await;
        if at + 1 < limits::POLICIES_PER_HOLDER {
            attach(&bench, &format!("policy-{at}"), "bert").await;
        }
    }
    let last = format!("policy-{}", limits::POLICIES_PER_HOLDER - 1);
    service.set_approvals(approvals(&every_change(), 1));
    let bert = || Attached::Principal(arn("bert"));
    let moved = service.update_alias(&anna, "alias/other", &full).await;
    let outcomes = [
        ("an alias", alias(&bench, "anna", "b", &full).await, Exception::LimitExceeded),
        ("an alias that is moved", moved, Exception::LimitExceeded),
        ("an alias that there is", alias(&bench, "anna", "other", &other).await, Exception::AlreadyExists),
        ("a tag", service.tag_resource(&anna, &full, tags(50, 51)).await, Exception::Tag),
        ("a principal's tag", service.tag_principal(&anna, &arn("bert"), tags(50, 51)).await, Exception::LimitExceeded),
        (
            "a certificate",
            service.add_principal_identity(&anna, &arn("bert"), "cn:bert-20").await,
            Exception::LimitExceeded,
        ),
        ("an access key", service.create_access_key(&anna, &arn("bert")).await.map(drop), Exception::LimitExceeded),
        ("a membership", service.add_group_member(&anna, "group-10", &arn("bert")).await, Exception::LimitExceeded),
        ("a policy", service.attach_policy(&anna, &last, bert()).await, Exception::LimitExceeded),
        ("no member", service.remove_group_member(&anna, "group-10", &arn("bert")).await, Exception::NotFound),
        ("not attached", service.detach_policy(&anna, &last, bert()).await, Exception::NotFound),
        ("attached", service.delete_policy(&anna, "policy-0").await, Exception::Conflict),
        ("no store", service.disconnect_key_store(&anna, "cks-0").await, Exception::CustomKeyStoreNotFound),
        (
            "a store that is in use",
            service.delete_key_store(&anna, bench.key_store.as_str()).await,
            Exception::CustomKeyStoreInvalidState,
        ),
    ];
    for (what, outcome, expected) in outcomes {
        let error = outcome.expect_err(what);
        assert_eq!((error.exception, error.approval), (expected, None), "{what}: {}", error.message);
    }
    assert_eq!(bench.store.catalogue().approvals_after(None).count(), 0, "nobody was asked");
    // What is there may be changed although there is no room for more.
    asked(service.tag_resource(&anna, &full, vec![("tag-0".into(), "y".into())]).await);
}

/// What nobody makes in a test by the thousand.
#[tokio::test]
async fn the_large_quotas_are_counted_alike() {
    let bench = bench().await;
    let key = created(&bench).await;
    let id = bench.store.catalogue().keys().next().unwrap().id;
    let catalogue = bench.store.catalogue();
    let keys = |most| room::for_key(&catalogue, &bench.key_store, most);
    assert!(matches!(keys(1), Err(store::Error::TooManyKeys(_, 1))) && keys(2).is_ok());
    let bert = catalogue.principal_with_arn(&arn("bert")).unwrap().id.clone();
    assert!(room::for_principal(&catalogue).is_ok() && room::for_group(&catalogue).is_ok());
    assert!(room::for_policy(&catalogue, &"new".into()).is_ok());
    let granted = async |at: usize| {
        let input = CreateGrantInput {
            key_id: key.clone(),
            grantee: arn("bert"),
            operations: vec!["Encrypt".into()],
            name: at.to_string(),
            ..CreateGrantInput::default()
        };
        bench.service.create_grant(&by(&bench, "anna"), input).await
    };
    for at in 0..limits::GRANTS_PER_GRANTEE {
        granted(at).await.unwrap();
    }
    assert!(room::for_grant(&bench.store.catalogue(), id, &bert).is_err());
    bench.service.set_approvals(approvals(&[Operation::CreateGrant], 1));
    let error = granted(limits::GRANTS_PER_GRANTEE).await.map(drop).unwrap_err();
    assert_eq!((error.exception, error.approval), (Exception::LimitExceeded, None), "{}", error.message);
    granted(0).await.expect("it is there, and is given again");
}

/// The room that there was when others were asked may be gone when the call is made again.
#[tokio::test]
async fn room_is_looked_for_again_when_the_call_is_made_again() {
    let bench = bench().await;
    let key = created(&bench).await;
    for at in 1..limits::ALIASES_PER_KEY {
        alias(&bench, "admin", &format!("a-{at}"), &key).await.unwrap();
    }
    bench.service.set_approvals(approvals(&[Operation::CreateAlias], 1));
    let id = asked(alias(&bench, "anna", "mine", &key).await);
    approve(&bench, "bert", &id).await.unwrap();
    bench.service.set_approvals(crate::Approvals::default());
    alias(&bench, "admin", "theirs", &key).await.unwrap();
    bench.service.set_approvals(approvals(&[Operation::CreateAlias], 1));
    assert_eq!(exception(alias(&bench, "anna", "mine", &key).await), Exception::LimitExceeded);
    bench.service.delete_alias(&by(&bench, "admin"), "alias/theirs").await.unwrap();
    alias(&bench, "anna", "mine", &key).await.expect("it was not spent for nothing");
}
