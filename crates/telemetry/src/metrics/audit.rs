//! The audit log.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HsmLabel {
    hsm: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabel {
    sink: &'static str,
}

/// Of a figure that is not always there.
type Maybe = Family<Vec<(String, String)>, Gauge<f64, AtomicU64>>;

/// How the audit log is at the moment of a scrape. What is absent is not known, and stays as it was or is not shown.
#[derive(Clone, Debug, Default)]
pub struct AuditReading {
    /// Records of all kinds are accepted.
    pub accepting: bool,
    /// Records that were accepted.
    pub records: Option<u64>,
    /// Those behind the newest signed head.
    pub behind: Option<u64>,
    /// What the log's files take up.
    pub bytes: Option<u64>,
    /// How often the disk was made to take records, since the log was opened.
    pub syncs: Option<u64>,
    /// Records that it took then.
    pub synced: Option<u64>,
    /// Those that it took the last time.
    pub last_group: Option<u64>,
    /// Room that is kept for restricting changes.
    pub reserve: Option<u64>,
    /// What is free on its disk.
    pub free: Option<u64>,
    /// When the disk is full if the log goes on growing; absent where it does not.
    pub full_in: Option<Duration>,
    /// How old the newest signed head is.
    pub head_age: Option<Duration>,
    /// How long ago each connected HSM signed one.
    pub signature_ages: Vec<(String, Duration)>,
    /// Records that were not accepted, by all reasons that there are.
    pub refusals: Vec<(&'static str, u64)>,
    /// Where records go beside the log.
    pub sinks: Vec<SinkReading>,
    /// What is not on record one by one.
    pub unrecorded: UnrecordedReading,
}

/// What has no record of its own, at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnrecordedReading {
    /// Events of what the service did by itself that wait to be recorded.
    pub events_waiting: usize,
    /// Those for which there was no room.
    pub events_lost: u64,
    /// Refused calls that were turned away and counted.
    pub refusals_counted: u64,
    /// Refused calls whose record was not accepted.
    pub refusals_not_accepted: u64,
}

/// How a sink is.
#[derive(Clone, Debug)]
pub struct SinkReading {
    /// Its name.
    pub sink: &'static str,
    /// Records that it has not sent.
    pub behind: u64,
    /// Records that were moved away before it could send them.
    pub missed: u64,
    /// Something is in the way.
    pub failing: bool,
}

/// Read off the log at each scrape.
pub(super) struct AuditMetrics {
    accepting: Gauge<i64, AtomicI64>,
    records: Counter,
    behind: Gauge<i64, AtomicI64>,
    bytes: Gauge<i64, AtomicI64>,
    syncs: Counter,
    synced: Counter,
    last_group: Gauge<i64, AtomicI64>,
    reserve: Gauge<i64, AtomicI64>,
    free: Gauge<i64, AtomicI64>,
    full_in: Maybe,
    head_age: Maybe,
    signature_ages: Family<HsmLabel, Gauge<f64, AtomicU64>>,
    refusals: Family<ReasonLabel, Counter>,
    sink_behind: Family<SinkLabel, Gauge>,
    sink_missed: Family<SinkLabel, Counter>,
    sink_failing: Family<SinkLabel, Gauge>,
    events_waiting: Gauge<i64, AtomicI64>,
    events_lost: Counter,
    refusals_counted: Counter,
    refusals_not_accepted: Counter,
}

