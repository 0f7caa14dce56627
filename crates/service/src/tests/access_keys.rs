//! Access keys: whom calls are from that are signed with them, how their secrets are kept, and when they end.

use std::sync::Arc;
use std::time::Duration;

use super::access::{HERE, arn, attach, attach_as_it_is, bench, by, created, is_denied, principal, statement};
use super::bench::{Bench, Manner, exception, plain};
use crate::core::recorder::Phase;
use crate::{Approvals, CreatePrincipalInput, CreatedAccessKey, Error, RequestContext};
use model::exception::Exception;
use model::id::AccessKeyId;
use model::operation::Operation;
use pki::seal::{SealKey, SealKeys};

fn signed(bench: &Bench, id: &AccessKeyId) -> RequestContext {
    bench.call_of(&id.identity(), Duration::from_secs(30))
}

async fn made(bench: &Bench, of: &str) -> CreatedAccessKey {
    bench.service.create_access_key(&by(bench, "admin"), &arn(HERE, of)).await.unwrap()
}

async fn encrypt(bench: &Bench, id: &AccessKeyId, key: &str) -> Result<(), Error> {
    bench.service.encrypt(&signed(bench, id), vec![plain(key, b"x")]).await?.remove(0).map(drop)
}

/// Who calls again with its other access key, or with its certificate, means the same call.
#[tokio::test]
async fn a_client_token_is_its_principal_s_whatever_it_comes_with() {
    let bench = bench().await;
    let mut calls = Vec::new();
    for name in ["anna", "eve"] {
        let id = principal(&bench, HERE, name).await;
        attach_as_it_is(&bench, &id, "Administrator", true).await;
        calls.push(signed(&bench, &made(&bench, name).await.key.id));
    }
    let again = signed(&bench, &made(&bench, "anna").await.key.id);
    calls.extend([again, by(&bench, "anna")]);
    let mut keys = Vec::new();
    for call in &calls {
        let input = crate::CreateKeyInput { client_token: "token".into(), ..Default::default() };
        keys.push(bench.service.create_key(call, input).await.unwrap().id);
    }
    let [first, of_eve, again, by_certificate] = keys[..] else { panic!("{keys:?}") };
    assert_eq!([again, by_certificate], [first; 2]);
    assert_ne!(of_eve, first);
}

/// Whether these bytes are in any file of the metadata.
fn is_on_disk(bench: &Bench, bytes: &[u8]) -> bool {
    let files: Vec<_> = std::fs::read_dir(bench.folder()).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.iter().any(|file| file.ends_with("keystored.db")));
    files.iter().any(|file| std::fs::read(file).unwrap().windows(bytes.len()).any(|window| window == bytes))
}

#[tokio::test]
async fn calls_that_are_signed_with_an_access_key_are_its_principal_s_until_it_ends() {
    let bench = bench().await;
    let (key, anna) = (created(&bench).await, principal(&bench, HERE, "anna").await);
    attach_as_it_is(&bench, &anna, "KeyUser", true).await;
    let (service, admin, of) = (&bench.service, by(&bench, "admin"), arn(HERE, "anna"));
    let CreatedAccessKey { key: shown, secret } = made(&bench, "anna").await;
    let id = shown.id.clone();
    assert_eq!((&shown.principal, shown.active, &shown.last_used), (&of, true, &None));
    assert!(AccessKeyId::parse(id.as_str()).is_some() && secret.len() == 40);
    let known = service.access_key(id.as_str()).unwrap();
    assert_eq!((known.principal.as_str(), &*known.secret), (&*id.identity(), &secret));
    encrypt(&bench, &id, &key.arn).await.unwrap();
    let me = service.who_am_i(&signed(&bench, &id)).await.unwrap();
    assert_eq!((me.identity, me.administrator), (format!("access-key:{id}"), false));
    assert_eq!(me.principal.unwrap().id, anna);

    // Neither its id alone nor another one's is known.
    for unknown in [AccessKeyId::random().as_str(), "", "cn:anna", &id.identity()] {
        assert!(service.access_key(unknown).is_none(), "{unknown}");
    }
    assert!(is_denied(encrypt(&bench, &AccessKeyId::random(), &key.arn).await));
    // Nobody has a certificate of such a name.
    let add = service.add_principal_identity(&admin, &of, &id.identity()).await;
    let (identities, arn_of_new) = (vec![AccessKeyId::random().identity()], arn(HERE, "new"));
    let input = CreatePrincipalInput { arn: arn_of_new, identities, ..CreatePrincipalInput::default() };
    let create = service.create_principal(&admin, input).await.map(drop);
    assert_eq!([exception(add), exception(create)], [Exception::Validation; 2]);

    service.disable_access_key(&admin, &of, id.as_str()).await.unwrap();
    assert!(service.access_key(id.as_str()).is_none());
    let refused = encrypt(&bench, &id, &key.arn).await.unwrap_err();
    assert_eq!(refused.exception, Exception::AccessDenied);
    assert!(refused.message.contains("disabled or deleted"), "{refused}");
    service.enable_access_key(&admin, &of, id.as_str()).await.unwrap();
    assert_eq!(*service.access_key(id.as_str()).unwrap().secret, secret);
    encrypt(&bench, &id, &key.arn).await.unwrap();
    service.delete_access_key(&admin, &of, id.as_str()).await.unwrap();
    assert!(service.access_key(id.as_str()).is_none() && is_denied(encrypt(&bench, &id, &key.arn).await));
    for wrong in [id.as_str(), "AKIAIOSFODNN7EXAMPLE"] {
        assert_eq!(exception(service.enable_access_key(&admin, &of, wrong).await), Exception::NotFound);
    }
    assert_eq!(exception(service.enable_access_key(&admin, &of, "").await), Exception::Validation);

    // With its principal; a call in hand that had its secret has it still.
    let last = made(&bench, "anna").await;
    let in_hand = service.access_key(last.key.id.as_str()).unwrap();
    service.delete_principal(&admin, &of).await.unwrap();
    assert!(service.access_key(last.key.id.as_str()).is_none());
    assert!(is_denied(encrypt(&bench, &last.key.id, &key.arn).await));
    assert_eq!((Arc::strong_count(&in_hand.secret), &*in_hand.secret), (1, &last.secret), "nobody else has it");
}

