//! Ids and times of events.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::{Builder, Uuid};

/// The id of an event: a UUID of version 7, so that ids come in the order of their times. It is no secret, and asks the
/// kernel for random bits once per process and not once per call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// A new one, for what happened at this time in milliseconds since the Unix epoch.
    #[must_use]
    pub fn new(unix_millis: i64) -> Self {
        static PROCESS: OnceLock<[u8; 16]> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let drawn = PROCESS.get_or_init(|| Uuid::new_v4().into_bytes());
        // 64 bits count from where this process began by chance, and 16 more tell processes apart.
        let mut start = [0; 8];
        start.copy_from_slice(&drawn[8..]);
        let mut tail = [0; 10];
        // Two of the counter's bits are overwritten by the variant: they are the topmost ones of the eight bytes.
        tail[..2].copy_from_slice(&drawn[..2]);
        let number = u64::from_be_bytes(start).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        tail[2..].copy_from_slice(&number.to_be_bytes());
        let millis = u64::try_from(unix_millis).unwrap_or(0);
        Self(Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }

    pub(super) fn push(self, buffer: &mut Vec<u8>) {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        buffer.push(b'"');
        buffer.extend_from_slice(self.0.hyphenated().encode_lower(&mut text).as_bytes());
        buffer.push(b'"');
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A time as CloudTrail has it, to the second: `2026-11-30T01:34:57Z`. From milliseconds since the Unix epoch.
#[must_use]
pub fn time(unix_millis: i64) -> String {
    let mut buffer = Vec::with_capacity(20);
    push_time(&mut buffer, unix_millis);
    String::from_utf8(buffer).unwrap_or_default()
}

/// The same without a detour over a string. Most records are of the second of the one before.
pub(super) fn push_time(buffer: &mut Vec<u8>, unix_millis: i64) {
    thread_local! {
        static LAST: Cell<(i64, [u8; 20])> = const { Cell::new((i64::MIN, [0; 20])) };
    }
    let seconds = unix_millis.div_euclid(1_000);
    let (of, mut text) = LAST.get();
    if of != seconds {
        text = written(seconds);
        LAST.set((seconds, text));
    }
    buffer.extend_from_slice(&text);
}

/// The calendar is Gregorian (H. Hinnant, "chrono-compatible date algorithms").
fn written(seconds: i64) -> [u8; 20] {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March, in eras of 400.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00Z";
    // The place behind the last digit of each.
    let numbers = [(year, 4), (month, 7), (day, 10), (of_day / 3_600, 13), (of_day / 60 % 60, 16), (of_day % 60, 19)];
    for (number, behind) in numbers {
        let mut left = number.clamp(0, 9_999);
        for digit in text[..behind].iter_mut().rev() {
            if left == 0 || !digit.is_ascii_digit() {
                break;
            }
            *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_uuids_that_differ() {
        let ids: Vec<EventId> = (0..10_000).map(|_| EventId::new(1_764_338_585_123)).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        let read = Uuid::parse_str(&ids[0].to_string()).unwrap();
        assert_eq!((read.get_version_num(), read.get_variant()), (7, uuid::Variant::RFC4122));
        assert!(EventId::new(1_764_338_585_124).to_string() > ids[9_999].to_string());
    }

    proptest! {
        #[test]
        fn times_are_those_of_the_calendar(seconds in 0_i64..253_402_300_800, millis in 0_i64..1_000) {
            // Another implementation says the same.
            let other = model::clock::utc(seconds * 1_000);
            prop_assert_eq!(time(seconds * 1_000 + millis), other);
        }
    }
}
