//! The id by which a call is found again in the logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// Longest id that a caller may choose, in characters.
pub(crate) const CHARS: usize = 64;

/// Gives ids to those that bring none.
pub(super) struct RequestIds {
    /// Random part of this process's ids.
    origin: u64,
    /// Counts the calls: the other part.
    calls: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        // The lower half of a version 4 UUID is random but for two bits.
        Self { origin: Uuid::new_v4().as_u64_pair().1, calls: AtomicU64::new(0) }
    }

    pub(super) fn of(&self, chosen: Option<&str>) -> Arc<str> {
        match chosen.filter(|text| is_safe(text)) {
            Some(text) => text.into(),
            // Unique is what an id must be, not secret; a random number for each call would cost a system call.
            None => format!("{:016x}-{:x}", self.origin, self.calls.fetch_add(1, Ordering::Relaxed)).into(),
        }
    }
}

/// Letters, digits, `.`, `_`, `:` and `-`: nothing that a log or a shell could take for something else.
pub(crate) fn is_safe(text: &str) -> bool {
    let safe = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b':' | b'-');
    (1..=CHARS).contains(&text.len()) && text.bytes().all(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_of_callers_are_looked_at() {
        let ids = RequestIds::new();
        for good in ["a", "A-1.b_c:d", &"x".repeat(CHARS)] {
            assert_eq!(&*ids.of(Some(good)), good);
        }
        for bad in ["", "a b", "a\nb", "\"", "ä", &"x".repeat(CHARS + 1)] {
            assert_ne!(&*ids.of(Some(bad)), bad);
        }
        assert_ne!(ids.of(None), ids.of(None));
    }
}
