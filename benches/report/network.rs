//! What the daemon leaves of network HSMs, whose time is not the processor's.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use model::clock::Clock;

use super::calls::{Calls, named};
use super::daemon::{Empty, Environment};
use super::played::{self, Habits, Network};
use super::raw_network::{self, Capacity};
use super::table::{Must, Row, extremes, median, spread, thousands};
use super::{Outcome, said};

const NETWORK: Network = Network { service_ms: 5.0, at_once: 16 };
/// Twice what both can work on, so that each answer finds a call that waits, and far from where a wait has calls
/// repeated in the other zone.
const IN_FLIGHT: u32 = 64;
const WARM_UP: Duration = Duration::from_secs(1);
const LENGTH: Duration = Duration::from_secs(5);
/// Looks at the latency of a call, each beside one at what gRPC alone costs on this machine, which changes.
const LOOKS: usize = 5;
const LOOK: Duration = Duration::from_secs(2);

pub(super) async fn measure(dir: &Path, softhsm: &Path, clock: &Clock) -> Outcome<Vec<Row>> {
    let before = raw_network::measure(&dir.join("before"), NETWORK, 2, softhsm, LENGTH)?;
    let (daemon, key) = played::start(&dir.join("dev"), NETWORK, Habits::SOFTHSM, clock).await?;
    let calls = encryptions(&daemon.environment, &key);
    let full = calls.run().await?;
    let quarter = (before.rate / 4.0) as u32;
    // A closed loop like the raw one stands beside it.
    let closed = Calls { in_flight: NETWORK.at_once / 2, ..calls }.run().await?;
    // Both at the same pace, so that each call finds processors and threads asleep as one does that waits for an HSM.
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let empty = Empty::start(&program, &daemon)?;
    let light = Calls { rate: Some(quarter), length: LOOK, ..calls };
    let (mut micros, mut alone, mut light_errors) = (Vec::new(), Vec::new(), BTreeMap::new());
    for _ in 0..LOOKS {
        alone.push(Calls { environment: &empty.environment, ..light }.run().await?.p50 * 1e3);
        let came = light.run().await?;
        micros.push(came.p50 * 1e3);
        for (name, count) in came.errors {
            *light_errors.entry(name).or_insert(0) += count;
        }
    }
    drop((empty, daemon));
    let mut of_vendors = Vec::new();
    for habits in [Habits::LUNA, Habits::CLOUDHSM] {
        of_vendors.push((habits.profile, of_vendor(dir, habits, softhsm, clock).await));
    }
    // On both sides of the daemon's figures, since a machine changes.
    let after = raw_network::measure(&dir.join("after"), NETWORK, 2, softhsm, LENGTH)?;
    let raw = Capacity { rate: f64::midpoint(before.rate, after.rate), p50: f64::midpoint(before.p50, after.p50) };
    let ratios: Vec<f64> = micros.iter().zip(&alone).map(|(call, alone)| (call - raw.p50) / alone).collect();
    let (least, most) = extremes(&ratios);
    let mut rows = vec![
        Row::new(
            "network HSMs (5 ms, 16 at once): unary Encrypt / raw loop",
            full.rate / raw.rate,
            Must::Reach(0.95),
            format!(
                "{} unary with {IN_FLIGHT} in flight, {} raw calls/s ({} would be all); {}",
                thousands(full.rate),
                thousands(raw.rate),
                thousands(NETWORK.capacity()),
                full.by_name()
            ),
        ),
        Row::new(
            "the same at a quarter of that: p50 above the raw loop's / an empty call's",
            median(&ratios),
            Must::BeAtMost(1.6),
            format!(
                "{least:.2} to {most:.2}: {} unary as an open loop at {} calls/s, {} raw µs; {} µs an empty call at that \
                 pace; {}\n\
                 {} as a closed loop with {} in flight ({} calls/s); {}",
                spread(&micros),
                thousands(f64::from(quarter)),
                thousands(raw.p50),
                spread(&alone),
                named(&light_errors),
                thousands(closed.p50 * 1e3),
                NETWORK.at_once / 2,
                thousands(closed.rate),
                closed.by_name()
            ),
        ),
    ];
    rows.extend(of_vendors.into_iter().map(|(profile, came)| {
        let what = format!("the same as HSMs of profile {profile}: unary Encrypt / raw loop");
        match came {
            Ok((rate, of, by_name)) => {
                let all = format!(
                    "{} unary with {IN_FLIGHT} in flight, {} raw calls/s; {by_name}",
                    thousands(rate),
                    thousands(of)
                );
                Row::new(what, rate / of, Must::Reach(0.95), all)
            }
            // The others' figures stand all the same.
            Err(error) => Row::missing(what, error),
        }
    }));
    Ok(rows)
}

/// As many at a time as keep all HSMs busy.
fn encryptions<'a>(environment: &'a Environment, key: &'a str) -> Calls<'a> {
    Calls {
        environment,
        key,
        operation: "encrypt",
        in_flight: IN_FLIGHT,
        connections: 1,
        rate: None,
        warm_up: WARM_UP,
        length: LENGTH,
        deadline: None,
    }
}

/// Encryptions a second over HSMs with the habits of a vendor's and the capacity of two such ones, how many raw calls as many
/// of them give, and what the calls ended with.
async fn of_vendor(dir: &Path, habits: Habits, softhsm: &Path, clock: &Clock) -> Outcome<(f64, f64, String)> {
    let (members, network) = habits.members(NETWORK);
    let raw = |name: &str| {
        let home = dir.join(format!("{}-{name}", habits.profile));
        raw_network::measure(&home, network, members.len(), softhsm, LENGTH)
    };
    let before = raw("before")?.rate;
    let (daemon, key) = played::start(&dir.join(habits.profile), NETWORK, habits, clock).await?;
    let full = encryptions(&daemon.environment, &key).run().await?;
    drop(daemon);
    Ok((full.rate, f64::midpoint(before, raw("after")?.rate), full.by_name()))
}
