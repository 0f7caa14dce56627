//! The cluster's wrapping key leaves the daemon wrapped to one token, which has shown that the transport key is its own,
//! or not at all.

mod intruder;
mod newcomer;
mod thieves;

use std::path::Path;

use pki::identity::PublicKey;
use proto::v1::{AddHsmRequest, HsmStatus};
use protocol::CeremonyOp;
use rustix::process::Signal;

use self::intruder::{Intruder, add, fingerprint, key_fingerprint, openssl, unhex};
use self::newcomer::Newcomer;
use crate::harness::{Caller, Daemon, Failure, process, wait};
use crate::members;

const NOT_RELATED: &str = "IncorrectTrustAnchorException";
const NOT_THE_KEY: &str = "CloudHsmClusterInvalidConfigurationException";

/// Nothing came out, for this reason; a warning says who asked, for which HSM, with which certificates.
async fn assert_refused(
    daemon: &Daemon,
    caller: &Caller,
    request: AddHsmRequest,
    reason: &str,
    words: &str,
) -> Failure {
    let before = daemon.log().len();
    let refused = match add(caller, request.clone()).await {
        Ok(answer) => panic!("{words}: the answer had {} bytes of a wrapped key", answer.wrapped_key.len()),
        Err(refused) => refused,
    };
    assert!(refused.reason == reason && refused.message.contains(words), "{words}: {refused:?}");
    let dir = daemon.site().path();
    let (identity, transport) = (&request.identity_certificate, &request.transport_certificate);
    let told = warning(daemon, before, "AddHsm was refused or failed");
    for part in
        ["cn:dev-client", &request.hsm_id, &fingerprint(identity, dir), &key_fingerprint(transport, dir), reason]
    {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    refused
}

/// The only warning with these words in the log since it had so many bytes; the log is written beside the calls.
fn warning(daemon: &Daemon, since: usize, words: &str) -> String {
    let told = wait::until(words, wait::LONG, || {
        let log = daemon.log();
        // A line that is not whole yet is left for the next look.
        let whole = log[since..].rsplit_once('\n')?.0;
        let told = whole.lines().filter(|line| line.contains("WARN") && line.contains(words));
        Some(told.map(str::to_owned).collect::<Vec<_>>()).filter(|told| !told.is_empty())
    });
    assert_eq!(told.len(), 1, "warnings that say {words:?}: {told:?}");
    told[0].clone()
}

/// The attack as it was seen: a copy of the ceremony folder, any client certificate, no PIN.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrapped_for_a_full_member() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let intruder = Intruder::beside(&daemon);
    let hsms = caller.hsms().await.unwrap();
    let of = |id: &str| hsms.iter().find(|hsm: &&HsmStatus| hsm.hsm_id == id).unwrap();
    let serial = &of("hsm-b").token_serial;
    let genuine = newcomer::certificate(&daemon, "b", "keystored-identity");
    let transport = intruder.forged_transport("hsm-b", serial);
    for identity in [intruder.forged_identity("hsm-b", serial), genuine] {
        let request = intruder.request("hsm-b", &identity, &transport);
        let given = AddHsmRequest { wrapped_key: intruder.parcel("hsm-b"), ..request.clone() };
        for request in [AddHsmRequest { wrap_only: true, ..request.clone() }, given, request] {
            assert_refused(&daemon, &caller, request, "CustomKeyStoreInvalidStateException", "a member already").await;
        }
    }
    // Nor for one with which everything is in order.
    let [identity, transport] =
        ["keystored-identity", "keystored-transport"].map(|label| newcomer::certificate(&daemon, "b", label));
    let request = intruder.request("hsm-b", &identity, &transport);
    assert_refused(&daemon, &caller, request, "CustomKeyStoreInvalidStateException", "a member already").await;

    // Its PIN was not touched: none of those that were offered went on record.
    let after = caller.hsms().await.unwrap();
    assert!(after.iter().all(|hsm| hsm.proven && hsm.pin_tries_left == 3), "{after:?}");
    let store = caller.key_stores().await.remove(0).key_store_id;
    caller.disconnect(&store).await.unwrap();
    caller.connect(&store).await.unwrap();
    daemon.wait_until_healthy_for(&caller).await;
}

