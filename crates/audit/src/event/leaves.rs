//! The leaves of one event.

use crate::layout::RECORD_BYTES;

/// One event as the log keeps it: one leaf nearly always, further ones where it does not fit. Each is JSON by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaves(Vec<Vec<u8>>);

impl Leaves {
    pub(super) fn new(leaves: Vec<Vec<u8>>) -> Self {
        debug_assert!(leaves.iter().all(|leaf| leaf.len() <= RECORD_BYTES));
        Self(leaves)
    }

    /// Each leaf, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// The leaves themselves.
    #[must_use]
    pub fn into_inner(self) -> Vec<Vec<u8>> {
        self.0
    }
}
