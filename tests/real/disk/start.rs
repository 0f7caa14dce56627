//! Starts, other programs and other files on a full disk: each says so, and does its work when there is room.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{BYTES, Use, goes_on, readiness, wait_until_degraded, wait_until_sound};
use crate::harness::daemon::Site;
use crate::harness::disk::Disk;
use crate::harness::{bytes, context, process, tool, wait};

/// The exit code that says that a later start may succeed.
const PASSING: i32 = 75;

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

/// The attempts to log in of a restore that was broken off are recorded at the next start, also where others take every
/// byte that is free.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_a_restore_that_was_broken_off_needs_no_room() {
    let Use { daemon, key, ciphertext, .. } = Use::begin().await;
    let site = daemon.terminate().1;
    let backup = site.path().join("backup.db");
    let config = site.config_file().to_owned();
    let backed_up =
        site.disk().keystored(&["backup".as_ref(), "--config".as_ref(), config.as_os_str(), backup.as_os_str()]);
    assert_eq!(backed_up.code, Some(0), "{backed_up:?}");
    let mut command = site.disk().command(env!("CARGO_BIN_EXE_keystored"));
    command.args(["restore", "--yes", "--config"]).arg(&config).arg(&backup);
    let aborted = tool::run(command.env("KEYSTORED_ABORT_AT", "kmsuser.login.before"));
    assert_eq!(aborted.code, None, "{aborted:?}");
    site.disk().fill();
    let neighbour = site.disk().neighbour();
    let daemon = site.launch();
    daemon.wait_until_ready();
    daemon.wait_until_logged("a restore has tried to log in");
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    goes_on(&caller, &key, &ciphertext).await;
    drop(neighbour);
    daemon.site().disk().free();
    wait_until_sound(&daemon);
    caller.create_key("there is room again").await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_short_of_something_is_no_mistake_of_the_operator() {
    let site = Site::prepare().await.with_disk(BYTES);
    let serve = ["serve".as_ref(), "--config".as_ref(), site.config_file().as_os_str()];
    site.disk().read_only(true);
    let ran = site.disk().keystored(&serve);
    assert_eq!(ran.code, Some(PASSING), "{ran:?}");
    assert!(ran.err.to_lowercase().contains("read-only"), "{ran:?}");
    site.disk().read_only(false);

    // A limit that never lets a client in is no shortage: it stays until somebody raises it. One that does not let it look
    // is what a machine that is short of files looks like.
    for (files, code, words) in [(8, PASSING, "too many"), (32, 2, "limitnofile")] {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={files}")).arg(env!("CARGO_BIN_EXE_keystored")).args(serve);
        let ran = tool::run(&mut command);
        assert_eq!(ran.code, Some(code), "with {files} files: {ran:?}");
        let said = ran.err.to_lowercase();
        assert!(said.contains("open files") && said.contains(words), "with {files} files: {ran:?}");
    }

    // What is not readable stays so until somebody changes it.
    if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
        let ran = tool::run(command.arg(env!("CARGO_BIN_EXE_keystored")).args(serve));
        assert_ne!(ran.code, Some(PASSING), "{ran:?}");
    }
}

/// A program that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Its workers leave by themselves when it has gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
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
    let mut daemon = Running(command.stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    let said = || fs::read_to_string(&log).unwrap();
    wait::until("it cannot be written", wait::LONG, || said().contains("could not be written").then_some(()));
    assert!(!file.exists());
    disk.free();
    wait::until("it is written", wait::LONG, || {
        assert!(daemon.0.try_wait().unwrap().is_none(), "{}", said());
        fs::read_to_string(&file).is_ok_and(|text| text.contains("KEYSTORED_OPS=")).then_some(())
    });
    process::signal(daemon.0.id(), Signal::TERM);
    assert_eq!(daemon.0.wait().unwrap().code(), Some(0), "{}", said());
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
    let elsewhere = tempfile::TempDir::with_prefix("keystored-dev-").unwrap();
    let log = elsewhere.path().join("dev.log");
    let disk = Disk::over(dir.path(), BYTES);
    let env = disk.path().join("dev.env");
    let dev = |output: Stdio| {
        let _ = fs::remove_file(&env);
        let mut command = disk.command(env!("CARGO_BIN_EXE_keystored"));
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--aws", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--dir"])
            .arg(dir.path());
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn().unwrap())
    };
    // Some of the files, more of them, and so on; where all of them fit, it has to be stopped.
    for blocks in [0, 2, 5, 9, 14, 20, 30, 50] {
        disk.fill_but(blocks);
        let mut daemon = dev(fs::File::create(&log).unwrap().into());
        let said = || fs::read_to_string(&log).unwrap();
        let mut full = true;
        let status = wait::until("it ends, or has a key store", 2 * wait::LONG, || {
            // One that serves already waits for the room that the rest needs.
            if full && said().contains("it is tried again") {
                disk.free();
                full = false;
            }
            if env.exists() {
                process::signal(daemon.0.id(), Signal::TERM);
            }
            daemon.0.try_wait().unwrap()
        });
        let said = said();
        assert!(full || env.exists(), "{blocks} blocks: {status} {said}");
        if !env.exists() {
            assert!(said.contains(dir.path().to_str().unwrap()), "{blocks} blocks: {status} {said}");
            // At a step of the token's own the module says what it likes; at ours the disk is named.
            let ours = status.code() == Some(PASSING) && said.contains("full");
            assert!(ours || status.code() == Some(2) && said.contains("ceremony"), "{blocks} blocks: {status} {said}");
        }
        if full {
            disk.free();
        }
    }
    let mut daemon = dev(Stdio::null());
    wait::until("the development daemon has a key store", wait::LONG, || {
        assert!(daemon.0.try_wait().unwrap().is_none(), "it ended");
        env.exists().then_some(())
    });
    process::signal(daemon.0.id(), Signal::TERM);
    assert_eq!(daemon.0.wait().unwrap().code(), Some(0));
}
