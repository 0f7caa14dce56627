//! How the log is: for /readyz, for the metrics, and in the daemon's log where its disk fills up.

use std::time::Duration;

use super::{Audit, Opened};
use crate::server::concerns::Concerns;
use crate::server::readiness::Trouble;
use audit::log::State;
use model::lock::MutexExt as _;
use store::disk::in_words;
use telemetry::metrics::{AuditReading, Metrics, SinkReading, UnrecordedReading};

/// A disk that will be full within this time is told of.
const SOON: Duration = Duration::from_secs(24 * 60 * 60);
/// How often.
const TELL: Duration = Duration::from_secs(60 * 60);

impl Audit {
    /// Why nothing is recorded, and so nothing given out; absent where records are accepted.
    pub(in crate::server) fn refuses(&self) -> Option<String> {
        match self.opened() {
            None => {
                let why = self.0.closed.lock_anyway().why.clone();
                Some(format!(
                    "nothing can be recorded: {}",
                    why.unwrap_or_else(|| "the audit log is closed".to_owned())
                ))
            }
            Some(opened) => {
                let trouble = opened.log.state().trouble?;
                let since = self.age(trouble.since).as_secs();
                let directory = self.directory().display();
                Some(format!("nothing can be recorded: {} ({directory}, for {since} s)", trouble.reason))
            }
        }
    }

    /// Has what is wrong with it, while it accepts records, asked about.
    pub(in crate::server) fn concern(&self, concerns: &mut Concerns) {
        let audit = self.clone();
        concerns.ask(Trouble::Audit, move || audit.troubles());
    }

    fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if let Some(opened) = self.opened() {
            troubles.extend(filling_up(&opened.log.state(), self.directory()));
            troubles.extend(opened.keys.lock_anyway().trouble());
        }
        troubles.extend(self.0.standings.troubles());
        troubles.extend(self.0.service.get().into_iter().flat_map(|service| service.troubles_of_events()));
        troubles
    }

    /// Says in the log now and then that the disk will be full.
    pub(super) fn tell_of_the_disk(&self, opened: &Opened) {
        let Some(sentence) = filling_up(&opened.log.state(), self.directory()) else { return };
        let now = self.0.clock.now();
        let mut told = self.0.told.lock_anyway();
        if told.is_none_or(|told| now.saturating_duration_since(told) >= TELL) {
            *told = Some(now);
            tracing::warn!("{sentence}");
        }
    }

    /// Takes over how it is now.
    pub(in crate::server) fn measure(&self, metrics: &Metrics) {
        let opened = self.opened();
        let state = opened.as_ref().map(|opened| opened.log.state());
        let head = state.as_ref().map_or(0, |state| state.head.size);
        metrics.audit(AuditReading {
            accepting: state.as_ref().is_some_and(State::accepting),
            records: state.as_ref().map(|state| state.size),
            behind: state.as_ref().map(State::behind),
            bytes: state.as_ref().map(|state| state.bytes),
            syncs: state.as_ref().map(|state| state.groups.syncs),
            synced: state.as_ref().map(|state| state.groups.records),
            last_group: state.as_ref().map(|state| state.groups.last),
            reserve: state.as_ref().map(|state| state.reserve_bytes),
            free: state.as_ref().and_then(|state| state.free_bytes),
            full_in: state.as_ref().and_then(|state| state.full_in),
            head_age: state.as_ref().and_then(|state| state.signed_at).map(|at| self.age(at)),
            signature_ages: self
                .0
                .signers
                .ages(self.0.clock.now())
                .into_iter()
                .map(|(hsm, age)| (hsm.to_string(), age))
                .collect(),
            refusals: self.0.refusals.all().collect(),
            sinks: self
                .0
                .standings
                .all()
                .into_iter()
                .map(|(sink, standing)| SinkReading {
                    sink,
                    behind: head.saturating_sub(standing.sent),
                    missed: standing.missed,
                    failing: standing.trouble.is_some(),
                })
                .collect(),
            unrecorded: self.unrecorded(),
        });
    }

    fn unrecorded(&self) -> UnrecordedReading {
        let Some(service) = self.0.service.get() else { return UnrecordedReading::default() };
        let (events_waiting, events_lost) = service.unrecorded_events();
        let (refusals_counted, refusals_not_accepted) = service.refusals_without_record();
        UnrecordedReading { events_waiting, events_lost, refusals_counted, refusals_not_accepted }
    }
}

/// The sentence about a disk that will be full soon.
fn filling_up(state: &State, directory: &std::path::Path) -> Option<String> {
    // What is full already is told as that.
    let full_in = state.full_in.filter(|_| state.accepting()).filter(|full_in| *full_in < SOON)?;
    let minutes = full_in.as_secs() / 60;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    // Rates are in bytes, and a byte more or less is no matter.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let rate = state.bytes_per_second.max(0.0) as u64;
    Some(format!(
        "the disk of the audit log, {}, will be full in {hours} h {minutes} min if the log goes on growing by {} a second \
         ({} are free); give it room, or move what is old away (keystorectl audit archive)",
        directory.display(),
        in_words(rate),
        in_words(state.free_bytes.unwrap_or(0)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use audit::log::{Groups, Reason, Trouble};
    use audit::note::Head;

    #[test]
    fn a_disk_that_is_full_within_a_day_is_told_of() {
        let mut state = State {
            trouble: None,
            size: 7,
            synced: 7,
            head: Head::EMPTY,
            signed_at: None,
            signatures: 0,
            bytes: 1 << 20,
            bytes_per_second: 1_024.0,
            free_bytes: Some(1 << 30),
            full_in: Some(Duration::from_secs(23 * 3_600 + 59 * 60)),
            reserve_bytes: 0,
            uncompressed: 0,
            groups: Groups::default(),
        };
        let told = |state: &State| filling_up(state, std::path::Path::new("/var/log/audit"));
        let sentence = told(&state).unwrap();
        assert!(sentence.contains("/var/log/audit, will be full in 23 h 59 min"), "{sentence}");
        for full_in in [None, Some(SOON), Some(Duration::MAX)] {
            assert_eq!(told(&State { full_in, ..state.clone() }), None, "{full_in:?}");
        }
        // What is full is told as that.
        state.trouble = Some(Trouble { reason: Reason::NoSpace, since: std::time::UNIX_EPOCH });
        assert_eq!(told(&state), None);
    }
}
