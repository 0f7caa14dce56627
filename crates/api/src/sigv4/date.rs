//! `X-Amz-Date`, and how far it may be from now.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::{Date, Month, OffsetDateTime};

use super::refusal::{Refusal, shown};

/// A signature holds for so long before and after the moment that it names, in seconds. AWS's rule; who replays a
/// request within it succeeds.
const WINDOW: i64 = 5 * 60;
/// The end of the year 9999, the last one that can be written.
const LAST: i64 = 253_402_300_799;

/// A moment in whole seconds since 1970, as `20150830T123600Z` is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

impl Moment {
    /// Reads exactly `YYYYMMDDTHHMMSSZ`. What is read is written the same again.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (day, second) = text.strip_suffix('Z')?.split_once('T')?;
        if day.len() != 8 || second.len() != 6 {
            return None;
        }
        let number = |digits: &str| digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse::<u16>().ok())?;
        let short = |digits: &str| u8::try_from(number(digits)?).ok();
        let month = Month::try_from(short(day.get(4..6)?)?).ok()?;
        let date = Date::from_calendar_date(number(day.get(..4)?)?.into(), month, short(day.get(6..)?)?).ok()?;
        let (hour, minute) = (short(second.get(..2)?)?, short(second.get(2..4)?)?);
        let moment = date.with_hms(hour, minute, short(second.get(4..)?)?).ok()?;
        Some(Self(moment.assume_utc().unix_timestamp()))
    }

    /// The second that a time is in. Clocks that show no time of the four digits' years show the nearest one.
    pub(super) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self(i64::try_from(since).unwrap_or(LAST).min(LAST))
    }

    fn shifted(self, seconds: i64) -> Self {
        Self((self.0 + seconds).clamp(0, LAST))
    }

    pub(super) fn time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(self.0).unwrap_or_default())
    }

    /// Whether a signature of this moment holds now.
    pub(super) fn judge(self, now: Self) -> Result<(), Refusal> {
        let (first, last) = (now.shifted(-WINDOW), now.shifted(WINDOW));
        if self < first {
            let message = format!("Signature expired: {self} is now earlier than {first} ({now} - 5 min.)");
            return Err(Refusal::invalid(message));
        }
        if self > last {
            let message = format!("Signature not yet current: {self} is still later than {last} ({now} + 5 min.)");
            return Err(Refusal::invalid(message));
        }
        Ok(())
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp(self.0).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (month, hour, minute, second) = (u8::from(at.month()), at.hour(), at.minute(), at.second());
        write!(f, "{:04}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z", at.year(), at.day())
    }
}

/// Reads what an `X-Amz-Date` says.
pub(super) fn read(value: &[u8]) -> Result<Moment, Refusal> {
    std::str::from_utf8(value).ok().and_then(Moment::parse).ok_or_else(|| {
        let got = shown(value);
        Refusal::incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{got}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_read_and_written() {
        for (text, seconds) in [
            ("19700101T000000Z", 0),
            ("20150830T123600Z", 1_440_938_160),
            ("20240229T235959Z", 1_709_251_199),
            ("99991231T235959Z", LAST),
        ] {
            let moment = Moment::parse(text).unwrap();
            assert_eq!(moment, Moment(seconds), "{text}");
            assert_eq!(moment.to_string(), text);
            assert_eq!(Moment::of(moment.time()), moment);
        }
    }

    #[test]
    fn anything_else_is_no_date() {
        for text in [
            "",
            "Z",
            "T",
            "20150830",
            "20150830T123600",
            "20150830T1236Z",
            "20150830t123600z",
            "20150830 123600Z",
            " 20150830T123600Z",
            "20150830T123600Z ",
            "20150830T123600+0000",
            "2015-08-30T12:36:00Z",
            "20150830T123600.000Z",
            "20150230T123600Z",
            "20230229T000000Z",
            "20151330T123600Z",
            "20150830T243600Z",
            "20150830T126000Z",
            "20150830T123660Z",
            "+2150830T123600Z",
            "2015083٠T12360Z",
            "Sun, 30 Aug 2015 12:36:00 GMT",
        ] {
            let refusal = read(text.as_bytes()).unwrap_err();
            assert_eq!(refusal.name(), "IncompleteSignatureException", "{text}");
            assert!(refusal.to_string().starts_with("Date must be in ISO-8601 'basic format'. Got '"), "{refusal}");
        }
        assert!(read(b"20150830T12360\xffZ").is_err());
    }

    #[test]
    fn five_minutes_either_way_are_within_the_window() {
        let now = Moment::parse("20150830T124600Z").unwrap();
        for within in ["20150830T124100Z", "20150830T124600Z", "20150830T125100Z"] {
            assert_eq!(Moment::parse(within).unwrap().judge(now), Ok(()), "{within}");
        }
        for (beyond, text) in [
            (
                "20150830T124059Z",
                "Signature expired: 20150830T124059Z is now earlier than 20150830T124100Z (20150830T124600Z - 5 min.)",
            ),
            (
                "20150830T125101Z",
                "Signature not yet current: 20150830T125101Z is still later than 20150830T125100Z \
                 (20150830T124600Z + 5 min.)",
            ),
        ] {
            let refusal = Moment::parse(beyond).unwrap().judge(now).unwrap_err();
            assert_eq!((refusal.name(), refusal.to_string().as_str()), ("InvalidSignatureException", text));
            assert_eq!((refusal.query_name(), refusal.query_status()), ("SignatureDoesNotMatch", 403));
        }
    }

    /// A clock at either end of what can be shown does no more than refuse.
    #[test]
    fn clocks_that_are_far_off_break_nothing() {
        let far = UNIX_EPOCH + Duration::from_secs(1 << 62);
        assert_eq!(Moment::of(far), Moment(LAST));
        assert_eq!(Moment::of(UNIX_EPOCH - Duration::from_secs(9)), Moment(0));
        assert!(Moment(LAST).judge(Moment(LAST)).is_ok());
        let first = Moment::parse("00000101T000000Z").unwrap();
        assert_eq!(first.to_string(), "00000101T000000Z");
        assert!(first.judge(Moment(0)).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(seconds in 0..=LAST) {
            prop_assert_eq!(Moment::parse(&Moment(seconds).to_string()), Some(Moment(seconds)));
        }

        #[test]
        fn what_is_read_is_written_the_same(text in "[0-9]{8}T[0-9]{6}Z") {
            if let Some(moment) = Moment::parse(&text) {
                prop_assert_eq!(moment.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_survived(text: String) {
            let _ = Moment::parse(&text);
        }
    }
}
