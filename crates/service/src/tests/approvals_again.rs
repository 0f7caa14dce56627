//! Calls that come again after others have approved them and they were carried out: an answer was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::approvals::{approvals, approve, arn, asked, attach, bench, by, created, principal};
use super::bench::{Bench, SPARE, anchor, exception};
use crate::core::access::Named;
use crate::core::directory::default_document;
use crate::core::pin_record::said_of;
use crate::core::repeated::{Again, Done};
use crate::{
    CreateAliasInput, CreateGrantInput, CreateKeyInput, CreateKeyStoreInput, Error, PutKeyPolicyInput, RequestContext,
};
use cluster::kmsuser::Said;
use model::exception::Exception;
use model::id::{HsmId, KeyId, KeyStoreId};
use model::operation::Operation;
use model::secret::Secret;
use store::NewKeyStore;
use store::access::ApprovalState;

fn with_token(token: &str) -> CreateKeyInput {
    CreateKeyInput { client_token: token.into(), ..CreateKeyInput::default() }
}

async fn create(bench: &Bench, name: &str, input: CreateKeyInput) -> Result<KeyId, Error> {
    bench.service.create_key(&by(bench, name), input).await.map(|key| key.id)
}

/// How many approvals wait.
fn waiting(bench: &Bench) -> usize {
    let catalogue = bench.store.catalogue();
    catalogue.approvals_after(None).filter(|approval| approval.state == ApprovalState::Waiting).count()
}

#[tokio::test]
async fn a_key_that_was_made_is_given_again_for_its_client_token() {
    let bench = bench().await;
    principal(&bench, "dora").await;
    attach(&bench, "Ask", "dora").await;
    bench.service.set_approvals(approvals(&[Operation::CreateKey], 1));
    let id = asked(create(&bench, "anna", with_token("lost")).await);
    approve(&bench, "bert", &id).await.unwrap();
    let key = create(&bench, "anna", with_token("lost")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(create(&bench, "anna", with_token("lost")).await.unwrap(), key);
    }
    assert_eq!((waiting(&bench), bench.store.catalogue().key_count()), (0, 1), "nobody is asked for it again");

    // The token makes nothing of another call's, nor of another principal's.
    let other = CreateKeyInput { description: "other".into(), ..with_token("lost") };
    assert_eq!(exception(create(&bench, "anna", other).await), Exception::Conflict);
    asked(create(&bench, "dora", with_token("lost")).await);
    asked(create(&bench, "anna", with_token("another")).await);
    asked(create(&bench, "anna", CreateKeyInput::default()).await);
    assert_eq!(bench.store.catalogue().key_count(), 1);
    // Nor does it help who may not make keys any more.
    let of_anna = || crate::Attached::Principal(arn("anna"));
    bench.service.detach_policy(&by(&bench, "admin"), "Ask", of_anna()).await.unwrap();
    let denied = create(&bench, "anna", with_token("lost")).await.unwrap_err();
    assert!(denied.message.contains("is not authorized to perform"), "{denied}");
}

/// The second try comes before the first one has ended.
#[tokio::test]
async fn tries_of_one_call_at_once_are_one_call() {
    let bench = bench().await;
    bench.service.set_approvals(approvals(&[Operation::CreateKey], 1));
    let id = asked(create(&bench, "anna", with_token("lost")).await);
    approve(&bench, "bert", &id).await.unwrap();
    let tries = (0..8).map(|_| create(&bench, "anna", with_token("lost")));
    let keys: Vec<KeyId> = futures_util::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!((waiting(&bench), bench.store.catalogue().key_count()), (0, 1));
}

#[tokio::test]
async fn a_client_token_that_is_forgotten_is_another_call() {
    let bench = bench().await;
    bench.service.set_approvals(approvals(&[Operation::CreateKey], 1));
    let id = asked(create(&bench, "anna", with_token("lost")).await);
    approve(&bench, "bert", &id).await.unwrap();
    create(&bench, "anna", with_token("lost")).await.unwrap();
    bench.clock.advance(store::CLIENT_TOKEN_LIFE);
    asked(create(&bench, "anna", with_token("lost")).await);
}