#[tokio::test]
async fn a_principal_may_be_let_manage_its_own_access_keys_and_has_two() {
    let bench = bench().await;
    let anna = principal(&bench, HERE, "anna").await;
    principal(&bench, HERE, "bert").await;
    let (mine, other, call) = (arn(HERE, "anna"), arn(HERE, "bert"), by(&bench, "anna"));
    attach(&bench, &anna, "own", &statement("Allow", "keystored:*AccessKey*", &mine)).await;
    let service = &bench.service;
    assert!(is_denied(service.create_access_key(&call, &other).await.map(drop)));
    assert!(is_denied(service.list_access_keys(&call, &other, None, "").await));
    let first = service.create_access_key(&call, &mine).await.unwrap().key.id;
    // With the first one the second one is made.
    let second = service.create_access_key(&signed(&bench, &first), &mine).await.unwrap().key.id;
    let error = service.create_access_key(&call, &mine).await.map(drop).unwrap_err();
    assert_eq!(error.exception, Exception::LimitExceeded);
    assert!(error.message.starts_with(&format!("{mine} has 2 access keys")), "{error}");
    let page = service.list_access_keys(&call, &mine, Some(1), "").await.unwrap();
    let next = service.list_access_keys(&call, &mine, Some(1), &page.next_marker.clone().unwrap()).await.unwrap();
    let listed: Vec<_> = page.items.iter().chain(&next.items).map(|key| key.id.clone()).collect();
    assert_eq!((listed, next.next_marker), (vec![first.clone().min(second.clone()), first.clone().max(second)], None));
    // It may end itself, and is told so.
    service.delete_access_key(&signed(&bench, &first), &mine, first.as_str()).await.unwrap();
    assert!(is_denied(service.list_access_keys(&signed(&bench, &first), &mine, None, "").await));
    assert_eq!(
        exception(service.list_access_keys(&by(&bench, "admin"), &arn(HERE, "gone"), None, "").await),
        Exception::NotFound
    );
}

/// Who signs for an administrator's principal has a part in what is counted and kept by principal, such as votes.
#[tokio::test]
async fn only_administrators_give_access_keys_to_an_administrator_s_principal() {
    let bench = bench().await;
    let (anna, of) = (principal(&bench, HERE, "anna").await, arn(HERE, "admin"));
    principal(&bench, HERE, "admin").await;
    attach_as_it_is(&bench, &anna, "Administrator", true).await;
    let service = &bench.service;
    let refused = service.create_access_key(&by(&bench, "anna"), &of).await.map(drop).unwrap_err();
    assert_eq!(refused.exception, Exception::AccessDenied);
    assert!(refused.message.contains("cn:admin is an administrator"), "{refused}");
    let made = service.create_access_key(&by(&bench, "admin"), &of).await.unwrap().key.id;
    let me = service.who_am_i(&signed(&bench, &made)).await.unwrap();
    assert!(!me.administrator, "that is said of the certificate");
    assert!(is_denied(service.list_principals(&signed(&bench, &made), None, "").await));
}

/// A call that others have to approve is for the one who was meant.
#[tokio::test]
async fn an_access_key_that_needs_approval_is_not_made_without() {
    let bench = bench().await;
    principal(&bench, HERE, "anna").await;
    let (service, admin, of) = (&bench.service, by(&bench, "admin"), arn(HERE, "anna"));
    service.set_approvals(Approvals { operations: vec![Operation::CreateAccessKey], ..Approvals::default() });
    service.create_access_key(&admin, &of).await.map(drop).unwrap_err();
    assert!(service.list_access_keys(&admin, &of, None, "").await.unwrap().items.is_empty());
    let asked = service.list_approvals(&admin, true, None, "").await.unwrap().items;
    assert!(asked.len() == 1 && asked[0].description.contains(&of), "{asked:?}");
}

