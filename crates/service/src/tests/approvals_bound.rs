//! What exactly others approve, when they are asked, and when their votes are looked at.

use super::approvals::{
    approvals, approve, arn, asked, attach, bench, by, created, deletable, delete, principal, put, shown,
};
use super::bench::{Bench, exception};
use crate::core::meant::Whom;
use crate::{
    ApprovalStanding, Attached, CreateAliasInput, CreateGrantInput, CreateKeyInput, Error, PutKeyPolicyInput,
    ResyncInput,
};
use model::exception::Exception;
use model::operation::Operation;

/// The vote's permission is taken away between the count and the spending: one change waits for the other.
#[tokio::test]
async fn votes_are_counted_again_once_the_approval_is_spent() {
    let bench = bench().await;
    let (key, admin) = (deletable(&bench).await, by(&bench, "admin"));
    for _ in 0..5 {
        let id = asked(delete(&bench, "anna", &key, 7).await);
        for name in ["bert", "carl"] {
            approve(&bench, name, &id).await.unwrap();
        }
        let detaching = bench.service.detach_policy(&admin, "Approver", Attached::Principal(arn("bert")));
        let (detached, deleted) = tokio::join!(detaching, delete(&bench, "anna", &key, 7));
        detached.unwrap();
        let denied = deleted.expect_err("who may not approve any more does not count");
        assert_eq!((denied.exception, denied.retryable), (Exception::AccessDenied, false), "{denied}");
        attach(&bench, "Approver", "bert").await;
    }
}

#[tokio::test]
async fn what_cannot_be_shown_cannot_be_approved() {
    let bench = bench().await;
    bench.service.set_approvals(approvals(&[Operation::TagResource], 1));
    let key = created(&bench).await;
    let tagged = async |tags: usize| {
        // A letter of it takes eight to be shown.
        let tags = (0..tags).map(|at| (format!("tag-{at}"), "\u{2028}".repeat(256))).collect();
        bench.service.tag_resource(&by(&bench, "anna"), &key, tags).await
    };
    assert_eq!(exception(tagged(50).await), Exception::LimitExceeded);
    assert_eq!(bench.store.catalogue().approvals_after(None).count(), 0);
    asked(tagged(20).await);
}

/// Somebody else of this name.
async fn made_anew(bench: &Bench, name: &str) {
    bench.service.delete_principal(&by(bench, "admin"), &arn(name)).await.unwrap();
    principal(bench, name).await;
}

