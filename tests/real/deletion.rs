//! Keys that are deleted, as other PKCS#11 clients see it in the tokens.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use model::clock::Clock;
use model::id::KeyId;
use proto::v1::{CreateKeyRequest, DestroyKeyMaterialRequest, KeyState, PlacementState, ScheduleKeyDeletionRequest};
use store::Store;
use tonic::Code;

use crate::harness::daemon::Site;
use crate::harness::zone::{Zone, object_id};
use crate::harness::{Caller, Daemon, Failure, chaos, context, wait};
use crate::zones::wait_until_down;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn holds(zone: &Zone, key: &str, version: u32) -> bool {
    zone.pkcs11_tool(&["--list-objects", "--type", "secrkey"]).contains(&object_id(key, version))
}

/// As if a key's waiting period had been over for a day, through all of which the daemon ran.
pub(crate) async fn make_due(site: &Site, key: &str) {
    let clock = Clock::system();
    let store = Store::open(&site.path().join("state/keystored.db"), clock.clone()).await.unwrap();
    let key = KeyId::parse(key).unwrap();
    store.cancel_deletion(key).await.unwrap();
    store.schedule_deletion(key, clock.unix_millis() - 1).await.unwrap();
    store.add_overdue(&[(key, DAY)]).await.unwrap();
    store.close().await;
}

async fn schedule(caller: &Caller, key: &str) {
    let request = ScheduleKeyDeletionRequest { key_id: key.to_owned(), pending_window_in_days: Some(7) };
    caller.keys.clone().schedule_key_deletion(caller.request(request)).await.unwrap();
}

