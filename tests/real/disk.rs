//! The disk with the metadata is full, for an hour or from the start: what must be recorded is refused, the rest goes on,
//! the kill switch works, and all of it ends with the trouble.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use keystored::proto::v1::{ConnectionState, ListKeysRequest};
use rustix::process::Signal;
use tonic::Code;

use crate::harness::daemon::{Daemon, Site};
use crate::harness::disk::Disk;
use crate::harness::{Caller, Failure, bytes, context, process, tool, wait};

/// Of the small disk.
const BYTES: u64 = 32 << 20;
/// The exit code that says that a later start may succeed.
const PASSING: i32 = 75;

/// What a daemon on a small disk is used for.
struct Use {
    daemon: Daemon,
    caller: Caller,
    key: String,
    ciphertext: Vec<u8>,
}

impl Use {
    async fn begin() -> Self {
        let daemon = Site::prepare().await.with_disk(BYTES).start().await;
        let caller = daemon.caller().await;
        let key = caller.create_key("made while there was room").await;
        let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
        Self { daemon, caller, key, ciphertext }
    }

    async fn goes_on(&self) {
        goes_on(&self.caller, &self.key, &self.ciphertext).await;
    }
}

/// Encrypt and Decrypt work.
async fn goes_on(caller: &Caller, key: &str, ciphertext: &[u8]) {
    assert_eq!(caller.decrypt(ciphertext, &context(&[])).await.unwrap(), b"kept");
    let again = caller.encrypt(key, b"again", &context(&[])).await.unwrap();
    assert_eq!(caller.decrypt(&again, &context(&[])).await.unwrap(), b"again");
}

/// A refusal that a caller can act on: it may be repeated, and it says which disk is full.
#[track_caller]
fn names_the_disk(refused: &Failure, daemon: &Daemon) {
    let state = daemon.site().path().join("state").display().to_string();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "KMSInternalException"), "{refused:?}");
    assert!(refused.retryable && refused.message.contains(&state) && refused.message.contains("full"), "{refused:?}");
}

fn readiness(daemon: &Daemon) -> (u16, serde_json::Value) {
    let (code, body) = daemon.ops("/readyz").unwrap();
    (code, serde_json::from_str(&body).unwrap())
}

/// Waits until nothing is wrong any more.
fn wait_until_sound(daemon: &Daemon) {
    wait::until("nothing is wrong any more", wait::LONG, || (readiness(daemon).1["status"] == "ready").then_some(()));
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(metrics.contains("keystored_degraded{reason=\"disk\"} 0"), "{metrics}");
    assert!(metrics.contains("keystored_state_reserve_whole 1"), "{metrics}");
}

