//! Refusals of those who proved to be nobody: counted by where they come from, and recorded once a minute, so that strangers
//! cannot fill the log. What they make it grow by is bounded whatever they send: so many records a minute, each of a few
//! hundred bytes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use audit::event::{Fields, Value};

/// Sources that have a record of their own in a minute; all others share one.
const SOURCES: usize = 64;
/// Kinds of refusals that are told apart for one source; all others share one.
const KINDS: usize = 8;
const MINUTE: i64 = 60_000;

/// What was refused, and why: an operation or `TlsHandshake`, and the exception's name.
type Kind = (&'static str, &'static str);

/// Refusals of one source in one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusals {
    /// Where they came from; the first 64 bits of an IPv6 address. `None`: from others, or nobody knows.
    pub(crate) source: Option<IpAddr>,
    /// When the first was, in milliseconds since the Unix epoch.
    pub(crate) first: i64,
    /// When the last was.
    pub(crate) last: i64,
    /// How many there were.
    pub(crate) count: u64,
    kinds: BTreeMap<Kind, u64>,
    /// What the first one was told.
    pub(crate) why: (&'static str, String),
}

/// Refusals of the present minute.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    /// Its number since the Unix epoch.
    minute: i64,
    of: BTreeMap<Option<IpAddr>, Refusals>,
}

impl Strangers {
    /// Counts one. Gives what is to be recorded, where a minute is over.
    pub(crate) fn note(
        &mut self,
        unix_millis: i64,
        source: Option<IpAddr>,
        (operation, why): (&'static str, (&'static str, &str)),
        count: u64,
    ) -> Vec<Refusals> {
        let over = self.over(unix_millis);
        let source = source.map(network);
        let source = if self.of.len() < SOURCES || self.of.contains_key(&source) { source } else { None };
        let fresh = || Refusals {
            source,
            first: unix_millis,
            last: unix_millis,
            count: 0,
            kinds: BTreeMap::new(),
            why: (why.0, why.1.to_owned()),
        };
        let refusals = self.of.entry(source).or_insert_with(fresh);
        refusals.first = refusals.first.min(unix_millis);
        refusals.last = refusals.last.max(unix_millis);
        refusals.count = refusals.count.saturating_add(count);
        let kind = (operation, why.0);
        let known = refusals.kinds.len() < KINDS || refusals.kinds.contains_key(&kind);
        *refusals.kinds.entry(if known { kind } else { ("other", "other") }).or_default() += count;
        over
    }

    /// What is to be recorded, where the minute is over. A calendar that was put back begins another one; not so by one minute,
    /// which is what a refusal says that began before the minute was over and is counted after another that began later.
    pub(crate) fn over(&mut self, unix_millis: i64) -> Vec<Refusals> {
        let minute = unix_millis.div_euclid(MINUTE);
        if minute == self.minute || minute.saturating_add(1) == self.minute {
            return Vec::new();
        }
        self.minute = minute;
        self.all()
    }

    /// Counts what could not be recorded with what comes next.
    pub(crate) fn put_back(&mut self, refusals: Refusals) {
        let full = self.of.len() >= SOURCES && !self.of.contains_key(&refusals.source);
        let source = if full { None } else { refusals.source };
        let known = self.of.entry(source).or_insert_with(|| Refusals {
            source,
            count: 0,
            kinds: BTreeMap::new(),
            ..refusals.clone()
        });
        known.first = known.first.min(refusals.first);
        known.last = known.last.max(refusals.last);
        known.count = known.count.saturating_add(refusals.count);
        for (kind, count) in refusals.kinds {
            let told = known.kinds.len() < KINDS || known.kinds.contains_key(&kind);
            *known.kinds.entry(if told { kind } else { ("other", "other") }).or_default() += count;
        }
    }

    /// What is to be recorded, whether the minute is over or not.
    pub(crate) fn all(&mut self) -> Vec<Refusals> {
        std::mem::take(&mut self.of).into_values().collect()
    }
}

impl Refusals {
    /// What their record says beside where they came from.
    pub(crate) fn additional(&self) -> Fields {
        let kind = |((operation, why), count): (&Kind, &u64)| {
            let kind = Fields::new().text("eventName", operation).text("errorCode", why);
            Value::Object(kind.number("count", i64::try_from(*count).unwrap_or(i64::MAX)))
        };
        Fields::new()
            .number("count", i64::try_from(self.count).unwrap_or(i64::MAX))
            .number("firstTimeMillis", self.first)
            .number("lastTimeMillis", self.last)
            .with("refusals", Value::List(self.kinds.iter().map(kind).collect()))
    }
}

