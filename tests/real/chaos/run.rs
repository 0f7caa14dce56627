//! Carries a schedule out against a real daemon. Whatever is not as it must be panics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::callers::{Callers, DEADLINE, Keys, open_all};
use super::checks::{self, Held, Memory, RECOVERY, patience};
use super::journal::Journal;
use super::kinds::Played;
use super::operator::Logins;
use super::owner::Owner;
use super::schedule::{Phase, Schedule, Strike, Verify, Whom, name};
use crate::harness::daemon::Site;
use crate::harness::zone::Taken;
use crate::harness::{Caller, Daemon, process, wait};

/// Answers that come before the first fault: the daemon's memory, threads and files have their size then.
const WARM: usize = 300;
/// A key is made and the list of keys looked at after every so many recoveries.
const CHECK_KEYS: usize = 4;
/// Looks in a row that must find an HSM complete: a worker that has just ended is shown as ready for a moment.
const LOOKS: u32 = 3;
/// Between two phases. Longer than [`RECOVERY`], because there the faults are not over.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) phases: usize,
    pub(super) answers: usize,
    pub(super) errors: usize,
    pub(super) lies: usize,
    pub(super) keys: usize,
    pub(super) rotations: usize,
    pub(super) destroyed: usize,
    /// Faults that the modules injected.
    pub(super) faults: u64,
    /// How long it took until everything was healthy, after the last phase and at most between two.
    pub(super) recovery: Duration,
    pub(super) slowest: Duration,
    /// How long a lie lasted that only the canary could find out.
    pub(super) found_out: Duration,
    pub(super) growth_kb: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phases, answers, errors, lies, keys, rotations, destroyed, faults, .. } = self;
        let Self { recovery, slowest, found_out, growth_kb, .. } = self;
        write!(f, "{phases} phases, {faults} faults, {answers} answers, {errors} errors, ")?;
        match *lies {
            0 if found_out.is_zero() => {}
            _ => write!(f, "{lies} lies, found out after {:.1} s, ", found_out.as_secs_f64())?,
        }
        let (recovery, slowest) = (recovery.as_secs_f64(), slowest.as_secs_f64());
        write!(f, "{keys} keys, {rotations} rotations, {destroyed} destroyed, ")?;
        write!(f, "healthy after {recovery:.1} s (at most {slowest:.1} s), {growth_kb} kB more")
    }
}

