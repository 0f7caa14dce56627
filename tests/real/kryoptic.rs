//! The second token type: kryoptic says other things than SoftHSM where something is wrong, and locks its user at the
//! tenth wrong PIN. Ceremony, connect, wrapping and unwrapping are the same.

use std::process::Command;

use proto::v1::{ConnectionState, HsmVerdict, UpdateKeyStoreRequest};

use crate::harness::daemon::Site;
use crate::harness::other::{self, Kind, Other};
use crate::harness::{Caller, Daemon, context, tool, wait};
use crate::members;

const CLUSTER: &str = "cluster-kryopticone";

/// A site whose only cluster stands on these tokens.
async fn site(tokens: &[(Kind, &str)]) -> (Site, Other) {
    let site = Site::prepare().await;
    let other = Other::make(&site, CLUSTER, tokens).await;
    site.configure(|config| {
        config.insert("cluster".to_owned(), vec![toml::Value::from(other.cluster.clone())].into());
    });
    (site, other)
}

async fn begin(site: Site, other: &Other) -> (Daemon, Caller, String) {
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let id = caller.create_key_store_with("kryoptic", CLUSTER, &other.anchor, other::PIN).await.unwrap();
    (daemon, caller, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn ceremony_connect_wrap_and_unwrap() {
    let (site, other) = site(&[(Kind::Kryoptic, "k"), (Kind::Kryoptic, "l")]).await;
    let (daemon, caller, id) = begin(site, &other).await;
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}\n{}", daemon.log_tail());
    daemon.wait_until_healthy_for(&caller).await;
    let store = caller.key_store(&id).await;
    assert!(store.hsms.iter().all(|hsm| hsm.proven && hsm.last_rotation.is_some()), "{store:?}");
    for hsm in &store.hsms {
        let holds = |name: &str| {
            let finding = hsm.findings.iter().find(|finding| finding.name == name);
            finding.is_some_and(|finding| finding.verdict() == HsmVerdict::Holds)
        };
        for name in ["gcm.iv", "wrap.key_wrap", "wrap.oaep_hash", "wrap.unwrap_template", "CKA_ALLOWED_MECHANISMS"] {
            assert!(holds(name), "{name}: {:?}", hsm.findings);
        }
    }
    assert!(daemon.zones.iter().all(|zone| !zone.takes(other::PIN)), "the PIN was rotated");
    wraps_and_unwraps(&daemon, &caller).await;
    signs_heads(&daemon);
    caller.disconnect(&id).await.unwrap();
    assert_eq!(caller.connect(&id).await.unwrap().connection_state(), ConnectionState::Connected);
}

/// What is written of it that is not so keeps it out, with what would be.
#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_it_contradicts_is_named() {
    let (site, other) = site(&[(Kind::Kryoptic, "k"), (Kind::Kryoptic, "l")]).await;
    site.configure_hsms(|_, hsm| {
        let said = toml::from_str::<toml::Table>("gcm.iv = \"zeroed-writeback\"").unwrap();
        hsm.insert("capabilities".to_owned(), said.into());
    });
    let (_daemon, caller, id) = begin(site, &other).await;
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Failed, "{store:?}");
    let said = &store.connection_error_message;
    assert!(said.contains("`capabilities.gcm.iv = \"caller\"` would be right here"), "{said}");
}

/// Two vendors in one cluster: each holds the keys of the other.
#[tokio::test(flavor = "multi_thread")]
async fn softhsm_in_one_zone_and_kryoptic_in_the_other() {
    let (site, other) = site(&[(Kind::SoftHsm, "s"), (Kind::Kryoptic, "k")]).await;
    let (daemon, caller, id) = begin(site, &other).await;
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}\n{}", daemon.log_tail());
    daemon.wait_until_healthy_for(&caller).await;
    wraps_and_unwraps(&daemon, &caller).await;
    signs_heads(&daemon);
}

/// It shows and signs its transport key as SoftHSM does, takes the wrapping key, and hands it on.
#[tokio::test(flavor = "multi_thread")]
async fn a_further_hsm_of_another_vendor_joins_and_brings_in_the_next() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    caller.create_key("older than both").await;
    members::further_zone(daemon.site(), Kind::Kryoptic, "c");
    members::further_zone(daemon.site(), Kind::SoftHsm, "d");
    daemon.hang_up("the configuration was read again");
    members::add(&daemon, "hsm-c", other::PIN, &[]).ok();
    members::filled(&caller).await;
    members::add(&daemon, "hsm-d", other::PIN, &["--from", "hsm-c"]).ok();
    let key = caller.create_key("on four tokens").await;
    let placements = caller.describe_key(&key).await.unwrap().placements;
    let present = |at: &&proto::v1::KeyPlacement| at.state() == proto::v1::PlacementState::Present;
    assert_eq!(placements.iter().filter(present).count(), 4, "{placements:?}");
}

/// Both tokens have made their log keys: this one of P-256, SoftHSM of Ed25519.
fn signs_heads(daemon: &Daemon) {
    let log = wait::until("both HSMs have been asked for their log keys", wait::LONG, || {
        let log = daemon.log();
        let said: Vec<_> =
            log.lines().filter(|line| line.contains("heads of the audit log")).map(str::to_owned).collect();
        (said.len() >= 2).then_some(said)
    });
    assert!(log.iter().all(|line| line.contains("the HSM signs heads")), "{log:#?}");
}

