//! Queues are bounded: past the bound a call is refused at once and may come again. They are fair, and take nothing in
//! that would come out too late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use model::clock::Clock;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::clients::guest_of;
use crate::harness::daemon::Site;
use crate::harness::{Caller, Daemon, Failure, chaos, context, process, wait};

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
    site.kill_after(60_000);
}

/// With every worker stopped, at most `bound` calls wait and the others are refused; all that waited are answered.
async fn standing_still(site: Site, calls: usize, bound: usize) {
    let daemon = site.start().await;
    let mut callers = Vec::new();
    for _ in 0..calls / ON_ONE {
        callers.push(daemon.caller().await.with_deadline(wait::LONG));
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
                // Most of them come before anybody is woken: at once is before any place has become free.
                assert!(took < wait::LONG / 3, "refused after {took:?}");
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

/// Over two HSMs of a network: 20 ms for an operation, two at once in each. Together they do 200 a second.
async fn slow_hsms() -> (Daemon, Caller) {
    let site = Site::prepare().await;
    site.configure_hsms(|_, hsm| {
        hsm.insert("workers".to_owned(), 1.into());
        hsm.insert("sessions".to_owned(), 2.into());
    });
    let controls = chaos::control_all(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    for control in controls {
        control.set("[network]\nservice_ms = 20\nat_once = 2").unwrap();
    }
    (daemon, caller)
}

/// Calls that go on at once with the next one when they end; what became of them.
struct Flood {
    tasks: JoinSet<Vec<Failure>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

impl Flood {
    fn start(caller: &Caller, key: &str, in_flight: usize, deadline: Duration) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..in_flight {
            let (caller, key) = (caller.with_deadline(deadline), key.to_owned());
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            tasks.spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match encrypt(&caller, &key).await {
                        Ok(_) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(failure) => failures.push(failure),
                    }
                    // Who is refused at once does not ask again at once.
                    tokio::task::yield_now().await;
                }
                failures
            });
        }
        Self { tasks, stop, answered }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    async fn stop(mut self) -> Vec<Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            failures.extend(ended.unwrap());
        }
        failures
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_principal_is_not_the_delay_of_another() {
    let (daemon, caller) = slow_hsms().await;
    let key = caller.create_key("shared").await;
    let guest = guest_of(&daemon).await;
    let flood = Flood::start(&caller, &key, 200, wait::LONG);
    wait::until_async("the queues are long", wait::LONG, async || (flood.answered() > 20).then_some(())).await;
    let before = flood.answered();
    for _ in 0..20 {
        encrypt(&guest, &key).await.unwrap();
    }
    // In the order of arrival each of the guest's calls would have waited for 200 others.
    let overtaken = flood.answered() - before;
    assert!(overtaken < 20 * 60, "{overtaken} calls of the flood were answered during 20 of the guest's");
    assert_eq!(flood.stop().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_make_its_deadline_is_not_begun() {
    let (_daemon, caller) = slow_hsms().await;
    let key = caller.create_key("overload").await;
    let flood = Flood::start(&caller, &key, 200, Duration::from_millis(400));
    wait::until_async("calls are answered in spite of the rest", 3 * wait::LONG, async || {
        (flood.answered() > 300).then_some(())
    })
    .await;
    let failures = flood.stop().await;
    let turned_away = failures.iter().filter(|failure| failure.message.contains("nothing was begun")).count();
    assert!(turned_away > 0, "{:?}", failures.first());
    for failure in failures {
        match failure.code {
            Code::ResourceExhausted | Code::DeadlineExceeded => assert!(failure.retryable, "{failure:?}"),
            // The client's own clock was the first.
            Code::Cancelled => assert_eq!(failure.message, "Timeout expired"),
            _ => panic!("{failure:?}"),
        }
    }
}

async fn encrypt(caller: &Caller, key: &str) -> Result<Vec<u8>, Failure> {
    caller.encrypt(key, b"waits", &context(&[])).await
}
