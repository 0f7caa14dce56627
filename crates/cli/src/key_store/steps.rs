//! The steps of a connect, each told once.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use prost_types::Timestamp;
use serde::Serialize;

use proto::v1::{HsmStatus, HsmStep};

/// A step of one HSM.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Step {
    hsm_id: String,
    at: String,
    /// Since the first step, by the service's clock.
    seconds: f64,
    step: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {:.3} s  {}", self.hsm_id, self.seconds, self.step)
    }
}

/// Knows which steps were there before.
#[derive(Debug, Default)]
pub(super) struct Steps {
    seen: HashSet<(String, Instant, String)>,
    first: Option<Instant>,
    told: Vec<Step>,
}

impl Steps {
    /// These belong to an earlier connect and are not told.
    pub(super) fn ignore(&mut self, hsms: &[HsmStatus]) {
        self.seen.extend(each(hsms));
    }

    /// The steps that are new, in the order of their times.
    pub(super) fn new_ones(&mut self, hsms: &[HsmStatus]) -> &[Step] {
        let mut fresh: Vec<_> = each(hsms).filter(|step| !self.seen.contains(step)).collect();
        // Stable: what one HSM did within one tick of the clock stays in its order.
        fresh.sort_by_key(|(_, at, _)| *at);
        let from = self.told.len();
        for (hsm_id, at, step) in fresh {
            let first = *self.first.get_or_insert(at);
            let seconds = at.since(first).as_secs_f64();
            self.told.push(Step { hsm_id: hsm_id.clone(), at: at.shown(), seconds, step: step.clone() });
            self.seen.insert((hsm_id, at, step));
        }
        &self.told[from..]
    }

    /// All that were told.
    pub(super) fn into_told(self) -> Vec<Step> {
        self.told
    }
}

fn each(hsms: &[HsmStatus]) -> impl Iterator<Item = (String, Instant, String)> {
    let one = |hsm: &HsmStatus, step: &HsmStep| (hsm.hsm_id.clone(), Instant::of(step), step.step.clone());
    hsms.iter().flat_map(move |hsm| hsm.steps.iter().map(move |step| one(hsm, step)))
}

/// A time that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Instant {
    seconds: i64,
    nanos: i32,
}

impl Instant {
    fn of(step: &HsmStep) -> Self {
        let Timestamp { seconds, nanos } = step.at.unwrap_or_default();
        Self { seconds, nanos }
    }

    /// Zero where `earlier` is later: HSMs are looked at one after the other.
    fn since(self, earlier: Self) -> Duration {
        let nanos = |at: Self| i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
        let between = nanos(self).saturating_sub(nanos(earlier)).max(0);
        Duration::from_nanos(u64::try_from(between).unwrap_or(u64::MAX))
    }

    fn shown(self) -> String {
        Timestamp { seconds: self.seconds, nanos: self.nanos }.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hsm(id: &str, steps: &[(i32, &str)]) -> HsmStatus {
        let step = |&(millis, step): &(i32, &str)| HsmStep {
            at: Some(Timestamp { seconds: 1_700_000_000, nanos: millis * 1_000_000 }),
            step: step.to_owned(),
        };
        HsmStatus { hsm_id: id.to_owned(), steps: steps.iter().map(step).collect(), ..Default::default() }
    }

    fn lines(steps: &[Step]) -> Vec<String> {
        steps.iter().map(Step::to_string).collect()
    }

    #[test]
    fn each_step_is_told_once_in_the_order_of_time() {
        let mut steps = Steps::default();
        let first = [hsm("hsm-a", &[(100, "starting"), (234, "logging in")]), hsm("hsm-b", &[(150, "starting")])];
        let expected = ["hsm-a  0.000 s  starting", "hsm-b  0.050 s  starting", "hsm-a  0.134 s  logging in"];
        assert_eq!(lines(steps.new_ones(&first)), expected);
        assert!(steps.new_ones(&first).is_empty());
        let later = [hsm("hsm-a", &[(234, "logging in")]), hsm("hsm-b", &[(150, "starting"), (234, "logging in")])];
        assert_eq!(lines(steps.new_ones(&later)), ["hsm-b  0.134 s  logging in"]);
        assert_eq!(steps.into_told().len(), 4);
    }

    #[test]
    fn steps_of_an_earlier_connect_are_not_told() {
        let mut steps = Steps::default();
        steps.ignore(&[hsm("hsm-a", &[(1, "starting")])]);
        let told = steps.new_ones(&[hsm("hsm-a", &[(1, "starting"), (900, "starting")])]);
        assert_eq!(lines(told), ["hsm-a  0.000 s  starting"]);
    }

    #[test]
    fn a_clock_that_steps_back_gives_no_negative_time() {
        let mut steps = Steps::default();
        steps.new_ones(&[hsm("hsm-a", &[(500, "starting")])]);
        assert_eq!(lines(steps.new_ones(&[hsm("hsm-b", &[(400, "starting")])])), ["hsm-b  0.000 s  starting"]);
    }
}
