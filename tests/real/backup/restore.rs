//! Restores over what a daemon left: what is told, what comes back, and what is not undone.

use std::fs;
use std::process::Command;

use proto::v1::ConnectionState;

use super::{beside, database, files, keystored};
use crate::harness::aws::{Ask, Endpoint, Scope, principal};
use crate::harness::daemon::Site;
use crate::harness::tool::{self, Ran};
use crate::harness::{Daemon, context, wait};

/// Some key versions of a list in what was told, under this heading of an HSM.
fn listed(ran: &Ran, hsm: &str, heading: &str) -> Vec<String> {
    let of_hsm = ran.out.split(&format!("  HSM {hsm}: ")).nth(1).unwrap_or_else(|| panic!("no {hsm}: {ran:?}"));
    let of_hsm = of_hsm.split("\n  HSM ").next().unwrap();
    let Some(list) = of_hsm.split(heading).nth(1) else { return Vec::new() };
    list.lines().skip(1).take_while(|line| line.starts_with("      ")).map(|line| line.trim().to_owned()).collect()
}

const UNKNOWN: &str = "unknown to the restored database";
const LACKS: &str = "in the restored database, and not in the token";

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_over_a_crashed_daemon_keeps_the_newest_pins_and_tells_of_every_key() {
    let site = Site::prepare().await;
    site.rotate(true);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let store = caller.key_stores().await.remove(0).key_store_id;
    let (kept, disabled) = (caller.create_key("kept").await, caller.create_key("to be disabled").await);
    let ciphertext = caller.encrypt(&kept, b"kept", &context(&[])).await.unwrap();
    let backup = daemon.site().path().join("backup.db");
    keystored(daemon.site(), "backup", &[backup.as_os_str()]).ok();

    // Each connect rotates the PINs.
    caller.disconnect(&store).await.unwrap();
    assert_eq!(caller.connect(&store).await.unwrap().connection_state(), ConnectionState::Connected);
    daemon.wait_until_healthy_for(&caller).await;
    let later = caller.create_key("made \u{1b}[31mlater").await;
    caller.switch_key(&disabled, false).await.unwrap();
    let running = keystored(daemon.site(), "restore", &[backup.as_os_str(), "--yes".as_ref()]);
    assert!(running.code == Some(1) && running.err.contains("in use by another keystored"), "{running:?}");
    let site = daemon.crash();

    let before = files(&site);
    let told = keystored(&site, "restore", &[backup.as_os_str()]);
    assert_eq!(told.code, Some(3), "{told:?}");
    assert!(before == files(&site), "{:?} became {:?}", before.keys(), files(&site).keys());
    for word in ["Nothing was changed", "kmsuser's PIN in HSM hsm-a", "kmsuser's PIN in HSM hsm-b", &later] {
        assert!(told.out.contains(word), "{word}: {told:?}");
    }
    assert!(!told.out.contains('\u{1b}'), "a description is shown and not obeyed: {told:?}");
    for hsm in ["hsm-a", "hsm-b"] {
        assert_eq!(listed(&told, hsm, UNKNOWN), [format!("{later}/1")], "{told:?}");
        assert_eq!(listed(&told, hsm, LACKS), [""; 0], "{told:?}");
    }

    let done = keystored(&site, "restore", &[backup.as_os_str(), "--yes".as_ref()]);
    assert!(done.code == Some(0) && done.out.contains("keystored.db.before-"), "{done:?}");
    for path in files(&site).keys().filter(|path| path.is_file()) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{path:?}");
    }
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    assert_eq!(caller.describe_key(&later).await.unwrap_err().reason, "NotFoundException");
    let error = caller.encrypt(&disabled, b"x", &context(&[])).await.unwrap_err();
    assert_eq!(error.reason, "DisabledException", "what was taken away from callers is not given back: {error:?}");
    assert_eq!(daemon.log().matches("refused kmsuser's PIN").count(), 0, "{}", daemon.log());
    assert!(caller.key_store(&store).await.hsms.iter().all(|hsm| hsm.pin_tries_left == 3));
    // And again: what is on record now is what the tokens have.
    caller.disconnect(&store).await.unwrap();
    assert_eq!(caller.connect(&store).await.unwrap().connection_state(), ConnectionState::Connected);
    wait::until_async("the later key is seen to belong to nobody", wait::LONG, async || {
        let hsms = caller.cluster().await.hsms;
        hsms.iter().all(|hsm| hsm.orphans == [format!("{later}/1")]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_lacks_and_who_could_not_be_asked_is_told() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let (kept, removed) = (caller.create_key("kept").await, caller.create_key("removed").await);
    let backup = daemon.site().path().join("backup.db");
    keystored(daemon.site(), "backup", &[backup.as_os_str()]).ok();
    let site = daemon.terminate().1;
    let [a, b] = <[_; 2]>::try_from(site.zones(0)).unwrap();
    b.delete_key(&removed, 1);
    let away = a.take_away();
    let told = keystored(&site, "restore", &[backup.as_os_str()]);
    assert_eq!(told.code, Some(3), "{told:?}");
    assert!(told.out.contains("HSM hsm-a: not looked at: "), "{told:?}");
    assert_eq!(listed(&told, "hsm-b", LACKS), [format!("{removed}/1")], "{told:?}");
    away.put_back();

    // Without what was there nobody knows whether the PIN in the backup is the token's: none is tried.
    for what in ["", "-wal", "-shm", ".id"] {
        let _ = fs::remove_file(beside(&database(&site), what));
    }
    let told = keystored(&site, "restore", &[backup.as_os_str()]);
    assert_eq!(told.code, Some(3), "{told:?}");
    for word in ["HSM hsm-a: not looked at", "HSM hsm-b: not looked at", "--pin-was-reset", "count as used"] {
        assert!(told.out.contains(word), "{word}: {told:?}");
    }
    keystored(&site, "restore", &[backup.as_os_str(), "--yes".as_ref()]).ok();
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    caller.encrypt(&kept, b"works", &context(&[])).await.unwrap();
}

/// The officer has set another PIN meanwhile: the look costs one try, which is on record whatever comes of the restore.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_a_token_refuses_is_tried_once() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let backup = daemon.site().path().join("backup.db");
    keystored(daemon.site(), "backup", &[backup.as_os_str()]).ok();
    let store = caller.key_stores().await.remove(0).key_store_id;
    let site = daemon.terminate().1;
    site.zones(0)[1].officer_sets("set-by-the-officer");
    let first = keystored(&site, "restore", &[backup.as_os_str()]);
    assert!(first.code == Some(3) && first.out.contains("HSM hsm-b: not looked at: "), "{first:?}");
    assert!(first.out.contains("what tokens said of kmsuser's PINs is on record"), "{first:?}");
    assert_eq!(first.err.matches("refused kmsuser's PIN").count(), 1, "{first:?}");
    for arguments in [&[backup.as_os_str()][..], &[backup.as_os_str(), "--yes".as_ref()]] {
        let ran = keystored(&site, "restore", arguments);
        assert!(ran.out.contains("HSM hsm-b: not looked at: logins with kmsuser's PIN have failed"), "{ran:?}");
        assert!(!ran.err.contains("refused kmsuser's PIN"), "{ran:?}");
    }
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    wait::until_async("hsm-b waits for the officer", wait::LONG, async || {
        let hsms = caller.key_store(&store).await.hsms;
        (hsms[0].pin_tries_left == 3 && hsms[1].pin_tries_left == 2).then_some(())
    })
    .await;
    assert!(!daemon.log().contains("refused kmsuser's PIN"), "{}", daemon.log());
}

/// A crash of `keystored restore` inside a login: the attempt counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_a_restore_that_was_broken_off_is_on_record() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("kept").await;
    let backup = daemon.site().path().join("backup.db");
    keystored(daemon.site(), "backup", &[backup.as_os_str()]).ok();
    let site = daemon.terminate().1;
    let mut command = super::command(&site, "restore", &[backup.as_os_str(), "--yes".as_ref()]);
    let aborted = tool::run(command.env("KEYSTORED_ABORT_AT", "kmsuser.login.before"));
    assert_eq!(aborted.code, None, "{aborted:?}");
    let daemon = site.launch();
    daemon.wait_until_ready();
    daemon.wait_until_logged("a restore has tried to log in");
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    caller.encrypt(&key, b"works", &context(&[])).await.unwrap();
    assert!(caller.hsms().await.unwrap().iter().all(|hsm| hsm.pin_tries_left == 3), "each login begins the count anew");
}

