//! Calls that others have to approve.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use super::bench::{Bench, exception};
use crate::{
    AddHsmInput, ApprovalStanding, ApprovalView, Approvals, Attached, CreateKeyInput, CreatePrincipalInput, Error,
    RequestContext, UpdateKeyStoreInput,
};
use model::clock::Clock;
use model::exception::Exception;
use model::id::KeyStoreId;
use model::operation::Operation;
use model::secret::Secret;
use pki::seal::{SealKey, SealKeys};
use store::access::ApprovalState;

const HOUR: Duration = Duration::from_secs(3_600);
/// No part of it stands anywhere else.
const PIN: &[u8] = b"90713582";

pub(super) fn approvals(operations: &[Operation], required: u32) -> Approvals {
    let required = NonZeroU32::new(required).unwrap();
    Approvals { operations: operations.to_vec(), required, expires_after: HOUR }
}

pub(super) fn arn(name: &str) -> String {
    format!("arn:aws:iam::111122223333:user/{name}")
}

pub(super) fn by(bench: &Bench, name: &str) -> RequestContext {
    bench.call_of(&format!("cn:{name}"), Duration::from_secs(30))
}

/// Two zones, the administrator `cn:admin`, who is no principal; anna, who may do everything but approve; bert and carl,
/// who may approve and look.
pub(super) async fn bench() -> Bench {
    let bench = Bench::by(Clock::manual(), &["zone-a", "zone-b"]).await;
    bench.service.set_administrators(["cn:admin".to_owned()].into());
    for name in ["anna", "bert", "carl"] {
        principal(&bench, name).await;
    }
    put(&bench, "Ask", "{\"Effect\":\"Allow\",\"NotAction\":\"keystored:Approve\",\"Resource\":\"*\"}").await;
    attach(&bench, "Ask", "anna").await;
    for name in ["bert", "carl"] {
        attach(&bench, "Approver", name).await;
    }
    bench
}

pub(super) async fn principal(bench: &Bench, name: &str) {
    let input = CreatePrincipalInput { arn: arn(name), identities: vec![format!("cn:{name}")], ..Default::default() };
    bench.service.create_principal(&by(bench, "admin"), input).await.unwrap();
}

pub(super) async fn put(bench: &Bench, name: &str, statement: &str) {
    let document = format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statement}]}}");
    let input = crate::PutPolicyInput { name: name.into(), document, ..Default::default() };
    bench.service.put_policy(&by(bench, "admin"), input).await.unwrap();
}

pub(super) async fn attach(bench: &Bench, policy: &str, to: &str) {
    bench.service.attach_policy(&by(bench, "admin"), policy, Attached::Principal(arn(to))).await.unwrap();
}

pub(super) async fn created(bench: &Bench) -> String {
    bench.service.create_key(&by(bench, "admin"), CreateKeyInput::default()).await.unwrap().arn
}

/// A key of whose deletion two others are to be asked.
pub(super) async fn deletable(bench: &Bench) -> String {
    let key = created(bench).await;
    bench.service.set_approvals(approvals(&[Operation::ScheduleKeyDeletion], 2));
    key
}

pub(super) async fn delete(bench: &Bench, name: &str, key: &str, days: u32) -> Result<(), Error> {
    bench.service.schedule_key_deletion(&by(bench, name), key, Some(days)).await.map(drop)
}

/// The approval that a refusal names.
pub(super) fn asked<T: std::fmt::Debug>(refused: Result<T, Error>) -> String {
    let error = refused.unwrap_err();
    assert_eq!((error.exception, error.retryable), (Exception::AccessDenied, false), "{error}");
    let id = error.approval.as_ref().unwrap_or_else(|| panic!("{error}"));
    assert!(error.message.contains(&format!("'keystorectl approval show {id}'")), "{error}");
    id.to_string()
}

pub(super) async fn shown(bench: &Bench, id: &str) -> ApprovalView {
    bench.service.describe_approval(&by(bench, "admin"), id).await.unwrap()
}

pub(super) async fn approve(bench: &Bench, name: &str, id: &str) -> Result<ApprovalView, Error> {
    let digest = shown(bench, id).await.digest;
    bench.service.approve(&by(bench, name), id, &digest).await
}

