//! What HSMs did, counted in the daemon and shown to operators and Prometheus.

use std::process::Command;

use serde_json::Value;

use crate::harness::load::Load;
use crate::harness::{Daemon, tool, wait};

/// The HSMs of `keystorectl top --once --json`.
fn hsms(daemon: &Daemon) -> Vec<Value> {
    let out = daemon.keystorectl(&["top", "--once", "--every", "500ms", "--json"]).ok();
    let top: Value = serde_json::from_str(&out).unwrap();
    let hsms = top["clusters"][0]["hsms"].as_array().unwrap_or_else(|| panic!("{out}")).clone();
    let names: Vec<_> = hsms.iter().map(|hsm| hsm["hsm_id"].as_str().unwrap()).collect();
    assert_eq!(names, ["hsm-a", "hsm-b"], "{out}");
    hsms
}

fn sum(hsms: &[Value], of: &str) -> f64 {
    hsms.iter().filter_map(|hsm| hsm[of].as_f64()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_what_each_hsm_does() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    let key = caller.create_key("").await;
    let load = Load::start(&caller, &key, 2);
    load.passes(20).await;

    let text = daemon.keystorectl(&["top", daemon.site().cluster(), "--once", "--every", "500ms"]).ok();
    assert!(text.contains("CONNECTED") && text.contains("2 of 2 HSMs healthy"), "{text}");
    for hsm in ["hsm-a", "hsm-b"] {
        let line = text.lines().find(|line| line.contains(hsm)).unwrap_or_else(|| panic!("{hsm} is not in\n{text}"));
        assert!(line.contains("Healthy"), "{text}");
    }
    // Half a second may be one in which the machine had something else to do.
    let busy = wait::until("something is done", wait::LONG, || {
        let hsms = hsms(&daemon);
        let done = sum(&hsms, "operations_per_second") > 0.0 && sum(&hsms, "operations") > 20.0;
        (done && hsms.iter().any(|hsm| hsm["p50_seconds"].as_f64() > Some(0.0))).then_some(hsms)
    });
    let (_, failures) = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
    assert!(busy.iter().any(|hsm| hsm["p99_seconds"].as_f64() >= hsm["p50_seconds"].as_f64()), "{busy:?}");
    assert!(busy.iter().all(|hsm| hsm["ready_workers"] == hsm["workers"] && hsm["capacity"] != 0), "{busy:?}");

    let (_, metrics) = daemon.ops("/metrics").unwrap();
    for name in ["hsm_requests_total{", "hsm_request_duration_seconds_bucket{le=", "hsm_request_failures_total{"] {
        assert!(metrics.contains(&format!("keystored_{name}")), "{name} is not in\n{metrics}");
    }

    // The cluster is replaced and goes on counting.
    let before = sum(&hsms(&daemon), "operations");
    daemon.hang_up("the configuration was read again");
    let after = sum(&hsms(&daemon), "operations");
    assert!(after >= before, "{before} operations have become {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hsm_that_is_away_is_shown_with_its_reason() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    let _taken = daemon.zone("b").take_away();
    let told = wait::until_async("hsm-b is shown as away", wait::LONG, async || {
        let text = daemon.keystorectl(&["top", "--once", "--every", "100ms"]).ok();
        (!text.contains("2 of 2") && text.lines().any(|line| line.starts_with("hsm-b: "))).then_some(text)
    })
    .await;
    assert!(!told.lines().any(|line| line.starts_with("hsm-a: ")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shown_is_said_with_a_way_out() {
    let daemon = Daemon::start().await;
    let wrong = |arguments: &[&str], code, words: &str| {
        let ran = daemon.keystorectl(arguments);
        assert!(ran.code == Some(code) && ran.err.contains(words), "{arguments:?}: {ran:?}");
    };
    // The tests have no terminal.
    wrong(&["top"], 2, "--once prints one table");
    wrong(&["top", "--once", "--every", "1ms"], 2, "at least 100ms");
    wrong(&["top", "cluster-zzzzzzzzzzz", "--once"], 1, "cluster-zzzzzzzzzzz");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_gives_the_terminal_back() {
    let daemon = Daemon::start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/terminal.py");
    // q, Esc and Ctrl-C.
    for keys in ["q", "\u{1b}", "\u{3}"] {
        let mut command = Command::new("/usr/bin/python3");
        command.args([script, "hsm-b", keys, env!("CARGO_BIN_EXE_keystorectl"), "top"]);
        let told = tool::run(command.envs(daemon.environment().unwrap())).ok();
        let expected = "exit code 0\ntext was seen: True\nsettings are as before: True\nfirst screen is back: True\n\
                        cursor is shown: True\n";
        assert_eq!(told, expected, "after {keys:?}");
    }
}
