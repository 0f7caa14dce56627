//! A zone crashes, hangs or loses its token while calls go on: no caller sees an error, and the zone comes back.

use rustix::process::Signal;

use crate::harness::load::Load;
use crate::harness::{Caller, Daemon, process, wait};
use crate::zones::wait_until_down;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_zone_costs_no_caller_an_error() {
    under_load(async |daemon, caller, load, zone| {
        let killed = daemon.zone(zone).signal_workers(Signal::KILL);
        load.passes(200).await;
        daemon.wait_until_healthy_for(caller).await;
        let now = daemon.zone(zone).workers();
        assert!(killed.iter().all(|pid| !now.contains(pid)), "{killed:?} are still there: {now:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_zone_costs_no_caller_an_error() {
    under_load(async |daemon, caller, load, zone| {
        let stopped = daemon.zone(zone).signal_workers(Signal::STOP);
        load.passes(200).await;
        // Calls pass long before the kill limit has: only then is it this zone's turn to come back.
        wait::until_async("the stopped workers are killed", wait::LONG, async || {
            stopped.iter().all(|pid| !process::lives(*pid)).then_some(())
        })
        .await;
        daemon.wait_until_healthy_for(caller).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_token_costs_no_caller_an_error() {
    under_load(async |daemon, caller, load, zone| {
        let taken = daemon.zone(zone).take_away();
        wait_until_down(caller, daemon.zone(zone)).await;
        load.passes(200).await;
        taken.put_back();
        daemon.wait_until_healthy_for(caller).await;
    })
    .await;
}

/// Does something to one zone, then to the other, under load.
async fn under_load(trouble: impl AsyncFn(&Daemon, &Caller, &Load, &str)) {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("under load").await;
    let load = Load::start(&caller, &key, 8);
    for zone in ["a", "b"] {
        load.passes(200).await;
        trouble(&daemon, &caller, &load, zone).await;
    }
    load.passes(200).await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls} round trips failed: {:?}", failures.len(), failures.first());
}