#[tokio::test]
async fn a_call_runs_once_when_enough_others_have_approved_it() {
    let bench = bench().await;
    let key = deletable(&bench).await;
    let refused = delete(&bench, "anna", &key, 7).await;
    let message = refused.clone().unwrap_err().message;
    let id = asked(refused);
    let expected = format!(
        "ScheduleKeyDeletion needs the approval of 2 other principals: approval {id} waits for it until \
         1970-01-01T01:00:00Z and has 0 of 2."
    );
    assert!(message.starts_with(&expected), "{message}");
    assert_eq!(asked(delete(&bench, "anna", &key, 7).await), id, "the same call asks once");

    let waiting = bench.service.list_approvals(&by(&bench, "bert"), false, None, "").await.unwrap().items;
    let [approval] = &waiting[..] else { panic!("{waiting:?}") };
    assert_eq!((approval.id.as_str(), &*approval.requester), (id.as_str(), &*arn("anna")));
    assert_eq!((&*approval.operation, &*approval.resource), ("ScheduleKeyDeletion", &*key));
    assert_eq!((&*approval.description, approval.needed), ("pendingWindowInDays: \"7\"", 2));
    assert_eq!((approval.created_at, approval.expires_at), (0, 3_600_000));

    assert_eq!(shown(&bench, &id).await.could, Some(3), "bert, carl and the administrator");
    let one = approve(&bench, "bert", &id).await.unwrap();
    assert_eq!((one.given, one.standing, one.could), (1, ApprovalStanding::Waiting, Some(2)));
    assert_eq!(bench.service.approvers(), 3);
    assert_eq!(asked(delete(&bench, "anna", &key, 7).await), id, "one is not enough");
    approve(&bench, "bert", &id).await.unwrap();
    assert_eq!(asked(delete(&bench, "anna", &key, 7).await), id, "nor is the same one twice");
    let two = approve(&bench, "carl", &id).await.unwrap();
    assert_eq!((two.given, two.standing), (2, ApprovalStanding::Approved));
    let voters: Vec<_> = two.votes.iter().map(|vote| (vote.voter.clone(), vote.approves, vote.counts)).collect();
    assert_eq!(
        voters.into_iter().collect::<BTreeSet<_>>(),
        [(arn("bert"), true, true), (arn("carl"), true, true)].into()
    );

    delete(&bench, "anna", &key, 7).await.unwrap();
    assert_eq!(shown(&bench, &id).await.standing, ApprovalStanding::Used);
    bench.service.cancel_key_deletion(&by(&bench, "admin"), &key).await.unwrap();
    bench.service.enable_key(&by(&bench, "admin"), &key).await.unwrap();
    let again = asked(delete(&bench, "anna", &key, 7).await);
    assert_ne!(again, id, "it is spent");
    let waiting = bench.service.list_approvals(&by(&bench, "bert"), false, None, "").await.unwrap().items;
    assert_eq!(waiting.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), [again.as_str()]);
    assert_eq!(bench.service.list_approvals(&by(&bench, "bert"), true, None, "").await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn an_approval_is_for_one_call_of_one_principal() {
    let bench = bench().await;
    let (other, key) = (created(&bench).await, deletable(&bench).await);
    principal(&bench, "dora").await;
    attach(&bench, "Ask", "dora").await;
    let id = asked(delete(&bench, "anna", &key, 7).await);
    for name in ["bert", "carl"] {
        approve(&bench, name, &id).await.unwrap();
    }
    let others = [
        asked(delete(&bench, "anna", &key, 8).await),
        asked(delete(&bench, "anna", &other, 7).await),
        asked(delete(&bench, "dora", &key, 7).await),
        // The configuration's administrators are bound by it too.
        asked(delete(&bench, "admin", &key, 7).await),
    ];
    let all: BTreeSet<&String> = others.iter().chain([&id]).collect();
    assert_eq!(all.len(), 5);
    delete(&bench, "anna", &key, 7).await.unwrap();
}

#[tokio::test]
async fn who_asks_has_no_vote_by_whichever_certificate() {
    let bench = bench().await;
    let (key, admin) = (deletable(&bench).await, by(&bench, "admin"));
    attach(&bench, "Approver", "anna").await;
    let service = &bench.service;
    service.add_principal_identity(&admin, &arn("anna"), "cn:anna-2").await.unwrap();
    let id = asked(delete(&bench, "anna", &key, 7).await);
    for name in ["anna", "anna-2"] {
        assert_eq!(exception(approve(&bench, name, &id).await), Exception::Conflict, "{name}");
    }
    // Two certificates of one principal are one vote.
    service.add_principal_identity(&admin, &arn("bert"), "cn:bert-2").await.unwrap();
    for name in ["bert", "bert-2"] {
        assert_eq!(approve(&bench, name, &id).await.unwrap().given, 1, "{name}");
    }
    // Administrators vote by name, and are who they are when they become principals.
    let by_admin = asked(delete(&bench, "admin", &key, 7).await);
    assert_eq!(exception(approve(&bench, "admin", &by_admin).await), Exception::Conflict);
    assert_eq!(approve(&bench, "admin", &id).await.unwrap().given, 2);
    principal(&bench, "admin").await;
    assert_eq!(exception(approve(&bench, "admin", &by_admin).await), Exception::Conflict);
    let view = approve(&bench, "admin", &id).await.unwrap();
    assert_eq!((view.given, view.votes.len(), view.votes.iter().filter(|vote| vote.counts).count()), (2, 3, 2));
}

#[tokio::test]
async fn who_may_not_approve_any_more_does_not_count() {
    let bench = bench().await;
    let (key, admin) = (deletable(&bench).await, by(&bench, "admin"));
    let id = asked(delete(&bench, "anna", &key, 7).await);
    for name in ["bert", "carl"] {
        approve(&bench, name, &id).await.unwrap();
    }
    let (service, of_bert) = (&bench.service, || Attached::Principal(arn("bert")));
    service.detach_policy(&admin, "Approver", of_bert()).await.unwrap();
    assert_eq!(asked(delete(&bench, "anna", &key, 7).await), id);
    let view = shown(&bench, &id).await;
    assert_eq!((view.given, view.votes.iter().filter(|vote| vote.counts).count()), (1, 1));
    service.attach_policy(&admin, "Approver", of_bert()).await.unwrap();
    service.delete_principal(&admin, &arn("carl")).await.unwrap();
    principal(&bench, "carl").await;
    attach(&bench, "Approver", "carl").await;
    assert_eq!(asked(delete(&bench, "anna", &key, 7).await), id, "one who is made anew is somebody else");
    // An administrator counts for as long as the configuration names it.
    approve(&bench, "admin", &id).await.unwrap();
    let administrators = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    service.set_administrators(administrators(&[]));
    assert_eq!(asked(delete(&bench, "anna", &key, 7).await), id);
    service.set_administrators(administrators(&["cn:admin"]));
    // More are asked for than when the call was made first.
    service.set_approvals(approvals(&[Operation::ScheduleKeyDeletion], 3));
    assert_eq!(asked(delete(&bench, "anna", &key, 7).await), id);
    approve(&bench, "carl", &id).await.unwrap();
    delete(&bench, "anna", &key, 7).await.unwrap();
}

#[tokio::test]
async fn permission_and_state_are_looked_at_before_somebody_is_asked_and_again() {
    let bench = bench().await;
    let (key, admin) = (deletable(&bench).await, by(&bench, "admin"));
    let service = &bench.service;
    assert_eq!(exception(delete(&bench, "bert", &key, 7).await), Exception::AccessDenied);
    let none = key.replace(key.rsplit('/').next().unwrap(), "00000000-0000-4000-8000-000000000001");
    assert_eq!(exception(delete(&bench, "anna", &none, 7).await), Exception::NotFound);
    let kept = || bench.store.catalogue().approvals_after(None).count();
    assert_eq!(kept(), 0, "nobody was asked");
    let id = asked(delete(&bench, "anna", &key, 7).await);
    for name in ["bert", "carl"] {
        approve(&bench, name, &id).await.unwrap();
    }
    service.detach_policy(&admin, "Ask", Attached::Principal(arn("anna"))).await.unwrap();
    let denied = delete(&bench, "anna", &key, 7).await.unwrap_err();
    assert!(denied.message.contains("is not authorized to perform"), "{denied}");
    attach(&bench, "Ask", "anna").await;
    assert_eq!(bench.store.catalogue().approval(&id.as_str().into()).unwrap().state, ApprovalState::Waiting);
    delete(&bench, "anna", &key, 7).await.unwrap();
    // In this state it is refused before anything else.
    assert_eq!(exception(delete(&bench, "anna", &key, 7).await), Exception::KmsInvalidState);
    assert_eq!(kept(), 1);
}

#[tokio::test]
async fn of_any_number_of_repetitions_one_is_carried_out() {
    let bench = bench().await;
    bench.service.set_approvals(approvals(&[Operation::CreateKey], 1));
    let create = async || bench.service.create_key(&by(&bench, "anna"), CreateKeyInput::default()).await;
    let id = asked(create().await);
    approve(&bench, "bert", &id).await.unwrap();
    let outcomes = futures_util::future::join_all((0..8).map(|_| create())).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(error.exception, Exception::AccessDenied, "{error}");
    }
    assert_eq!(bench.store.catalogue().keys_of(&bench.key_store).count(), 1);
    // A client token does not make it another call: it is drawn anew for each.
    let [one, two] = ["one", "two"].map(|token| CreateKeyInput { client_token: token.into(), ..Default::default() });
    let anna = by(&bench, "anna");
    let one = asked(bench.service.create_key(&anna, one).await);
    assert_eq!(asked(bench.service.create_key(&anna, two).await), one);
}