/// One record for all HSMs: one after the other works on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_of_the_whole_cluster_opens_every_hsm_to_a_look() {
    let site = Site::prepare().await;
    site.configure(|config| {
        config["cluster"][0].as_table_mut().unwrap().insert("pin_scope".to_owned(), "cluster".into());
    });
    let daemon = site.start().await;
    let backup = daemon.site().path().join("backup.db");
    keystored(daemon.site(), "backup", &[backup.as_os_str()]).ok();
    let later = daemon.caller().await.create_key("later").await;
    let site = daemon.terminate().1;
    let told = keystored(&site, "restore", &[backup.as_os_str()]);
    for hsm in ["hsm-a", "hsm-b"] {
        assert_eq!(listed(&told, hsm, UNKNOWN), [format!("{later}/1")], "{told:?}");
    }
    keystored(&site, "restore", &[backup.as_os_str(), "--yes".as_ref()]).ok();
    let daemon = site.start().await;
    daemon.caller().await.create_key("under one PIN").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_it_asks() {
    let daemon = Daemon::start().await;
    let backup = daemon.site().path().join("backup.db");
    keystored(daemon.site(), "backup", &[backup.as_os_str()]).ok();
    let site = daemon.terminate().1;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/terminal.py");
    for (answer, code) in [("no\n", 3), ("yes\n", 0)] {
        let before = files(&site);
        let mut command = Command::new("python3");
        command.args([script, "Type yes:", answer, env!("CARGO_BIN_EXE_keystored"), "restore", "--config"]);
        let ran = tool::run(command.arg(site.config_file()).arg(&backup)).ok();
        assert!(ran.contains("text was seen: True") && ran.contains(&format!("exit code {code}")), "{answer:?}: {ran}");
        assert_eq!(before == files(&site), code == 3, "{answer:?}: {ran}");
    }
}