/// Who has one IPv6 address has as many as it likes beside it.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from(u128::from(address) & (u128::MAX << 64)).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHY: (&str, &str) = ("AccessDeniedException", "the certificate is not good");

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    #[test]
    fn one_source_has_one_record_a_minute_with_a_count() {
        let mut strangers = Strangers::default();
        let start = 100 * MINUTE;
        for at in 0..60 {
            assert_eq!(strangers.note(start + at * 1_000, address(1), ("Encrypt", WHY), 2), []);
        }
        strangers.note(start + 1, address(2), ("TlsHandshake", ("BadCertificate", "it ended")), 1);
        assert_eq!(strangers.over(start + MINUTE - 1), []);
        let over = strangers.note(start + MINUTE, address(1), ("Decrypt", WHY), 1);
        assert_eq!(
            over.iter().map(|one| (one.source, one.count)).collect::<Vec<_>>(),
            [(address(1), 120), (address(2), 1)]
        );
        assert_eq!((over[0].first, over[0].last), (start, start + 59_000));
        assert_eq!(strangers.all().len(), 1);
        assert_eq!(strangers.all(), []);
    }

    #[test]
    fn those_that_overtake_each_other_where_minutes_meet_end_it_once() {
        let mut strangers = Strangers::default();
        let next = 101 * MINUTE;
        strangers.note(next - 2, address(1), ("Encrypt", WHY), 1);
        let over = strangers.note(next, address(1), ("Encrypt", WHY), 1);
        assert_eq!(over.iter().map(|one| one.count).collect::<Vec<_>>(), [1]);
        for _ in 0..10 {
            assert_eq!(strangers.note(next - 1, address(1), ("Encrypt", WHY), 1), []);
            assert_eq!(strangers.note(next, address(1), ("Encrypt", WHY), 1), []);
        }
        let put_back = strangers.over(next - 2 * MINUTE);
        assert_eq!(put_back.iter().map(|one| (one.first, one.count)).collect::<Vec<_>>(), [(next - 1, 21)]);
    }

    #[test]
    fn whoever_they_are_and_whatever_they_ask_for_they_fill_no_more_than_their_budget() {
        let mut strangers = Strangers::default();
        let operations: Vec<&'static str> =
            model::operation::Operation::ALL.iter().map(|one| one.spec().event).collect();
        let mut all = 0;
        for number in 0..100_000 {
            let operation = operations[usize::try_from(number).unwrap() % operations.len()];
            strangers.note(1, address(number), (operation, WHY), 1);
            strangers.note(1, address(1), (operation, WHY), 1);
            all += 2;
        }
        let over = strangers.over(MINUTE);
        assert!(over.len() <= SOURCES + 1, "{}", over.len());
        assert_eq!(over.iter().map(|one| one.count).sum::<u64>(), all, "all are counted");
        for one in &over {
            assert_eq!(one.kinds.values().sum::<u64>(), one.count);
            assert!(one.kinds.len() <= KINDS + 1);
        }
        let others = over.iter().find(|one| one.source.is_none()).unwrap();
        assert_eq!(others.count, 100_000 - u64::try_from(SOURCES).unwrap());
    }

    #[test]
    fn what_could_not_be_recorded_is_counted_with_what_comes_next() {
        let mut strangers = Strangers::default();
        strangers.note(1, address(1), ("Encrypt", WHY), 3);
        let mut over = strangers.over(MINUTE);
        strangers.note(MINUTE, address(1), ("Decrypt", WHY), 4);
        strangers.put_back(over.remove(0));
        let all = strangers.all();
        assert_eq!((all.len(), all[0].count, all[0].first, all[0].last, all[0].kinds.len()), (1, 7, 1, MINUTE, 2));
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let mut strangers = Strangers::default();
        for text in ["2001:db8::1", "2001:db8::2:0:0:7", "::ffff:192.0.2.1", "192.0.2.1"] {
            strangers.note(1, Some(text.parse().unwrap()), ("Encrypt", WHY), 1);
        }
        let all = strangers.all();
        let sources: Vec<String> = all.iter().map(|one| one.source.unwrap().to_string()).collect();
        assert_eq!(sources, ["192.0.2.1", "2001:db8::"]);
    }
}