#[tokio::test]
async fn what_is_refused_or_taken_back_is_over() {
    let bench = bench().await;
    let key = deletable(&bench).await;
    let service = &bench.service;
    let id = asked(delete(&bench, "anna", &key, 7).await);
    for name in ["bert", "carl"] {
        approve(&bench, name, &id).await.unwrap();
    }
    service.refuse_approval(&by(&bench, "carl"), &id).await.unwrap();
    service.refuse_approval(&by(&bench, "carl"), &id).await.expect("it is refused");
    let view = shown(&bench, &id).await;
    assert_eq!((view.standing, view.given), (ApprovalStanding::Refused, 1));
    assert_eq!(exception(approve(&bench, "admin", &id).await), Exception::Conflict);
    let next = asked(delete(&bench, "anna", &key, 7).await);
    assert_ne!(next, id);
    // Whoever asked takes it back without a permission, and without a vote.
    service.detach_policy(&by(&bench, "admin"), "Ask", Attached::Principal(arn("anna"))).await.unwrap();
    service.describe_approval(&by(&bench, "anna"), &next).await.unwrap();
    service.refuse_approval(&by(&bench, "anna"), &next).await.unwrap();
    let view = shown(&bench, &next).await;
    assert_eq!((view.standing, view.votes.len()), (ApprovalStanding::Refused, 0));
    // Nobody else does.
    principal(&bench, "eve").await;
    let eve = by(&bench, "eve");
    for (denied, none) in [
        (
            service.describe_approval(&eve, &id).await.unwrap_err(),
            service.describe_approval(&eve, "apr-1").await.unwrap_err(),
        ),
        (
            service.refuse_approval(&eve, &id).await.unwrap_err(),
            service.refuse_approval(&eve, "apr-1").await.unwrap_err(),
        ),
        (approve(&bench, "eve", &id).await.unwrap_err(), service.approve(&eve, "apr-1", "").await.unwrap_err()),
    ] {
        assert_eq!(denied.exception, Exception::AccessDenied);
        assert_eq!(denied.message.replace(&id, "apr-1"), none.message, "whether there is one is not told");
    }
    assert_eq!(exception(service.list_approvals(&eve, true, None, "").await), Exception::AccessDenied);
    assert_eq!(exception(service.describe_approval(&by(&bench, "bert"), "apr-1").await), Exception::NotFound);
}

