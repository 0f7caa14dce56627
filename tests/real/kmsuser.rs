//! kmsuser's PIN: rotated at connect and known to nobody else, never tried twice when refused, and the officer's way out.
//! And each ConnectionErrorCode from what really causes it.

mod first_login;
mod listing;
mod login_lock;
mod told;
mod unclear;

use std::fs;
use std::process::Command;

use proto::v1::{ConnectionState, KeyStore, UpdateKeyStoreRequest};

use crate::harness::daemon::Site;
use crate::harness::{Caller, Daemon, context, tool};
use crate::members;
use crate::zones::wait_until_down;

/// A daemon with a key store that was never connected, and its id.
async fn with_store(rotate: bool) -> (Daemon, Caller, String) {
    let site = Site::prepare().await;
    site.rotate(rotate);
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let id = caller.create_key_store("main", daemon.site()).await.unwrap();
    (daemon, caller, id)
}

fn pin(id: &str, pin: &str, hsms: &[&str]) -> UpdateKeyStoreRequest {
    UpdateKeyStoreRequest {
        key_store_id: id.into(),
        key_store_password: pin.into(),
        hsm_ids: hsms.iter().map(|hsm| (*hsm).to_owned()).collect(),
        ..Default::default()
    }
}

fn assert_connected(store: &KeyStore) {
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}");
}