/// A key that was deleted since the backup may be in anybody's hands, and only the database that is gone knew.
#[tokio::test(flavor = "multi_thread")]
async fn an_access_key_signs_nothing_after_a_restore_over_a_database_that_cannot_be_read() {
    let daemon = Daemon::start().await;
    let signer = principal(&daemon.caller().await, "app", "KeyUser").await;
    let backup = daemon.site().path().join("backup.db");
    keystored(daemon.site(), "backup", &[backup.as_os_str()]).ok();
    daemon.keystorectl(&["access-key", "delete", &signer.principal, &signer.id]).ok();
    let site = daemon.terminate().1;
    fs::write(database(&site), "no database any more").unwrap();
    let named = format!("access key {} of principal ", signer.id);
    let kept = keystored(&site, "restore", &[backup.as_os_str(), "--keep-access-keys".as_ref()]);
    let line = kept.out.lines().find(|line| line.contains(&named));
    assert!(kept.code == Some(3) && line.is_some_and(|line| line.ends_with("is active")), "{kept:?}");
    let done = keystored(&site, "restore", &[backup.as_os_str(), "--yes".as_ref()]);
    let told = done.out.split("Access keys that come back disabled").nth(1);
    assert!(done.code == Some(0) && told.is_some_and(|told| told.contains(&named)), "{done:?}");
    let daemon = site.launch();
    daemon.wait_until_ready();
    let aws = Endpoint::of(&daemon);
    let ask = || Ask::sts("Action=GetCallerIdentity&Version=2011-06-15").sign(&signer, &Scope::of("sts"));
    let refused = aws.ask(&ask()).await;
    assert!(
        refused.status == 403 && refused.text().contains("<Code>InvalidClientTokenId</Code>"),
        "{}",
        refused.text()
    );
    daemon.keystorectl(&["access-key", "enable", &signer.principal, &signer.id]).ok();
    assert_eq!(aws.ask(&ask()).await.status, 200);
}

/// Nobody knows the PINs of the database that is gone. What a restore tells to do about them is the way out.
#[tokio::test(flavor = "multi_thread")]
async fn pins_that_nobody_knows_are_told_after_the_start() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("kept").await;
    let store = caller.key_stores().await.remove(0).key_store_id;
    let backup = daemon.site().path().join("backup.db");
    keystored(daemon.site(), "backup", &[backup.as_os_str()]).ok();
    let site = daemon.terminate().1;
    fs::write(database(&site), "no database any more").unwrap();
    let told = keystored(&site, "restore", &[backup.as_os_str(), "--yes".as_ref()]).ok();
    let new = site.path().join("new.pin");
    crate::operators::write_secret(&new, "set-by-the-officer");
    site.zones(0).iter().for_each(|zone| zone.officer_sets("set-by-the-officer"));

    let daemon = site.launch();
    wait::until("it listens", wait::LONG, || daemon.environment());
    let caller = daemon.caller().await;
    wait::until_async("the older PIN has cost a try in each HSM", wait::LONG, async || {
        let hsms = caller.key_store(&store).await.hsms;
        hsms.iter().all(|hsm| hsm.pin_tries_left == 2).then_some(())
    })
    .await;
    let file = new.to_str().unwrap();
    for command in [
        &["key-store", "disconnect", &store, "--wait"][..],
        &["key-store", "update", &store, "--password-file", file, "--pin-was-reset", "--hsm", "hsm-a"],
        &["key-store", "update", &store, "--password-file", file, "--pin-was-reset", "--hsm", "hsm-b"],
        &["key-store", "connect", &store, "--wait"],
    ] {
        let as_told = command.join(" ").replace(file, "FILE").replace("hsm-a", "HSM").replace("hsm-b", "HSM");
        assert!(told.contains(&as_told), "{as_told} is not in {told}");
        daemon.keystorectl(command).ok();
    }
    daemon.wait_until_healthy_for(&caller).await;
    caller.encrypt(&key, b"works", &context(&[])).await.unwrap();
}