/// Whatever zone does it: own ciphertexts open, altered ones are the caller's fault and change nobody's health.
async fn wraps_and_unwraps(daemon: &Daemon, caller: &Caller) {
    let key = caller.create_key("on two tokens").await;
    let pairs = context(&[("tenant", "42")]);
    for round in 0..40_u8 {
        let plaintext = vec![round; usize::from(round) + 1];
        let ciphertext = caller.encrypt(&key, &plaintext, &pairs).await.unwrap();
        assert_eq!(caller.decrypt(&ciphertext, &pairs).await.unwrap(), plaintext);
        let mut altered = ciphertext.clone();
        let last = altered.len() - 1;
        altered[last] ^= 1;
        assert_eq!(caller.decrypt(&altered, &pairs).await.unwrap_err().reason, "InvalidCiphertextException");
    }
    let placements = caller.describe_key(&key).await.unwrap().placements;
    assert!(placements.iter().all(|at| at.state() == proto::v1::PlacementState::Present), "{placements:?}");
    daemon.wait_until_healthy_for(caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_user_is_named_and_the_officer_unlocks() {
    let (site, other) = site(&[(Kind::Kryoptic, "k"), (Kind::Kryoptic, "l")]).await;
    let (daemon, caller, id) = begin(site, &other).await;
    let zone = daemon.zones[1].clone();
    for _ in 0..10 {
        assert!(!zone.takes("not-the-PIN"));
    }
    assert!(zone.flags().contains("locked"), "{}", zone.flags());
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Failed, "{store:?}");
    assert_eq!(store.connection_error_code, "USER_LOCKED_OUT", "{store:?}");
    assert!(store.connection_error_message.contains(&zone.hsm), "{store:?}");
    caller.disconnect(&id).await.unwrap();

    let mut command = Command::new("pkcs11-tool");
    command.arg("--module").arg(&zone.module).args(["--token-label", &zone.label]);
    command.args(["--init-pin", "--login", "--login-type", "so", "--so-pin", other::SO_PIN, "--new-pin", "unlocked-1"]);
    tool::run(command.envs(&zone.env)).ok();
    let update = UpdateKeyStoreRequest {
        key_store_id: id.clone(),
        key_store_password: "unlocked-1".into(),
        hsm_ids: vec![zone.hsm.clone()],
        pin_was_reset: true,
        ..Default::default()
    };
    caller.update_key_store(update).await.unwrap();
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}\n{}", daemon.log_tail());
}

/// The last try is never spent, even if the PIN on record would be the right one.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_try_is_left_to_the_officer() {
    let (site, other) = site(&[(Kind::Kryoptic, "k"), (Kind::Kryoptic, "l")]).await;
    let (daemon, caller, id) = begin(site, &other).await;
    let zone = daemon.zones[0].clone();
    for _ in 0..9 {
        assert!(!zone.takes("not-the-PIN"));
    }
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_error_code, "USER_LOCKED_OUT", "{store:?}");
    assert!(zone.flags().contains("final user PIN try"), "{}", zone.flags());
    caller.disconnect(&id).await.unwrap();
    assert!(zone.takes(other::PIN), "it was not tried");
}

/// A token that locks: wherever the daemon dies, recovery tries too few PINs for it even to warn.
#[tokio::test(flavor = "multi_thread")]
async fn recovery_comes_nowhere_near_the_lock() {
    use cluster::kmsuser::pin::Step;
    let (site, other) = site(&[(Kind::Kryoptic, "k"), (Kind::Kryoptic, "l")]).await;
    let (daemon, caller, id) = begin(site, &other).await;
    drop(caller);
    let mut site = daemon.terminate().1;
    for step in Step::ALL.iter().filter(|step| **step != Step::RecordUnchanged) {
        for side in ["before", "after"] {
            let point = format!("{}.{side}", step.name());
            let daemon = site.launch_to_abort_at(&point);
            daemon.wait_until_ready();
            let caller = daemon.caller().await;
            let request = proto::v1::ConnectKeyStoreRequest { key_store_id: id.clone() };
            let _ = caller.stores.clone().connect_key_store(caller.request(request)).await;
            drop(caller);
            site = daemon.aborted().1;
            let daemon = site.launch();
            daemon.wait_until_ready();
            let caller = daemon.caller().await;
            let store = caller.settled(&id).await;
            assert_eq!(
                store.connection_state(),
                ConnectionState::Connected,
                "{point}: {store:?}\n{}",
                daemon.log_tail()
            );
            daemon.wait_until_healthy_for(&caller).await;
            for zone in &daemon.zones {
                let flags = zone.flags();
                for warning in ["count low", "final user PIN try", "locked"] {
                    assert!(!flags.contains(warning), "{point}: {flags}");
                }
            }
            caller.disconnect(&id).await.unwrap();
            site = daemon.terminate().1;
        }
    }
    wait::until("no worker is left", wait::LONG, || {
        site.zones(0).iter().all(|zone| zone.workers().is_empty()).then_some(())
    });
}
