//! Certificates in force, looked at by people: the log, /readyz and the metrics.
//!
//! Looked at anew as time passes and as files change. The log is told each finding when it is new and once a day while
//! it lasts; the daemon counts as degraded while a certificate is wrong or ends within seven days, and while the files
//! hold what cannot be used.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::tls::{Shown, Tls};
use model::clock::Clock;
use pki::judge::{self, Finding, Kind, Urgency};
use telemetry::metrics::{CertificateLabels, Metrics};
use telemetry::watchdog::Heartbeat;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How often the log is told of what lasts.
const REMIND: Duration = Duration::from_secs(24 * 3_600);

/// What is wrong with them, or soon will be.
pub(super) fn findings(shown: &Shown, now: SystemTime) -> Vec<Finding> {
    let mut found = judge::server(&shown.server, now);
    found.extend(judge::client_authorities(&shown.client_authorities, now));
    found
}

/// What makes the daemon count as degraded.
pub(super) fn troubles(tls: &Tls, now: SystemTime) -> Vec<String> {
    let found = findings(&tls.current().shown, now);
    let urgent = found.iter().filter(|finding| finding.urgency > Urgency::Soon).map(Finding::sentence);
    urgent.chain(tls.trouble()).collect()
}

/// What the log has been told, and when.
#[derive(Default)]
pub(super) struct Told(BTreeMap<(String, Kind, Urgency), SystemTime>);

impl Told {
    /// Of these findings, those that are to be told now. One that goes away and comes back within a day is not new.
    fn next(&mut self, found: Vec<Finding>, now: SystemTime) -> Vec<Finding> {
        // A calendar that was set back ends no pause: an entry of the future counts as old.
        self.0.retain(|_, at| now.duration_since(*at).is_ok_and(|age| age < REMIND));
        let mut new = Vec::new();
        for finding in found {
            let key = (finding.certificate.clone(), finding.kind, finding.urgency);
            if let std::collections::btree_map::Entry::Vacant(place) = self.0.entry(key) {
                place.insert(now);
                new.push(finding);
            }
        }
        new
    }

    /// Looks once and tells the log.
    pub(super) fn tell(&mut self, tls: &Tls, now: SystemTime) {
        for finding in self.next(findings(&tls.current().shown, now), now) {
            tracing::warn!("{}", finding.sentence());
        }
    }
}

/// Takes over into the metrics when the certificates in force end.
pub(super) fn measure(tls: &Tls, metrics: &Metrics) {
    let material = tls.current();
    let Shown { server, client_authorities } = &material.shown;
    let server =
        server.iter().enumerate().map(|(place, one)| (if place == 0 { "server" } else { "intermediate" }, one));
    let clients = client_authorities.iter().map(|one| ("client_ca", one));
    metrics.certificates(server.chain(clients).map(|(certificate, facts)| {
        (CertificateLabels { certificate, subject: facts.subject.clone() }, facts.validity.until)
    }));
}

/// Looks for ever.
pub(super) async fn watch(tls: Arc<Tls>, metrics: Arc<Metrics>, clock: Clock, mut told: Told, heartbeat: Heartbeat) {
    let mut measured = 0;
    loop {
        let generation = tls.current().generation;
        if generation != measured {
            measure(&tls, &metrics);
            measured = generation;
        }
        told.tell(&tls, clock.calendar());
        heartbeat.idle(tokio::time::sleep(LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn finding(certificate: &str, urgency: Urgency, what: &str) -> Finding {
        Finding {
            certificate: certificate.to_owned(),
            kind: Kind::Ends,
            urgency,
            what: what.to_owned(),
            remedy: "renew it",
        }
    }

    #[test]
    fn the_log_is_told_once_a_day_and_at_once_when_it_becomes_worse() {
        let (mut told, start) = (Told::default(), UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let mut at = |hours: u32, found: &[Finding]| told.next(found.to_vec(), start + hours * HOUR).len();
        let soon = finding("the server certificate", Urgency::Soon, "in 8 days");
        assert_eq!(at(0, std::slice::from_ref(&soon)), 1);
        assert_eq!(
            at(1, &[finding("the server certificate", Urgency::Soon, "in 7 days")]),
            0,
            "only the figure is new"
        );
        assert_eq!(at(2, &[]), 0);
        assert_eq!(at(3, std::slice::from_ref(&soon)), 0, "it comes and goes");
        let very_soon = finding("the server certificate", Urgency::VerySoon, "in 6 days");
        assert_eq!(at(4, std::slice::from_ref(&very_soon)), 1);
        assert_eq!(at(5, &[very_soon.clone(), finding("the client CA", Urgency::VerySoon, "in 6 days")]), 1);
        assert_eq!(at(27, std::slice::from_ref(&very_soon)), 0);
        assert_eq!(at(28, std::slice::from_ref(&very_soon)), 1);
        let mut told = Told::default();
        assert_eq!(told.next(vec![soon.clone()], start).len(), 1);
        assert_eq!(told.next(vec![soon], start - HOUR).len(), 1, "the calendar was set back");
    }
}
