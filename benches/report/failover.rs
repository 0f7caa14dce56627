//! A zone is lost under load: killed, hung, killed again and again. What callers notice, and how long until the zone
//! serves again.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use model::clock::Clock;
use rustix::process::Signal;

use super::calls::{Calls, Came};
use super::daemon::Daemon;
use super::table::{Must, Row, median, thousands};
use super::trouble::Measured;
use super::watch::{Watch, pass};
use super::{Outcome, workers};

/// hedge_after_ms, as it is by itself.
const HEDGE_MS: f64 = 40.0;
/// So many times as long as hedging and a call of a healthy zone a call may take when a zone dies.
const STRUCK: f64 = 5.0;
/// Below what the daemon can do on two cores, and with one zone as well.
const RATE: u32 = 2_000;
const IN_FLIGHT: u32 = 64;
const WARM_UP: Duration = Duration::from_millis(500);
const LENGTH: Duration = Duration::from_secs(10);
/// Into the measurement.
const STRIKES_AFTER: Duration = Duration::from_secs(1);
/// Whose workers are struck.
const HSM: &str = "hsm-b";

/// One run.
struct Phase {
    name: &'static str,
    came: Came,
    /// From each signal until the zone was complete again.
    again: Vec<Duration>,
}

/// All four runs over one daemon.
pub(super) async fn measure(dir: &Path, clock: &Clock) -> Outcome<Measured> {
    let daemon = Daemon::start(dir, clock).await?;
    let key = daemon.create_keys(1).await?.pop().ok_or("no key was made")?;
    let run = Run { watch: Watch::over(&daemon, clock).await?, daemon, key, clock: clock.clone() };
    let mut phases = Vec::new();
    for name in ["healthy", "zone killed", "zone hung", "zone flapping"] {
        eprintln!("  {name} ...");
        for hsm in ["hsm-a", HSM] {
            run.watch.until_whole(hsm).await?;
        }
        let (came, again) = match name {
            "healthy" => (run.calls().run().await?, Vec::new()),
            "zone killed" => run.struck(Signal::KILL).await?,
            "zone hung" => run.struck(Signal::STOP).await?,
            _ => run.flapping().await?,
        };
        phases.push(Phase { name, came, again });
    }
    run.watch.until_whole(HSM).await?;
    Ok(Measured { rows: rows(&phases), text: show(&phases) })
}

struct Run {
    watch: Watch,
    daemon: Daemon,
    key: String,
    clock: Clock,
}

impl Run {
    fn calls(&self) -> Calls<'_> {
        Calls {
            environment: &self.daemon.environment,
            key: &self.key,
            operation: "decrypt",
            in_flight: IN_FLIGHT,
            connections: 1,
            rate: Some(RATE),
            warm_up: WARM_UP,
            length: LENGTH,
            deadline: None,
        }
    }

    /// A worker that was lost meanwhile by itself may be inside a login.
    async fn until_time_to_strike(&self) -> Outcome<()> {
        pass(WARM_UP + STRIKES_AFTER).await;
        self.watch.until_whole(HSM).await
    }

    /// The zone gets this signal once. Who hangs is killed by the daemon itself.
    async fn struck(&self, signal: Signal) -> Outcome<(Came, Vec<Duration>)> {
        let running = self.calls().start()?;
        self.until_time_to_strike().await?;
        let struck = workers::of(self.daemon.pid(), HSM);
        workers::signal(&struck, signal);
        let again = self.watch.serves_again(HSM, self.clock.now()).await?;
        let came = running.ended().await?;
        if signal == Signal::STOP {
            // A worker of which nothing was wanted meanwhile would hang until it is asked for something.
            workers::signal(&struck, Signal::CONT);
        }
        Ok((came, vec![again]))
    }

    /// The zone is killed again as soon as it is complete, until the run ends.
    async fn flapping(&self) -> Outcome<(Came, Vec<Duration>)> {
        let running = self.calls().start()?;
        self.until_time_to_strike().await?;
        let ended = running.ended();
        tokio::pin!(ended);
        let mut again = Vec::new();
        loop {
            let blow = async {
                workers::signal(&workers::of(self.daemon.pid(), HSM), Signal::KILL);
                let again = self.watch.serves_again(HSM, self.clock.now()).await?;
                self.watch.until_whole(HSM).await?;
                Outcome::Ok(again)
            };
            tokio::select! {
                came = &mut ended => return Ok((came?, again)),
                took = blow => again.push(took?),
            }
        }
    }
}

/// The rows of the table.
fn rows(phases: &[Phase]) -> Vec<Row> {
    let failed: u64 = phases.iter().map(|phase| phase.came.failed()).sum();
    let by_name: Vec<String> = phases.iter().map(|phase| format!("{}: {}", phase.name, phase.came.by_name())).collect();
    let of = |name: &str| phases.iter().find(|phase| phase.name == name);
    let figure = |name: &str, of_came: fn(&Came) -> f64| of(name).map_or(f64::NAN, |phase| of_came(&phase.came));
    // Who is in a zone that dies waits until the call is sent to another one as well, and then as long as every call.
    let unhurt = HEDGE_MS + figure("healthy", |came| came.p999);
    let struck = |what: &'static str, run: &str, of_came: fn(&Came) -> f64| {
        let (then, healthy) = (figure(run, of_came), figure("healthy", of_came));
        let detail = format!("{} ms; {} ms while healthy", thousands(then), thousands(healthy));
        Row::new(what, then / unhurt, Must::BeAtMost(STRUCK), detail)
    };
    vec![
        Row::new("failed calls of all runs, zone lost or not", failed as f64, Must::BeNone, by_name.join("\n")),
        struck("a zone is killed: longest call / hedging and a healthy p99.9", "zone killed", |came| came.max),
        struck("a zone hangs: p99.9 / hedging and a healthy p99.9", "zone hung", |came| came.p999),
    ]
}

/// The runs side by side.
fn show(phases: &[Phase]) -> String {
    let mut out = format!(
        "Decrypt at {} calls/s, {IN_FLIGHT} in flight, {} s each, over two SoftHSM zones; times in ms\n\n",
        thousands(f64::from(RATE)),
        LENGTH.as_secs()
    );
    let _ = writeln!(
        out,
        "{:14}{:>8}{:>9}{:>9}{:>9}{:>9}  the zone serves again after",
        "", "failed", "p50", "p99", "p99.9", "max"
    );
    for Phase { name, came, again } in phases {
        let again: Vec<f64> = again.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        let most = again.iter().copied().fold(0.0, f64::max);
        let again = match again.len() {
            0 => "-".to_owned(),
            1 => thousands(most),
            n => format!("{}, at most {}, {n} times", thousands(median(&again)), thousands(most)),
        };
        let Came { p50, p99, p999, max, .. } = came;
        let failed = came.failed();
        let _ = writeln!(out, "{name:14}{failed:>8}{p50:>9.2}{p99:>9.2}{p999:>9.2}{max:>9.2}  {again}");
    }
    out
}
