//! A seeded simulation in which everything that decides runs together: the lives of workers, what they have in hand,
//! the queues in front of them, PINs and their rotation, health, routing, failover and placement. Time, processes,
//! tokens and callers are simulated; the decisions are the product's own.
//!
//! All that happens follows from the seed: `KEYSTORED_WORLD=seed` runs one again and prints what happened.

mod call;
mod hsm;
mod schedule;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use self::call::Call;
use self::hsm::Hsm;
use self::schedule::{Fault, Trouble};
use super::placement::{Findings, Wanted, compare};
use model::clock::Clock;
use model::id::{KeyId, KeyVersionId};
use model::key::Placement;

/// Seeds of a usual test run.
const SEEDS: u64 = 10_000;
/// Keys in every token.
const KEYS: u32 = 3;
/// A key that is in a token and in no metadata.
const ORPHAN: u32 = 99;
/// A key that was destroyed, and that a restored token brings back.
const DESTROYED: u32 = 98;
/// After the last fault everything is well again within this time.
const RECOVERY: Duration = Duration::from_secs(10);
/// How often a token that is complete is looked at, and one that is not.
const RECONCILE: Duration = Duration::from_secs(3);

/// SplitMix64: the same numbers from the same seed, for ever.
pub(super) struct Rng(u64);

impl Rng {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `below`, which is not among them.
    fn below(&mut self, below: u64) -> u64 {
        self.roll() % below.max(1)
    }

    /// So often in a hundred.
    fn hits(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn micros(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from + self.below(to - from))
    }
}

/// What happens at some time. Processes are named by a number that no other has.
#[derive(Debug)]
enum SimEvent {
    /// A worker's life may have to go on by itself.
    Due { hsm: usize, slot: usize },
    /// A process has loaded its module and looked for its token.
    Loaded { hsm: usize, slot: usize, process: u64 },
    /// A session is done with what it had in hand.
    Done { hsm: usize, slot: usize, process: u64, id: u64 },
    /// Something may be in hand for too long.
    Limit { hsm: usize, slot: usize, process: u64 },
    /// A worker's probe is due.
    Probe { hsm: usize, slot: usize, process: u64 },
    /// A process that was told to leave, or that ended by itself, is gone.
    Gone { hsm: usize, slot: usize, process: u64 },
    /// A suspect is probed.
    Doubt { hsm: usize },
    /// What a token holds is compared with what it should hold.
    Reconcile { hsm: usize },
    /// A caller comes.
    Call,
    /// A call has waited long for its first answer.
    Hedge { call: usize, ask: u64 },
    /// A call's deadline.
    Deadline { call: usize },
    /// A fault begins.
    Fault(usize),
    /// And ends.
    Mended { hsm: usize, fault: usize },
}

struct Simulation {
    rng: Rng,
    clock: Clock,
    start: Instant,
    coming: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    happenings: Vec<Option<SimEvent>>,
    number: u64,
    faults: Vec<Fault>,
    hsms: Vec<Hsm>,
    calls: Vec<Call>,
    /// Where each key is, as the metadata say: by HSM and key.
    placements: BTreeMap<(usize, u32), Placement>,
    /// Objects that somebody removed on purpose.
    removed: Vec<(usize, u32)>,
    /// Members that are excluded for a key until their next reconciliation.
    excluded: BTreeMap<(usize, u32), ()>,
    told: bool,
    /// How many calls ended well, were refused as bad, and failed.
    ended: [usize; 3],
}