/// A new HSM whose token is genuine, and certificates over keys that are not in it.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_key_that_the_token_shows_is_wrapped_to() {
    let (daemon, caller, newcomer) = Newcomer::certified().await;
    let intruder = Intruder::beside(&daemon);
    let (serial, identity, transport) = (&newcomer.serial, &newcomer.identity, &newcomer.transport);
    let software = intruder.forged_transport("hsm-c", serial);
    let forged = intruder.forged_identity("hsm-c", serial);
    let shown = key_fingerprint(transport, daemon.site().path());
    // Without the PIN one login is spent, and the token is not asked for its transport key.
    let request = intruder.request("hsm-c", identity, transport);
    assert_refused(&daemon, &caller, request, NOT_THE_KEY, "was not let in").await;
    for (identity, transport, words) in [
        (identity, &software, "not of the transport key that the HSM's token has shown"),
        (&forged, transport, "not the one in the HSM's token"),
        (&forged, &software, "not the one in the HSM's token"),
    ] {
        for wrap_only in [true, false] {
            let before = daemon.log().len();
            let request = newcomer.request(&intruder, identity, transport);
            let request = AddHsmRequest { wrap_only, ..request };
            assert_refused(&daemon, &caller, request, NOT_RELATED, words).await;
            let told = warning(&daemon, before, "has shown other keys");
            assert!(told.contains(&shown), "{shown} is not in {told}");
            newcomer.assert_without_wrapping_key(&daemon);
        }
    }
    // What is not the newcomer's own at all does not even have its token asked.
    let elsewhere = intruder.forged_transport("hsm-c", "0123456789abcdef");
    let request = newcomer.request(&intruder, identity, &elsewhere);
    assert_refused(&daemon, &caller, request, NOT_RELATED, "of two tokens").await;
    let request = AddHsmRequest { member_hsm_id: "hsm-c".to_owned(), ..newcomer.genuine(&intruder) };
    assert_refused(&daemon, &caller, request, "ValidationException", "to itself").await;

    // With its own certificates it joins, in one call, and that is in the log too.
    let before = daemon.log().len();
    let answer = add(&caller, newcomer.genuine(&intruder)).await.unwrap();
    assert!(answer.wrapped_key.len() == 256 && intruder.opens(&answer.wrapped_key).is_none());
    let told = warning(&daemon, before, "AddHsm was carried out");
    for part in ["cn:dev-client", "hsm-c", &fingerprint(identity, daemon.site().path()), &shown, "wrapped=true"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    members::filled(&caller).await;
    assert!(newcomer.holds_wrapping_key(&daemon));
}

/// Wrapped copies of a key that somebody knows, in the place of the folder's: whatever is wrapped under it would be his.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrapping_key_of_somebody_s_own_choice_is_not_taken() {
    let (daemon, caller, newcomer) = Newcomer::certified().await;
    let intruder = Intruder::beside(&daemon);
    // The folder says which key opens a member's copy.
    let modulus = unhex(intruder.json("hsm-a.wrapping.json")["transport"].as_str().unwrap());
    let transport = PublicKey::Rsa { modulus, exponent: vec![1, 0, 1] };
    let of_a = intruder.certify(pki::identity::Kind::Transport, &transport, "hsm-a", "0");
    let genuine = newcomer.genuine(&intruder);
    for (chosen, words) in [
        (intruder.wrap(&[7; 32], &of_a), "holds another key than the cluster's wrapping key"),
        (intruder.wrap(&[7; 16], &of_a), "HSM hsm-a"),
        (vec![7; 256], "opening the wrapped key from the ceremony folder"),
        (intruder.parcel("hsm-b"), "opening the wrapped key from the ceremony folder"),
    ] {
        let request = AddHsmRequest { member_wrapped_key: chosen, ..genuine.clone() };
        assert_refused(&daemon, &caller, request, NOT_THE_KEY, words).await;
        newcomer.assert_without_wrapping_key(&daemon);
    }
    // Straight to the newcomer, past the member.
    for (chosen, words) in [
        (intruder.wrap(&[7; 32], &newcomer.transport), "is not the wrapping key of this cluster"),
        (intruder.wrap(&[7; 16], &newcomer.transport), "HSM hsm-c"),
        (vec![7; 256], "opening the wrapped copy for this token"),
        (intruder.parcel("hsm-a"), "opening the wrapped copy for this token"),
    ] {
        let request = AddHsmRequest { wrapped_key: chosen, ..genuine.clone() };
        assert_refused(&daemon, &caller, request, NOT_THE_KEY, words).await;
        newcomer.assert_without_wrapping_key(&daemon);
    }
    let both = AddHsmRequest { wrapped_key: vec![7; 256], wrap_only: true, ..genuine };
    assert_refused(&daemon, &caller, both, "ValidationException", "wrapOnly").await;
    assert!(!newcomer.is_member(&caller).await);
    members::add_hsm(&daemon).ok();
    members::filled(&caller).await;
}

