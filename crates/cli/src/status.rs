//! HSMs and connections as keystorectl shows them.

use prost_types::Timestamp;
use serde::Serialize;

use proto::v1 as wire;

/// AWS's name of a state.
pub(super) fn connection_state(state: wire::ConnectionState) -> &'static str {
    match state {
        wire::ConnectionState::Unspecified => "UNKNOWN",
        wire::ConnectionState::Disconnected => "DISCONNECTED",
        wire::ConnectionState::Connecting => "CONNECTING",
        wire::ConnectionState::Connected => "CONNECTED",
        wire::ConnectionState::Disconnecting => "DISCONNECTING",
        wire::ConnectionState::Failed => "FAILED",
    }
}

/// A number of seconds, as two units at most.
pub(super) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

/// A key's state, as AWS writes it.
pub(super) fn key_state(state: wire::KeyState) -> &'static str {
    match state {
        wire::KeyState::Unspecified => "Unknown",
        wire::KeyState::Creating => "Creating",
        wire::KeyState::Enabled => "Enabled",
        wire::KeyState::Disabled => "Disabled",
        wire::KeyState::PendingDeletion => "PendingDeletion",
        wire::KeyState::Unavailable => "Unavailable",
    }
}

/// How one HSM is.
#[derive(Serialize)]
pub(super) struct Hsm {
    pub(super) hsm_id: String,
    pub(super) zone: String,
    pub(super) health: &'static str,
    pub(super) reason: String,
    pub(super) since: Option<String>,
    pub(super) token_label: String,
    pub(super) token_serial: String,
    pub(super) ready_workers: u32,
    pub(super) workers: u32,
    pub(super) proven: bool,
    pub(super) last_rotation: Option<String>,
    pub(super) pin_tries_left: u32,
    pub(super) steps: Vec<Step>,
    pub(super) confinement_gaps: Vec<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) notes: Vec<String>,
}

/// One thing that a token was found to do.
#[derive(Serialize)]
pub(super) struct Finding {
    pub(super) name: String,
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) verdict: &'static str,
    /// Only where it contradicts.
    pub(super) sentence: Option<String>,
}

impl Finding {
    /// It is as the configuration says.
    pub(super) fn holds(&self) -> bool {
        self.verdict == HOLDS
    }
}

const HOLDS: &str = "holds";

impl From<wire::HsmFinding> for Finding {
    fn from(finding: wire::HsmFinding) -> Self {
        let verdict = match finding.verdict() {
            wire::HsmVerdict::Unspecified => "unknown",
            wire::HsmVerdict::Holds => HOLDS,
            wire::HsmVerdict::Better => "better",
            wire::HsmVerdict::Untried => "untried",
            wire::HsmVerdict::NotJudged => "not-judged",
            wire::HsmVerdict::Contradicts => "contradicts",
        };
        let sentence = Some(finding.sentence).filter(|sentence| !sentence.is_empty());
        Self { name: finding.name, expected: finding.expected, found: finding.found, verdict, sentence }
    }
}

/// A step of an HSM's latest connect.
#[derive(Serialize)]
pub(super) struct Step {
    pub(super) at: Option<String>,
    pub(super) step: String,
}

impl From<wire::HsmStatus> for Hsm {
    fn from(hsm: wire::HsmStatus) -> Self {
        let health = match hsm.health() {
            wire::HsmHealth::Unspecified => "Unknown",
            wire::HsmHealth::Starting => "Starting",
            wire::HsmHealth::Healthy => "Healthy",
            wire::HsmHealth::Suspect => "Suspect",
            wire::HsmHealth::Down => "Down",
            wire::HsmHealth::Unused => "Unused",
        };
        let shown = |date: Timestamp| date.to_string();
        let step = |step: wire::HsmStep| Step { at: step.at.map(shown), step: step.step };
        Self {
            hsm_id: hsm.hsm_id,
            zone: hsm.zone,
            health,
            reason: hsm.reason,
            since: hsm.since.map(shown),
            token_label: hsm.token_label,
            token_serial: hsm.token_serial,
            ready_workers: hsm.ready_workers,
            workers: hsm.workers,
            proven: hsm.proven,
            last_rotation: hsm.last_rotation.map(shown),
            pin_tries_left: hsm.pin_tries_left,
            steps: hsm.steps.into_iter().map(step).collect(),
            notes: hsm.notes,
            confinement_gaps: hsm.confinement_gaps,
            findings: hsm.findings.into_iter().map(Finding::from).collect(),
        }
    }
}

/// A time for a person: without what is under a second.
pub(super) fn to_the_second(time: Option<&str>) -> String {
    match time.map(|time| time.split_once('.').map_or_else(|| time.to_owned(), |(whole, _)| format!("{whole}Z"))) {
        Some(time) => time,
        None => "never".to_owned(),
    }
}

pub(super) fn yes_or_no(fact: bool) -> String {
    if fact { "yes".to_owned() } else { "no".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_at_the_second() {
        assert_eq!(to_the_second(Some("2026-11-22T07:37:16.520Z")), "2026-11-22T07:37:16Z");
        assert_eq!(to_the_second(Some("2026-11-22T07:37:16Z")), "2026-11-22T07:37:16Z");
        assert_eq!(to_the_second(None), "never");
    }

    #[test]
    fn ages_have_two_units() {
        let ages = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 1_000_000].map(age);
        assert_eq!(ages, ["0s", "59s", "1m 00s", "59m 59s", "1h 00m", "23h 59m", "1d 00h", "11d 13h"]);
    }
}
