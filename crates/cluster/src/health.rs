//! How a member's health changes: a pure function over what was observed.
//!
//! The supervisor's word decides between Starting, Down and the rest; real operations decide between Healthy and
//! Suspect. A caller's own fault is no observation at all, so a flood of bad ciphertexts changes nothing. A member that
//! falls again and again is taken back more and more slowly.

use std::time::{Duration, Instant};

use super::Health;
use supervisor::State;

/// Failures in a row that make a healthy member suspect: one alone may be a transient error.
const FAILURES_TO_SUSPECT: u8 = 2;
/// Successes in a row that clear a suspect: one alone may have come from the one worker that is sound.
const SUCCESSES_TO_HEALTHY: u8 = 2;
/// A member that fails again so soon after it was taken back is flapping.
const RELAPSE: Duration = Duration::from_secs(60);
/// How long a member must have been without a failure before it is taken back, by how often it has flapped: callers
/// meet each of its falls, so it must not fall several times a second. The last one counts for all that follow.
const QUARANTINES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Until a suspect is probed again: half to all of so long at first, twice as long after each probe that it fails, and
/// this at most.
const PROBES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// What was seen of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// It answered, and rightly.
    Succeeded,
    /// It failed or was silent, by its own fault.
    Failed,
    /// It failed the probe of a suspect.
    FailedProbe,
    /// It does not open what a key made. Not a transient error, so once is enough.
    Broken,
    /// What its supervisor says.
    Supervisor(State),
}

/// A member's health and what is needed to judge the next observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// How it is.
    pub health: Health,
    /// Failures in a row while healthy, successes in a row while suspect.
    pub streak: u8,
    /// When `health` last changed.
    pub since: Instant,
    /// How often it fell soon after it had been taken back.
    pub relapses: u8,
    /// Probes in a row that it failed since it became a suspect.
    failing: u8,
    /// The last sign that something was wrong with it.
    failed: Instant,
}

impl Standing {
    /// Before anything was seen.
    pub(super) fn new(now: Instant) -> Self {
        Self { health: Health::Starting, streak: 0, since: now, relapses: 0, failing: 0, failed: now }
    }

    /// Healthy, and no failure is being counted: a further success changes nothing.
    pub(super) fn is_clean(&self) -> bool {
        self.health == Health::Healthy && self.streak == 0
    }

    /// How long it must have been without a failure before it is taken back.
    pub(super) fn quarantine(&self) -> Duration {
        QUARANTINES.get(usize::from(self.relapses)).or(QUARANTINES.last()).copied().unwrap_or_default()
    }

    /// Until a suspect is probed again. `jitter` is any byte: suspects of many daemons are not probed at one time.
    pub(super) fn pause(&self, jitter: u8) -> Duration {
        let full = (PROBES.0 * 2_u32.saturating_pow(self.failing.into())).min(PROBES.1);
        full / 2 + full * u32::from(jitter) / (2 * u32::from(u8::MAX))
    }
}

