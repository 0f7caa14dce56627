//! Ten times more calls than the HSMs can carry out: what is answered in time, and what the daemon keeps meanwhile.

use std::path::Path;
use std::time::Duration;

use model::clock::Clock;

use super::calls::Calls;
use super::played::{self, Habits, Network};
use super::table::{Must, Row, thousands};
use super::watch::pass;
use super::{Outcome, workers};

const NETWORK: Network = Network { service_ms: 10.0, at_once: 4 };
/// Of each call, from when it is sent.
const DEADLINE: Duration = Duration::from_millis(250);
/// Twice what both can work on.
const AT_PEAK: u32 = 16;
/// More than can be due within a deadline, so that calls are sent when they are due.
const AT_OVERLOAD: u32 = 4_096;
/// The daemon takes 256 calls at once from each: with fewer connections most of what is due would wait in the client.
const CONNECTIONS: u32 = 16;
const TIMES: u32 = 10;
const WARM_UP: Duration = Duration::from_secs(1);
const PEAK: Duration = Duration::from_secs(4);
const OVERLOAD: Duration = Duration::from_secs(16);

pub(super) async fn measure(dir: &Path, clock: &Clock) -> Outcome<Vec<Row>> {
    let (daemon, key) = played::start(dir, NETWORK, Habits::SOFTHSM, clock).await?;
    let calls = Calls {
        environment: &daemon.environment,
        key: &key,
        operation: "encrypt",
        in_flight: AT_PEAK,
        connections: 1,
        rate: None,
        warm_up: WARM_UP,
        length: PEAK,
        deadline: Some(DEADLINE),
    };
    let peak = calls.run().await?;
    let rate = NETWORK.capacity() as u32 * TIMES;
    let over = Calls { in_flight: AT_OVERLOAD, connections: CONNECTIONS, rate: Some(rate), length: OVERLOAD, ..calls };
    let running = over.start()?;
    let resident = || workers::resident(daemon.pid()).ok_or("the daemon's memory cannot be read");
    pass(WARM_UP + OVERLOAD / 2).await;
    let middle = resident()?;
    pass(OVERLOAD / 2 - DEADLINE).await;
    let end = resident()?;
    let came = running.ended().await?;
    Ok(vec![
        Row::new(
            format!("{TIMES} times more calls than HSMs can: successes / peak"),
            came.rate / peak.rate,
            Must::Reach(0.9),
            format!(
                "{} of {} calls/s with a deadline of {} ms, {} at peak ({} would be all)\n\
                 beside the successes: {}; at peak: {}",
                thousands(came.rate),
                thousands(f64::from(rate)),
                DEADLINE.as_millis(),
                thousands(peak.rate),
                thousands(NETWORK.capacity()),
                came.by_name(),
                peak.by_name()
            ),
        ),
        Row::new(
            "the same: growth of the daemon's memory in the second half",
            (end / middle - 1.0) * 100.0,
            Must::StayUnder(10.0, "%"),
            format!("{middle:.1} MiB at the middle, {end:.1} MiB at the end"),
        ),
    ])
}
