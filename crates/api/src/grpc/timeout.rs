//! The `grpc-timeout` header: at most eight digits and a unit.

use std::time::Duration;

/// Its name.
pub(super) const HEADER: &str = "grpc-timeout";

/// Reads a header value by the gRPC over HTTP/2 specification (`TimeoutValue TimeoutUnit`); absent when it is not one.
#[must_use]
pub fn parse(header: &[u8]) -> Option<Duration> {
    let (unit, digits) = header.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(value * 3_600)),
        b'M' => Some(Duration::from_secs(value * 60)),
        b'S' => Some(Duration::from_secs(value)),
        b'm' => Some(Duration::from_millis(value)),
        b'u' => Some(Duration::from_micros(value)),
        b'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3_600)),
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("00000007u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "S", "1", "1s", "-1S", "+1S", " 1S", "1 S", "1.5S", "123456789S", "1SS", "1S ", "١S"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(value in 0u32..=99_999_999, unit in 0usize..6) {
            let (letter, nanos) = [
                ('H', 3_600_000_000_000u128), ('M', 60_000_000_000), ('S', 1_000_000_000),
                ('m', 1_000_000), ('u', 1_000), ('n', 1),
            ][unit];
            let parsed = parse(format!("{value}{letter}").as_bytes()).map(|timeout| timeout.as_nanos());
            prop_assert_eq!(parsed, Some(u128::from(value) * nanos));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