async fn is_gone(caller: &Caller, key: &str) -> Option<()> {
    match caller.describe_key(key).await {
        Err(failure) if failure.reason == "NotFoundException" => Some(()),
        other => {
            other.unwrap();
            None
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_away_has_it_destroyed_when_it_returns_and_a_restored_token_again() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let (key, kept) = (caller.create_key("to go").await, caller.create_key("to stay").await);
    daemon.keystorectl(&["key", "rotate", &key]).ok();
    let secret = caller.encrypt(&kept, b"kept", &context(&[])).await.unwrap();
    schedule(&caller, &key).await;
    let early = caller.describe_key(&key).await.unwrap();
    assert_eq!(early.key_state(), KeyState::PendingDeletion);
    let (_, site) = daemon.terminate();
    make_due(&site, &key).await;
    let zones = site.zones(0);
    let b = zones.iter().find(|zone| zone.name == "b").unwrap();
    let before = b.tokens().with_extension("before");
    copy(&b.tokens(), &before);
    let away = b.take_away();
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    wait::until_async("zone a has destroyed it", wait::LONG, async || {
        let key = caller.describe_key(&key).await.ok()?;
        key.destructions.iter().any(|one| one.hsm_id == "hsm-a" && one.destruction_date.is_some()).then_some(())
    })
    .await;
    assert!(!holds(daemon.zone("a"), &key, 1) && !holds(daemon.zone("a"), &key, 2));
    let meanwhile = daemon.keystorectl(&["key", "describe", &key]).ok();
    assert!(meanwhile.contains("hsm-b") && meanwhile.contains("Not destroyed yet"), "{meanwhile}");
    let metrics = daemon.ops("/metrics").unwrap().1;
    assert!(metrics.contains("keystored_key_destructions_pending{hsm=\"hsm-b\"} 2"), "{metrics}");
    let refused = daemon.keystorectl(&["key", "cancel-deletion", &key]);
    assert!(refused.code == Some(1) && refused.err.contains("destroyed"), "{refused:?}");
    away.put_back();
    wait::until_async("the key is gone", wait::LONG, async || is_gone(&caller, &key).await).await;
    for zone in ["a", "b"] {
        for version in [1, 2] {
            assert!(!holds(daemon.zone(zone), &key, version), "{zone} still holds version {version}");
        }
        assert!(holds(daemon.zone(zone), &kept, 1), "{zone} has lost what is to stay");
    }
    // Somebody restores the token from before. Its serial and everything in it are the same.
    let (_, site) = daemon.terminate();
    let zones = site.zones(0);
    let b = zones.iter().find(|zone| zone.name == "b").unwrap();
    fs::remove_dir_all(b.tokens()).unwrap();
    fs::rename(&before, b.tokens()).unwrap();
    assert!(holds(b, &key, 2), "the restored token has it again");
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    wait::until("it is destroyed there again", wait::LONG, || {
        let b = daemon.zone("b");
        (!holds(b, &key, 1) && !holds(b, &key, 2)).then_some(())
    });
    daemon.wait_until_logged("it was destroyed again");
    assert_eq!(caller.decrypt(&secret, &context(&[])).await.unwrap(), b"kept");
}

/// Its control worker never goes, so that no start of that one tells that there is something to do.
#[tokio::test(flavor = "multi_thread")]
async fn an_hsm_whose_only_data_worker_was_away_has_done_what_it_missed_soon() {
    let site = Site::prepare_zones(3).await;
    let control = chaos::control_first(&site);
    site.configure_hsms(|_, hsm| drop(hsm.insert("workers".to_owned(), 1.into())));
    let daemon = site.start().await;
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    let key = caller.create_key("to go").await;
    let arn = caller.describe_key(&key).await.unwrap().arn;
    caller.switch_key(&key, false).await.unwrap();
    control.set("[[rule]]\nfunction = \"C_Encrypt\"\nfault = \"crash\"").unwrap();
    wait_until_down(&caller, daemon.zone("a")).await;
    let missed = caller.create_key("in two of three").await;
    let request = DestroyKeyMaterialRequest { key_id: key.clone(), confirm_key_arn: arn };
    caller.keys.clone().destroy_key_material(caller.request(request)).await.unwrap();
    control.clear().unwrap();
    daemon.wait_until_healthy_for(&caller).await;
    wait::until_async("what it missed is done", wait::LONG, async || {
        let (key, missed) = (caller.describe_key(&key).await.unwrap(), caller.describe_key(&missed).await.unwrap());
        let destroyed = key.destructions.iter().filter(|one| one.destruction_date.is_some()).count();
        let placed = missed.placements.iter().filter(|at| at.state() == PlacementState::Present).count();
        (destroyed == 3 && placed == 3).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn material_is_destroyed_now_where_its_owner_says_so_twice() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("to go at once").await;
    let arn = caller.describe_key(&key).await.unwrap().arn;
    let ciphertext = caller.encrypt(&key, b"secret", &context(&[])).await.unwrap();
    let enabled = daemon.keystorectl(&["key", "destroy-material", &key, "--confirm", &arn]);
    assert!(enabled.code == Some(1) && enabled.err.contains("disable it first"), "{enabled:?}");
    daemon.keystorectl(&["key", "disable", &key]).ok();
    let unsure = DestroyKeyMaterialRequest { key_id: key.clone(), confirm_key_arn: key.clone() };
    let unsure: Failure = caller.keys.clone().destroy_key_material(caller.request(unsure)).await.unwrap_err().into();
    assert_eq!((unsure.code, unsure.reason.as_str()), (Code::InvalidArgument, "ValidationException"));
    assert!(holds(daemon.zone("a"), &key, 1) && holds(daemon.zone("b"), &key, 1));
    let said = daemon.keystorectl(&["key", "destroy-material", &key, "--confirm", &arn]).ok();
    assert!(said.contains("destroyed in every HSM") && said.contains("hsm-b"), "{said}");
    assert!(!holds(daemon.zone("a"), &key, 1) && !holds(daemon.zone("b"), &key, 1));
    let failure = caller.decrypt(&ciphertext, &context(&[])).await.unwrap_err();
    assert_eq!(failure.reason, "KMSInvalidStateException");
    for (command, exception) in [("enable", "KMSInvalidState"), ("cancel-deletion", "KMSInvalidState")] {
        let refused = daemon.keystorectl(&["key", command, &key]);
        assert!(refused.code == Some(1) && refused.err.contains(exception), "{refused:?}");
    }
    // A backup of the metadata brings nothing back either: the escrow is gone from it.
    let described = daemon.keystorectl(&["--json", "key", "describe", &key]).ok();
    assert!(described.contains("\"material_destroyed\": true"), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_asked_about_and_can_be_taken_back() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("perhaps").await;
    let ciphertext = caller.encrypt(&key, b"secret", &context(&[])).await.unwrap();
    let nobody = daemon.keystorectl(&["key", "schedule-deletion", &key]);
    assert!(nobody.code == Some(2) && nobody.err.contains("--yes"), "{nobody:?}");
    let used = daemon.keystorectl(&["key", "last-usage", &key]).ok();
    assert!(used.contains("last used by Encrypt"), "{used}");
    for days in ["6", "31"] {
        let refused = daemon.keystorectl(&["key", "schedule-deletion", &key, "--yes", "--days", days]);
        assert!(refused.code == Some(1) && refused.err.contains("PendingWindowInDays must be"), "{refused:?}");
    }
    daemon.keystorectl(&["key", "schedule-deletion", &key, "--yes", "--days", "7"]).ok();
    let failure = caller.decrypt(&ciphertext, &context(&[])).await.unwrap_err();
    assert_eq!(failure.reason, "KMSInvalidStateException");
    assert!(failure.message.ends_with("is pending deletion."), "{failure:?}");
    let shown = daemon.keystorectl(&["key", "describe", &key]).ok();
    assert!(shown.contains("PendingDeletion") && shown.contains("Deletion: after "), "{shown}");
    daemon.keystorectl(&["key", "cancel-deletion", &key]).ok();
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap_err().reason, "DisabledException");
    daemon.keystorectl(&["key", "enable", &key]).ok();
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"secret");
    // A key store with a key that is pending deletion is not empty.
    daemon.keystorectl(&["key", "schedule-deletion", &key, "--yes"]).ok();
    let request = CreateKeyRequest { description: "beside it".to_owned(), ..CreateKeyRequest::default() };
    caller.keys.clone().create_key(caller.request(request)).await.unwrap();
    let store = caller.key_stores().await[0].key_store_id.clone();
    caller.disconnect(&store).await.unwrap();
    assert_eq!(caller.delete_key_store(&store).await.unwrap_err().reason, "CustomKeyStoreHasCMKsException");
    // Also while it is disconnected a deletion is taken back, and the key shown as it is.
    daemon.keystorectl(&["key", "cancel-deletion", &key]).ok();
    assert_eq!(caller.describe_key(&key).await.unwrap().key_state(), KeyState::Unavailable);
}
