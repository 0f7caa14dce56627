//! What every call comes with, whatever interface it came by.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::peer::Principal;

/// By which interface a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The project's own, over gRPC.
    Grpc,
    /// AWS KMS's, JSON over HTTP/1.1.
    AwsJson,
}

impl Interface {
    /// Its name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::AwsJson => "aws",
        }
    }
}

/// The encrypted connection that a call came by, and what its client took it to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsDetails {
    /// As CloudTrail names it: `TLSv1.3`.
    pub version: &'static str,
    /// Likewise: `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: &'static str,
    /// The host that the client asked; said by the client, so proof of nothing.
    pub host: Option<Arc<str>>,
}

/// Who calls, from where, by which interface, under which id, until when. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The caller.
    pub principal: Principal,
    /// The address that the connection came from; absent where an interface has none.
    pub source: Option<IpAddr>,
    /// What the caller's client calls itself; said by the caller, so proof of nothing.
    pub user_agent: Option<Arc<str>>,
    /// The connection that the call came by; absent where an interface has none.
    pub tls: Option<TlsDetails>,
    /// How the call came.
    pub interface: Interface,
    /// Chosen by the interface, in every log line and record of this call.
    pub request_id: Arc<str>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// What the interface counts for the call. Kept until the last of its work has ended, which may be after its caller
    /// has left.
    pub charge: Option<Arc<dyn Any + Send + Sync>>,
    /// Whether a use case has the call.
    pub trace: Arc<Trace>,
}

impl RequestContext {
    /// The same call, for a part of it that has records of its own.
    #[must_use]
    pub fn for_part(&self) -> Self {
        Self { trace: Arc::new(self.trace.of_part()), ..self.clone() }
    }
}

/// Tells an interface whether one of its calls has come to a use case, which then records the call's end; and where that
/// record stands.
#[derive(Debug, Default)]
pub struct Trace {
    taken: AtomicBool,
    /// Its caller wants to know where the record stands.
    receipt: bool,
    /// The number of the first leaf of its newest record plus one, and below [`COUNT`] how many leaves that has.
    recorded: AtomicU64,
}

impl Trace {
    /// Of a call whose caller wants to know where its record stands, or does not.
    #[must_use]
    pub fn with_receipt(receipt: bool) -> Self {
        Self { receipt, ..Self::default() }
    }

    /// Of a part of the call that has records of its own.
    #[must_use]
    pub fn of_part(&self) -> Self {
        Self::with_receipt(self.receipt)
    }

    /// Its caller wants to know where its record stands.
    #[must_use]
    pub fn wants_receipt(&self) -> bool {
        self.receipt
    }

    /// A use case has the call.
    pub fn take(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }

    /// A use case had the call.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// The newest record of the call stands there in the log.
    pub fn note_record(&self, first: u64, count: u32) {
        let place = first.saturating_add(1) << COUNT.trailing_zeros();
        self.recorded.store(place | u64::from(count).min(COUNT - 1), Ordering::Relaxed);
    }

    /// The number of the first leaf of the call's newest record, and how many leaves that has; absent where there is no
    /// log, and until there is a record.
    #[must_use]
    pub fn recorded_at(&self) -> Option<(u64, u32)> {
        let recorded = self.recorded.load(Ordering::Relaxed);
        let first = (recorded / COUNT).checked_sub(1)?;
        Some((first, u32::try_from(recorded % COUNT).unwrap_or(u32::MAX)))
    }
}

/// An event has fewer leaves than this, and a log fewer records than what is left of 64 bits.
const COUNT: u64 = 1 << 16;

/// The resource of what names none: policies match it by `*` alone.
pub const NO_RESOURCE: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_record_stands_is_told_as_it_was_noted() {
        let trace = Trace::default();
        assert_eq!(trace.recorded_at(), None);
        for place in [(0, 1), (7, 3), (1 << 40, 65_535)] {
            trace.note_record(place.0, place.1);
            assert_eq!(trace.recorded_at(), Some(place));
        }
    }

    #[test]
    fn a_part_of_a_call_has_records_of_its_own_and_its_receipt_is_wanted_alike() {
        let trace = Trace::with_receipt(true);
        trace.note_record(7, 3);
        let part = trace.of_part();
        assert_eq!((part.wants_receipt(), part.recorded_at()), (true, None));
        assert!(!Trace::default().of_part().wants_receipt());
    }
}
