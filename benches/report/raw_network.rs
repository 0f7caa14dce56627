//! What network HSMs give with nothing around them: one process for each, in which as many threads as the HSM serves at
//! once call C_Encrypt, each on a session of its own, one call after the other.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use hdrhistogram::Histogram;
use model::clock::Clock;

use super::played::{Habits, Network, environment, library};
use super::raw::{Loop, begin, encrypt, find, softhsm_conf};
use super::{Outcome, said};

/// Nanoseconds, of which three digits are kept.
const LONGEST: u64 = 60_000_000_000;

/// What came of it.
pub(super) struct Capacity {
    /// Encryptions per second over all HSMs.
    pub(super) rate: f64,
    /// Median of a call in microseconds, the mean of the HSMs' medians, with a quarter of the threads: threads that wake a
    /// processor from sleep are later than those that find it awake.
    pub(super) p50: f64,
}

/// Lets so many HSMs like this work for so long.
pub(super) fn measure(
    dir: &Path,
    network: Network,
    members: usize,
    softhsm: &Path,
    length: Duration,
) -> Outcome<Capacity> {
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let mut loops = Vec::new();
    for zone in ('a'..).take(members) {
        let home = dir.join(format!("raw-network-{zone}"));
        let conf = softhsm_conf(&home)?;
        let mut command = Command::new(&program);
        command.arg("raw-network").arg(library()?).arg(network.at_once.to_string());
        command.env("SOFTHSM2_CONF", conf).envs(environment(&home.join("chaos"), softhsm, network, Habits::SOFTHSM)?);
        let mut one = Loop::start(&mut command)?;
        one.answer()?;
        loops.push(one);
    }
    let (rate, _) = round(&mut loops, length, network.at_once)?;
    let (_, p50) = round(&mut loops, length, network.at_once / 4)?;
    Ok(Capacity { rate, p50 })
}

/// Lets so many threads of each process loop at once: calls per second over all, and the median.
fn round(loops: &mut [Loop], length: Duration, threads: u32) -> Outcome<(f64, f64)> {
    for one in loops.iter_mut() {
        one.order(&format!("{} {threads}", length.as_millis()))?;
    }
    let (mut rate, mut p50, processes) = (0.0, 0.0, loops.len() as f64);
    for one in loops {
        let answer = one.answer()?;
        let figures: Result<Vec<f64>, _> = answer.split(' ').map(str::parse).collect();
        let [count, nanos, median] = figures.map_err(said("reading a round"))?[..] else {
            return Err("a raw-network process answered nonsense".to_owned());
        };
        rate += count * 1e9 / nanos;
        p50 += median / 1e3 / processes;
    }
    Ok((rate, p50))
}

/// Such a process. Orders come line by line: milliseconds, and how many of its threads are to work.
pub(super) fn run(module: &OsStr, threads: usize, clock: &Clock) -> Outcome<()> {
    let (pkcs11, session, key) = begin(module)?;
    let slot = find(&pkcs11)?;
    let mut sessions = Vec::with_capacity(threads);
    for _ in 0..threads {
        sessions.push(pkcs11.open_ro_session(slot).map_err(said("C_OpenSession"))?);
    }
    for order in std::io::stdin().lines() {
        let order = order.map_err(said("reading an order"))?;
        let (millis, working) = order.split_once(' ').ok_or("an order is two numbers")?;
        let length = Duration::from_millis(millis.parse().map_err(said("reading an order"))?);
        let working: usize = working.parse().map_err(said("reading an order"))?;
        let began = clock.now();
        let latencies = all(&mut sessions[..working.min(threads)], key, length, clock)?;
        let taken = clock.now() - began;
        println!("{} {} {}", latencies.len(), taken.as_nanos(), latencies.value_at_quantile(0.5));
    }
    drop(sessions);
    session.logout().map_err(said("C_Logout"))?;
    drop(session);
    pkcs11.finalize().map_err(said("C_Finalize"))
}

/// Lets a thread loop on each session; the time of every call.
fn all(sessions: &mut [Session], key: ObjectHandle, length: Duration, clock: &Clock) -> Outcome<Histogram<u64>> {
    let mut sum = histogram()?;
    thread::scope(|scope| {
        let begin = |(number, session): (u32, _)| scope.spawn(move || one(session, number, key, length, clock));
        let threads: Vec<_> = (0..).zip(sessions.iter_mut()).map(begin).collect();
        for thread in threads {
            let latencies = thread.join().map_err(|_| "a thread of the raw loop panicked")??;
            sum.add(latencies).map_err(said("adding latencies"))?;
        }
        Ok(sum)
    })
}

fn one(
    session: &mut Session,
    number: u32,
    key: ObjectHandle,
    length: Duration,
    clock: &Clock,
) -> Outcome<Histogram<u64>> {
    let mut latencies = histogram()?;
    let start = clock.now();
    let mut before = start;
    while before - start < length {
        encrypt(session, key, number, latencies.len())?;
        let after = clock.now();
        latencies.saturating_record(u64::try_from((after - before).as_nanos()).unwrap_or(LONGEST));
        before = after;
    }
    Ok(latencies)
}

fn histogram() -> Outcome<Histogram<u64>> {
    Histogram::new_with_bounds(100, LONGEST, 3).map_err(said("making a histogram"))
}
