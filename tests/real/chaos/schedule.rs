//! What is done to a daemon's zones and when, drawn from a seed alone. Pure.
//!
//! Invariants, each with a test below: one zone at least is left alone, unless the phase says that it troubles all; a zone
//! that lies does so by itself, because what two zones say is believed; nothing ends a worker inside a login; where logins
//! are refused, which an operator has to mend, nothing follows before that, and a sound zone is left.

use std::time::Duration;

use super::fault::{self, Rule};
use super::kinds;
use super::owner::Act;
use super::rng::Rng;
use crate::harness::habits::Habits;

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) zones: usize,
    /// What HSM stands in each of them.
    pub(super) kinds: Vec<&'static Habits>,
    pub(super) verify: Verify,
    pub(super) phases: Vec<Phase>,
}

/// What the configuration has looked at by a second zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verify {
    /// What is encrypted, beside data keys.
    pub(super) all_wraps: bool,
    pub(super) unwraps: bool,
}

/// Some zones are troubled for some time; then the trouble ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Phase {
    pub(super) lasts: Duration,
    /// Begins before the zones of the phase before, which are the same, have recovered.
    pub(super) again: bool,
    /// What the owner of keys does meanwhile.
    pub(super) act: Option<Act>,
    /// Everything that is done, each to one zone.
    pub(super) strikes: Vec<(usize, Strike)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Strike {
    /// Puts a rule in force in the zone's module. Several make one set of rules, in their order.
    Rule(Rule),
    /// SIGKILL to workers.
    Kill(Whom),
    /// SIGSTOP to workers.
    Stop(Whom),
    /// Takes the token directory away.
    TakeAway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// One of them: this one, counted around.
    One(usize),
    All,
}

/// Longest that a zone lies before it must have been found out: the canary's period is a second, a second look follows a
/// tenth of that later, and the rest is for want of processor.
pub(super) const FOUND_OUT: Duration = Duration::from_secs(4);

/// Longest until a zone whose workers were killed says that its logins are refused: the pause before a worker is started
/// again grows with each of its deaths.
pub(super) const SAID: Duration = Duration::from_secs(10);

/// The operator's work is reckoned with this.
const OPERATED: Duration = Duration::from_millis(1_500);

/// A recovery is reckoned with this when phases are drawn to fill a run.
const RECKONED: Duration = Duration::from_millis(400);

impl Schedule {
    /// The schedule of a seed: as many phases as fill `length`.
    pub(super) fn draw(seed: u64, length: Duration) -> Self {
        let mut rng = Rng::new(seed);
        let zones = 2 + rng.below(2);
        let kinds = kinds::draw(seed, zones);
        let verify = Verify { all_wraps: rng.chance(50), unwraps: rng.chance(50) };
        let mut phases: Vec<Phase> = Vec::new();
        let mut filled = Duration::ZERO;
        while filled < length {
            let phase = Phase::draw(&mut rng, zones, verify, phases.last()).unmistakable_to(&kinds);
            filled += phase.lasts + RECKONED;
            if !phase.refusals().is_empty() {
                filled += OPERATED;
            }
            phases.push(phase);
        }
        Self { seed, zones, kinds, verify, phases }
    }
}

impl Phase {
    fn draw(rng: &mut Rng, zones: usize, verify: Verify, before: Option<&Self>) -> Self {
        let again = before.filter(|before| {
            before.zones().len() < zones && before.lie(verify).is_none() && before.refusals().is_empty()
        });
        if let Some(before) = again.filter(|_| rng.chance(15)) {
            let strikes = before.zones().into_iter().map(|zone| (zone, Strike::Rule(fault::again(rng)))).collect();
            return Self { lasts: lasts(rng, 300, 1_200), again: true, act: metadata(rng), strikes };
        }
        let first = rng.below(zones);
        if rng.chance(4) {
            let strikes = (0..zones).flat_map(|zone| on(zone, wide(rng))).collect();
            return Self { lasts: lasts(rng, 200, 800), again: false, act: act(rng), strikes };
        }
        if zones == 3 && rng.chance(25) {
            let strikes = [first, (first + 1) % zones].into_iter().flat_map(|zone| on(zone, wider(rng))).collect();
            let mut phase = Self { lasts: lasts(rng, 300, 1_500), again: false, act: act(rng), strikes };
            phase.act = phase.act.filter(|_| phase.refusals().is_empty());
            return phase;
        }
        let (strikes, makes) = narrow(rng, verify);
        let strikes = on(first, strikes).collect();
        let mut phase = Self { lasts: lasts(rng, 300, 2_000), again: false, act: None, strikes };
        phase.act = match (makes, phase.refusals().is_empty()) {
            (true, _) => Some(if rng.chance(50) { Act::Make } else { Act::Rotate }),
            // What two zones have to agree about waits for one that lies to be found out.
            (false, true) if phase.lie(verify).is_some() => metadata(rng),
            (false, true) => act(rng),
            // The operator comes first.
            (false, false) => None,
        };
        if phase.lie(verify).is_some() {
            phase.lasts = FOUND_OUT;
        }
        phase
    }