#[tokio::test]
async fn secrets_are_sealed_and_open_under_the_seal_keys_of_the_moment() {
    let bench = bench().await;
    principal(&bench, HERE, "anna").await;
    let (first, second) = (made(&bench, "anna").await, made(&bench, "anna").await);
    let bench = bench.reopen().await;
    bench.service.set_administrators(["cn:admin".to_owned()].into());
    let (admin, secret) =
        (by(&bench, "admin"), |id: &AccessKeyId| bench.service.access_key(id.as_str()).map(|key| key.secret));
    for made in [&first, &second] {
        assert_eq!(*secret(&made.key.id).unwrap(), made.secret, "after a start");
        assert!(!is_on_disk(&bench, made.secret.as_bytes()));
        assert!(is_on_disk(&bench, made.key.id.as_str().as_bytes()));
    }
    // What is opened is taken over while what it was opened from is the same.
    let before = secret(&first.key.id).unwrap();
    bench.service.disable_access_key(&admin, &arn(HERE, "anna"), second.key.id.as_str()).await.unwrap();
    bench.service.set_seals(SealKeys::new(SealKey::test(), Vec::new()));
    assert!(Arc::ptr_eq(&before, &secret(&first.key.id).unwrap()));

    let former = || vec![SealKey::test()];
    bench.service.set_seals(SealKeys::new(SealKey::test_of(9), Vec::new()));
    bench.service.enable_access_key(&admin, &arn(HERE, "anna"), second.key.id.as_str()).await.unwrap();
    assert!(secret(&second.key.id).is_none(), "its key is not at hand");
    let refused = bench.service.reseal_pins(&admin).await.unwrap_err();
    assert!(refused.message.contains("access key AKKS") && refused.message.contains("seal.former"), "{refused}");
    bench.service.set_seals(SealKeys::new(SealKey::test_of(9), former()));
    assert_eq!(*secret(&second.key.id).unwrap(), second.secret);
    assert_eq!(bench.service.reseal_pins(&admin).await.unwrap().access_keys, 2);
    bench.service.set_seals(SealKeys::new(SealKey::test_of(9), Vec::new()));
    for made in [&first, &second] {
        assert_eq!(*secret(&made.key.id).unwrap(), made.secret);
        assert!(!is_on_disk(&bench, made.secret.as_bytes()));
    }
}

#[tokio::test]
async fn the_last_use_is_shown_at_once_and_put_on_record_now_and_then() {
    let bench = bench().await;
    principal(&bench, HERE, "anna").await;
    let (used, idle) = (made(&bench, "anna").await.key.id, made(&bench, "anna").await.key.id);
    let revision = bench.store.revision();
    bench.service.access_key_used(used.as_str(), "kms");
    bench.service.access_key_used(AccessKeyId::random().as_str(), "kms");
    let last = async |bench: &Bench, id: &AccessKeyId| {
        let page = bench.service.list_access_keys(&by(bench, "admin"), &arn(HERE, "anna"), None, "").await.unwrap();
        page.items.into_iter().find(|key| key.id == *id).unwrap().last_used
    };
    let noted = last(&bench, &used).await.unwrap();
    assert_eq!((&*noted.service, last(&bench, &idle).await), ("kms", None));
    assert!(bench.store.access_known().await.unwrap().is_empty(), "a call writes nothing");
    bench.service.return_budgets().await;
    assert_eq!(bench.store.revision(), revision);
    let bench = bench.reopen().await;
    bench.service.set_administrators(["cn:admin".to_owned()].into());
    bench.service.start().await;
    assert_eq!((last(&bench, &used).await, last(&bench, &idle).await), (Some(noted), None));
}

/// As with whatever else access is taken away by: what was in hand is not given out.
#[tokio::test]
async fn what_was_in_hand_when_its_access_key_was_disabled_is_withheld() {
    let bench = bench().await;
    let (key, anna) = (created(&bench).await, principal(&bench, HERE, "anna").await);
    attach_as_it_is(&bench, &anna, "KeyUser", true).await;
    for deleted in [false, true] {
        let id = made(&bench, "anna").await.key.id;
        encrypt(&bench, &id, &key.arn).await.unwrap();
        bench.recorder.taken();
        bench.recorder.waiting.send_replace(0);
        bench.recorder.accepts.send_replace(0);
        bench.recorder.is(Manner::Slow);
        let call = encrypt(&bench, &id, &key.arn);
        tokio::pin!(call);
        tokio::select! {
            biased;
            answered = &mut call => panic!("answered before the record: {answered:?}"),
            () = bench.recorder.given(1) => {}
        }
        bench.recorder.is(Manner::Quick);
        let (admin, of) = (by(&bench, "admin"), arn(HERE, "anna"));
        match deleted {
            true => bench.service.delete_access_key(&admin, &of, id.as_str()).await.unwrap(),
            false => bench.service.disable_access_key(&admin, &of, id.as_str()).await.unwrap(),
        }
        bench.recorder.accepts.send_replace(1);
        assert!(is_denied(call.await), "{deleted}");
        let told = bench.recorder.taken();
        assert_eq!(told.last().map(|record| record.phase), Some(Phase::Withheld), "{deleted}");
    }
}
