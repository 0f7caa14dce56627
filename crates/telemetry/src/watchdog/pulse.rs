//! How one task stands, as the watchdog sees it, turn by turn. No clock in here: silence is counted in turns of the
//! watchdog and not in time, so that a process that was stopped, or wanted for a processor, does not find all of its
//! tasks silent when it goes on.

use std::time::Duration;

/// A task that shows no turn of its own for so many turns of the watchdog is silent.
pub(super) const SILENT: u32 = 30;
/// One that was given up and shows none for so many does not let go of its thread: only the end of the process helps.
pub(super) const STUCK: u32 = 2 * SILENT;
/// A task that has run for so many turns begins its pauses anew, and its last trouble is past.
pub(super) const SOUND: u64 = 60;
/// First and longest pause before a task is started again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What a turn of the watchdog brought to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing new.
    None,
    /// It has become silent with this turn.
    Silent,
    /// It turns again, without having been started again.
    Back,
}

/// How a task looks to the watchdog.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse {
    beats: u64,
    /// Turns of the watchdog without one of the task's own.
    silent: u32,
    /// Not running: it broke, and waits to be started again.
    resting: bool,
    /// How often in a row it broke.
    breaks: u32,
    /// Turns of the watchdog since it was started last.
    running: u64,
    /// Why it broke last, until it has been sound for a while.
    why: Option<String>,
}

impl Pulse {
    /// A turn of the watchdog, at which the task has turned so often.
    pub(super) fn turn(&mut self, beats: u64) -> Sign {
        if self.resting {
            return Sign::None;
        }
        self.running += 1;
        if self.running >= SOUND && self.silent == 0 {
            (self.breaks, self.why) = (0, None);
        }
        let was_silent = self.is_silent();
        if beats != self.beats {
            (self.beats, self.silent) = (beats, 0);
            return if was_silent { Sign::Back } else { Sign::None };
        }
        self.silent = self.silent.saturating_add(1);
        if self.silent == SILENT { Sign::Silent } else { Sign::None }
    }

    /// It has not turned for long.
    pub(super) fn is_silent(&self) -> bool {
        self.silent >= SILENT
    }

    /// It has not turned for so long that it will not let go of its thread either.
    pub(super) fn is_stuck(&self) -> bool {
        self.silent >= STUCK
    }

    /// Turns of the watchdog without one of its own.
    pub(super) fn silence(&self) -> u32 {
        self.silent
    }

    /// It runs.
    pub(super) fn started(&mut self) {
        (self.resting, self.silent, self.running) = (false, 0, 0);
    }

    /// It broke; how long it rests before it is started again.
    pub(super) fn broke(&mut self, why: String) -> Duration {
        let pause = PAUSES.0.saturating_mul(2_u32.saturating_pow(self.breaks)).min(PAUSES.1);
        self.breaks = self.breaks.saturating_add(1);
        (self.resting, self.silent, self.why) = (true, 0, Some(why));
        pause
    }

    /// Why it broke and how often in a row, as long as that is not past.
    pub(super) fn trouble(&self) -> Option<(&str, u32)> {
        self.why.as_deref().map(|why| (why, self.breaks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(pulse: &mut Pulse, count: u32, beats: u64) -> Vec<Sign> {
        (0..count).map(|_| pulse.turn(beats)).filter(|sign| *sign != Sign::None).collect()
    }

    #[test]
    fn silence_is_noticed_once_and_ends_with_a_turn() {
        let mut pulse = Pulse::default();
        assert_eq!(turns(&mut pulse, SILENT - 1, 0), []);
        assert!(!pulse.is_silent());
        assert_eq!(turns(&mut pulse, SILENT, 0), [Sign::Silent]);
        assert!(pulse.is_silent() && !pulse.is_stuck());
        turns(&mut pulse, 1, 0);
        assert!(pulse.is_stuck());
        assert_eq!(turns(&mut pulse, 5, 1), [Sign::Back]);
        assert!(!pulse.is_silent());
    }

    #[test]
    fn a_task_that_turns_now_and_then_is_never_silent() {
        let mut pulse = Pulse::default();
        for beats in 1..100 {
            assert_eq!(turns(&mut pulse, SILENT, beats), []);
        }
    }

    #[test]
    fn pauses_grow_have_a_bound_and_begin_anew_after_a_sound_while() {
        let mut pulse = Pulse::default();
        let mut pauses = Vec::new();
        for _ in 0..40 {
            pauses.push(pulse.broke("a panic".to_owned()).as_millis());
            pulse.started();
        }
        assert_eq!(pauses[..8], [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(pauses.last(), Some(&5_000));
        assert_eq!(pulse.trouble(), Some(("a panic", 40)));
        for beats in 0..SOUND {
            assert!(pulse.trouble().is_some(), "after {beats} turns");
            pulse.turn(beats);
        }
        assert_eq!(pulse.trouble(), None);
        assert_eq!(pulse.broke("another".to_owned()), PAUSES.0);
    }

    #[test]
    fn one_that_rests_is_not_silent() {
        let mut pulse = Pulse::default();
        turns(&mut pulse, SILENT, 0);
        pulse.broke("it was silent".to_owned());
        assert_eq!(turns(&mut pulse, 10 * SILENT, 0), []);
        assert!(!pulse.is_silent() && pulse.trouble().is_some());
        pulse.started();
        assert_eq!(turns(&mut pulse, SILENT, 0), [Sign::Silent]);
    }
}