    /// Where several zones are troubled, none says anything that its kind of HSM says of a bad ciphertext as well.
    fn unmistakable_to(mut self, kinds: &[&Habits]) -> Self {
        if self.zones().len() > 1 {
            for (zone, strike) in &mut self.strikes {
                if let Strike::Rule(rule) = strike {
                    rule.make_unmistakable_to(kinds[*zone]);
                }
            }
        }
        self
    }

    /// The zones that are troubled, in their order.
    pub(super) fn zones(&self) -> Vec<usize> {
        let mut zones: Vec<usize> = self.strikes.iter().map(|(zone, _)| *zone).collect();
        zones.sort_unstable();
        zones.dedup();
        zones
    }

    /// The zones whose logins are refused, and what people are told of each. With it the zone's workers are killed, so that
    /// there are logins.
    pub(super) fn refusals(&self) -> Vec<(usize, &'static str)> {
        let refusal = |(zone, strike): &(usize, Strike)| match strike {
            Strike::Rule(rule) => rule.refusal().map(|words| (*zone, words)),
            _ => None,
        };
        self.strikes.iter().filter_map(refusal).collect()
    }

    /// The function in which a zone lies to callers without anything but its canary to find it out.
    pub(super) fn lie(&self, verify: Verify) -> Option<(usize, &'static str)> {
        self.strikes.iter().find_map(|(zone, strike)| match strike {
            Strike::Rule(rule) => rule.lie(verify).map(|function| (*zone, function)),
            _ => None,
        })
    }
}

/// What an owner may do whatever the zones are about.
fn act(rng: &mut Rng) -> Option<Act> {
    rng.chance(40).then(|| Act::ALL[rng.below(Act::ALL.len())])
}

/// The same, of what concerns the metadata first.
fn metadata(rng: &mut Rng) -> Option<Act> {
    act(rng).filter(|act| !act.makes())
}

fn lasts(rng: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.between(least, most))
}

fn whom(rng: &mut Rng) -> Whom {
    if rng.chance(50) { Whom::All } else { Whom::One(rng.below(8)) }
}

/// What may happen to a single zone, and whether something is to be made meanwhile.
fn narrow(rng: &mut Rng, verify: Verify) -> (Vec<Strike>, bool) {
    match rng.below(110) {
        0..40 => (vec![Strike::Rule(fault::serving(rng))], false),
        40..52 => {
            // Called only when a handle or a session has gone stale, or by a worker that starts.
            let reason = match rng.chance(50) {
                true => Strike::Rule(fault::stale(rng)),
                false => Strike::Kill(whom(rng)),
            };
            (vec![Strike::Rule(fault::finding(rng)), reason], false)
        }
        52..64 => (vec![Strike::Rule(fault::starting(rng)), Strike::Kill(whom(rng))], false),
        64..74 => (vec![Strike::Rule(fault::making(rng))], true),
        74..84 => (vec![Strike::Rule(fault::lying(rng, verify))], false),
        84..90 => (vec![Strike::Kill(whom(rng))], false),
        90..95 => (vec![Strike::Stop(whom(rng))], false),
        95..100 => (vec![Strike::TakeAway], false),
        _ => (refused(rng), false),
    }
}

