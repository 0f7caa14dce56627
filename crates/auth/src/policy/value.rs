//! Values of conditions other than text: how policies write them, and how they are compared.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The last second of the year 9999, the last that ISO 8601 writes with four digits.
const LAST_SECOND: i64 = 253_402_300_799;

/// `true` or `false`, in either case.
pub(super) fn flag(text: &str) -> Option<bool> {
    match () {
        () if text.eq_ignore_ascii_case("true") => Some(true),
        () if text.eq_ignore_ascii_case("false") => Some(false),
        () => None,
    }
}

/// Bytes in base64, with its padding.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// A moment in milliseconds since 1970: one of the forms that W3C takes from ISO 8601, or seconds since 1970 (five
/// digits and more, because four are a year).
pub(super) fn moment(text: &str) -> Option<i64> {
    moment_within(text, 60)
}

/// The same of a policy that was put before: an offset could have any two digits for its minutes.
pub(super) fn saved_moment(text: &str) -> Option<i64> {
    moment_within(text, 100)
}

/// With fewer minutes than this in an offset.
fn moment_within(text: &str, offset_minutes: i64) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if (5..=12).contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_digit()) {
        return text.parse::<i64>().ok()?.checked_mul(1_000);
    }
    let (date, time) = text.split_once(['T', 't']).map_or((text, None), |(date, time)| (date, Some(time)));
    let mut parts = date.split('-');
    let year = decimal(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |text| decimal(text, 2))?;
    let day = parts.next().map_or(Some(1), |text| decimal(text, 2))?;
    let complete = date.len() == 10;
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    let of_day = match time {
        None => 0,
        Some(time) if complete => time_of_day(time, offset_minutes)?,
        Some(_) => return None,
    };
    Some(days(year, month, day) * 86_400_000 + of_day)
}

/// Milliseconds from midnight UTC. The zone must be written: a time without one means nothing.
fn time_of_day(text: &str, offset_minutes: i64) -> Option<i64> {
    let (clock, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => {
            let at = text.rfind(['+', '-'])?;
            let (hours, minutes) = text.get(at + 1..)?.split_once(':')?;
            let minutes = decimal(minutes, 2).filter(|minutes| *minutes < offset_minutes)?;
            let minutes = decimal(hours, 2).filter(|hours| *hours < 24)? * 60 + minutes;
            (text.get(..at)?, if text.get(at..)?.starts_with('-') { -minutes } else { minutes })
        }
    };
    let mut parts = clock.splitn(3, ':');
    let hours = decimal(parts.next()?, 2).filter(|hours| *hours < 24)?;
    let minutes = decimal(parts.next()?, 2).filter(|minutes| *minutes < 60)?;
    let (seconds, thousandths) = match parts.next() {
        None => (0, 0),
        Some(text) => {
            let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
            (decimal(whole, 2).filter(|seconds| *seconds < 60)?, fraction.map_or(Some(0), thousandths)?)
        }
    };
    Some(((hours * 60 + minutes - offset) * 60 + seconds) * 1_000 + thousandths)
}

fn thousandths(fraction: &str) -> Option<i64> {
    let legal = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|c| c.is_ascii_digit());
    legal.then(|| fraction.bytes().chain(*b"00").take(3).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

fn decimal(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date of the Gregorian calendar, counted in years that begin with March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
        - 1
        - 719_468
}

/// Whole seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(LAST_SECOND).min(LAST_SECOND),
        // Before 1970 a clock is wrong; all that counts is that it is before.
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(0, |seconds| -seconds),
    }
}

/// As ISO 8601 writes it, in UTC.
pub(super) fn written(seconds: i64) -> String {
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let from_march = day + 719_468;
    let era = from_march.div_euclid(146_097);
    let of_era = from_march.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) =
        (era * 400 + year_of_era + i64::from(month > 9), if month < 10 { month + 3 } else { month - 9 });
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// An address alone, or with the number of bits that count.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let given: IpAddr = address.parse().ok()?;
        let most = if given.is_ipv4() { 32 } else { 128 };
        let legal = |bits: &str| bits.len() <= 3 && bits.bytes().all(|c| c.is_ascii_digit());
        let bits: u8 = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|number| legal(bits) && *number <= most)?,
        };
        // IPv4 written as IPv6 is IPv4 in requests too.
        Some(match given.to_canonical() {
            address if address.is_ipv4() && !given.is_ipv4() && bits >= 96 => Self { address, bits: bits - 96 },
            _ => Self { address: given, bits },
        })
    }

    /// Whether the address is one of them.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let same = |one: u128, other: u128, width: u8| {
            let rest = u32::from(width - self.bits);
            one.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(one), IpAddr::V4(other)) => same(one.to_bits().into(), other.to_bits().into(), 32),
            (IpAddr::V6(one), IpAddr::V6(other)) => same(one.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026", 1_767_225_600),
            ("2026-02", 1_769_904_000),
            ("2024-02-29", 1_709_164_800),
            ("2026-11-29T14:43:32Z", 1_795_963_412),
            ("2026-11-29T16:43:32+02:00", 1_795_963_412),
            ("2026-11-29T14:43Z", 1_795_963_380),
            ("1795963412", 1_795_963_412),
            ("1969-12-31T23:59:59Z", -1),
        ] {
            assert_eq!(moment(text), Some(seconds * 1_000), "{text}");
        }
        assert_eq!(moment("1970-01-01T00:00:00.25Z"), Some(250));
        for text in [
            "",
            "26",
            "2026-1",
            "2026-13",
            "2026-02-29",
            "2026-01-01T10Z",
            "2026-01T10:00Z",
            "tomorrow",
            "2026-01-01T10:00:00",
            "2026-01-01 10:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T10:00:00.Z",
            "-2026",
            "2026-01-01T10:00:60Z",
            "2026-01-01T10:00:00+2:00",
            "2026-01-01T10:00:00+02:60",
            "2026-01-01T10:00:00-24:00",
            "2026-00-01",
            "2026-01-01-01",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
        assert_eq!(saved_moment("1970-01-01T02:00:00+01:75"), Some(-15 * 60 * 1_000), "as it was read before");
    }

    #[test]
    fn networks() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/8", "10.9.9.9", "9.255.255.255"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::", "2001:db9::"),
            ("::ffff:10.0.0.0/104", "10.200.0.1", "11.0.0.1"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::ffff:11.1.1.1"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.has(ip(inside)) && !network.has(ip(outside)), "{network:?}");
        }
        for wrong in
            ["", "10.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "010.0.0.1", "*"]
        {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_that_is_written_is_read_as_itself(seconds in 0..LAST_SECOND) {
            prop_assert_eq!(moment(&written(seconds)), Some(seconds * 1_000));
        }

        #[test]
        fn no_value_makes_them_panic(text in "[-+0-9TZ:./a-f]{0,24}") {
            let _ = (moment(&text), flag(&text), bytes(&text), Network::parse(&text));
        }
    }
}
