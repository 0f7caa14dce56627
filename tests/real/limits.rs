//! Queues are bounded: past the bound a call is refused at once and may come again.

use std::time::Duration;

use keystored::model::clock::Clock;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::daemon::Site;
use crate::harness::{Caller, Failure, context, process};

/// Calls on one connection; well under the streams that it may have.
const ON_ONE: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let site = Site::prepare().await;
    stand_still_unharmed(&site);
    site.configure_hsms(|_, hsm| {
        hsm.insert("queue".to_owned(), toml::Table::from_iter([("items".to_owned(), 64.into())]).into());
    });
    standing_still(site, 500, 2 * 64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_items_in_work_are_refused_at_once() {
    let site = Site::prepare().await;
    stand_still_unharmed(&site);
    site.configure(|config| {
        let bounds = ["items_in_work", "items_in_work_per_principal"].map(|name| (name.to_owned(), 1_000.into()));
        let limits = config.entry("limits").or_insert_with(|| toml::Table::new().into());
        limits.as_table_mut().unwrap().extend(bounds);
    });
    standing_still(site, 1_500, 1_000).await;
}

/// Both zones stand still in these tests; they must not be taken for dead meanwhile.
fn stand_still_unharmed(site: &Site) {
    site.kill_after(10_000);
}

/// With every worker stopped, at most `bound` calls wait and the others are refused; all that waited are answered.
async fn standing_still(site: Site, calls: usize, bound: usize) {
    let daemon = site.start().await;
    let mut callers = Vec::new();
    for _ in 0..calls / ON_ONE {
        callers.push(daemon.caller().await);
    }
    let key = callers[0].create_key("a queue").await;
    let clock = Clock::system();
    let stopped: Vec<u32> = daemon.zones.iter().flat_map(|zone| zone.signal_workers(Signal::STOP)).collect();
    let mut ended: JoinSet<(Duration, Result<Vec<u8>, Failure>)> = JoinSet::new();
    for caller in callers.iter().cycle().take(calls) {
        let (caller, key, clock) = (caller.clone(), key.clone(), clock.clone());
        ended.spawn(async move {
            let begun = clock.now();
            let result = encrypt(&caller, &key).await;
            (clock.now() - begun, result)
        });
    }
    // A worker may answer a few before the signal reaches it, and each answer makes room for one more.
    let surely = (calls - bound) / 2;
    let (mut refused, mut answered, mut awake) = (0, 0, false);
    while let Some(call) = ended.join_next().await {
        match call.unwrap() {
            (took, Err(failure)) => {
                assert_eq!((failure.code, failure.retryable), (Code::ResourceExhausted, true), "{failure:?}");
                assert!(took < Duration::from_secs(5), "refused after {took:?}");
                refused += 1;
            }
            (_, Ok(_)) => answered += 1,
        }
        if refused >= surely && !awake {
            awake = true;
            stopped.iter().for_each(|pid| process::signal(*pid, Signal::CONT));
        }
    }
    assert!(refused >= surely, "only {refused} of {calls} were refused");
    assert!(answered > 0, "those that waited are answered");
    daemon.wait_until_healthy_for(&callers[0]).await;
    encrypt(&callers[0], &key).await.unwrap();
}

async fn encrypt(caller: &Caller, key: &str) -> Result<Vec<u8>, Failure> {
    caller.encrypt(key, b"waits", &context(&[])).await
}