/// Waits until the disk is told as a reason.
fn wait_until_degraded(daemon: &Daemon) {
    let state = daemon.site().path().join("state").display().to_string();
    wait::until("the disk is a reason", wait::LONG, || {
        let (code, report) = readiness(daemon);
        assert_eq!(code, 200, "{report}");
        let named = report["reasons"].as_array().unwrap().iter().any(|why| why.as_str().unwrap().contains(&state));
        (report["status"] == "degraded" && named).then_some(())
    });
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(!metrics.contains("keystored_degraded{reason=\"disk\"} 0"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_must_be_recorded_until_there_is_room() {
    let used = Use::begin().await;
    let Use { daemon, caller, key, .. } = &used;
    for _ in 0..2 {
        daemon.site().disk().fill();
        // What is allocated already takes a few more changes.
        let refused = wait::until_async("a key is refused", wait::LONG, async || {
            caller.try_create_key("none fits", "").await.err()
        })
        .await;
        names_the_disk(&refused, daemon);
        used.goes_on().await;
        wait_until_degraded(daemon);
        // Again and again, and nothing else breaks by it.
        for _ in 0..20 {
            names_the_disk(&caller.try_create_key("none fits", "").await.unwrap_err(), daemon);
        }
        used.goes_on().await;
        caller.switch_key(key, false).await.unwrap();
        caller.encrypt(key, b"again", &context(&[])).await.unwrap_err();

        daemon.site().disk().free();
        // By itself, and without a restart.
        wait_until_sound(daemon);
        caller.switch_key(key, true).await.unwrap();
        caller.create_key("there is room again").await;
        used.goes_on().await;
    }
    let report = daemon.log();
    assert!(report.matches("the metadata cannot be written").count() < 10, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_switch_works_on_a_disk_that_others_keep_full() {
    const KEYS: usize = 24;
    let Use { daemon, caller, key: kept, ciphertext } = Use::begin().await;
    let store = caller.key_stores().await.remove(0).key_store_id;
    let mut keys = Vec::new();
    for number in 0..KEYS {
        keys.push(caller.create_key(&format!("number {number}")).await);
    }
    // The log of the database begins anew with a start, so that it has no room of its own yet.
    let daemon = daemon.terminate().1.start().await;
    let caller = daemon.caller().await;
    let neighbour = daemon.site().disk().neighbour();
    for round in 0..5 {
        for key in &keys {
            caller.switch_key(key, false).await.unwrap();
            let refused = caller.encrypt(key, b"nothing", &context(&[])).await.unwrap_err();
            assert_eq!(refused.reason, "DisabledException", "{refused:?}");
        }
        // Once the reserve is used, only what takes out of use is recorded.
        for key in &keys {
            match caller.switch_key(key, true).await {
                Err(refused) => names_the_disk(&refused, &daemon),
                Ok(()) => assert_eq!(round, 0, "it was done although the reserve is spent"),
            }
        }
    }
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(metrics.contains("keystored_state_reserve_whole 0"), "{metrics}\n{}", daemon.log_tail());
    goes_on(&caller, &kept, &ciphertext).await;
    wait_until_degraded(&daemon);
    names_the_disk(&caller.try_create_key("none fits", "").await.unwrap_err(), &daemon);
    // Workers that die are replaced: the attempts to log in are recorded, and what becomes of them.
    for zone in ["a", "b"] {
        daemon.zone(zone).signal_workers(Signal::KILL);
        daemon.wait_until_healthy_for(&caller).await;
    }
    assert!(caller.hsms().await.unwrap().iter().all(|hsm| hsm.pin_tries_left == 3));
    goes_on(&caller, &kept, &ciphertext).await;
    caller.begin_disconnect(&store).await.unwrap();
    assert_eq!(caller.settled(&store).await.connection_state(), ConnectionState::Disconnected);
    let refused = caller.decrypt(&ciphertext, &context(&[])).await.unwrap_err();
    assert_eq!(refused.reason, "KMSInvalidStateException", "{refused:?}");

    // What was answered is on record.
    let daemon = daemon.crash().launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    assert_eq!(caller.key_store(&store).await.connection_state(), ConnectionState::Disconnected);
    names_the_disk(&caller.begin_connect(&store).await.unwrap_err(), &daemon);

    drop(neighbour);
    daemon.site().disk().free();
    wait_until_sound(&daemon);
    assert_eq!(caller.connect(&store).await.unwrap().connection_state(), ConnectionState::Connected);
    daemon.wait_until_healthy_for(&caller).await;
    for key in &keys {
        let refused = caller.encrypt(key, b"nothing", &context(&[])).await.unwrap_err();
        assert_eq!(refused.reason, "DisabledException", "{refused:?}");
    }
    goes_on(&caller, &kept, &ciphertext).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_after_a_crash_serves() {
    let Use { daemon, key, ciphertext, .. } = Use::begin().await;
    daemon.site().disk().fill();
    let daemon = daemon.crash().launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    wait_until_degraded(&daemon);
    goes_on(&caller, &key, &ciphertext).await;
    caller.switch_key(&key, false).await.unwrap();

    // And once more after it was stopped in order.
    let (status, site) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap_err().reason, "DisabledException");
    daemon.site().disk().free();
    wait_until_sound(&daemon);
    caller.switch_key(&key, true).await.unwrap();
    goes_on(&caller, &key, &ciphertext).await;
    caller.create_key("there is room again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_has_no_room_says_so_and_may_be_tried_again() {
    let Use { daemon, key, ciphertext, .. } = Use::begin().await;
    let (status, site) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    let state = site.path().join("state").display().to_string();
    // Nobody kept anything for it: as if the disk had filled while an earlier release ran.
    fs::remove_file(site.disk().path().join("keystored.db.reserve")).unwrap();
    site.disk().fill();
    let serve = ["serve".as_ref(), "--config".as_ref(), site.config_file().as_os_str()];
    for _ in 0..2 {
        let ran = site.disk().keystored(&serve);
        assert_eq!(ran.code, Some(PASSING), "{ran:?}");
        let last = ran.err.lines().last().unwrap();
        assert!(last.contains(&state) && last.contains("full") && last.contains("free space"), "{ran:?}");
    }
    let checked = site.disk().keystored(&["check".as_ref(), "--config".as_ref(), site.config_file().as_os_str()]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.out.contains(&state) && checked.out.contains("free space on it"), "{checked:?}");
    assert!(!checked.out.contains("everything is as it should be"), "{checked:?}");
    let left: Vec<_> = fs::read_dir(site.disk().path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("trial")), "{left:?}");

    site.disk().free();
    let checked = site.disk().keystored(&["check".as_ref(), "--config".as_ref(), site.config_file().as_os_str()]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.out.contains(&state) && checked.out.contains("are free"), "{checked:?}");
    let daemon = site.start().await;
    wait_until_sound(&daemon);
    goes_on(&daemon.caller().await, &key, &ciphertext).await;
}

/// A new database needs room of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_without_room_says_so_and_succeeds_later() {
    let site = Site::prepare().await.with_disk(BYTES);
    let state = site.path().join("state").display().to_string();
    let serve = ["serve".as_ref(), "--config".as_ref(), site.config_file().as_os_str()];
    for blocks in [0, 1, 4, 12, 24] {
        site.disk().fill_but(blocks);
        let ran = site.disk().keystored(&serve);
        assert_eq!(ran.code, Some(PASSING), "with {blocks} blocks: {ran:?}");
        let last = ran.err.lines().last().unwrap();
        assert!(last.contains(&state) && last.contains("full"), "with {blocks} blocks: {ran:?}");
        site.disk().free();
    }
    let daemon = site.start().await;
    wait_until_sound(&daemon);
    daemon.caller().await.create_key("made after all").await;
}

/// With every amount of room, from none to what is more than enough: what was answered is so, in the catalogue and in the
/// database.
#[tokio::test(flavor = "multi_thread")]
async fn no_amount_of_room_makes_a_wrong_answer() {
    let Use { daemon, caller, key, ciphertext } = Use::begin().await;
    let daemon = daemon.terminate().1.start().await;
    drop(caller);
    let caller = daemon.caller().await;
    let (mut made, mut refusals) = (vec![key.clone()], 0);
    let mut enabled = true;
    for blocks in 0..40 {
        daemon.site().disk().fill_but(blocks);
        match caller.try_create_key(&format!("with {blocks} blocks"), "").await {
            Ok(new) => made.push(new.key_id),
            Err(refused) => {
                names_the_disk(&refused, &daemon);
                refusals += 1;
            }
        }
        match caller.switch_key(&key, !enabled).await {
            Ok(()) => enabled = !enabled,
            Err(refused) if !enabled => names_the_disk(&refused, &daemon),
            Err(refused) => panic!("a key could not be disabled with {blocks} blocks: {refused:?}"),
        }
        daemon.site().disk().free();
        wait_until_sound(&daemon);
    }
    assert!(refusals > 5 && made.len() > 5, "{refusals} refusals, {} keys", made.len());
    let shown = keys(&caller).await;
    // A second picture, from the database alone.
    let daemon = daemon.crash().start().await;
    let caller = daemon.caller().await;
    assert_eq!(keys(&caller).await, shown, "the catalogue showed something else than the database holds");
    for key in &made {
        assert!(shown.contains_key(key), "{key} was reported and is not there");
    }
    assert_eq!(shown.len(), made.len(), "keys that nobody was told of: {shown:?}");
    if !enabled {
        caller.switch_key(&key, true).await.unwrap();
    }
    goes_on(&caller, &key, &ciphertext).await;
}

/// Every key, with its state.
async fn keys(caller: &Caller) -> BTreeMap<String, i32> {
    let request = caller.request(ListKeysRequest::default());
    let listed = caller.keys.clone().list_keys(request).await.unwrap().into_inner();
    assert!(!listed.truncated);
    let mut keys = BTreeMap::new();
    for entry in listed.keys {
        let state = caller.describe_key(&entry.key_id).await.unwrap().key_state;
        keys.insert(entry.key_id, state);
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_short_of_something_is_no_mistake_of_the_operator() {
    let site = Site::prepare().await.with_disk(BYTES);
    let serve = ["serve".as_ref(), "--config".as_ref(), site.config_file().as_os_str()];
    site.disk().read_only(true);
    let ran = site.disk().keystored(&serve);
    assert_eq!(ran.code, Some(PASSING), "{ran:?}");
    assert!(ran.err.to_lowercase().contains("read-only"), "{ran:?}");
    site.disk().read_only(false);

    for files in [8, 12] {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={files}")).arg(env!("CARGO_BIN_EXE_keystored")).args(serve);
        let ran = tool::run(&mut command);
        assert_eq!(ran.code, Some(PASSING), "with {files} files: {ran:?}");
        assert!(ran.err.to_lowercase().contains("too many"), "with {files} files: {ran:?}");
    }

    // What is not readable stays so until somebody changes it.
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
        let ran = tool::run(command.arg(env!("CARGO_BIN_EXE_keystored")).args(serve));
        assert_ne!(ran.code, Some(PASSING), "{ran:?}");
    }
}

/// A bound on the size of files (LimitFSIZE) is an error like a full disk, and no signal that ends the daemon.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_become_larger_ends_nothing() {
    let Use { daemon, caller, key, ciphertext } = Use::begin().await;
    let limit = |bytes: &str| {
        tool::run(Command::new("prlimit").args(["--pid", &daemon.pid().to_string()]).arg(format!("--fsize={bytes}:")))
            .ok();
    };
    limit(&(2 << 20).to_string());
    fs::remove_file(daemon.site().disk().path().join("keystored.db.reserve")).unwrap();
    wait::until("the reserve cannot be made", wait::LONG, || {
        readiness(&daemon).1["reasons"].to_string().contains("File too large").then_some(())
    });
    goes_on(&caller, &key, &ciphertext).await;
    caller.create_key("needs no large file").await;
    limit("unlimited");
    wait_until_sound(&daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_with_the_addresses_comes_when_there_is_room() {
    let site = Site::prepare().await;
    let inside = site.path().join("elsewhere");
    fs::create_dir(&inside).unwrap();
    let disk = Disk::over(&inside, 64 << 10);
    disk.fill();
    let (file, inside) = (disk.path().join("addresses.env"), inside.join("addresses.env"));
    let mut command = disk.command(env!("CARGO_BIN_EXE_keystored"));
    command.args(["serve", "--config"]).arg(site.config_file()).arg("--env-file").arg(inside);
    let log = site.path().join("addresses.log");
    let mut daemon = command.stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let said = || fs::read_to_string(&log).unwrap();
    wait::until("it cannot be written", wait::LONG, || said().contains("could not be written").then_some(()));
    assert!(!file.exists());
    disk.free();
    wait::until("it is written", wait::LONG, || {
        assert!(daemon.try_wait().unwrap().is_none(), "{}", said());
        fs::read_to_string(&file).is_ok_and(|text| text.contains("KEYSTORED_OPS=")).then_some(())
    });
    process::signal(daemon.id(), Signal::TERM);
    assert_eq!(daemon.wait().unwrap().code(), Some(0), "{}", said());
}

#[tokio::test(flavor = "multi_thread")]
async fn keystorectl_leaves_no_half_file_on_a_full_disk() {
    let Use { daemon, key, .. } = Use::begin().await;
    let disk = daemon.site().disk();
    let at = |name: &str| daemon.site().path().join("state").join(name).display().to_string();
    let environment = daemon.environment().unwrap();
    let plain = daemon.site().path().join("plain");
    // Two blocks when it is encrypted.
    fs::write(&plain, bytes(4_096, 1)).unwrap();
    let large = daemon.site().path().join("large");
    fs::write(&large, bytes(200_000, 2)).unwrap();
    let (plain, large) = (plain.to_str().unwrap(), large.to_str().unwrap());
    fs::write(disk.path().join("before"), "what was there").unwrap();
    let there = || {
        let mut names: Vec<String> = fs::read_dir(disk.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("keystored.db") && !name.ends_with(".lock"))
            .collect();
        names.sort();
        names
    };
    for blocks in [0, 1] {
        disk.fill_but(blocks);
        let before = there();
        for arguments in [
            vec!["encrypt", &key, "--plaintext-file", plain, "--raw", "--out", &at("new")],
            vec!["encrypt", &key, "--plaintext-file", plain, "--raw", "--out", &at("before"), "--force"],
            vec!["file", "seal", &key, large, &at("sealed")],
            vec!["file", "seal", &key, large, &at("before"), "--force"],
        ] {
            let ran = disk.keystorectl(environment.clone(), &arguments);
            assert_eq!(ran.code, Some(5), "{arguments:?}: {ran:?}");
            assert!(ran.err.contains("free space"), "{arguments:?}: {ran:?}");
            assert_eq!(there(), before, "after {arguments:?}");
            assert_eq!(fs::read_to_string(disk.path().join("before")).unwrap(), "what was there", "{arguments:?}");
        }
        disk.free();
    }
    let sealed = at("before");
    disk.keystorectl(environment.clone(), &["file", "seal", &key, large, &sealed, "--force"]).ok();
    disk.keystorectl(environment, &["file", "open", &sealed, &at("opened")]).ok();
    assert_eq!(fs::read(disk.path().join("opened")).unwrap(), bytes(200_000, 2));
}

#[test]
fn a_development_daemon_that_had_no_room_starts_when_it_has() {
    let dir = tempfile::TempDir::with_prefix("keystored-dev-").unwrap();
    let disk = Disk::over(dir.path(), BYTES);
    let env = disk.path().join("dev.env");
    let dev = |output: Stdio| {
        let _ = fs::remove_file(&env);
        let mut command = disk.command(env!("CARGO_BIN_EXE_keystored"));
        command.args(["dev", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--dir"]).arg(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn().unwrap()
    };
    // Some of the files, more of them, and so on; where all of them fit, it has to be stopped.
    for blocks in [0, 2, 5, 9, 14, 20, 30, 50] {
        disk.fill_but(blocks);
        let mut daemon = dev(Stdio::piped());
        let status = wait::until("it ends, or has a key store", 2 * wait::LONG, || {
            if env.exists() {
                process::signal(daemon.id(), Signal::TERM);
            }
            daemon.try_wait().unwrap()
        });
        let said = std::io::read_to_string(daemon.stderr.take().unwrap()).unwrap();
        if !env.exists() {
            assert!(said.contains(dir.path().to_str().unwrap()), "{blocks} blocks: {status} {said}");
            // At a step of the token's own the module says what it likes; at ours the disk is named.
            let ours = status.code() == Some(PASSING) && said.contains("full");
            assert!(ours || status.code() == Some(2) && said.contains("ceremony"), "{blocks} blocks: {status} {said}");
        }
        disk.free();
    }
    let mut daemon = dev(Stdio::null());
    wait::until("the development daemon has a key store", wait::LONG, || {
        assert!(daemon.try_wait().unwrap().is_none(), "it ended");
        env.exists().then_some(())
    });
    process::signal(daemon.id(), Signal::TERM);
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}