fn policy_for(name: &str) -> String {
    let (root, who) = ("arn:aws:iam::111122223333:root", arn(name));
    format!(
        "{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":[\"{root}\",\"{who}\"]}},\
         \"Action\":\"kms:*\",\"Resource\":\"*\"}}]}}"
    )
}

#[tokio::test]
async fn who_has_an_arn_later_is_not_who_was_meant() {
    let bench = bench().await;
    let key = created(&bench).await;
    principal(&bench, "eve").await;
    let operations = [
        Operation::PutKeyPolicy,
        Operation::CreateKey,
        Operation::CreateGrant,
        Operation::AttachPolicy,
        Operation::AddPrincipalIdentity,
    ];
    bench.service.set_approvals(approvals(&operations, 1));
    let (service, anna, key) = (&bench.service, by(&bench, "anna"), &key);
    let input =
        |key_id: &str| PutKeyPolicyInput { key_id: key_id.into(), policy: policy_for("eve"), ..Default::default() };
    let grant = || CreateGrantInput {
        key_id: key.clone(),
        grantee: arn("eve"),
        operations: vec!["Encrypt".into()],
        ..Default::default()
    };
    let of = |at: usize| {
        let anna = &anna;
        async move {
            match at {
                0 => service.put_key_policy(anna, input(key)).await.map(drop),
                1 => {
                    let policy = policy_for("eve");
                    service.create_key(anna, CreateKeyInput { policy, ..Default::default() }).await.map(drop)
                }
                2 => service.create_grant(anna, grant()).await.map(drop),
                3 => service.attach_policy(anna, "Auditor", Attached::Principal(arn("eve"))).await,
                _ => service.add_principal_identity(anna, &arn("eve"), "cn:eve-2").await,
            }
        }
    };
    for (at, operation) in operations.iter().enumerate() {
        let id = asked(of(at).await);
        approve(&bench, "bert", &id).await.unwrap();
        made_anew(&bench, "eve").await;
        let next = asked(of(at).await);
        assert_ne!(next, id, "{operation:?} is about somebody else");
        approve(&bench, "bert", &next).await.unwrap();
        let done = of(at).await;
        assert!(done.is_ok(), "{operation:?}: {done:?}");
    }
    // Nor is it who is meant by a call that is in hand.
    let core = &service.core;
    let (whom, unasked) = (Whom::named(&arn("eve")), Whom::named(&arn("eve")));
    let id = whom.id(core).cloned();
    assert_eq!(whom.now(core).unwrap().id, id.unwrap());
    made_anew(&bench, "eve").await;
    assert_eq!(exception(whom.now(core).map(drop)), Exception::Conflict);
    assert!(unasked.now(core).is_ok(), "where nobody is asked, an ARN means whoever has it");
}

async fn alias(bench: &Bench, name: &str, key: &str) {
    let input = CreateAliasInput { alias_name: name.into(), target_key_id: key.into(), ..Default::default() };
    bench.service.create_alias(&by(bench, "admin"), input).await.unwrap();
}

#[tokio::test]
async fn an_alias_means_the_key_that_had_it() {
    let bench = bench().await;
    let [one, two, three] = [created(&bench).await, created(&bench).await, created(&bench).await];
    alias(&bench, "alias/x", &one).await;
    let (service, anna, admin) = (&bench.service, by(&bench, "anna"), by(&bench, "admin"));
    service.set_approvals(approvals(&[Operation::DeleteAlias], 1));
    let id = asked(service.delete_alias(&anna, "alias/x").await);
    approve(&bench, "bert", &id).await.unwrap();
    service.update_alias(&admin, "alias/x", &two).await.unwrap();
    let next = asked(service.delete_alias(&anna, "alias/x").await);
    assert_ne!(next, id);
    service.set_approvals(approvals(&[Operation::DeleteAlias, Operation::UpdateAlias], 1));
    let moving = asked(service.update_alias(&anna, "alias/x", &three).await);
    for id in [&next, &moving] {
        approve(&bench, "bert", id).await.unwrap();
    }
    service.update_alias(&anna, "alias/x", &three).await.unwrap();
    let last = asked(service.delete_alias(&anna, "alias/x").await);
    assert_ne!(last, next);
    approve(&bench, "bert", &last).await.unwrap();
    service.delete_alias(&anna, "alias/x").await.unwrap();
}

/// A call that would be denied for what it needs beside what it names.
#[tokio::test]
async fn nobody_is_asked_for_what_would_be_denied() {
    let bench = bench().await;
    let (key, closed, other) = (created(&bench).await, created(&bench).await, created(&bench).await);
    alias(&bench, "alias/x", &key).await;
    principal(&bench, "dora").await;
    let on = |action: &str, resource: &str| {
        format!("{{\"Effect\":\"Allow\",\"Action\":\"{action}\",\"Resource\":\"{resource}\"}}")
    };
    let statements = [
        on("kms:*", "arn:aws:kms:*:*:alias/*"),
        on("kms:CreateKey", "*"),
        on("keystored:ResyncKeys", "arn:aws:kms:*:*:cluster/*"),
    ];
    put(&bench, "Few", &statements.join(",")).await;
    attach(&bench, "Few", "dora").await;
    let (service, dora) = (&bench.service, by(&bench, "dora"));
    service.schedule_key_deletion(&by(&bench, "admin"), &closed, None).await.unwrap();
    let operations = [
        Operation::CreateAlias,
        Operation::UpdateAlias,
        Operation::DeleteAlias,
        Operation::CreateKey,
        Operation::ResyncKeys,
    ];
    service.set_approvals(approvals(&operations, 1));
    let to =
        |key: &str| CreateAliasInput { alias_name: "alias/y".into(), target_key_id: key.into(), ..Default::default() };
    let tagged = CreateKeyInput { tags: vec![("team".into(), "red".into())], ..Default::default() };
    let cluster_id = bench.fake.id.to_string();
    let resync = ResyncInput { cluster_id, key_id: key.clone(), ..Default::default() };
    let denied: [Result<(), Error>; 5] = [
        service.create_alias(&dora, to(&key)).await,
        service.update_alias(&dora, "alias/x", &key).await,
        service.delete_alias(&dora, "alias/x").await,
        service.create_key(&dora, tagged.clone()).await.map(drop),
        service.resync_keys(&dora, resync.clone()).await.map(drop),
    ];
    for (operation, denied) in operations.iter().zip(denied) {
        let error = denied.unwrap_err();
        assert!(error.message.contains("is not authorized to perform"), "{operation:?}: {error}");
    }
    let anna = by(&bench, "anna");
    assert_eq!(exception(service.create_alias(&anna, to(&closed)).await), Exception::KmsInvalidState);
    assert_eq!(exception(service.update_alias(&anna, "alias/x", &closed).await), Exception::KmsInvalidState);
    assert_eq!(exception(service.delete_alias(&anna, "alias/none").await), Exception::NotFound);
    assert_eq!(bench.store.catalogue().approvals_after(None).count(), 0, "nobody was asked");
    // Whoever has the permissions asks.
    asked(service.create_alias(&anna, to(&key)).await);
    asked(service.update_alias(&anna, "alias/x", &other).await);
    asked(service.delete_alias(&anna, "alias/x").await);
    asked(service.create_key(&anna, tagged).await);
    asked(service.resync_keys(&anna, resync).await);
    asked(service.create_key(&dora, CreateKeyInput::default()).await);
}

#[tokio::test]
async fn who_is_no_longer_mapped_is_the_same_person() {
    let bench = bench().await;
    let (key, admin) = (deletable(&bench).await, by(&bench, "admin"));
    principal(&bench, "pat").await;
    attach(&bench, "Approver", "pat").await;
    let service = &bench.service;
    let map = async || service.add_principal_identity(&admin, &arn("pat"), "cn:admin").await.unwrap();
    let unmap = async || service.remove_principal_identity(&admin, &arn("pat"), "cn:admin").await.unwrap();
    map().await;
    let own = asked(delete(&bench, "admin", &key, 9).await);
    let [id, other] = [asked(delete(&bench, "anna", &key, 7).await), asked(delete(&bench, "anna", &key, 8).await)];
    assert_eq!(approve(&bench, "admin", &id).await.unwrap().given, 1);
    // By another certificate, at a time when this one is the principal's too.
    assert_eq!(approve(&bench, "pat", &other).await.unwrap().given, 1);
    unmap().await;
    for id in [&id, &other] {
        let view = approve(&bench, "admin", id).await.unwrap();
        let counting = view.votes.iter().filter(|vote| vote.counts).count();
        assert_eq!((view.votes.len(), view.given, counting), (2, 1, 1), "{view:?}");
    }
    // Who asked has no vote as whom it is now either.
    assert_eq!(exception(approve(&bench, "admin", &own).await), Exception::Conflict);
    // Nor does it help to come from somebody else's principal.
    service.add_principal_identity(&admin, &arn("carl"), "cn:admin").await.unwrap();
    assert_eq!(approve(&bench, "admin", &id).await.unwrap().given, 1);
    assert_eq!(asked(delete(&bench, "anna", &key, 7).await), id);
    assert_eq!(approve(&bench, "bert", &id).await.unwrap().given, 2);
    delete(&bench, "anna", &key, 7).await.unwrap();
}

#[tokio::test]
async fn what_waits_for_somebody_who_is_gone_takes_nobody_s_place() {
    let bench = bench().await;
    let key = deletable(&bench).await;
    let id = asked(delete(&bench, "anna", &key, 7).await);
    bench.service.delete_principal(&by(&bench, "admin"), &arn("anna")).await.unwrap();
    assert_eq!(shown(&bench, &id).await.standing, ApprovalStanding::Refused);
    assert!(bench.service.list_approvals(&by(&bench, "bert"), false, None, "").await.unwrap().items.is_empty());
}
