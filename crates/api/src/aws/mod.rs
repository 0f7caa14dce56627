//! The API of AWS KMS: JSON over HTTP/1.1, each request signed with an access key (SigV4), as AWS's own clients speak it.
//!
//! One more interface over the same use cases; nothing about keys is decided in it. [`target`] says what a request's head
//! asks for, [`call`] takes a request from there to its answer, [`answer`] is what answers look like. [`model`] knows what
//! AWS's model says of operations and their members, [`operations`] turns them into use cases and back, [`error`] is the
//! one map of errors, [`sts`] the one operation of another service that clients ask first.
//!
//! Invariant: who calls is proven by each request's signature, and by nothing of its connection. What is held for a
//! request counts for where it comes from until then, and for its principal from then on.

mod answer;
mod call;
mod error;
mod hosts;
mod metering;
pub mod model;
mod operations;
mod recorded;
mod sts;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use self::answer::Whole;
use self::call::Calls;
pub use self::metering::AwsMetering;
use self::recorded::AwsRefusals;
use crate::metered::Metered;
use crate::recorded::Recorded;
use ::model::clock::Clock;
use service::Service;

/// What this interface is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region that signatures must name.
    pub region: Arc<str>,
    /// The hosts that signatures must name one of, with a port or for any; empty: any host.
    pub hosts: Vec<String>,
    /// Of data plane calls.
    pub default_deadline: Duration,
    /// Of control plane calls (CreateKey and the like).
    pub default_control_deadline: Duration,
}

/// The interface, behind the count of what its calls hold and the record of what is refused.
pub type Routes = Recorded<Metered<Calls, AwsMetering>, AwsRefusals>;

/// The interface. Every request must carry an `Arc<auth::peer::Peer>` and an `Arc<entry::ledger::Ledger>` in its
/// extensions; one without is refused.
#[must_use]
pub fn routes(service: Service, settings: Settings, clock: Clock) -> Routes {
    let calls = Calls::new(service.clone(), settings, clock.clone());
    Recorded::new(counted(calls), AwsRefusals, Some((service, clock)))
}

/// Any service, behind the same count of bytes.
#[must_use]
pub fn counted<S>(inner: S) -> Metered<S, AwsMetering> {
    Metered::new(inner, AwsMetering)
}
