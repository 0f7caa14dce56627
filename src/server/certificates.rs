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

/// Likewise of all listeners, each once.
fn all_findings(all: &[Arc<Tls>], now: SystemTime) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for tls in all {
        for mut finding in findings(&tls.current().shown, now) {
            // Two listeners may have the same files.
            let same = |known: &Finding| {
                known.certificate == finding.certificate && known.kind == finding.kind && known.what == finding.what
            };
            if found.iter().any(same) {
                continue;
            }
            if tls.terms().section == "aws" {
                finding.certificate.push_str(" of the aws listener");
            }
            found.push(finding);
        }
    }
    found
}

/// What makes the daemon count as degraded.
pub(super) fn troubles(all: &[Arc<Tls>], now: SystemTime) -> Vec<String> {
    let found = all_findings(all, now);
    let urgent = found.iter().filter(|finding| finding.urgency > Urgency::Soon).map(Finding::sentence);
    let mut troubles: Vec<String> = urgent.collect();
    for trouble in all.iter().filter_map(|tls| tls.trouble()) {
        if !troubles.contains(&trouble) {
            troubles.push(trouble);
        }
    }
    troubles
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
    pub(super) fn tell(&mut self, all: &[Arc<Tls>], now: SystemTime) {
        for finding in self.next(all_findings(all, now), now) {
            tracing::warn!("{}", finding.sentence());
        }
    }
}

/// Takes over into the metrics when the certificates in force end.
pub(super) fn measure(all: &[Arc<Tls>], metrics: &Metrics) {
    let mut ends = Vec::new();
    for tls in all {
        let material = tls.current();
        let Shown { server, client_authorities } = &material.shown;
        let [own, above, of_clients] = match tls.terms().section {
            "aws" => ["aws_server", "aws_intermediate", "aws_client_ca"],
            _ => ["server", "intermediate", "client_ca"],
        };
        let server = server.iter().enumerate().map(|(place, one)| (if place == 0 { own } else { above }, one));
        let clients = client_authorities.iter().map(|one| (of_clients, one));
        ends.extend(server.chain(clients).map(|(certificate, facts)| {
            (CertificateLabels { certificate, subject: facts.subject.clone() }, facts.validity.until)
        }));
    }
    metrics.certificates(ends.into_iter());
}

/// Looks for ever.
pub(super) async fn watch(
    all: Vec<Arc<Tls>>,
    metrics: Arc<Metrics>,
    clock: Clock,
    mut told: Told,
    heartbeat: Heartbeat,
) {
    let mut measured = Vec::new();
    loop {
        let generations: Vec<u64> = all.iter().map(|tls| tls.current().generation).collect();
        if generations != measured {
            measure(&all, &metrics);
            measured = generations;
        }
        told.tell(&all, clock.calendar());
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