impl AuditMetrics {
    pub(super) fn new(r: &mut Registry) -> Self {
        let metrics = Self {
            accepting: Gauge::default(),
            records: Counter::default(),
            behind: Gauge::default(),
            bytes: Gauge::default(),
            syncs: Counter::default(),
            synced: Counter::default(),
            last_group: Gauge::default(),
            reserve: Gauge::default(),
            free: Gauge::default(),
            full_in: Family::default(),
            head_age: Family::default(),
            signature_ages: Family::default(),
            refusals: Family::default(),
            sink_behind: Family::default(),
            sink_missed: Family::default(),
            sink_failing: Family::default(),
            events_waiting: Gauge::default(),
            events_lost: Counter::default(),
            refusals_counted: Counter::default(),
            refusals_not_accepted: Counter::default(),
        };
        let m = &metrics;
        r.register("audit_accepting", "1 while the audit log accepts records", m.accepting.clone());
        r.register("audit_records", "Records in the audit log", m.records.clone());
        r.register("audit_syncs", "How often the disk took records of the audit log", m.syncs.clone());
        r.register("audit_records_synced", "Records of the audit log that the disk took", m.synced.clone());
        r.register(
            "audit_group_records",
            "Records of the audit log that the disk took the last time, all at once",
            m.last_group.clone(),
        );
        r.register(
            "audit_records_behind_checkpoint",
            "Records of the audit log that no signed head covers yet",
            m.behind.clone(),
        );
        r.register_with_unit("audit_size", "What the files of the audit log take up", Unit::Bytes, m.bytes.clone());
        r.register_with_unit(
            "audit_reserve",
            "Room in the audit log that is kept for restricting changes",
            Unit::Bytes,
            m.reserve.clone(),
        );
        r.register_with_unit("audit_free", "Room on the disk of the audit log", Unit::Bytes, m.free.clone());
        r.register_with_unit(
            "audit_disk_full_in",
            "When the disk of the audit log is full at the present rate; absent while the log does not grow",
            Unit::Seconds,
            m.full_in.clone(),
        );
        r.register_with_unit(
            "audit_checkpoint_age",
            "How old the newest signed head of the audit log is",
            Unit::Seconds,
            m.head_age.clone(),
        );
        r.register_with_unit(
            "audit_hsm_signature_age",
            "How long ago a connected HSM signed a head of the audit log",
            Unit::Seconds,
            m.signature_ages.clone(),
        );
        r.register(
            "audit_records_not_accepted",
            "Records that the audit log did not accept, so that nothing was given out",
            m.refusals.clone(),
        );
        r.register(
            "audit_sink_records_behind",
            "Signed records of the audit log that were not passed on yet",
            m.sink_behind.clone(),
        );
        r.register(
            "audit_sink_records_missed",
            "Records that were moved away from the audit log before they were passed on",
            m.sink_missed.clone(),
        );
        r.register("audit_sink_failing", "1 while records cannot be passed on", m.sink_failing.clone());
        r.register(
            "audit_events_waiting",
            "Events of what the service did by itself that wait to be recorded",
            m.events_waiting.clone(),
        );
        r.register(
            "audit_events_lost",
            "Events of what the service did by itself that are not on record, since too many waited",
            m.events_lost.clone(),
        );
        r.register(
            "audit_refusals_counted",
            "Refused calls that nobody had looked at and that have no record of their own: they are counted in one",
            m.refusals_counted.clone(),
        );
        r.register(
            "audit_refusals_not_accepted",
            "Refused calls whose record the audit log did not accept: they were refused all the same, and are counted in one",
            m.refusals_not_accepted.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Takes over how the audit log is, in the place of what was known.
    pub fn audit(&self, reading: AuditReading) {
        let m = &self.audit;
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        m.accepting.set(i64::from(reading.accepting));
        for (counter, figure) in [(&m.records, reading.records), (&m.syncs, reading.syncs), (&m.synced, reading.synced)]
        {
            if let Some(figure) = figure {
                counter.inner().store(figure, Ordering::Relaxed);
            }
        }
        for (gauge, figure) in [
            (&m.behind, reading.behind),
            (&m.bytes, reading.bytes),
            (&m.last_group, reading.last_group),
            (&m.reserve, reading.reserve),
            (&m.free, reading.free),
        ] {
            if let Some(figure) = figure {
                gauge.set(whole(figure));
            }
        }
        for (family, figure) in [(&m.full_in, reading.full_in), (&m.head_age, reading.head_age)] {
            family.clear();
            if let Some(figure) = figure {
                family.get_or_create(&Vec::new()).set(figure.as_secs_f64());
            }
        }
        m.signature_ages.clear();
        for (hsm, age) in reading.signature_ages {
            m.signature_ages.get_or_create(&HsmLabel { hsm }).set(age.as_secs_f64());
        }
        for (reason, count) in reading.refusals {
            m.refusals.get_or_create(&ReasonLabel { reason }).inner().store(count, Ordering::Relaxed);
        }
        let unrecorded = reading.unrecorded;
        m.events_waiting.set(i64::try_from(unrecorded.events_waiting).unwrap_or(i64::MAX));
        for (counter, figure) in [
            (&m.events_lost, unrecorded.events_lost),
            (&m.refusals_counted, unrecorded.refusals_counted),
            (&m.refusals_not_accepted, unrecorded.refusals_not_accepted),
        ] {
            counter.inner().store(figure, Ordering::Relaxed);
        }
        for SinkReading { sink, behind, missed, failing } in reading.sinks {
            let label = SinkLabel { sink };
            m.sink_behind.get_or_create(&label).set(whole(behind));
            m.sink_missed.get_or_create(&label).inner().store(missed, Ordering::Relaxed);
            m.sink_failing.get_or_create(&label).set(i64::from(failing));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_shown() {
        let metrics = Metrics::new();
        metrics.audit(AuditReading {
            accepting: true,
            records: Some(7),
            behind: Some(2),
            syncs: Some(3),
            synced: Some(6),
            last_group: Some(4),
            full_in: Some(Duration::from_secs(90)),
            signature_ages: vec![("hsm-a".to_owned(), Duration::from_millis(1_500))],
            refusals: vec![("no_space", 3)],
            sinks: vec![SinkReading { sink: "json", behind: 4, missed: 1, failing: true }],
            unrecorded: UnrecordedReading {
                events_waiting: 5,
                events_lost: 6,
                refusals_counted: 8,
                refusals_not_accepted: 9,
            },
            ..AuditReading::default()
        });
        let text = metrics.text();
        for line in [
            "keystored_audit_accepting 1",
            "keystored_audit_records_total 7",
            "keystored_audit_records_behind_checkpoint 2",
            "keystored_audit_syncs_total 3",
            "keystored_audit_records_synced_total 6",
            "keystored_audit_group_records 4",
            "keystored_audit_disk_full_in_seconds{} 90.0",
            "keystored_audit_hsm_signature_age_seconds{hsm=\"hsm-a\"} 1.5",
            "keystored_audit_records_not_accepted_total{reason=\"no_space\"} 3",
            "keystored_audit_sink_records_behind{sink=\"json\"} 4",
            "keystored_audit_sink_records_missed_total{sink=\"json\"} 1",
            "keystored_audit_sink_failing{sink=\"json\"} 1",
            "keystored_audit_events_waiting 5",
            "keystored_audit_events_lost_total 6",
            "keystored_audit_refusals_counted_total 8",
            "keystored_audit_refusals_not_accepted_total 9",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("keystored_audit_checkpoint_age_seconds{"), "{text}");
        metrics.audit(AuditReading::default());
        let text = metrics.text();
        assert!(text.contains("keystored_audit_accepting 0") && text.contains("keystored_audit_records_total 7"));
        assert!(
            !text.contains("keystored_audit_disk_full_in_seconds{") && !text.contains("hsm_signature_age_seconds{")
        );
    }
}