/// FAILED with this code, and every word of these in the message.
fn assert_failed(store: &KeyStore, code: &str, words: &[&str]) {
    assert_eq!(store.connection_state(), ConnectionState::Failed, "{store:?}");
    assert_eq!(store.connection_error_code, code, "{store:?}");
    for word in words {
        assert!(store.connection_error_message.contains(word), "{word}: {}", store.connection_error_message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connect_rotates_the_pin_and_no_restart_does() {
    let (daemon, caller, id) = with_store(true).await;
    let first = daemon.site().first_pin();
    assert!(daemon.zones.iter().all(|zone| zone.takes(&first)));
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    for zone in &daemon.zones {
        assert!(!zone.takes(&first), "the PIN that an operator knows is no longer good");
    }
    let rotations = async |caller: &Caller| -> Vec<_> {
        caller.key_store(&id).await.hsms.iter().map(|hsm| hsm.last_rotation.unwrap()).collect()
    };
    let before = rotations(&caller).await;
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(metrics.contains("keystored_kmsuser_last_rotation_timestamp_seconds{"), "{metrics}");

    let site = daemon.terminate().1;
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    assert_eq!(rotations(&caller).await, before);
    caller.disconnect(&id).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    let after = rotations(&caller).await;
    assert!(after.iter().zip(&before).all(|(after, before)| after != before), "{before:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_fails_the_connect_after_one_try() {
    let (daemon, caller, id) = with_store(true).await;
    caller.update_key_store(pin(&id, "not-the-PIN", &["hsm-b"])).await.unwrap();
    let store = caller.connect(&id).await.unwrap();
    assert_failed(&store, "INVALID_CREDENTIALS", &["hsm-b", "CKR_PIN_INCORRECT", "UpdateKeyStore"]);
    let tried = |daemon: &Daemon| daemon.log().matches("refused kmsuser's PIN").count();
    daemon.wait_until_logged("refused kmsuser's PIN");
    assert_eq!(tried(&daemon), 1, "{}", daemon.log());
    assert_eq!(caller.connect(&id).await.unwrap_err().reason, "CustomKeyStoreInvalidStateException");
    // Connecting again does not try it again, nor does a restart.
    caller.disconnect(&id).await.unwrap();
    assert_failed(&caller.connect(&id).await.unwrap(), "INVALID_CREDENTIALS", &["hsm-b"]);
    let site = daemon.terminate().1;
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    assert_failed(&caller.key_store(&id).await, "INVALID_CREDENTIALS", &["hsm-b"]);
    caller.disconnect(&id).await.unwrap();
    assert_failed(&caller.connect(&id).await.unwrap(), "INVALID_CREDENTIALS", &["hsm-b"]);
    assert_eq!(tried(&daemon), 1, "over all runs: {}", daemon.log());
    let left: Vec<u32> = caller.key_store(&id).await.hsms.iter().map(|hsm| hsm.pin_tries_left).collect();
    assert_eq!(left, [3, 2]);
    // The right PIN for the one HSM is enough; the other has been rotated.
    caller.disconnect(&id).await.unwrap();
    let first = daemon.site().first_pin();
    caller.update_key_store(pin(&id, &first, &["hsm-b"])).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    caller.create_key("all is well").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_officer_s_way_out_for_some_hsms_and_for_all() {
    let (daemon, caller, id) = with_store(true).await;
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    let key = caller.create_key("kept over it").await;
    let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    for (round, hsms) in [&["a"][..], &["a", "b"], &["b"]].into_iter().enumerate() {
        caller.disconnect(&id).await.unwrap();
        let new = format!("officer-pin-{round}");
        for name in hsms {
            daemon.zone(name).officer_sets(&new);
        }
        // Without being told, the service has the wrong PIN.
        let names: Vec<&str> = hsms.iter().map(|name| daemon.zone(name).hsm.as_str()).collect();
        assert_failed(&caller.connect(&id).await.unwrap(), "INVALID_CREDENTIALS", &names);
        caller.disconnect(&id).await.unwrap();
        // For all HSMs, none has to be named. What it is about need not be said as long as tries are left.
        let named = if names.len() == 2 { &[][..] } else { &names };
        let told = UpdateKeyStoreRequest { pin_was_reset: round > 0, ..pin(&id, &new, named) };
        caller.update_key_store(told).await.unwrap();
        assert_connected(&caller.connect(&id).await.unwrap());
        daemon.wait_until_healthy_for(&caller).await;
        assert!(hsms.iter().all(|name| !daemon.zone(name).takes(&new)), "it was rotated again");
        assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hsm_that_is_away_is_rotated_when_it_returns() {
    let (daemon, caller, id) = with_store(true).await;
    let first = daemon.site().first_pin();
    let away = daemon.zone("b").take_away();
    assert_connected(&caller.connect(&id).await.unwrap());
    let rotated = async || -> Vec<bool> {
        caller.key_store(&id).await.hsms.iter().map(|hsm| hsm.last_rotation.is_some()).collect()
    };
    assert_eq!(rotated().await, [true, false]);
    away.put_back();
    daemon.wait_until_healthy_for(&caller).await;
    assert_eq!(rotated().await, [true, true]);
    assert!(!daemon.zone("b").takes(&first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_due_is_not_made_up_for_once_none_is_wanted() {
    let (daemon, caller, id) = with_store(true).await;
    let first = daemon.site().first_pin();
    let away = daemon.zone("b").take_away();
    assert_connected(&caller.connect(&id).await.unwrap());
    caller.disconnect(&id).await.unwrap();
    away.put_back();
    daemon.site().rotate(false);
    daemon.hang_up("the configuration was read again");
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    assert!(daemon.zone("b").takes(&first), "hsm-b was away when rotations were wanted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_cannot_change_its_pin_keeps_it() {
    let (daemon, caller, id) = with_store(false).await;
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    assert!(daemon.zones.iter().all(|zone| zone.takes(&daemon.site().first_pin())));
    assert!(caller.key_store(&id).await.hsms.iter().all(|hsm| hsm.last_rotation.is_none()));
}

/// Vendors whose users live in the cluster have one PIN for all HSMs: one record of it, whichever HSM is asked about.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_of_the_whole_cluster_is_on_record_once() {
    let site = Site::prepare().await;
    site.configure(|config| {
        config["cluster"][0].as_table_mut().unwrap().insert("pin_scope".to_owned(), "cluster".into());
    });
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let id = caller.create_key_store("main", daemon.site()).await.unwrap();
    // Given for one HSM, it is every HSM's; and once one has refused it, none is asked again.
    caller.update_key_store(pin(&id, "not-the-PIN", &["hsm-b"])).await.unwrap();
    assert_failed(&caller.connect(&id).await.unwrap(), "INVALID_CREDENTIALS", &["hsm-a", "hsm-b"]);
    daemon.wait_until_logged("refused kmsuser's PIN");
    assert_eq!(daemon.log().matches("refused kmsuser's PIN").count(), 1, "{}", daemon.log());
    let left: Vec<u32> = caller.key_store(&id).await.hsms.iter().map(|hsm| hsm.pin_tries_left).collect();
    assert_eq!(left, [2, 2]);
    caller.disconnect(&id).await.unwrap();
    caller.update_key_store(pin(&id, &daemon.site().first_pin(), &[])).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    caller.create_key("under one PIN").await;
}

/// Another seal key in the configuration, which the daemon reads again; the one before is named as the former.
fn renew_seal_key(daemon: &Daemon) {
    let new = daemon.site().path().join("credentials/seal-2.key");
    tool::run(Command::new("sh").args(["-c", "umask 077; head -c 32 /dev/urandom > \"$0\""]).arg(&new)).ok();
    daemon.site().configure(|config| {
        let seal = config["seal"].as_table_mut().unwrap();
        seal.insert("key".to_owned(), "credentials/seal-2.key".into());
        seal.insert("former".to_owned(), vec!["credentials/seal.key"].into());
    });
    daemon.hang_up("the configuration was read again");
}

fn forget_former_seal_key(daemon: &Daemon) {
    daemon.site().configure(|config| {
        config["seal"].as_table_mut().unwrap().remove("former");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_a_user_is_named() {
    let (daemon, caller, id) = with_store(true).await;
    let zone = daemon.zone("b");
    for token in fs::read_dir(zone.tokens()).unwrap() {
        fs::remove_dir_all(token.unwrap().path()).unwrap();
    }
    let mut command = Command::new("pkcs11-tool");
    command.arg("--module").arg(&zone.module).args(["--init-token", "--slot-index", "0", "--label", &zone.label]);
    tool::run(command.args(["--so-pin", "12345678"]).env("SOFTHSM2_CONF", &zone.softhsm_conf)).ok();
    daemon.site().configure_hsms(|_, hsm| {
        hsm.remove("token_serials");
    });
    let site = daemon.terminate().1;
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller_now = daemon.caller().await;
    drop(caller);
    assert_failed(&caller_now.connect(&id).await.unwrap(), "USER_NOT_FOUND", &["hsm-b", "no user"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_token_there_are_not_enough_hsms() {
    let (daemon, caller, id) = with_store(true).await;
    let away: Vec<_> = daemon.zones.iter().map(|zone| zone.take_away()).collect();
    assert_failed(&caller.connect(&id).await.unwrap(), "INSUFFICIENT_CLOUDHSM_HSMS", &["hsm-a", "hsm-b"]);
    away.into_iter().for_each(crate::harness::zone::Taken::put_back);
    caller.disconnect(&id).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
}

/// Where SoftHSM looks for a file there is a pipe that nobody writes to: C_Initialize never comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_does_not_answer_is_a_network_error() {
    let (daemon, caller, id) = with_store(true).await;
    let mut pipes = Vec::new();
    for zone in &daemon.zones {
        let token = fs::read_dir(zone.tokens()).unwrap().next().unwrap().unwrap().path();
        let (file, aside) = (token.join("token.object"), token.join("token.object.aside"));
        fs::rename(&file, &aside).unwrap();
        tool::run(Command::new("mkfifo").arg(&file)).ok();
        pipes.push((file, aside));
    }
    let store = caller.connect(&id).await.unwrap();
    for (file, aside) in &pipes {
        fs::rename(aside, file).unwrap();
    }
    assert_failed(&store, "NETWORK_ERRORS", &["hsm-a", "hsm-b"]);
    // Those that hang are inside the module's start and left alone until their limit; the pipe's other end frees them.
    caller.disconnect(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_cannot_be_opened_is_our_own_error() {
    let (daemon, _, id) = with_store(true).await;
    let site = daemon.terminate().1;
    let key = site.path().join("credentials/seal.key");
    let kept = fs::read(&key).unwrap();
    fs::write(&key, [7; 32]).unwrap();
    // Nor can the audit log's key be opened.
    site.begin_audit_log();
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    assert_failed(&caller.connect(&id).await.unwrap(), "INTERNAL_ERROR", &["seal key"]);
    caller.disconnect(&id).await.unwrap();
    let site = daemon.terminate().1;
    fs::write(&key, kept).unwrap();
    let other = key.with_file_name("seal-7.key");
    fs::write(&other, [7; 32]).unwrap();
    fs::set_permissions(&other, fs::metadata(&key).unwrap().permissions()).unwrap();
    site.configure(|config| {
        config["seal"].as_table_mut().unwrap().insert("former".to_owned(), vec!["credentials/seal-7.key"].into());
    });
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    assert_connected(&caller.connect(&id).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_went_from_the_configuration_is_not_found() {
    let (daemon, caller, id) = with_store(true).await;
    drop(caller);
    let site = daemon.terminate().1;
    let good = fs::read_to_string(site.config_file()).unwrap();
    site.configure(|config| {
        config["cluster"][0]["id"] = "cluster-zzzzzzzzzzz".into();
    });
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    assert_failed(&caller.connect(&id).await.unwrap(), "CLUSTER_NOT_FOUND", &["cluster-keystoredev"]);
    caller.disconnect(&id).await.unwrap();
    // Its HSMs are certified under the store's trust anchor, so the store can follow its cluster to another id.
    let follow = UpdateKeyStoreRequest {
        key_store_id: id.clone(),
        cluster_id: "cluster-zzzzzzzzzzz".into(),
        ..Default::default()
    };
    caller.update_key_store(follow).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    assert!(good.contains("cluster-keystoredev"));
}

/// With the other zones away.
async fn alone_it_opens(daemon: &Daemon, caller: &Caller, zone: &str, ciphertext: &[u8]) {
    let others: Vec<_> = daemon.zones.iter().filter(|other| other.name != zone).collect();
    let away: Vec<_> = others.iter().map(|other| other.take_away()).collect();
    for other in others {
        wait_until_down(caller, other).await;
    }
    assert_eq!(caller.decrypt(ciphertext, &context(&[])).await.unwrap(), b"kept");
    away.into_iter().for_each(crate::harness::zone::Taken::put_back);
}

/// The seal key is replaced while the store serves; then everything is restored from a backup.
#[tokio::test(flavor = "multi_thread")]
async fn the_seal_key_is_replaced_and_a_backup_restored() {
    let (daemon, caller, id) = with_store(true).await;
    assert_connected(&caller.connect(&id).await.unwrap());
    let key = caller.create_key("backed up").await;
    let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    let site_path = daemon.site().path().to_owned();
    renew_seal_key(&daemon);
    assert!(daemon.keystorectl(&["cluster", "reseal"]).ok().contains('2'));
    forget_former_seal_key(&daemon);
    let site = daemon.terminate().1;
    let old = site_path.join("credentials/seal.key");
    fs::remove_file(&old).unwrap();
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    caller.disconnect(&id).await.unwrap();
    let site = daemon.terminate().1;

    // A backup of database, seal key, ceremony folder and tokens; then the loss of it all.
    let backup = tempfile::TempDir::new().unwrap();
    let parts = ["state", "credentials", "ceremony", "zones"];
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        tool::run(Command::new("cp").arg("-a").arg(from).arg(to)).ok();
    };
    for part in parts {
        copy(&site_path.join(part), backup.path());
        fs::remove_dir_all(site_path.join(part)).unwrap();
    }
    for part in parts {
        copy(&backup.path().join(part), &site_path);
    }
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    assert_connected(&caller.connect(&id).await.unwrap());
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");

    // A database from before a rotation knows an older PIN: the officer's way leads out of it.
    caller.disconnect(&id).await.unwrap();
    let site = daemon.terminate().1;
    fs::remove_dir_all(site_path.join("state")).unwrap();
    copy(&backup.path().join("state"), &site_path);
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    assert_failed(&caller.connect(&id).await.unwrap(), "INVALID_CREDENTIALS", &["hsm-a", "hsm-b"]);
    caller.disconnect(&id).await.unwrap();
    for zone in &daemon.zones {
        zone.officer_sets("after-the-restore");
    }
    caller.update_key_store(pin(&id, "after-the-restore", &[])).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    assert!(!daemon.log().contains("after-the-restore"), "{}", daemon.log());

    // What the restored ceremony folder is for: a further HSM comes in from it, and opens what was sealed before.
    members::third_zone(daemon.site());
    daemon.hang_up("the configuration was read again");
    members::add_hsm(&daemon).ok();
    members::filled(&caller).await;
    let site = daemon.terminate().1;
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    alone_it_opens(&daemon, &caller, "c", &ciphertext).await;
}
