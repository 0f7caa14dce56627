//! Times as records have them: UTC, with the same digits in the same places, so that they sort as texts do.

/// Reads the beginning of a time as records have it: `2026-11-30` or `2026-11-30T12:00:00Z`. Absent where it is none.
#[must_use]
pub fn time(text: &str) -> Option<String> {
    const PATTERN: &str = "0000-00-00T00:00:00";
    let bare = text.strip_suffix('Z').unwrap_or(text);
    let fits = |(have, want): (char, char)| if want == '0' { have.is_ascii_digit() } else { have == want };
    let sound = bare.len() >= 10 && bare.len() <= PATTERN.len() && bare.chars().zip(PATTERN.chars()).all(fits);
    sound.then(|| bare.to_owned())
}

/// The same time of the day before. Absent where there is no such day.
pub(super) fn day_before(time: &str) -> Option<String> {
    let (date, rest) = time.split_at_checked(10)?;
    let mut numbers = date.splitn(3, '-').map(str::parse::<u32>);
    let (Some(Ok(year)), Some(Ok(month)), Some(Ok(day))) = (numbers.next(), numbers.next(), numbers.next()) else {
        return None;
    };
    let (year, month, day) = match (month, day) {
        (1..=12, 2..=31) => (year, month, day - 1),
        (2..=12, 1) => (year, month - 1, days(year, month - 1)),
        (1, 1) => (year.checked_sub(1)?, 12, 31),
        _ => return None,
    };
    Some(format!("{year:04}-{month:02}-{day:02}{rest}"))
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_before_is_a_day_before() {
        for (day, before) in [
            ("2026-11-30", "2026-11-29"),
            ("2026-12-01T12:00", "2026-11-30T12:00"),
            ("2026-03-01", "2026-02-28"),
            ("2024-03-01T00:00:00", "2024-02-29T00:00:00"),
            ("2100-03-01", "2100-02-28"),
            ("2000-03-01", "2000-02-29"),
            ("2026-01-01", "2025-12-31"),
            ("2026-02-01", "2026-01-31"),
            ("0000-01-02", "0000-01-01"),
        ] {
            assert_eq!(time(day).and_then(|day| day_before(&day)).as_deref(), Some(before));
        }
        for none in ["0000-01-01", "2026-00-10", "2026-13-10", "2026-11-00", "2026-11-32", "", "2026-1-1", "x"] {
            assert_eq!(day_before(none), None, "{none}");
        }
    }
}