/// A token that brings a wrapping key along does not join with it, and the ceremony says so before the daemon is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_cluster_does_not_join() {
    let (daemon, caller, newcomer) = Newcomer::certified().await;
    let intruder = Intruder::beside(&daemon);
    newcomer
        .in_its_token(&daemon, async |worker| {
            let made = newcomer::ceremony(worker, CeremonyOp::MakeTransportPair).await;
            let protocol::Reply::TransportKey(transport) = made else { panic!("{made:?}") };
            let made = newcomer::ceremony(worker, CeremonyOp::MakeWrappingKey { transports: vec![transport] }).await;
            let protocol::Reply::Blobs(mut blobs) = made else { panic!("{made:?}") };
            newcomer::ceremony(worker, CeremonyOp::PlaceWrappingKey { blob: blobs.remove(0) }).await;
        })
        .await;
    let words = "is not the wrapping key of this cluster";
    assert_refused(&daemon, &caller, newcomer.genuine(&intruder), NOT_THE_KEY, words).await;
    assert!(!newcomer.is_member(&caller).await);
    let refused = newcomer.certify_again(&daemon).await.unwrap_err().to_string();
    assert!(refused.contains("holds a cluster wrapping key that is not from this folder"), "{refused}");
}

/// It holds the key, and something went wrong before it joined: it goes on, and nothing is wrapped a second time.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrapped_for_a_token_that_holds_the_key() {
    let (daemon, caller, newcomer) = Newcomer::certified().await;
    let intruder = Intruder::beside(&daemon);
    let key = caller.create_key("older than the newcomer").await;
    let genuine = newcomer.genuine(&intruder);
    let answer = add(&caller, AddHsmRequest { wrap_only: true, ..genuine.clone() }).await.unwrap();
    assert_eq!((answer.wrapped_key.len(), answer.keys_to_place), (256, 0));
    assert!(intruder.opens(&answer.wrapped_key).is_none());
    assert!(!newcomer.is_member(&caller).await);
    newcomer.assert_without_wrapping_key(&daemon);
    let blob: bytes::Bytes = answer.wrapped_key.into();
    newcomer
        .in_its_token(&daemon, async |worker| {
            newcomer::ceremony(worker, CeremonyOp::PlaceWrappingKey { blob: blob.clone() }).await;
        })
        .await;

    // A member that opened this copy would complain.
    let unopened = AddHsmRequest { member_wrapped_key: vec![7; 256], ..genuine.clone() };
    let wrap_only = AddHsmRequest { wrap_only: true, ..unopened.clone() };
    assert_eq!(add(&caller, wrap_only).await.unwrap().wrapped_key, b"");
    assert!(!newcomer.is_member(&caller).await);
    let before = daemon.log().len();
    let answer = add(&caller, unopened).await.unwrap();
    assert_eq!(answer.wrapped_key, b"");
    assert!(warning(&daemon, before, "AddHsm was carried out").contains("wrapped=false"));
    members::filled(&caller).await;
    assert!(newcomer.is_member(&caller).await);
    let placements = caller.describe_key(&key).await.unwrap().placements;
    assert_eq!(placements.len(), 3, "{placements:?}");
    assert_refused(&daemon, &caller, genuine, "CustomKeyStoreInvalidStateException", "a member already").await;
}

