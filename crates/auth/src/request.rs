//! What every call comes with, whatever interface it came by.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Who calls, from where, by which interface, under which id, until when. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The caller.
    pub principal: Principal,
    /// The address that the connection came from; absent where an interface has none.
    pub source: Option<IpAddr>,
    /// What the caller's client calls itself; said by the caller, so proof of nothing.
    pub user_agent: Option<Arc<str>>,
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

/// Tells an interface whether one of its calls has come to a use case, which then records the call's end.
#[derive(Debug, Default)]
pub struct Trace(AtomicBool);

impl Trace {
    /// A use case has the call.
    pub fn take(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// A use case had the call.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The resource of what names none: policies match it by `*` alone.
pub const NO_RESOURCE: &str = "*";