impl Simulation {
    fn new(seed: u64, told: bool) -> Self {
        let mut rng = Rng(seed);
        let clock = Clock::manual();
        let start = clock.now();
        let zones = 2 + usize::try_from(rng.below(2)).unwrap();
        let hsms = (0..zones).map(|_| Hsm::new(&mut rng, start)).collect();
        let faults = schedule::draw(&mut rng, zones);
        let placements = (0..zones).flat_map(|hsm| (0..KEYS).map(move |key| ((hsm, key), Placement::Present)));
        let mut simulation = Self {
            rng,
            clock,
            start,
            coming: BinaryHeap::new(),
            happenings: Vec::new(),
            number: 0,
            hsms,
            calls: Vec::new(),
            placements: placements.collect(),
            removed: Vec::new(),
            excluded: BTreeMap::new(),
            told,
            ended: [0; 3],
            faults: Vec::new(),
        };
        for (number, fault) in faults.iter().enumerate() {
            simulation.at(fault.from, SimEvent::Fault(number));
            simulation.at(fault.to, SimEvent::Mended { hsm: fault.hsm, fault: number });
            // Callers come all the time, and above all when something happens.
            for around in
                [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(60), Duration::from_millis(300)]
            {
                simulation.at(fault.from + around, SimEvent::Call);
                simulation.at(fault.to + around, SimEvent::Call);
            }
        }
        simulation.faults = faults;
        for hsm in 0..zones {
            for slot in 0..simulation.hsms[hsm].slots.len() {
                simulation.turn(hsm, slot);
            }
            simulation.after(RECONCILE, SimEvent::Reconcile { hsm });
        }
        for number in 0..20 {
            simulation.after(Duration::from_millis(400 * number), SimEvent::Call);
        }
        simulation
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn after(&mut self, pause: Duration, event: SimEvent) {
        self.when(self.now() + pause, event);
    }

    /// At a time since the beginning.
    fn at(&mut self, time: Duration, event: SimEvent) {
        self.when(self.start + time, event);
    }

    fn when(&mut self, at: Instant, event: SimEvent) {
        self.number += 1;
        self.coming.push(Reverse((at, self.number, self.happenings.len())));
        self.happenings.push(Some(event));
    }

    fn tell(&self, words: impl FnOnce() -> String) {
        if self.told {
            println!("{:>9.3} ms  {}", (self.now() - self.start).as_secs_f64() * 1e3, words());
        }
    }

    /// Runs until everything is well after the last fault; panics where something is not as it must be.
    fn run(&mut self) {
        let last = self.start + self.faults.iter().map(|fault| fault.to).max().unwrap_or_default();
        while let Some(Reverse((at, _, place))) = self.coming.pop() {
            self.clock.advance(at.saturating_duration_since(self.now()));
            let Some(event) = self.happenings[place].take() else { continue };
            self.happen(event);
            if self.now() > last && self.calls.iter().all(Call::is_over) && self.is_well() {
                break;
            }
            assert!(self.now() < last + RECOVERY, "not well {RECOVERY:?} after the last fault: {}", self.troubles());
        }
        self.check_end();
    }

    fn happen(&mut self, event: SimEvent) {
        match event {
            SimEvent::Due { hsm, slot } => self.due(hsm, slot),
            SimEvent::Loaded { hsm, slot, process } => self.loaded(hsm, slot, process),
            SimEvent::Done { hsm, slot, process, id } => self.done(hsm, slot, process, id),
            SimEvent::Limit { hsm, slot, process } => self.limit(hsm, slot, process),
            SimEvent::Probe { hsm, slot, process } => self.probe(hsm, slot, process),
            SimEvent::Gone { hsm, slot, process } => self.gone(hsm, slot, process, "exit status: 0"),
            SimEvent::Doubt { hsm } => self.doubt(hsm),
            SimEvent::Reconcile { hsm } => self.reconcile(hsm),
            SimEvent::Call => self.begin_call(),
            SimEvent::Hedge { call, ask } => self.hedge(call, ask),
            SimEvent::Deadline { call } => self.deadline(call),
            SimEvent::Fault(fault) => self.strike(fault),
            SimEvent::Mended { hsm, fault } => self.mend(hsm, fault),
        }
    }

    fn strike(&mut self, number: usize) {
        let Fault { hsm, trouble, .. } = self.faults[number];
        self.tell(|| format!("HSM {hsm}: {trouble:?} begins"));
        if !trouble.spares_a_worker() {
            self.hsms[hsm].unsound_since(number);
        }
        match trouble {
            Trouble::Kill { all } => self.kill_workers(hsm, all),
            Trouble::Freeze { all } => self.freeze_workers(hsm, all),
            Trouble::Remove(key) => {
                if self.hsms[hsm].token.objects.remove(&key) {
                    self.removed.push((hsm, key));
                }
            }
            Trouble::Blank => {
                // A blank token that came by the ceremony: nothing is in it, and everything is to be placed.
                self.hsms[hsm].token.objects.clear();
                let here = self.placements.iter_mut().filter(|((at, _), _)| *at == hsm);
                here.for_each(|(_, placement)| *placement = Placement::Pending);
                self.removed.retain(|(at, _)| *at != hsm);
            }
            Trouble::Restored => self.hsms[hsm].token.objects.extend([ORPHAN, DESTROYED]),
            Trouble::Reconnect(tells) => self.disconnect(hsm, tells),
            Trouble::Gone => self.hsms[hsm].token.there = false,
            Trouble::Code(..) | Trouble::Crash(_) | Trouble::Hang(_) | Trouble::Slow(_) => {}
        }
    }

    fn mend(&mut self, hsm: usize, number: usize) {
        self.tell(|| format!("HSM {hsm}: {:?} ends", self.faults[number].trouble));
        if !self.faults[number].trouble.spares_a_worker() {
            self.hsms[hsm].sound_again(number);
            self.unsound_now(hsm);
        }
        if matches!(self.faults[number].trouble, Trouble::Gone) {
            self.hsms[hsm].token.there = true;
        }
    }

    /// The look of `service::lifecycle::reconcile` at one token.
    fn reconcile(&mut self, hsm: usize) {
        self.after(RECONCILE, SimEvent::Reconcile { hsm });
        if !self.hsms[hsm].serves_control() || !self.hsms[hsm].token.there {
            return;
        }
        let wanted = (0..KEYS).map(|key| (version(key), Wanted::Placed(self.placements.get(&(hsm, key)).copied())));
        let wanted = wanted.chain([(version(DESTROYED), Wanted::Destroyed)]);
        let seen = self.hsms[hsm].token.objects.iter().map(|key| version(*key)).collect();
        let Findings { to_fill, gone, to_destroy, orphans } = compare(&wanted.collect(), Some(&seen));
        assert!(orphans.iter().all(|orphan| *orphan == version(ORPHAN)), "no orphan: {orphans:?}");
        for filled in to_fill {
            self.tell(|| format!("HSM {hsm}: key {} is filled", filled.version));
            let key = filled.version;
            assert!(!self.removed.contains(&(hsm, key)), "a key that was removed on purpose is not put back");
            self.hsms[hsm].token.objects.insert(key);
            self.placements.insert((hsm, key), Placement::Present);
        }
        for again in to_destroy {
            self.tell(|| format!("HSM {hsm}: key {} is destroyed again", again.version));
            assert_eq!(again, version(DESTROYED));
            self.hsms[hsm].token.objects.remove(&again.version);
        }
        for gone in gone {
            let key = gone.version;
            assert!(self.removed.contains(&(hsm, key)), "key {key} counts as removed and was not");
            self.placements.insert((hsm, key), Placement::Removed);
        }
        self.excluded.retain(|(at, _), ()| *at != hsm);
    }

    /// Everybody is healthy and complete, and every token holds what it should.
    fn is_well(&self) -> bool {
        let placed = |hsm: usize| {
            !self.hsms[hsm].token.objects.contains(&DESTROYED)
                && (0..KEYS).all(|key| self.placements.get(&(hsm, key)) != Some(&Placement::Pending))
        };
        self.hsms.iter().enumerate().all(|(at, hsm)| hsm.is_well() && (hsm.is_spent() || placed(at)))
    }

    fn troubles(&self) -> String {
        self.hsms.iter().map(|hsm| format!("\n{hsm:?}")).collect()
    }

    fn check_end(&mut self) {
        for hsm in 0..self.hsms.len() {
            let waiting = self.hsms[hsm].waiting();
            assert!(
                waiting.iter().all(|call| self.calls[*call].is_over()),
                "HSM {hsm} has forgotten calls: {waiting:?}"
            );
        }
        for (at, hsm) in self.hsms.iter().enumerate() {
            hsm.check_end();
            // What nobody can log in to is not filled either.
            for key in (0..KEYS).filter(|_| !hsm.is_spent()) {
                let (held, removed) = (hsm.token.objects.contains(&key), self.removed.contains(&(at, key)));
                assert_ne!(held, removed, "HSM {at}: what is not removed is there: key {key}");
                let placement = self.placements[&(at, key)];
                // A removal that nobody has met yet is not known.
                assert!(placement == Placement::Present || removed, "HSM {at}, key {key}: {placement:?}");
            }
        }
    }
}

/// The version of a key by its number.
fn version(key: u32) -> KeyVersionId {
    KeyVersionId { key: KeyId::from_bytes([7; 16]), version: key }
}

/// Runs a seed; what went wrong, if something did.
fn outcome(seed: u64) -> Result<[usize; 3], String> {
    let run = std::panic::catch_unwind(|| {
        let mut simulation = Simulation::new(seed, false);
        simulation.run();
        simulation.ended
    });
    run.map_err(|panic| match panic.downcast_ref::<String>() {
        Some(words) => words.clone(),
        None => panic.downcast_ref::<&str>().map(|words| (*words).to_owned()).unwrap_or_default(),
    })
}

#[test]
fn whatever_happens_callers_do_not_notice_and_everything_comes_back() {
    if let Some(seed) = std::env::var("KEYSTORED_WORLD").ok().and_then(|seed| seed.parse().ok()) {
        Simulation::new(seed, true).run();
        return;
    }
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let ended = std::thread::scope(|scope| {
        let part = |first| {
            move || {
                let mut sum = [0; 3];
                for seed in (first..SEEDS).step_by(usize::try_from(threads).unwrap()) {
                    match outcome(seed) {
                        Ok(ended) => sum.iter_mut().zip(ended).for_each(|(sum, ended)| *sum += ended),
                        Err(why) => panic!("seed {seed}: {why}\nrun it again with KEYSTORED_WORLD={seed}"),
                    }
                }
                sum
            }
        };
        let parts: Vec<_> = (0..threads).map(|first| scope.spawn(part(first))).collect();
        parts.into_iter().fold([0; 3], |sum, part| {
            let part = part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            [sum[0] + part[0], sum[1] + part[1], sum[2] + part[2]]
        })
    });
    // The simulation does something: calls of each kind, and failures where all zones were in trouble.
    assert!(ended.iter().all(|number| *number > 100), "{ended:?}");
}

#[test]
fn a_seed_runs_the_same_way_again() {
    for seed in [1, 77, 4_711] {
        let run = || {
            let mut simulation = Simulation::new(seed, false);
            simulation.run();
            (simulation.now() - simulation.start, simulation.number, simulation.ended)
        };
        assert_eq!(run(), run());
    }
}
