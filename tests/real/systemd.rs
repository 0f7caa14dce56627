//! What systemd is told, and the unit that it is given.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::daemon::Site;
use crate::harness::faults::Faults;
use crate::harness::manager::Manager;
use crate::harness::{process, tool, wait};
use crate::zones::wait_until_down;

const UNIT: &str = "deploy/keystored.service";

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_ready_the_state_the_watchdog_and_the_end() {
    let site = Site::prepare().await;
    let manager = Manager::of(&site);
    let daemon = site.launch_with(&[("NOTIFY_SOCKET", manager.path()), ("WATCHDOG_USEC", "2000000")]);
    let first = manager.until("a first word", |_| true);
    assert!(first.starts_with("STATUS=starting: "), "{first}");
    manager.until("the start asks for patience", |word| word == "EXTEND_TIMEOUT_USEC=30000000");
    manager.until("it is ready", |word| word == "READY=1");
    // They are open by then; it is a task of its own that writes them down.
    wait::until("both ports are known", wait::LONG, || daemon.environment());
    manager.until("the state", |word| word == "STATUS=ready: no key store is connected");

    let caller = daemon.caller().await;
    daemon.connect_key_store(&caller).await;
    manager.until("all is well", |word| word == "STATUS=ready");
    for _ in 0..3 {
        manager.until("the watchdog turns", |word| word == "WATCHDOG=1");
    }
    for pid in process::children(daemon.pid()) {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"), "no worker speaks for the daemon");
    }

    let taken = daemon.zone("a").take_away();
    wait_until_down(&caller, daemon.zone("a")).await;
    let degraded = manager.until("it is degraded", |word| word.starts_with("STATUS=degraded: "));
    assert!(degraded.contains("HSM hsm-a in zone a") && degraded.len() < 450 && !degraded.contains('\n'), "{degraded}");
    taken.put_back();
    daemon.wait_until_healthy_for(&caller).await;
    manager.until("all is well again", |word| word == "STATUS=ready");

    process::signal(daemon.pid(), Signal::TERM);
    manager.until("it stops", |word| word == "STOPPING=1");
    manager.until("and says how long that may take", |word| word.starts_with("EXTEND_TIMEOUT_USEC="));
    let (status, site) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    let log = fs::read_to_string(site.path().join("daemon.log")).unwrap();
    assert!(!log.contains("a task broke off") && !log.contains("does not turn"), "{log}");
}

/// Nothing may wait for a manager that does not read.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_does_not_read_holds_nothing_up() {
    let site = Site::prepare().await;
    let manager = Manager::of(&site);
    // Fills what the system keeps for a socket that nobody reads, so that each further word would wait.
    let stuffing = std::os::unix::net::UnixDatagram::unbound().unwrap();
    stuffing.set_nonblocking(true).unwrap();
    while stuffing.send_to(b"STATUS=of nobody", manager.path()).is_ok() {}
    let faults = Faults::of(&site);
    let environment =
        [("NOTIFY_SOCKET", manager.path()), ("WATCHDOG_USEC", "100000"), (Faults::VARIABLE, faults.path())];
    let daemon = site.launch_with(&environment);
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.connect_key_store(&caller).await;
    caller.create_key("made although nobody listens").await;
    assert_eq!(daemon.ops("/livez"), Some((200, "ok\n".to_owned())));
    let (status, _) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_in_which_nothing_turns_is_given_up() {
    for (order, says) in [
        ("stall accept", "the task accept"),
        ("stall watchdog", "the watchdog"),
        ("block systemd", ""),
        ("stall ops", ""),
    ] {
        let site = Site::prepare().await;
        let (manager, faults) = (Manager::of(&site), Faults::of(&site));
        let environment =
            [("NOTIFY_SOCKET", manager.path()), ("WATCHDOG_USEC", "400000"), (Faults::VARIABLE, faults.path())];
        let daemon = site.launch_with(&environment);
        daemon.wait_until_ready();
        for _ in 0..3 {
            manager.until("the watchdog turns", |word| word == "WATCHDOG=1");
        }
        faults.order(order);
        faults.taken();
        // Once it is silent, it stays so: systemd would end the daemon now.
        let mut quiet = 0;
        wait::until(&format!("{order}: nobody says that all is well"), wait::LONG, || {
            quiet = if manager.hear_all().iter().any(|word| word == "WATCHDOG=1") { 0 } else { quiet + 1 };
            (quiet > 100).then_some(())
        });
        if says.is_empty() {
            continue;
        }
        let body = wait::until(&format!("{order}: /livez fails"), wait::LONG, || {
            daemon.ops("/livez").filter(|(code, _)| *code == 503).map(|(_, body)| body)
        });
        assert!(body.contains(says) && body.contains("has not turned for") && body.contains("restart"), "{body}");
        let (code, report) = daemon.ops("/readyz").unwrap();
        assert!(report.contains("has not turned for"), "{report}");
        // Others go on where only one thing stands still; without a watchdog nobody knows.
        assert_eq!(code, if order == "stall watchdog" { 503 } else { 200 }, "{order}: {report}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let dir = tempfile::TempDir::with_prefix("keystored-test-").unwrap();
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT)).unwrap();
    let file = dir.path().join("keystored.service");
    // The program is looked for where it will be installed.
    fs::write(&file, unit.replace("/usr/bin/keystored ", &format!("{} ", env!("CARGO_BIN_EXE_keystored")))).unwrap();
    let verified = tool::run(Command::new("systemd-analyze").arg("verify").arg(&file));
    // What it finds it says, and succeeds all the same.
    assert_eq!((verified.code, verified.err.as_str()), (Some(0), ""), "{verified:?}");
}

/// What a crash of the daemon must not do: kill its workers, which may be inside C_Login.
#[test]
fn the_unit_lets_workers_leave_by_themselves() {
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT)).unwrap();
    let set = |name: &str| {
        let values = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(set("Type"), "notify");
    // With any other mode systemd kills what is left as soon as the main process has gone.
    assert_eq!(set("KillMode"), "process");
    assert!(set("WatchdogSec").parse::<u64>().unwrap() >= 60, "a busy moment is no hang");
    assert_eq!(set("Restart"), "on-failure");
    // One worker that the kernel has killed is replaced by the daemon; it is no reason to stop all of them.
    assert_eq!(set("OOMPolicy"), "continue");
    assert_eq!(set("StartLimitIntervalSec"), "0", "what passes by itself needs nobody to start the daemon");
}