/// What a member's standing becomes.
pub(super) fn next(standing: Standing, observation: Observation, now: Instant) -> Standing {
    use {Health as H, Observation as O};
    let failing = match observation {
        O::FailedProbe => standing.failing.saturating_add(1),
        O::Succeeded => 0,
        O::Failed | O::Broken | O::Supervisor(_) => standing.failing,
    };
    let sound_for = now.saturating_duration_since(standing.failed);
    let (health, streak) = match (standing.health, observation) {
        (H::Healthy, O::Succeeded) => (H::Healthy, 0),
        (H::Healthy, O::Failed | O::FailedProbe) if standing.streak + 1 >= FAILURES_TO_SUSPECT => (H::Suspect, 0),
        (H::Healthy, O::Failed | O::FailedProbe) => (H::Healthy, standing.streak + 1),
        (H::Healthy, O::Broken) => (H::Suspect, 0),
        (H::Suspect, O::Succeeded) if standing.streak + 1 < SUCCESSES_TO_HEALTHY => (H::Suspect, standing.streak + 1),
        (H::Suspect, O::Succeeded) if sound_for < standing.quarantine() => (H::Suspect, standing.streak),
        (H::Suspect, O::Succeeded) => (H::Healthy, 0),
        (H::Suspect, O::Failed | O::FailedProbe | O::Broken) => (H::Suspect, 0),
        // Replies that were under way when the supervisor gave the member up, or before it had it, prove nothing.
        (H::Starting | H::Down, O::Succeeded | O::Failed | O::FailedProbe | O::Broken) => {
            (standing.health, standing.streak)
        }
        (H::Starting, O::Supervisor(State::Serving)) => (H::Healthy, 0),
        // Back from the dead: it has to show that it works before it is asked first again.
        (H::Down, O::Supervisor(State::Serving)) => (H::Suspect, 0),
        (H::Healthy | H::Suspect, O::Supervisor(State::Serving)) => (standing.health, standing.streak),
        (_, O::Supervisor(State::Starting)) => (H::Starting, 0),
        (_, O::Supervisor(State::Down | State::Stopped)) => (H::Down, 0),
    };
    let wrong =
        matches!(observation, O::Failed | O::FailedProbe | O::Broken | O::Supervisor(State::Down | State::Stopped));
    let fell = standing.health == H::Healthy && health != H::Healthy;
    let relapses = match now.saturating_duration_since(standing.since) < RELAPSE {
        true if fell => standing.relapses.saturating_add(1),
        false if fell => 0,
        _ => standing.relapses,
    };
    Standing {
        health,
        streak,
        since: if health == standing.health { standing.since } else { now },
        relapses,
        failing: if (standing.health, health) == (H::Suspect, H::Suspect) { failing } else { 0 },
        failed: if wrong { now } else { standing.failed },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use model::clock::Clock;

    /// One observation a minute: no fall follows soon on another.
    fn run(observations: &[Observation]) -> Standing {
        let clock = Clock::manual();
        follow(&clock, Standing::new(clock.now()), observations, RELAPSE)
    }

    fn follow(clock: &Clock, standing: Standing, observations: &[Observation], every: Duration) -> Standing {
        observations.iter().fold(standing, |standing, &observation| {
            clock.advance(every);
            next(standing, observation, clock.now())
        })
    }

    const SERVING: Observation = Observation::Supervisor(State::Serving);
    const DOWN: Observation = Observation::Supervisor(State::Down);
    use Observation::{Broken, Failed, FailedProbe, Succeeded};

    #[test]
    fn one_failure_is_forgiven_and_two_in_a_row_are_not() {
        assert_eq!(run(&[SERVING, Failed]).health, Health::Healthy);
        assert_eq!(run(&[SERVING, Failed, Succeeded, Failed]).health, Health::Healthy);
        assert_eq!(run(&[SERVING, Failed, Failed]).health, Health::Suspect);
        assert_eq!(run(&[SERVING, Broken]).health, Health::Suspect);
    }

    #[test]
    fn a_suspect_comes_back_after_two_successes_in_a_row() {
        assert_eq!(run(&[SERVING, Broken, Succeeded]).health, Health::Suspect);
        assert_eq!(run(&[SERVING, Broken, Succeeded, Failed, Succeeded]).health, Health::Suspect);
        assert_eq!(run(&[SERVING, Broken, Succeeded, Succeeded]).health, Health::Healthy);
    }

    #[test]
    fn the_supervisor_decides_about_down() {
        assert_eq!(run(&[SERVING, DOWN, Succeeded, Succeeded]).health, Health::Down);
        assert_eq!(run(&[SERVING, DOWN, SERVING]).health, Health::Suspect);
        assert_eq!(run(&[Succeeded, Succeeded]).health, Health::Starting);
    }

    #[test]
    fn since_moves_only_when_the_health_does() {
        let clock = Clock::manual();
        let first = follow(&clock, Standing::new(clock.now()), &[SERVING], RELAPSE);
        assert_eq!(first.since, clock.now());
        assert_eq!(follow(&clock, first, &[Succeeded, Failed, Succeeded], RELAPSE).since, first.since);
    }

    #[test]
    fn a_flapping_member_is_taken_back_more_and_more_slowly() {
        let (clock, tick) = (Clock::manual(), Duration::from_millis(250));
        let mut standing = follow(&clock, Standing::new(clock.now()), &[SERVING], tick);
        clock.advance(RELAPSE);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            standing = follow(&clock, standing, &[Failed, Failed], Duration::ZERO);
            let fell = clock.now();
            assert_eq!(standing.health, Health::Suspect);
            while standing.health != Health::Healthy {
                standing = follow(&clock, standing, &[Succeeded], tick);
            }
            pauses.push((clock.now() - fell).as_millis());
        }
        assert_eq!(pauses, [500, 500, 1_000, 2_000, 5_000, 5_000, 5_000]);
        // Once it has been well for long, it is as if nothing had been.
        clock.advance(RELAPSE);
        standing = follow(&clock, standing, &[Failed, Failed, Succeeded, Succeeded], Duration::ZERO);
        assert_eq!(standing.health, Health::Healthy);
    }

    #[test]
    fn a_suspect_is_probed_less_and_less_often_until_it_answers() {
        let pauses = |seen: &[Observation]| {
            let standing = run(seen);
            [0, u8::MAX].map(|jitter| standing.pause(jitter).as_millis())
        };
        let mut seen = vec![SERVING, Broken];
        let mut longest = Vec::new();
        for _ in 0..6 {
            let [least, most] = pauses(&seen);
            assert_eq!(least, most / 2);
            longest.push(most);
            seen.extend([FailedProbe, Failed, Failed]);
        }
        assert_eq!(longest, [250, 500, 1_000, 2_000, 2_000, 2_000]);
        seen.push(Succeeded);
        assert_eq!(pauses(&seen), [125, 250]);
        // A supervisor that goes on serving says nothing about that.
        assert_eq!(pauses(&[SERVING, Broken, FailedProbe, SERVING]), [250, 500]);
        assert_eq!(pauses(&[SERVING, Broken, FailedProbe, DOWN, SERVING]), [125, 250]);
        // Nor do the calls that were under way when it fell.
        assert_eq!(pauses(&[[SERVING].as_slice(), &[Failed; 64]].concat()), [125, 250]);
    }

    fn observations() -> impl Strategy<Value = Vec<Observation>> {
        let one = prop_oneof![
            Just(Succeeded),
            Just(Failed),
            Just(FailedProbe),
            Just(Broken),
            Just(SERVING),
            Just(DOWN),
            Just(Observation::Supervisor(State::Starting)),
            Just(Observation::Supervisor(State::Stopped)),
        ];
        prop::collection::vec(one, 0..60)
    }

    proptest! {
        #[test]
        fn whatever_happened_serving_and_two_successes_heal(mut seen in observations()) {
            seen.extend([SERVING, Succeeded, Succeeded]);
            prop_assert_eq!(run(&seen).health, Health::Healthy);
        }

        #[test]
        fn whatever_happened_at_whatever_pace_five_sound_seconds_heal(seen in observations(), every in 0..2_000_u64) {
            let clock = Clock::manual();
            let standing = follow(&clock, Standing::new(clock.now()), &seen, Duration::from_millis(every));
            let standing = follow(&clock, standing, &[SERVING], Duration::ZERO);
            let standing = follow(&clock, standing, &[Succeeded; 20], Duration::from_millis(250));
            prop_assert_eq!(standing.health, Health::Healthy);
        }

        #[test]
        fn whatever_happened_two_failures_are_never_healthy(mut seen in observations()) {
            seen.extend([Failed, Failed]);
            prop_assert_ne!(run(&seen).health, Health::Healthy);
        }

        #[test]
        fn only_the_supervisor_takes_down(seen in observations()) {
            let last_word = seen.iter().rev().find_map(|o| match o {
                Observation::Supervisor(state) => Some(*state),
                _ => None,
            });
            let down = matches!(last_word, Some(State::Down | State::Stopped));
            prop_assert_eq!(run(&seen).health == Health::Down, down);
        }
    }
}
