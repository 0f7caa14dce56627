//! Changes of who may do what that are in hand while another one is made.

use futures_util::future::BoxFuture;

use super::access::{HERE, arn, attach, bench, by, created, principal, statement};
use super::bench::exception;
use crate::{Attached, CreateAliasInput, CreateGrantInput, CreateKeyInput, CreatePrincipalInput, Error};
use model::exception::Exception;

/// Has tasks that can go on do so.
async fn others_go_on() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// What was in hand when a change took its permission away is refused when its turn comes, and leaves nothing behind.
#[tokio::test]
async fn a_change_in_hand_is_not_made_after_the_answer_to_what_forbids_it() {
    let bench = bench().await;
    let key = created(&bench).await.arn;
    let bob = principal(&bench, HERE, "bob").await;
    let statements = ["kms:CreateGrant", "keystored:CreatePrincipal"].map(|action| statement("Allow", action, "*"));
    attach(&bench, &bob, "makes", &statements.join(",")).await;
    let service = &bench.service;
    let make = async || {
        let (key_id, grantee) = (key.clone(), arn(HERE, "bob"));
        let input = CreateGrantInput { key_id, grantee, operations: vec!["Decrypt".into()], ..Default::default() };
        service.create_grant(&by(&bench, "bob"), input).await.map(drop)
    };
    let mapped = async || {
        let input = CreatePrincipalInput { arn: arn(HERE, "eve"), ..CreatePrincipalInput::default() };
        service.create_principal(&by(&bench, "bob"), input).await.map(drop)
    };
    make().await.unwrap();
    let before = bench.store.catalogue().principals_after(None).count();
    let admin = by(&bench, "admin");
    let turn = bench.service.core.access_turn().await;
    let (taken, granted, made) =
        (service.detach_policy(&admin, "makes", Attached::Principal(arn(HERE, "bob"))), make(), mapped());
    tokio::pin!(taken, granted, made);
    // Each of them was allowed when it came, and waits in this order.
    assert!(futures_util::poll!(&mut taken).is_pending());
    others_go_on().await;
    assert!(futures_util::poll!(&mut granted).is_pending());
    assert!(futures_util::poll!(&mut made).is_pending());
    others_go_on().await;
    drop(turn);
    taken.await.unwrap();
    assert_eq!(exception(granted.await), Exception::AccessDenied);
    assert_eq!(exception(made.await), Exception::AccessDenied);
    let catalogue = bench.store.catalogue();
    let grants = service.list_grants(&admin, &key, "", "", None, "").await.unwrap().items;
    assert_eq!((grants.len(), catalogue.principals_after(None).count()), (1, before));
}

/// A change of the names and tags of a key, on which conditions may depend, is answered when nothing is given out any more
/// that was decided on before it.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::await_holding_lock, reason = "so that what waits for it does, in another thread")]
async fn names_and_tags_are_changed_when_nothing_old_is_given_out_any_more() {
    let bench = bench().await;
    let [key, other] = [created(&bench).await.arn, created(&bench).await.arn];
    let (service, admin) = (bench.service.clone(), by(&bench, "admin"));
    type Change<'a> = (&'a str, BoxFuture<'static, Result<(), Error>>);
    let of = |what, change: BoxFuture<'static, Result<(), Error>>| -> Change<'_> { (what, change) };
    let again = || (service.clone(), admin.clone(), key.clone());
    let create = |(service, admin, target_key_id): (crate::Service, crate::RequestContext, String)| async move {
        let input = CreateAliasInput { alias_name: "alias/a".into(), target_key_id, ..CreateAliasInput::default() };
        service.create_alias(&admin, input).await
    };
    let tags = || vec![("team".to_owned(), "red".to_owned())];
    let (tag, untag, update, delete) = (again(), again(), again(), again());
    let changes = [
        of("TagResource", Box::pin(async move { tag.0.tag_resource(&tag.1, &tag.2, tags()).await })),
        of(
            "UntagResource",
            Box::pin(async move { untag.0.untag_resource(&untag.1, &untag.2, vec!["team".into()]).await }),
        ),
        of("CreateAlias", Box::pin(create(again()))),
        of("UpdateAlias", Box::pin(async move { update.0.update_alias(&update.1, "alias/a", &other).await })),
        of("DeleteAlias", Box::pin(async move { delete.0.delete_alias(&delete.1, "alias/a").await })),
    ];
    for (what, change) in changes {
        let before = bench.store.revision();
        let released = bench.service.core.hold_release();
        let change = tokio::spawn(change);
        while bench.store.revision() == before {
            tokio::task::yield_now().await;
        }
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert!(!change.is_finished(), "{what} was answered");
        drop(released);
        change.await.unwrap().unwrap();
    }
}

/// The tags that a key is made with are given to a key, as far as policies see it.
#[tokio::test]
async fn tags_of_a_new_key_are_asked_about_as_a_key_s() {
    let bench = bench().await;
    let make = async |name: &str| {
        let tags = vec![("team".to_owned(), "red".to_owned())];
        let input = CreateKeyInput { tags, ..CreateKeyInput::default() };
        bench.service.create_key(&by(&bench, name), input).await.map(drop)
    };
    let create = statement("Allow", "kms:CreateKey", "*");
    let keys = |effect| statement(effect, "kms:TagResource", "arn:aws:kms:*:*:key/*");
    for (name, statements) in [
        ("anna", vec![create.clone()]),
        ("bert", vec![create.clone(), keys("Allow")]),
        ("carl", vec![create.clone(), statement("Allow", "kms:TagResource", "*"), keys("Deny")]),
    ] {
        let id = principal(&bench, HERE, name).await;
        attach(&bench, &id, name, &statements.join(",")).await;
    }
    assert_eq!(exception(make("anna").await), Exception::AccessDenied);
    make("bert").await.unwrap();
    assert_eq!(exception(make("carl").await), Exception::AccessDenied);
}

/// Whoever may map certificates cannot have an administrator's.
#[tokio::test]
async fn only_administrators_map_an_administrator() {
    let bench = bench().await;
    let anna = principal(&bench, HERE, "anna").await;
    attach(&bench, &anna, "maps", &statement("Allow", "keystored:*", "*")).await;
    let service = &bench.service;
    let add = async |name: &str, identity: &str| {
        service.add_principal_identity(&by(&bench, name), &arn(HERE, "anna"), identity).await
    };
    add("anna", "cn:second").await.unwrap();
    assert_eq!(exception(add("anna", "cn:admin").await), Exception::AccessDenied);
    let identities = vec!["cn:other".to_owned(), "cn:admin".to_owned()];
    let input = CreatePrincipalInput { arn: arn(HERE, "carl"), identities, ..CreatePrincipalInput::default() };
    let made = service.create_principal(&by(&bench, "anna"), input.clone()).await;
    assert_eq!(exception(made), Exception::AccessDenied);
    service.create_principal(&by(&bench, "admin"), input).await.unwrap();
}