#[tokio::test]
async fn what_is_approved_is_what_was_shown() {
    let bench = bench().await;
    let key = deletable(&bench).await;
    let id = asked(delete(&bench, "anna", &key, 7).await);
    let other = asked(delete(&bench, "anna", &key, 8).await);
    let digests = [shown(&bench, &id).await.digest, shown(&bench, &other).await.digest];
    assert!(digests[0].len() == 64 && digests[0] != digests[1]);
    for wrong in ["", &digests[0][..8], &digests[1]] {
        assert_eq!(exception(bench.service.approve(&by(&bench, "bert"), &id, wrong).await), Exception::Validation);
    }
    bench.service.approve(&by(&bench, "bert"), &id, &digests[0].to_ascii_uppercase()).await.unwrap();
}

#[tokio::test]
async fn its_time_is_over_for_votes_and_for_the_call() {
    let bench = bench().await;
    let key = deletable(&bench).await;
    let id = asked(delete(&bench, "anna", &key, 7).await);
    for name in ["bert", "carl"] {
        approve(&bench, name, &id).await.unwrap();
    }
    bench.clock.advance(HOUR);
    assert_eq!(shown(&bench, &id).await.standing, ApprovalStanding::Expired);
    assert_eq!(exception(approve(&bench, "admin", &id).await), Exception::Conflict);
    let next = asked(delete(&bench, "anna", &key, 7).await);
    assert_ne!(next, id);
    for name in ["bert", "carl"] {
        approve(&bench, name, &next).await.unwrap();
    }
    bench.clock.advance(HOUR - Duration::from_millis(1));
    delete(&bench, "anna", &key, 7).await.unwrap();
}

#[tokio::test]
async fn what_is_configured_no_more_needs_nobody() {
    let bench = bench().await;
    let key = deletable(&bench).await;
    asked(delete(&bench, "anna", &key, 7).await);
    bench.service.set_approvals(Approvals::default());
    delete(&bench, "anna", &key, 7).await.unwrap();
}

