//! /readyz, /metrics and the health service tell the same: ready, degraded while calls are answered, unready.

use serde_json::Value;

use crate::harness::{Daemon, context, wait};
use crate::zones::wait_until_down;

fn report(daemon: &Daemon) -> (u16, Value) {
    let (code, body) = daemon.ops("/readyz").unwrap();
    (code, serde_json::from_str(&body).unwrap())
}

fn metric(daemon: &Daemon, series: &str) -> Option<f64> {
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_of_two_zones_down_it_is_degraded_and_answers() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("served by one zone").await;
    let degraded = |reason: &str| metric(&daemon, &format!("keystored_degraded{{reason=\"{reason}\"}}"));
    let (code, ready) = report(&daemon);
    assert_eq!((code, &ready["status"], &ready["ready"]), (200, &"ready".into(), &true.into()), "{ready:#}");
    assert_eq!(ready["reasons"].as_array().unwrap().len(), 0, "{ready:#}");
    assert_eq!((degraded("hsm"), metric(&daemon, "keystored_ready")), (Some(0.0), Some(1.0)));

    let taken = daemon.zone("a").take_away();
    wait_until_down(&caller, daemon.zone("a")).await;
    let seen = wait::until("it is degraded", wait::LONG, || {
        let (code, seen) = report(&daemon);
        (seen["status"] == "degraded").then_some((code, seen))
    });
    let (code, seen) = seen;
    assert_eq!((code, &seen["ready"]), (200, &true.into()), "calls are answered: {seen:#}");
    let reasons = seen["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason.as_str().unwrap().contains("HSM hsm-a in zone a is down")), "{seen:#}");
    assert_eq!((degraded("hsm"), degraded("tasks")), (Some(1.0), Some(0.0)));
    assert_eq!(metric(&daemon, "keystored_ready"), Some(1.0));
    let down = seen["hsms"].as_array().unwrap().iter().find(|hsm| hsm["hsm"] == "hsm-a").unwrap();
    assert_eq!((&down["health"], &down["data_workers"]), (&"down".into(), &0.into()), "{seen:#}");
    assert_eq!(daemon.keystorectl(&["health"]).code, Some(0));
    let ciphertext = caller.encrypt(&key, b"answered", &context(&[])).await.unwrap();
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"answered");

    // With the other one down too nothing answers, and that is another state.
    let other = daemon.zone("b").take_away();
    wait::until("it is unready", wait::LONG, || {
        let (code, seen) = report(&daemon);
        (code == 503 && seen["status"] == "unready").then_some(())
    });
    other.put_back();
    taken.put_back();
    daemon.wait_until_healthy_for(&caller).await;
    wait::until("it is ready again", wait::LONG, || {
        let (code, seen) = report(&daemon);
        (code == 200 && seen["status"] == "ready" && seen["reasons"] == Value::Array(Vec::new())).then_some(())
    });
    assert_eq!(degraded("hsm"), Some(0.0));
    assert_eq!(daemon.ops("/livez"), Some((200, "ok\n".to_owned())));
}