/// What is around a daemon's HSMs, and may be in trouble too.
pub(super) trait Surroundings {
    /// Starts the daemon.
    fn launch(&mut self, site: Site) -> Daemon;
    /// Every zone is sound, and the callers are about to begin.
    async fn before_the_callers(&mut self, run: &Run<'_>);
    /// A phase is about to begin, with the zones sound; what is done lasts until [`Surroundings::end`].
    async fn begin(&mut self, run: &Run<'_>);
    /// The phases have ended that followed.
    async fn end(&mut self, run: &Run<'_>);
    /// The run is over.
    fn over(&mut self);
}

/// Nothing troubles them.
struct Calm;

impl Surroundings for Calm {
    fn launch(&mut self, site: Site) -> Daemon {
        site.launch()
    }

    async fn before_the_callers(&mut self, _: &Run<'_>) {}

    async fn begin(&mut self, _: &Run<'_>) {}

    async fn end(&mut self, _: &Run<'_>) {}

    fn over(&mut self) {}
}

/// Runs a schedule for `length`; `reached` is the number of the phase that is under way.
pub(super) async fn run(schedule: &Schedule, length: Duration, reached: &AtomicUsize) -> Outcome {
    run_in(schedule, length, reached, &mut Calm).await
}

/// The same in surroundings that may be in trouble too.
pub(super) async fn run_in(
    schedule: &Schedule,
    length: Duration,
    reached: &AtomicUsize,
    around: &mut impl Surroundings,
) -> Outcome {
    let site = Site::prepare_zones(u8::try_from(schedule.zones).unwrap()).await;
    let controls = Played::all(&site, &schedule.kinds);
    let Verify { all_wraps, unwraps } = schedule.verify;
    site.configure(|config| {
        let cluster = config["cluster"][0].as_table_mut().unwrap();
        cluster.insert("verify_wraps".to_owned(), if all_wraps { "all" } else { "data-keys" }.into());
        cluster.insert("verify_unwraps".to_owned(), unwraps.into());
        // What a request over a stream has.
        let deadline = i64::try_from(patience(DEADLINE).as_millis()).unwrap();
        let limits = config.entry("limits").or_insert_with(|| toml::Table::new().into());
        limits.as_table_mut().unwrap().insert("default_deadline_ms".to_owned(), deadline.into());
    });
    let daemon = around.launch(site);
    let _log = KeptLog { daemon: &daemon, seed: schedule.seed };
    daemon.wait_until_ready();
    let (caller, connections) = (daemon.caller().await, [daemon.caller().await, daemon.caller().await]);
    daemon.connect_key_store(&caller).await;
    let keys = Keys::default();
    for number in 0..3 {
        let key = caller.create_key(&format!("from the beginning, {number}")).await;
        keys.lock().unwrap().push(key);
    }
    let journal = Arc::new(Journal::new());
    let warming = Callers::start(&connections, &keys, &journal, !schedule.seed);
    wait::until_async("the callers are warm", wait::LONG, async || {
        (journal.answers.load(Ordering::Relaxed) >= WARM).then_some(())
    })
    .await;
    let mut known = warming.stop().await;
    let before = Held::by(&daemon);

    let mut run = Run {
        daemon: &daemon,
        owner: Owner::new(&caller, &keys, &journal),
        caller,
        controls: &controls,
        journal: &journal,
        keys,
        apart: Mutex::default(),
        slowest: Duration::ZERO,
        found_out: Duration::ZERO,
    };
    around.before_the_callers(&run).await;
    let memory = Memory::follow(daemon.pid());
    let callers = Callers::start(&connections, &run.keys, &journal, schedule.seed);
    let ends = journal.clock.now() + length;
    for (at, phase) in schedule.phases.iter().enumerate() {
        if journal.clock.now() >= ends {
            break;
        }
        if !phase.again {
            run.recovered(patience(PATIENCE)).await;
            around.end(&run).await;
            around.begin(&run).await;
            if at % CHECK_KEYS == 1 {
                run.make_a_key(&format!("between phases, {at}")).await;
            }
        }
        reached.store(at + 1, Ordering::Relaxed);
        run.phase(at, phase, schedule.verify).await;
    }
    let phases = reached.swap(schedule.phases.len() + 1, Ordering::Relaxed);
    let recovery = run.recovered(patience(RECOVERY)).await;
    around.end(&run).await;
    run.make_a_key("at the end").await;
    known.extend(callers.stop().await);
    around.over();
    let growth_kb = memory.growth();
    journal.check();
    before.is_held_again(&daemon).await;
    open_all(&run.caller, &known).await;
    let keys = run.all_keys();
    checks::list_is(&run.caller, &[keys.clone(), run.owner.destroyed()].concat()).await;
    checks::keys_are_whole(&daemon, &run.caller, &keys).await;
    let faults = controls.iter().map(Played::injected_in_all).sum();
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let (answers, errors, lies) = (count(&journal.answers), count(&journal.errors), count(&journal.lies));
    let (slowest, found_out) = (run.slowest, run.found_out);
    let (rotations, destroyed) = (run.owner.rotations, run.owner.destroyed().len());
    drop((run, _log));
    let (status, _site) = daemon.terminate();
    assert!(status.success(), "{status}");
    let keys = keys.len();
    Outcome {
        phases,
        answers,
        errors,
        lies,
        keys,
        rotations,
        destroyed,
        faults,
        recovery,
        slowest,
        found_out,
        growth_kb,
    }
}

pub(super) struct Run<'a> {
    pub(super) daemon: &'a Daemon,
    pub(super) caller: Caller,
    pub(super) controls: &'a [Played],
    pub(super) journal: &'a Arc<Journal>,
    keys: Keys,
    /// Keys that the callers do not use.
    apart: Mutex<Vec<String>>,
    owner: Owner,
    /// The longest recovery so far.
    slowest: Duration,
    /// The longest that a zone lied before it was out of service.
    found_out: Duration,
}

impl Run<'_> {
    /// Waits until every HSM is healthy with all of its workers, and every key is made. How long the former took.
    pub(super) async fn recovered(&mut self, within: Duration) -> Duration {
        let clock = &self.journal.clock;
        let over = clock.now();
        let deadline = over + within;
        let mut seen = vec![0; self.daemon.zones.len()];
        loop {
            self.journal.check();
            let complete = checks::complete(self.daemon, &self.caller).await;
            for (seen, complete) in seen.iter_mut().zip(complete) {
                *seen = if complete { *seen + 1 } else { 0 };
            }
            if seen.iter().any(|looks| *looks >= LOOKS) {
                self.journal.end_outage();
            }
            if seen.iter().all(|looks| *looks >= LOOKS) {
                break;
            }
            if clock.now() >= deadline {
                let states = checks::states(&self.caller).await;
                panic!("{within:?} after the faults not every HSM is healthy with all of its workers:\n{states}");
            }
            for zone in &self.daemon.zones {
                zone.repair();
            }
            wait::pass(Duration::from_millis(20)).await;
        }
        let took = clock.now() - over;
        self.slowest = self.slowest.max(took);
        self.owner.settle().await;
        took
    }

    /// Makes a key while every zone is sound, and looks at the list of all.
    async fn make_a_key(&self, description: &str) {
        self.made(self.caller.create_key(description).await);
        let all = [self.all_keys(), self.owner.destroyed()].concat();
        checks::list_is(&self.caller, &all).await;
    }

    /// There is another key, for callers to use.
    pub(super) fn made(&self, key: String) {
        self.keys.lock().unwrap().push(key);
    }

    /// There is another key, not for callers.
    pub(super) fn made_apart(&self, key: &str) {
        self.apart.lock().unwrap().push(key.to_owned());
    }

    fn all_keys(&self) -> Vec<String> {
        let keys = self.keys.lock().unwrap();
        keys.iter().chain(self.apart.lock().unwrap().iter()).cloned().chain(self.owner.own()).collect()
    }

    async fn phase(&mut self, at: usize, phase: &Phase, verify: Verify) {
        let lie = phase.lie(verify);
        if phase.zones().len() == self.daemon.zones.len() {
            self.journal.begin_outage();
        }
        if let Some((_, function)) = lie {
            self.journal.begin_lie(function);
        }
        let began = self.journal.clock.now();
        let logins = Logins::in_refused(phase, self.controls);
        let trouble = self.strike(phase);
        let acting = phase.act.and_then(|act| self.owner.begin(act, at));
        self.refusals_are_said(phase, began).await;
        self.last(phase, began, lie).await;
        let spent: Vec<_> = logins.iter().map(|logins| logins.since(self.controls)).collect();
        for zone in phase.zones() {
            self.controls[zone].clear();
        }
        // A zone that was not found out no longer lies.
        self.journal.end_lie();
        drop(trouble);
        if let Some(acting) = acting {
            self.owner.end(acting.await.unwrap());
        }
        if !spent.is_empty() {
            self.operate(&spent).await;
        }
    }

    /// Begins everything that a phase does; it ends when the answer is dropped.
    fn strike(&self, phase: &Phase) -> Vec<Ends> {
        let mut ends = Vec::new();
        // Before the signals, so that no login comes before its refusal; workers that serve meet none.
        let refused: Vec<usize> = phase.refusals().into_iter().map(|(zone, _)| zone).collect();
        self.put_in_force(phase, |zone| refused.contains(&zone));
        for (zone, strike) in &phase.strikes {
            let zone = &self.daemon.zones[*zone];
            match strike {
                Strike::Rule(_) => {}
                Strike::Kill(whom) => drop(signal(zone, *whom, Signal::KILL)),
                Strike::Stop(whom) => ends.push(Ends::Stopped(signal(zone, *whom, Signal::STOP))),
                Strike::TakeAway => ends.push(Ends::Away(Some(zone.take_away()))),
            }
        }
        // After the signals, which are for workers that serve: a rule may have some start anew.
        self.put_in_force(phase, |zone| !refused.contains(&zone));
        ends
    }

    /// Puts a phase's rules in force in these zones.
    fn put_in_force(&self, phase: &Phase, these: impl Fn(usize) -> bool) {
        let mut rules: BTreeMap<usize, String> = BTreeMap::new();
        for (zone, strike) in phase.strikes.iter().filter(|(zone, _)| these(*zone)) {
            if let Strike::Rule(rule) = strike {
                let text = rule.toml(|function| self.controls[*zone].calls(function));
                rules.entry(*zone).or_default().push_str(&text);
            }
        }
        for (zone, rules) in rules {
            self.controls[zone].set(&rules);
        }
    }

    /// Waits for the end of a phase. A zone that lies must be out of service before that.
    async fn last(&mut self, phase: &Phase, began: Instant, lie: Option<(usize, &str)>) {
        let Some((zone, function)) = lie else {
            wait::pass(phase.lasts).await;
            self.journal.check();
            return;
        };
        loop {
            if checks::is_out_of_service(&self.caller, &self.daemon.zones[zone]).await {
                break;
            }
            self.journal.check();
            if self.journal.clock.now() - began > patience(phase.lasts) {
                let states = checks::states(&self.caller).await;
                panic!(
                    "zone {} lies in {function} and serves after {:?}:\n{states}",
                    name(zone),
                    patience(phase.lasts)
                );
            }
            wait::pass(Duration::from_millis(10)).await;
        }
        self.journal.end_lie();
        self.found_out = self.found_out.max(self.journal.clock.now() - began);
        // From here on every answer must be right, though the zone goes on lying.
        wait::pass(phase.lasts / 4).await;
        self.journal.check();
    }
}

fn signal(zone: &crate::harness::zone::Zone, whom: Whom, signal: Signal) -> Vec<u32> {
    match whom {
        Whom::All => zone.signal_workers(signal),
        Whom::One(which) => {
            zone.keep_copies();
            let workers = zone.workers();
            let pid = workers[which % workers.len()];
            process::signal(pid, signal);
            vec![pid]
        }
    }
}

/// What ends with a phase.
enum Ends {
    Stopped(Vec<u32>),
    Away(Option<Taken>),
}

impl Drop for Ends {
    fn drop(&mut self) {
        match self {
            // Those that were killed meanwhile are gone, and have not been reaped by anybody but the daemon: a number that
            // is somebody else's by now is not harmed by being told to go on.
            Self::Stopped(workers) => workers.iter().for_each(|pid| process::signal(*pid, Signal::CONT)),
            Self::Away(taken) => drop(taken.take().map(Taken::put_back)),
        }
    }
}

/// Keeps the log of a run that fails, whose directory goes with it.
struct KeptLog<'a> {
    daemon: &'a Daemon,
    seed: u64,
}

impl Drop for KeptLog<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let file = format!("{}/chaos-{}.log", env!("CARGO_TARGET_TMPDIR"), self.seed);
            match std::fs::write(&file, self.daemon.log()) {
                Ok(()) => eprintln!("the daemon's log is kept in {file}"),
                Err(error) => eprintln!("the daemon's log is lost ({file}: {error})"),
            }
        }
    }
}
