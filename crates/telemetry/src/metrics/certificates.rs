//! When the certificates in force end.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;

/// Certificates that are shown. They come from the operator's own files, which hold a few; a bundle of all the world's
/// CAs must not become hundreds of series.
const MOST: usize = 64;

/// Which certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabels {
    /// What it is for: `server`, `intermediate`, `client_ca`, and the same with `aws_` before it for that listener.
    pub certificate: &'static str,
    /// Its holder's name.
    pub subject: String,
}

/// The ends of certificates.
pub(super) struct CertificateMetrics(Family<CertificateLabels, Gauge<f64, AtomicU64>>);

impl CertificateMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let not_after = Family::<CertificateLabels, Gauge<f64, AtomicU64>>::default();
        registry.register_with_unit(
            "certificate_not_after_timestamp",
            "When each certificate of the TLS files in force ends, since the Unix epoch",
            Unit::Seconds,
            not_after.clone(),
        );
        Self(not_after)
    }
}

impl Metrics {
    /// Takes over when the certificates in force end, in the place of what was known; of two with one name the earlier
    /// end.
    pub fn certificates(&self, ends: impl Iterator<Item = (CertificateLabels, SystemTime)>) {
        let family = &self.certificates.0;
        family.clear();
        let mut all: Vec<(CertificateLabels, SystemTime)> = ends.collect();
        // The latest first, so that the earliest has the last word, and what is left out is what ends last.
        all.sort_by_key(|(_, end)| std::cmp::Reverse(*end));
        for (labels, end) in all.iter().skip(all.len().saturating_sub(MOST)) {
            family.get_or_create(labels).set(end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn one(subject: &str, end: u64) -> (CertificateLabels, SystemTime) {
        let labels = CertificateLabels { certificate: "client_ca", subject: subject.to_owned() };
        (labels, UNIX_EPOCH + Duration::from_secs(end))
    }

    #[test]
    fn each_end_is_shown_once_and_there_is_a_bound() {
        let metrics = Metrics::new();
        metrics.certificates([one("CN=a", 7), one("CN=b", 1_800_000_000), one("CN=a", 9)].into_iter());
        let text = metrics.text();
        for line in [
            "keystored_certificate_not_after_timestamp_seconds{certificate=\"client_ca\",subject=\"CN=a\"} 7.0",
            "keystored_certificate_not_after_timestamp_seconds{certificate=\"client_ca\",subject=\"CN=b\"} 1800000000.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        metrics.certificates((0..1_000).map(|n| one(&n.to_string(), n)));
        let text = metrics.text();
        let shown = text.lines().filter(|line| line.starts_with("keystored_certificate_not_after")).count();
        assert_eq!(shown, MOST);
        assert!(text.contains("subject=\"0\"") && !text.contains("subject=\"CN=a\""), "{text}");
    }
}
