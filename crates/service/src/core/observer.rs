//! Where the service tells what it did, so that a floor above can count it without the service knowing metrics.

use std::time::Duration;

pub use super::rate::RateLimit;

use cluster::Removal;
use model::exception::Exception;
use model::operation::Operation;

/// Told of everything that is worth a metric. Called on the hot path: must be quick and must not block.
pub trait Observer: Send + Sync {
    /// `items` items of one call ended in this way, `took` after the call came in. A call whose items ended in several
    /// ways is told once for each; `None` means that they succeeded.
    fn finished(&self, operation: Operation, outcome: Option<Exception>, took: Duration, items: usize);

    /// So many requests were refused because they were past this limit.
    fn throttled(&self, limit: RateLimit, requests: usize);

    /// A key version's object was found to be removed in an HSM by somebody else. Told once for each.
    fn removed(&self, removal: &Removal);
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn finished(&self, _operation: Operation, _outcome: Option<Exception>, _took: Duration, _items: usize) {}
    fn throttled(&self, _limit: RateLimit, _requests: usize) {}
    fn removed(&self, _removal: &Removal) {}
}
