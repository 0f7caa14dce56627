//! Numbers of policies and requests, compared by all of their digits: as floating-point numbers two ids of seventeen digits
//! may be one, and who has the one would be let in as the other.

use std::cmp::Ordering;

/// Longest number that is read, in characters.
const CHARS: usize = 64;
/// How large and how small a number may be, as a power of ten.
const MAGNITUDES: std::ops::RangeInclusive<i64> = -400..=309;

/// A whole or decimal number. Neither infinity nor a thing that is no number can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    /// The power of ten by which the digits are multiplied when they stand behind the point.
    magnitude: i64,
    /// Neither the first nor the last is 0; none are 0.
    digits: Box<[u8]>,
}

impl Decimal {
    /// Reads a number: a sign, digits with a point, a power of ten.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > CHARS {
            return None;
        }
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
            None => (unsigned, 0),
            Some((mantissa, power)) => {
                let plain = power.strip_prefix(['+', '-']).unwrap_or(power);
                (mantissa, power.parse::<i64>().ok().filter(|_| are_digits(plain))?)
            }
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{part}");
        if !are_digits(&all) {
            return None;
        }
        let significant = all.trim_start_matches('0');
        let before_point = i64::try_from(whole.len()).ok()? - i64::try_from(all.len() - significant.len()).ok()?;
        let digits: Box<[u8]> = significant.trim_end_matches('0').as_bytes().into();
        if digits.is_empty() {
            return Some(Self { negative: false, magnitude: 0, digits });
        }
        let magnitude = power.checked_add(before_point).filter(|magnitude| MAGNITUDES.contains(magnitude))?;
        Some(Self { negative: text.starts_with('-'), magnitude, digits })
    }

    /// How far it is from 0.
    fn size(&self) -> (bool, i64, &[u8]) {
        (!self.digits.is_empty(), self.magnitude, &self.digits)
    }

    /// A whole number.
    pub(super) fn of(whole: i64) -> Option<Self> {
        Self::parse(&whole.to_string())
    }
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.size().cmp(&other.size()),
            (true, true) => other.size().cmp(&self.size()),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn one_number_in_several_forms() {
        for same in [
            &["0", "-0", "+0.00", "0e9", ".0", "0."][..],
            &["1", "+1", "1.0", "01", "0.1e1", "10e-1", "1E0", "100e-2"],
            &["-1.5", "-15e-1", "-0.15E+1"],
            &["1000", "1e3", "1E+03", ".1e4"],
            &["9007199254740993", "9.007199254740993e15", "9007199254740993.000"],
        ] {
            for (one, other) in same.iter().flat_map(|one| same.iter().map(move |other| (one, other))) {
                assert_eq!(of(one), of(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn they_are_in_order() {
        let order = [
            "-1e300",
            "-9007199254740993",
            "-9007199254740992",
            "-1.5",
            "-1.49",
            "-0.001",
            "0",
            "1e-300",
            "0.1",
            "0.11",
            "0.2",
            "1",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "1e308",
        ];
        for (at, one) in order.iter().enumerate() {
            for (behind, other) in order.iter().enumerate() {
                assert_eq!(of(one).cmp(&of(other)), at.cmp(&behind), "{one} {other}");
            }
        }
    }

    #[test]
    fn what_is_no_number() {
        for text in [
            "",
            " 1",
            "1 ",
            "0x10",
            "inf",
            "-inf",
            "NaN",
            "1e999",
            "1e-999",
            "1,5",
            "--1",
            "+-1",
            ".",
            "e1",
            "1e",
            "1e+",
            "1e1.5",
            "1.2.3",
            "1_000",
            "1e99999999999999999999",
            "\u{ff11}",
            "\u{661}",
            "+",
            "-",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert!(Decimal::parse(&"9".repeat(64)).is_some() && Decimal::parse(&"9".repeat(65)).is_none());
    }

    proptest! {
        #[test]
        fn whole_numbers_have_their_order(one in any::<i64>(), other in any::<i64>()) {
            let [first, second] = [one, other].map(|whole| Decimal::of(whole).unwrap());
            prop_assert_eq!(first.cmp(&second), one.cmp(&other));
        }

        #[test]
        fn what_is_read_is_read_as_a_float_too(text in "[-+]?[0-9.]{0,8}(e[-+]?[0-9]{1,3})?") {
            if let Some(number) = Decimal::parse(&text) {
                let float: f64 = text.parse().unwrap();
                prop_assert_eq!(number.negative, float < 0.0 || number.negative && float == 0.0);
            }
        }
    }
}