#[tokio::test]
async fn so_many_calls_wait() {
    let bench = bench().await;
    let key = deletable(&bench).await;
    for days in 7..17 {
        asked(delete(&bench, "anna", &key, days).await);
    }
    assert_eq!(exception(delete(&bench, "anna", &key, 17).await), Exception::LimitExceeded);
    asked(delete(&bench, "anna", &key, 7).await);
    asked(delete(&bench, "admin", &key, 17).await);
}

fn told(store: &KeyStoreId, pin: &[u8]) -> UpdateKeyStoreInput {
    let password = Some(Secret::new(pin.to_vec()));
    UpdateKeyStoreInput { key_store_id: store.to_string(), password, ..Default::default() }
}

#[tokio::test]
async fn no_secret_is_kept_nor_can_it_be_guessed_from_what_is() {
    let bench = bench().await;
    bench.service.set_approvals(approvals(&[Operation::UpdateKeyStore], 1));
    let (anna, store) = (by(&bench, "anna"), bench.spare_key_store().await);
    let update = async |pin: &[u8]| bench.service.update_key_store(&anna, told(&store, pin)).await;
    let id = asked(update(PIN).await);
    assert_ne!(asked(update(b"90713583").await), id, "another PIN is another call");
    let view = shown(&bench, &id).await;
    assert_eq!(view.description, "keyStorePassword: given, not shown");
    for file in std::fs::read_dir(bench.folder()).unwrap().map(|entry| entry.unwrap().path()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(PIN.len()).any(|window| window == PIN), "{}", file.display());
    }
    // Whoever has the metadata and another key gets another digest for the same PIN. One who has the seal key has PINs.
    let seals = |byte: u8, former: Vec<SealKey>| SealKeys::new(SealKey::test_of(byte), former);
    bench.service.set_seals(seals(8, Vec::new()));
    assert_ne!(asked(update(PIN).await), id);
    // After a rotation of the seal key what was asked for before is found.
    bench.service.set_seals(seals(9, vec![SealKey::test()]));
    assert_eq!(asked(update(PIN).await), id);
}

#[tokio::test]
async fn a_name_and_a_dry_run_need_nobody() {
    let bench = bench().await;
    let (key, all) = (created(&bench).await, [Operation::UpdateKeyStore, Operation::CreateGrant]);
    bench.service.set_approvals(approvals(&all, 1));
    let (anna, store) = (by(&bench, "anna"), bench.spare_key_store().await);
    let rename = UpdateKeyStoreInput { new_name: Some("red".into()), password: None, ..told(&store, PIN) };
    bench.service.update_key_store(&anna, rename.clone()).await.unwrap();
    asked(bench.service.update_key_store(&anna, UpdateKeyStoreInput { pin_was_reset: true, ..rename }).await);
    let grant = crate::CreateGrantInput {
        key_id: key,
        grantee: arn("bert"),
        operations: vec!["Encrypt".into()],
        dry_run: true,
        ..Default::default()
    };
    assert_eq!(exception(bench.service.create_grant(&anna, grant.clone()).await.map(drop)), Exception::DryRunOperation);
    asked(bench.service.create_grant(&anna, crate::CreateGrantInput { dry_run: false, ..grant }).await.map(drop));
}

#[tokio::test]
async fn a_wrapped_key_is_told_from_another_and_shown_by_nothing() {
    let bench = bench().await;
    bench.configure(&[supervisor::Settings::of_a_test("hsm-c", "zone-c")]);
    bench.service.set_approvals(approvals(&[Operation::AddHsm], 1));
    let input = |wrapped: u8| AddHsmInput {
        cluster_id: bench.fake.id.to_string(),
        hsm_id: "hsm-c".into(),
        identity_certificate: "PEM".into(),
        transport_certificate: "PEM".into(),
        member_hsm_id: "hsm-0".into(),
        member_wrapped_key: vec![wrapped; 256].into(),
        password: Secret::new(PIN.to_vec()),
        wrapped_key: bytes::Bytes::new(),
        wrap_only: false,
    };
    let anna = by(&bench, "anna");
    let [one, other] = [
        asked(bench.service.add_hsm(&anna, input(0x41)).await.map(drop)),
        asked(bench.service.add_hsm(&anna, input(0x42)).await.map(drop)),
    ];
    assert_ne!(one, other);
    let [one, other] = [shown(&bench, &one).await, shown(&bench, &other).await];
    assert_eq!(one.description, other.description);
    assert!(one.description.contains("hsmId: \"hsm-c\"") && !one.description.contains("AAAA"), "{}", one.description);
}
