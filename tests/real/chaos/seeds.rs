//! Seeds, one after the other: a fixed handful with every run of the tests, as many as wanted by `make chaos`.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::run::run;
use super::schedule::Schedule;

/// What `make chaos` asks for; without it, the handful.
struct Wanted {
    seeds: Vec<u64>,
    length: Duration,
}

impl Wanted {
    fn read() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is no number")))
        };
        match number("CHAOS_SEEDS") {
            Some(count) => {
                let first = number("CHAOS_FIRST").unwrap_or(1);
                let seconds = number("CHAOS_SECONDS").unwrap_or(15);
                Self { seeds: (first..first + count).collect(), length: Duration::from_secs(seconds) }
            }
            // A key that is made while a zone fails, and an outage of all; logins that one of three zones refuses while
            // another crashes; the same in one of two, and a lie that only the canary finds out.
            None => Self { seeds: vec![24, 37, 184], length: Duration::from_secs(5) },
        }
    }
}

#[test]
fn every_answer_is_right_or_no_zone_was_sound() {
    let Wanted { seeds, length } = Wanted::read();
    let mut failed = Vec::new();
    for seed in &seeds {
        let (schedule, reached) = (Schedule::draw(*seed, length), AtomicUsize::new(0));
        // In a thread of its own: a failure is a panic, and the next seed is run all the same.
        let outcome = std::thread::scope(|scope| {
            let run = || tokio::runtime::Runtime::new().unwrap().block_on(run(&schedule, length, &reached));
            scope.spawn(run).join()
        });
        let kinds = schedule.kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
        match outcome {
            Ok(outcome) => println!("seed {seed}: {kinds}, {outcome}: passed"),
            Err(panic) => {
                failed.push(*seed);
                let phase = match reached.load(Ordering::Relaxed) {
                    0 => "before the first phase".to_owned(),
                    at if at > schedule.phases.len() => "after the last phase".to_owned(),
                    at => format!("in phase {at}"),
                };
                println!("{schedule}\nseed {seed}: FAILED {phase}: {}", words(&*panic));
                // A call that is late on a machine that has twenty times as much to do as it can says little.
                println!("load of the machine: {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim_end());
                println!("to run it again: make chaos SEEDS=1 SEED={seed} CHAOS_SECONDS={}", length.as_secs());
            }
        }
    }
    println!("{} of {} seeds passed", seeds.len() - failed.len(), seeds.len());
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