/// No login is let in, and there are some.
fn refused(rng: &mut Rng) -> Vec<Strike> {
    vec![Strike::Rule(fault::refusing(rng)), Strike::Kill(whom(rng))]
}

/// What may happen to several zones at once while another is sound.
fn wider(rng: &mut Rng) -> Vec<Strike> {
    if rng.chance(15) { refused(rng) } else { wide(rng) }
}

/// What may happen to several zones at once: nothing that says of a good ciphertext that it is bad, or gives wrong bytes.
/// Where two zones agree about such things, they are believed.
fn wide(rng: &mut Rng) -> Vec<Strike> {
    match rng.below(100) {
        0..55 => vec![Strike::Rule(fault::unmistakable(rng))],
        55..65 => vec![Strike::Rule(fault::starting(rng)), Strike::Kill(whom(rng))],
        65..80 => vec![Strike::Kill(whom(rng))],
        80..90 => vec![Strike::Stop(whom(rng))],
        _ => vec![Strike::TakeAway],
    }
}

fn on(zone: usize, strikes: Vec<Strike>) -> impl Iterator<Item = (usize, Strike)> {
    strikes.into_iter().map(move |strike| (zone, strike))
}

/// As the configuration of a site calls it.
pub(super) fn name(zone: usize) -> &'static str {
    ["a", "b", "c"][zone]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fault::{Fault, IN_LOGINS, Meets};
    use super::*;

    const LENGTH: Duration = Duration::from_secs(15);

    fn many() -> impl Iterator<Item = Schedule> {
        (0..2_000).map(|seed| Schedule::draw(seed, LENGTH))
    }

    fn rules(phase: &Phase) -> impl Iterator<Item = &Rule> {
        phase.strikes.iter().filter_map(|(_, strike)| match strike {
            Strike::Rule(rule) => Some(rule),
            _ => None,
        })
    }

    #[test]
    fn a_seed_draws_the_same_again() {
        assert!(many().zip(many()).all(|(one, other)| one == other));
        assert_ne!(Schedule::draw(1, LENGTH).to_string(), Schedule::draw(2, LENGTH).to_string());
    }

    #[test]
    fn one_zone_is_left_alone_and_few_phases_trouble_all() {
        let (mut all, mut two_of_three, mut unlike, mut phases) = (0, 0, 0, 0);
        for schedule in many() {
            for phase in &schedule.phases {
                phases += 1;
                all += usize::from(phase.zones().len() == schedule.zones);
                if let ([one, other], 3) = (&phase.zones()[..], schedule.zones) {
                    let of = |zone| phase.strikes.iter().filter(move |(at, _)| *at == zone).map(|(_, strike)| strike);
                    two_of_three += 1;
                    unlike += usize::from(!of(*one).eq(of(*other)));
                }
                assert!(phase.zones().iter().all(|zone| *zone < schedule.zones), "{schedule}");
            }
        }
        assert!((phases / 50..phases / 20).contains(&all), "{all} of {phases}");
        assert!(two_of_three > phases / 20, "{two_of_three} of {phases}");
        assert!(unlike > two_of_three * 9 / 10, "{unlike} of {two_of_three} trouble two zones in two ways");
    }

    #[test]
    fn what_two_zones_would_agree_about_is_done_to_one() {
        for schedule in many() {
            for phase in schedule.phases.iter().filter(|phase| phase.zones().len() > 1) {
                for (zone, strike) in &phase.strikes {
                    let Strike::Rule(rule) = strike else { continue };
                    assert!(rule.is_unmistakable_to(schedule.kinds[*zone]), "{phase}");
                }
            }
        }
    }

    #[test]
    fn a_lie_that_only_the_canary_finds_lasts_until_it_must_have_been_found() {
        let mut lies = BTreeSet::new();
        for schedule in many() {
            for phase in &schedule.phases {
                let Some((_, function)) = phase.lie(schedule.verify) else { continue };
                lies.insert(function);
                assert_eq!(phase.lasts, FOUND_OUT);
                assert!(rules(phase).all(|rule| rule.meets == Meets::All), "{phase}");
            }
        }
        assert_eq!(Vec::from_iter(lies), ["C_Decrypt", "C_Encrypt"]);
    }

    #[test]
    fn where_logins_are_refused_there_are_some_and_an_operator_comes_before_all_else() {
        let (mut said, mut phases, mut refused, mut beside) = (BTreeSet::new(), 0, 0, 0);
        for schedule in many() {
            for (at, phase) in schedule.phases.iter().enumerate() {
                phases += 1;
                let refusals = phase.refusals();
                if refusals.is_empty() {
                    continue;
                }
                refused += 1;
                beside += usize::from(phase.zones().len() > refusals.len());
                assert!(phase.zones().len() < schedule.zones && !phase.again && phase.act.is_none(), "{phase}");
                assert!(schedule.phases.get(at + 1).is_none_or(|next| !next.again), "{schedule}");
                for (zone, words) in refusals {
                    said.insert(words);
                    let strikes: Vec<_> = phase.strikes.iter().filter(|(of, _)| *of == zone).collect();
                    let [(_, Strike::Rule(rule)), (_, Strike::Kill(_))] = strikes[..] else { panic!("{phase}") };
                    assert!(rule.meets == Meets::All && !rule.after_call, "{phase}");
                }
            }
        }
        assert!((phases / 20..phases / 8).contains(&refused), "{refused} of {phases}");
        assert!(beside > 0, "never beside another zone's trouble");
        assert_eq!(said.len(), fault::PIN.len() + 1, "{said:?}");
    }

    #[test]
    fn nothing_ends_a_worker_inside_a_login() {
        for schedule in many() {
            for phase in &schedule.phases {
                for rule in rules(phase) {
                    let ends = matches!(rule.fault, Fault::Crash | Fault::Hang);
                    assert!(!ends || !matches!(rule.function, "C_Login" | "C_SetPIN" | "*"), "{phase}");
                    if rule.fault == Fault::Crash && IN_LOGINS.contains(&rule.function) {
                        // The service stops trying after three logins without an outcome.
                        assert!(matches!(rule.meets, Meets::Calls { count: ..=2, .. }) && !phase.again, "{phase}");
                    }
                }
                let signals =
                    phase.strikes.iter().any(|(_, strike)| matches!(strike, Strike::Kill(_) | Strike::Stop(_)));
                assert!(!(signals && phase.again), "a worker that starts may be inside a login: {phase}");
            }
        }
    }

    #[test]
    fn every_rule_is_one_that_the_module_takes() {
        let dir = tempfile::tempdir().unwrap();
        let control = chaos_hsm::Control::open(dir.path()).unwrap();
        for schedule in many().take(100) {
            for rule in schedule.phases.iter().flat_map(rules) {
                control.set(&rule.toml(|_| 7)).unwrap_or_else(|error| panic!("{rule}: {error}"));
            }
        }
    }

    #[test]
    fn an_owner_does_everything_and_never_beside_an_operator_or_a_lie() {
        let mut done = BTreeSet::new();
        for schedule in many() {
            for phase in &schedule.phases {
                done.extend(phase.act);
                let makes = phase.act.is_some_and(Act::makes);
                assert!(!makes || (phase.lie(schedule.verify).is_none() && !phase.again), "{phase}");
            }
        }
        assert_eq!(Vec::from_iter(done), Act::ALL);
    }

    #[test]
    fn every_kind_of_trouble_is_drawn() {
        let mut kinds = BTreeSet::new();
        let mut functions = BTreeSet::new();
        for phase in many().flat_map(|schedule| schedule.phases) {
            for (_, strike) in &phase.strikes {
                let kind = match strike {
                    Strike::Rule(Rule { function, fault, .. }) => {
                        functions.insert(*function);
                        format!("{fault:?}")
                    }
                    other => format!("{other:?}"),
                };
                kinds.insert(kind.split(['(', '{']).next().unwrap().trim().to_owned());
            }
        }
        let expected = [
            "Code",
            "Crash",
            "Delay",
            "Hang",
            "Kill",
            "LostToken",
            "PinLocked",
            "SessionLimit",
            "Stop",
            "TakeAway",
            "WrongBytes",
        ];
        assert_eq!(Vec::from_iter(&kinds), expected.iter().collect::<Vec<_>>());
        assert_eq!(functions.len(), fault::FUNCTIONS + 1, "and all of them at once: {functions:?}");
    }
}