/// A transport pair that somebody has put into the token: he has a copy of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_transport_key_that_was_not_made_in_the_token_is_not_wrapped_to() {
    let (daemon, caller, newcomer) = Newcomer::certified().await;
    let intruder = Intruder::beside(&daemon);
    let zone = newcomer.zone(&daemon);
    for kind in ["privkey", "pubkey", "cert"] {
        zone.pkcs11_tool(&["--delete-object", "--type", kind, "--label", "keystored-transport"]);
    }
    let shown = |name: &str| intruder.file(name).display().to_string();
    let dir = |path: &str| Path::new(path).parent().unwrap().to_owned();
    let (pem, der, public) = (shown("software.pem"), shown("software.der"), shown("software.pub"));
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", &pem, "-outform", "DER", "-out", &der], &dir(&pem));
    openssl(&["rsa", "-in", &pem, "-pubout", "-outform", "DER", "-out", &public], &dir(&pem));
    let named = ["--label", "keystored-transport", "--id", "6b657973746f7265642d7472616e73706f7274"];
    zone.pkcs11_tool(&[&["--write-object", &der, "--type", "privkey", "--usage-wrap"][..], &named].concat());
    zone.pkcs11_tool(&[&["--write-object", &public, "--type", "pubkey", "--usage-wrap"][..], &named].concat());

    let software = intruder.forged_transport("hsm-c", &newcomer.serial);
    let request = newcomer.request(&intruder, &newcomer.identity, &software);
    assert_refused(&daemon, &caller, request, NOT_THE_KEY, "was not made in this token").await;
    // Nor does the ceremony certify it.
    let refused = newcomer.certify_again(&daemon).await.unwrap_err().to_string();
    assert!(refused.contains("was not made in this token"), "{refused}");
}

/// What the configuration says as the HSM joins counts, not what it said when the call came.
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_read_again_while_an_hsm_is_brought_in() {
    // Where it stays, its PIN is on record, so it is started once more.
    for stays in [false, true] {
        let (daemon, caller, newcomer) = Newcomer::certified().await;
        let request = newcomer.genuine(&Intruder::beside(&daemon));
        let zone = newcomer.zone(&daemon);
        let adding = daemon.caller().await;
        let adding = tokio::spawn(async move { add(&adding, request).await });
        let workers = wait::until("a worker of hsm-c is there", wait::LONG, || {
            Some(zone.workers()).filter(|workers| !workers.is_empty())
        });
        workers.iter().for_each(|pid| process::signal(*pid, Signal::STOP));
        if stays {
            daemon.hang_up("an HSM came to the configuration");
        } else {
            daemon.site().configure(|config| {
                let hsms = config["cluster"][0]["hsm"].as_array_mut().unwrap();
                hsms.retain(|hsm| hsm["id"].as_str() != Some("hsm-c"));
            });
            daemon.hang_up("the configuration was read again");
        }
        workers.iter().for_each(|pid| process::signal(*pid, Signal::CONT));
        let added = adding.await.unwrap();
        if stays {
            added.unwrap();
            members::filled(&caller).await;
            let of_a_member = daemon.zone("a").workers().len();
            wait::until("it has as many workers as another member", wait::LONG, || {
                (zone.workers().len() == of_a_member).then_some(())
            });
            let key = caller.create_key("on three").await;
            assert_eq!(caller.describe_key(&key).await.unwrap().placements.len(), 3);
        } else {
            let refused = added.unwrap_err();
            assert_eq!(refused.reason, "CustomKeyStoreInvalidStateException", "{refused:?}");
            assert!(refused.message.contains("went from the configuration"), "{refused:?}");
            let cluster = caller.cluster().await;
            assert_eq!(cluster.hsms.len(), 2, "{cluster:?}");
            wait::until("its workers have left", wait::LONG, || zone.workers().is_empty().then_some(()));
        }
    }
}