/// What is carried out by calls that change nothing when they come again.
async fn carried_out(bench: &Bench, operation: Operation, key: &str, spare: &str) -> Result<String, Error> {
    let (service, anna, key_id) = (&bench.service, &by(bench, "anna"), key.to_owned());
    let nothing = |()| String::new();
    match operation {
        Operation::EnableKey => service.enable_key(anna, spare).await.map(nothing),
        Operation::DisableKey => service.disable_key(anna, key).await.map(nothing),
        Operation::UpdateKeyDescription => service.update_key_description(anna, key, "new".into()).await.map(nothing),
        Operation::TagResource => {
            service.tag_resource(anna, key, vec![("team".into(), "red".into())]).await.map(nothing)
        }
        Operation::UntagResource => service.untag_resource(anna, key, vec!["old".into()]).await.map(nothing),
        Operation::UpdateAlias => service.update_alias(anna, "alias/there", key).await.map(nothing),
        Operation::CreateAlias => {
            let (alias_name, client_token) = ("alias/new".into(), "lost".into());
            let input = CreateAliasInput { alias_name, target_key_id: key_id, client_token };
            service.create_alias(anna, input).await.map(nothing)
        }
        Operation::PutKeyPolicy => {
            let policy = default_document(service.core.scope()).replace("\"Sid\"", " \"Sid\"");
            let input = PutKeyPolicyInput { key_id, policy, ..PutKeyPolicyInput::default() };
            service.put_key_policy(anna, input).await.map(|_| String::new())
        }
        Operation::CreateGrant => {
            let input = CreateGrantInput {
                key_id,
                grantee: arn("bert"),
                operations: vec!["Encrypt".into(), "Decrypt".into()],
                name: "lost".into(),
                ..CreateGrantInput::default()
            };
            service.create_grant(anna, input).await.map(|made| made.id.to_string())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_changes_nothing_when_it_comes_again_needs_nobody_again() {
    use Operation as O;
    let bench = bench().await;
    let (key, spare, admin) = (created(&bench).await, created(&bench).await, by(&bench, "admin"));
    let service = &bench.service;
    service.disable_key(&admin, &spare).await.unwrap();
    service.tag_resource(&admin, &key, vec![("old".into(), "1".into())]).await.unwrap();
    let (alias_name, target_key_id) = ("alias/there".into(), spare.clone());
    let alias = CreateAliasInput { alias_name, target_key_id, client_token: String::new() };
    service.create_alias(&admin, alias).await.unwrap();
    let all = [
        O::EnableKey,
        O::UpdateKeyDescription,
        O::TagResource,
        O::UntagResource,
        O::UpdateAlias,
        O::CreateAlias,
        O::CreateGrant,
        O::PutKeyPolicy,
        O::DisableKey,
    ];
    service.set_approvals(approvals(&all, 1));
    for operation in all {
        let id = asked(carried_out(&bench, operation, &key, &spare).await);
        approve(&bench, "bert", &id).await.unwrap();
        let first = carried_out(&bench, operation, &key, &spare).await.unwrap();
        for _ in 0..2 {
            let again = carried_out(&bench, operation, &key, &spare).await;
            assert_eq!(again.unwrap_or_else(|error| panic!("{operation:?}: {error}")), first, "{operation:?}");
        }
        assert_eq!(waiting(&bench), 0, "{operation:?}");
    }
    // Another document is another call.
    let policy = default_document(service.core.scope());
    let other = PutKeyPolicyInput { key_id: key.clone(), policy, ..PutKeyPolicyInput::default() };
    asked(service.put_key_policy(&by(&bench, "anna"), other).await);
}

#[tokio::test]
async fn a_named_grant_is_given_again_to_who_made_it() {
    let bench = bench().await;
    let key = created(&bench).await;
    principal(&bench, "dora").await;
    attach(&bench, "Ask", "dora").await;
    bench.service.set_approvals(approvals(&[Operation::CreateGrant], 1));
    let grant = |operation: &str, name: &str| CreateGrantInput {
        key_id: key.clone(),
        grantee: arn("bert"),
        operations: vec![operation.into()],
        name: name.into(),
        ..CreateGrantInput::default()
    };
    let (service, anna, dora) = (&bench.service, by(&bench, "anna"), by(&bench, "dora"));
    let id = asked(service.create_grant(&anna, grant("Encrypt", "one")).await.map(drop));
    approve(&bench, "bert", &id).await.unwrap();
    let made = service.create_grant(&anna, grant("Encrypt", "one")).await.map(|made| made.id).unwrap();
    assert_eq!(service.create_grant(&anna, grant("Encrypt", "one")).await.map(|made| made.id).unwrap(), made);
    for (call, other) in
        [(&anna, grant("Decrypt", "one")), (&anna, grant("Encrypt", "two")), (&dora, grant("Encrypt", "one"))]
    {
        asked(service.create_grant(call, other).await.map(drop));
    }
    // Without a name each call makes another one.
    asked(service.create_grant(&anna, grant("Encrypt", "")).await.map(drop));
    service.revoke_grant(&by(&bench, "admin"), &key, made.as_str(), false).await.unwrap();
    asked(service.create_grant(&anna, grant("Encrypt", "one")).await.map(drop));
    // Administrators without a principal are one issuer: what one has made is no other one's call.
    service.set_administrators(["cn:admin", "cn:other"].map(str::to_owned).into());
    let [admin, other] = ["admin", "other"].map(|name| by(&bench, name));
    let id = asked(service.create_grant(&admin, grant("Encrypt", "two")).await.map(drop));
    approve(&bench, "bert", &id).await.unwrap();
    service.create_grant(&admin, grant("Encrypt", "two")).await.unwrap();
    for call in [&admin, &other] {
        asked(service.create_grant(call, grant("Encrypt", "two")).await.map(drop));
    }
}

/// Whether a PIN is that of a key store that is there already is told to nobody whose call others have not approved.
#[tokio::test]
async fn a_key_store_s_pin_cannot_be_tried_without_an_approval() {
    let bench = bench().await;
    let (service, anna, trust_anchor) = (&bench.service, by(&bench, "anna"), anchor());
    let (right, wrong) = (Secret::new(b"90713582".to_vec()), Secret::new(b"90713583".to_vec()));
    let (id, hsm) = (KeyStoreId::random(), HsmId::from("hsm-c"));
    let said = Said { pin: Some(&right), was_reset: None };
    let pin = said_of(&service.core, &id, &[], &hsm, said).unwrap().unwrap().after;
    let (of, name, cluster, of_anchor) = (id.clone(), "spare".into(), SPARE.into(), trust_anchor.clone());
    let maker = bench.store.catalogue().principal_with_arn(&arn("anna")).map(|anna| anna.id.clone());
    let new = NewKeyStore { id: of, name, cluster, trust_anchor: of_anchor, pins: vec![(hsm, pin)], maker };
    bench.store.create_key_store(new).await.unwrap();
    let create_by = async |who: &RequestContext, pin: &Secret| {
        let (name, cluster_id, trust_anchor) = ("spare".into(), SPARE.into(), trust_anchor.clone());
        let password = Secret::new(pin.expose().to_vec());
        service.create_key_store(who, CreateKeyStoreInput { name, cluster_id, trust_anchor, password }).await
    };
    let create = async |pin: &Secret| create_by(&anna, pin).await;
    assert_eq!(create(&right).await.unwrap(), id);
    assert_eq!(exception(create(&wrong).await), Exception::CustomKeyStoreNameInUse);
    // Nor is it to anybody else where nobody has to approve it: whatever the PIN, the answer is one.
    principal(&bench, "dora").await;
    attach(&bench, "Ask", "dora").await;
    for other in ["dora", "admin"].map(|name| by(&bench, name)) {
        let [same, another] =
            [create_by(&other, &right).await, create_by(&other, &wrong).await].map(Result::unwrap_err);
        assert_eq!(same.exception, Exception::CustomKeyStoreNameInUse);
        assert_eq!((same.exception, same.message), (another.exception, another.message));
    }
    service.set_approvals(approvals(&[Operation::CreateKeyStore], 1));
    let asked_right = asked(create(&right).await);
    asked(create(&wrong).await);
    assert_eq!(exception(create_by(&by(&bench, "dora"), &right).await), Exception::CustomKeyStoreNameInUse);
    assert_eq!(waiting(&bench), 2);
    approve(&bench, "bert", &asked_right).await.unwrap();
    assert_eq!(create(&right).await.unwrap(), id);
}

/// Whoever repeats a call that changes nothing does not undo what somebody does meanwhile.
#[tokio::test]
async fn what_was_found_done_changes_nothing_any_more() {
    let bench = bench().await;
    let (service, anna) = (&bench.service, by(&bench, "anna"));
    service.set_approvals(approvals(&[Operation::CreateGroup], 1));
    let carried_out = Arc::new(AtomicUsize::new(0));
    let call = async |is_done: bool| {
        let (done, counted) = (Done::default(), Arc::clone(&carried_out));
        let again = Again::seen(&done, "", move |_, _, _| is_done);
        let named = Named::nothing().asking(|_, say| say).unless_done(again);
        let work = async move {
            if !done.is_found() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        service.core.on_one(&anna, Operation::CreateGroup, named, work).await
    };
    call(true).await.unwrap();
    assert_eq!((carried_out.load(Ordering::Relaxed), waiting(&bench)), (0, 0));
    let id = asked(call(false).await);
    approve(&bench, "bert", &id).await.unwrap();
    call(false).await.unwrap();
    assert_eq!(carried_out.load(Ordering::Relaxed), 1);
    // Where nobody has to approve it, it is not looked at.
    service.set_approvals(crate::Approvals::default());
    call(true).await.unwrap();
    assert_eq!(carried_out.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_key_store_that_is_connected_is_nobody_s_to_approve() {
    let bench = bench().await;
    let (service, anna, spare) = (&bench.service, by(&bench, "anna"), bench.spare_key_store().await);
    service.set_approvals(approvals(&[Operation::ConnectKeyStore, Operation::DisconnectKeyStore], 1));
    service.connect_key_store(&anna, bench.key_store.as_str()).await.unwrap();
    // As AWS: what is disconnected cannot be disconnected, whoever approves it.
    assert_eq!(
        exception(service.disconnect_key_store(&anna, spare.as_str()).await),
        Exception::CustomKeyStoreInvalidState
    );
    assert_eq!(waiting(&bench), 0);
    asked(service.disconnect_key_store(&anna, bench.key_store.as_str()).await);
    asked(service.connect_key_store(&anna, spare.as_str()).await);
}
