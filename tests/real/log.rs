//! The log's reader stalls, goes away or has no room: the service goes on, says so, and says afterwards what is missing.
//! Likewise for all that workers and their modules say, and for the last words of programs.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use model::clock::Clock;
use proto::v1::ConnectionState;
use rustix::process::Signal;

use crate::harness::chaos;
use crate::harness::daemon::{Daemon, Site};
use crate::harness::disk::Disk;
use crate::harness::stream::{LAST_WORDS, Pipe};
use crate::harness::{Caller, context, process, tool, wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_nothing() {
    let site = Site::prepare().await;
    // Everything that happens makes lines.
    log(&site, "text", "trace");
    let pipe = Pipe::new();
    let daemon = site.launch_into(Stdio::null(), pipe.end());
    let (caller, key) = in_use(&daemon).await;
    wait::until("strangers fill the pipe", wait::LONG, || {
        strangers(&daemon, 50);
        pipe.is_full().then_some(())
    });
    strangers(&daemon, 500);
    wait::until_async("what waits is too much", wait::LONG, async || {
        let _ = caller.encrypt(&key, b"makes lines", &context(&[])).await;
        (dropped(&daemon) > 0).then_some(())
    })
    .await;
    // Some were taken not long ago, which it says first.
    wait::until("the daemon says that nobody takes them", wait::LONG, || {
        strangers(&daemon, 5);
        degraded(&daemon).contains("takes no line").then_some(())
    });
    goes_on(&daemon, &caller, &key).await;
    // The last lines have nowhere to go; they are not waited for long.
    assert_eq!(daemon.terminate().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_nothing() {
    let mut pipe = Pipe::new();
    let daemon = Site::prepare().await.launch_into(Stdio::null(), pipe.end());
    let (caller, key) = in_use(&daemon).await;
    assert_eq!(dropped(&daemon), 0);
    pipe.goes_away();
    strangers(&daemon, 10);
    let reason = degraded(&daemon);
    assert!(reason.contains("log lines") && reason.contains("Broken pipe"), "{reason}");
    assert!(dropped(&daemon) > 0);
    goes_on(&daemon, &caller, &key).await;
    assert_eq!(daemon.terminate().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_full_device_keeps_nothing_from_starting() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let daemon = Site::prepare().await.launch_into(full(), full());
    let (caller, key) = in_use(&daemon).await;
    let reason = degraded(&daemon);
    assert!(reason.contains("No space left on device"), "{reason}");
    assert!(dropped(&daemon) > 0);
    goes_on(&daemon, &caller, &key).await;
    assert_eq!(daemon.terminate().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_has_room_again_is_told_what_it_missed() {
    let dir = tempfile::TempDir::with_prefix("keystored-log-").unwrap();
    let disk = Disk::over(dir.path(), 256 << 10);
    let file = disk.path().join("log");
    let site = Site::prepare().await;
    log(&site, "json", "info");
    let daemon = site.launch_into(Stdio::null(), File::options().create(true).append(true).open(&file).unwrap());
    let (caller, key) = in_use(&daemon).await;
    disk.fill();
    misses_some(&daemon, &caller, &key).await;
    disk.free();
    let text = || String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
    hears_of_them(&daemon, text);
    assert_eq!(daemon.terminate().0.code(), Some(0));
    assert!(text().trim_end().lines().last().unwrap().contains("stopped"), "{}", text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_grow_is_a_full_disk_and_no_signal() {
    const LIMIT: u64 = 64 << 20;
    let site = Site::prepare().await;
    log(&site, "json", "info");
    let path = site.path().join("long.log");
    // Nothing else that the daemon writes comes near the limit.
    let file = File::options().create(true).append(true).open(&path).unwrap();
    file.set_len(LIMIT - (4 << 10)).unwrap();
    let daemon = site.launch_limited(LIMIT, file);
    let (caller, key) = in_use(&daemon).await;
    misses_some(&daemon, &caller, &key).await;
    // As what rotates logs in place does.
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    hears_of_them(&daemon, || String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned());
    assert_eq!(daemon.terminate().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_terminal_of_dev_ends_it() {
    for out in [Stdio::from(Pipe::broken().end()), File::options().write(true).open("/dev/full").unwrap().into()] {
        let log = tempfile::NamedTempFile::new().unwrap();
        let daemon = Site::prepare().await.launch_dev_into(out, log.reopen().unwrap());
        serves_dev(daemon).await;
    }
    // And where it is shown nothing because nobody reads.
    let pipe = Pipe::full();
    let daemon = Site::prepare().await.launch_dev_into(pipe.end(), pipe.end());
    serves_dev(daemon).await;
}

async fn serves_dev(daemon: Daemon) {
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    caller.create_key("made where nobody looks").await;
    assert_eq!(daemon.terminate().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_log_in_while_nobody_reads_what_modules_say() {
    let site = Site::prepare().await;
    for control in chaos::control_each(&site) {
        control.set(&talks("C_Login", "trying to log in, and saying so at length\\n", 4_000)).unwrap();
    }
    let pipe = Pipe::full();
    let daemon = site.launch_into(Stdio::null(), pipe.end());
    let (caller, key) = in_use(&daemon).await;
    goes_on(&daemon, &caller, &key).await;
    assert_eq!(daemon.terminate().0.code(), Some(0));
}

/// What a worker says while nobody hears it, because the daemon stands still or has gone, holds up no login: whatever
/// ends a worker there can take a token with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_inside_a_login_needs_nobody_to_hear_it() {
    let site = Site::prepare().await;
    let controls = chaos::control_each(&site);
    let pipe = Pipe::new();
    let daemon = site.launch_into(Stdio::null(), pipe.end());
    let (caller, _) = in_use(&daemon).await;
    let store = caller.key_stores().await.remove(0).key_store_id;
    for trouble in [Signal::STOP, Signal::KILL] {
        caller.disconnect(&store).await.unwrap();
        let before: Vec<u64> = controls.iter().map(|control| control.injected("C_Login")).collect();
        for control in &controls {
            control.set("[[rule]]\nfunction = \"C_Login\"\nfault = \"hang\"").unwrap();
        }
        caller.begin_connect(&store).await.unwrap();
        for (control, before) in controls.iter().zip(&before) {
            wait::until("a worker is in C_Login", wait::LONG, || (control.injected("C_Login") > *before).then_some(()));
        }
        daemon.zones.iter().for_each(|zone| zone.keep_copies());
        process::signal(daemon.pid(), trouble);
        let found: Vec<u64> = controls.iter().map(|control| control.calls("C_FindObjectsInit")).collect();
        for control in &controls {
            // More than any pipe holds, and more again.
            control.set(&talks("C_Login", "nobody hears this; all the more of it is said\\n", 30_000)).unwrap();
        }
        for (control, found) in controls.iter().zip(&found) {
            wait::until("the worker has logged in, and looks for its objects", wait::LONG, || {
                (control.calls("C_FindObjectsInit") > *found).then_some(())
            });
        }
        controls.iter().for_each(|control| control.clear().unwrap());
        if trouble == Signal::STOP {
            process::signal(daemon.pid(), Signal::CONT);
            let id = store.as_str();
            let mut store = caller.settled(id).await;
            if store.connection_state() == ConnectionState::Failed {
                // Nobody heard the workers for longer than a Connect takes at most.
                caller.disconnect(id).await.unwrap();
                caller.begin_connect(id).await.unwrap();
                store = caller.settled(id).await;
            }
            assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}");
            daemon.wait_until_healthy_for(&caller).await;
        }
    }
    let site = daemon.crash();
    let daemon = site.start().await;
    daemon.wait_until_healthy_for(&daemon.caller().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_says_is_logged_with_its_hsm_and_cannot_fake_a_line() {
    let site = Site::prepare().await;
    log(&site, "json", "info");
    let control = chaos::control_first(&site);
    let said = r#"out of \u001b[31mpaper\n{\"level\":\"ERROR\",\"message\":\"all keys are lost\"}\n"#;
    control.set(&talks("C_Login", said, 1)).unwrap();
    let daemon = site.start().await;
    let hsm = daemon.zones[0].hsm.as_str();
    let lines = |daemon: &Daemon| -> Vec<serde_json::Value> {
        daemon.log().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    };
    for words in [r"out of \u{1b}[31mpaper", "all keys are lost"] {
        let line = wait::until("the module's words are logged", wait::LONG, || {
            lines(&daemon).into_iter().find(|line| line["said"].as_str().is_some_and(|said| said.contains(words)))
        });
        assert_eq!((line["hsm"].as_str(), line["level"].as_str()), (Some(hsm), Some("WARN")), "{line}");
    }
    assert!(!daemon.log().contains('\u{1b}'));
    // A worker's own lines are as they always were.
    let own = lines(&daemon).into_iter().find(|line| line["message"] == "found the token").unwrap();
    assert_eq!(own["target"], "keystored_worker", "{own}");
    assert!(own["span"]["hsm"].is_string(), "{own}");

    // One who does not stop talking drowns nobody else's words.
    control.set(&talks("C_GetTokenInfo", "again and again\\n", 20_000)).unwrap();
    wait::until("the rest is left out, and counted", wait::LONG, || (dropped(&daemon) > 10_000).then_some(()));
    control.clear().unwrap();
    let left_out = || lines(&daemon).iter().filter_map(|line| line["lines_left_out"].as_u64()).sum::<u64>();
    wait::until("it is said how much was left out", wait::LONG, || (left_out() > 10_000).then_some(()));
    let logged = daemon.log().matches("again and again").count();
    assert!((1..2_000).contains(&logged), "{logged} lines were let through");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_says_reaches_the_terminal_of_check() {
    let site = Site::prepare().await;
    chaos::control_first(&site).set(&talks("C_GetTokenInfo", "the licence ends tomorrow\\n", 1)).unwrap();
    let ran = tool::keystored(&["check".as_ref(), "--config".as_ref(), site.config_file().as_os_str()]);
    assert!(ran.err.contains("the licence ends tomorrow"), "{ran:?}");
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn no_program_breaks_over_its_last_words() {
    let keystored = env!("CARGO_BIN_EXE_keystored");
    let keystorectl = env!("CARGO_BIN_EXE_keystorectl");
    let nowhere = Path::new("/dev/null/nowhere");
    for (program, arguments, code) in [
        (keystored, &["serve", "--config", "/nowhere/keystored.toml"][..], 2),
        (keystored, &["check", "--config", "/nowhere/keystored.toml"], 2),
        (keystored, &["dev", "--dir", nowhere.to_str().unwrap()], 2),
        (keystored, &["serve"], 2),
        (keystored, &["--help"], 0),
        (keystorectl, &["key", "list"], 2),
        (keystorectl, &["--json", "key", "list"], 2),
        (keystorectl, &["key"], 2),
        (keystorectl, &["cluster", "init", "--config", "/nowhere/keystored.toml", "--folder", "x"], 5),
        (keystorectl, &["--help"], 0),
    ] {
        let full = || File::options().write(true).open("/dev/full").unwrap();
        for (kind, out, err) in [
            ("read", Stdio::null(), Stdio::null()),
            ("gone", Stdio::from(Pipe::broken().end()), Stdio::from(Pipe::broken().end())),
            ("full", full().into(), full().into()),
        ] {
            let ended = end_of(program, arguments, out, err);
            assert_eq!(ended, Some(code), "{program} {arguments:?}, whose output is {kind}");
        }
    }
    // Where nobody reads, the daemon's words are tried and then given up.
    let pipe = Pipe::full();
    assert_eq!(end_of(keystored, &["serve", "--config", "/nowhere"], pipe.end().into(), pipe.end().into()), Some(2));
}

/// The exit code of a program; it must come to its end by itself.
fn end_of(program: &str, arguments: &[&str], out: Stdio, err: Stdio) -> Option<i32> {
    let mut command = Command::new(program);
    let mut child = command.args(arguments).stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
    let clock = Clock::system();
    let deadline = clock.now() + LAST_WORDS;
    let ended = wait::until(&format!("{program} {arguments:?} has ended"), 2 * LAST_WORDS, || {
        if clock.now() > deadline {
            child.kill().unwrap();
        }
        child.try_wait().unwrap()
    });
    ended.code()
}

/// A rule by which a module talks.
fn talks(function: &str, words: &str, times: u32) -> String {
    format!("[[rule]]\nfunction = \"{function}\"\nfault = {{ talk = \"{words}\", times = {times} }}")
}

/// Sets how the daemon logs.
fn log(site: &Site, format: &str, filter: &str) {
    site.configure(|config| {
        let log = [("format", format), ("filter", filter)].map(|(name, value)| (name.to_owned(), value.into()));
        config.insert("log".to_owned(), toml::Table::from_iter(log).into());
    });
}

/// Waits until the daemon serves with all that it has: a caller, and a key.
async fn in_use(daemon: &Daemon) -> (Caller, String) {
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.connect_key_store(&caller).await;
    let key = caller.create_key("whatever becomes of the log").await;
    (caller, key)
}

/// So many connections on which nothing is said, one after the other. Each leaves a line.
fn strangers(daemon: &Daemon, number: usize) {
    let environment = daemon.environment().unwrap();
    let address = environment["KEYSTORED_ADDRESS"].trim_start_matches("https://").to_owned();
    for _ in 0..number {
        drop(TcpStream::connect(&address).unwrap());
    }
}

/// Log lines that were dropped, as the metrics have it.
fn dropped(daemon: &Daemon) -> u64 {
    let (_, text) = daemon.ops("/metrics").expect("the ops port answers");
    let line = text.lines().find_map(|line| line.strip_prefix("keystored_log_lines_dropped_total "));
    line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

/// Waits until the log is what troubles the daemon; /readyz's sentence about it.
fn degraded(daemon: &Daemon) -> String {
    let reason = wait::until("the daemon says that its log is in trouble", wait::LONG, || {
        let (code, body) = daemon.ops("/readyz")?;
        let report: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(code, 200, "{report}");
        let reasons = report["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap().to_owned());
        let of_log = reasons.into_iter().find(|reason| reason.contains("log"));
        of_log.inspect(|_| assert_eq!(report["status"], "degraded", "{report}"))
    });
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(metrics.contains("keystored_degraded{reason=\"log\"} 1"), "{metrics}");
    reason
}

/// Everything works: both kinds of calls, /livez, and what starts killed workers again.
async fn goes_on(daemon: &Daemon, caller: &Caller, key: &str) {
    let ciphertext = caller.encrypt(key, b"kept", &context(&[])).await.unwrap();
    caller.switch_key(key, false).await.unwrap();
    caller.encrypt(key, b"refused", &context(&[])).await.unwrap_err();
    caller.switch_key(key, true).await.unwrap();
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    assert!(daemon.ops("/livez").is_some_and(|(code, _)| code == 200));
    for zone in &daemon.zones {
        daemon.replace_workers(&zone.name, caller).await;
    }
    assert!(daemon.ops("/readyz").is_some_and(|(code, _)| code == 200));
}

/// Has the log, which has no room, miss lines.
async fn misses_some(daemon: &Daemon, caller: &Caller, key: &str) {
    wait::until("the room that is left is taken", wait::LONG, || {
        strangers(daemon, 20);
        (dropped(daemon) > 0).then_some(())
    });
    let reason = degraded(daemon);
    assert!(reason.contains("log lines"), "{reason}");
    goes_on(daemon, caller, key).await;
}

/// Waits until the log, which has room again, says how many lines it missed, and the daemon that nothing is wrong.
fn hears_of_them(daemon: &Daemon, text: impl Fn() -> String) {
    let told = wait::until("the log says what is missing", wait::LONG, || {
        let text = text();
        let mut lines = text.lines().filter(|line| line.contains("log lines are missing here"));
        lines.next_back().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
    });
    assert_eq!(told["level"], "WARN", "{told}");
    assert!(told["lines"].as_u64().is_some_and(|lines| lines > 0 && lines <= dropped(daemon)), "{told}");
    assert!(told["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{told}");
    wait::until("the daemon is not degraded any more", wait::LONG, || {
        let (_, body) = daemon.ops("/readyz")?;
        let report: serde_json::Value = serde_json::from_str(&body).unwrap();
        (report["status"] == "ready").then_some(())
    });
    // What comes now is whole.
    strangers(daemon, 1);
    wait::until("new lines are there", wait::LONG, || {
        let text = text();
        let (_, after) = text.rsplit_once("log lines are missing here").unwrap();
        after.lines().skip(1).any(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).then_some(())
    });
}
