//! Calls of those who proved to be somebody that were turned away before anybody looked at what they ask for: there was no
//! room, they came too fast, or nobody could read them. Each has a record of its own, until its principal has had as many
//! as it may in one minute; the others are counted, and recorded once a minute for each principal and outcome. So a caller
//! with a certificate cannot fill the log by calls that cost it nothing.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use audit::event::{Fields, Value};
use auth::peer::Principal;
use auth::request::Interface;
use model::exception::Exception;

/// Records of their own that calls of one principal have in a minute.
pub(crate) const OWN: u32 = 60;
/// Principals that are told apart in a minute; what all others are refused is counted together.
const PRINCIPALS: usize = 256;
/// Records that wait because none is accepted: one for each principal and outcome, while there are fewer than this. More than a
/// minute can have, of calls that nobody looked at. What is beyond is counted for all others together, by its outcome.
const WAITING: usize = 2_048;
/// Operations that are told apart in a record; all others are counted together.
const OPERATIONS: usize = 8;
const MINUTE: i64 = 60_000;
/// What those are called who share a record.
const OTHERS: &str = "other principals";

/// A call that was turned away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal<'a> {
    /// For whom it counts.
    pub(crate) party: &'a str,
    /// As whom it came.
    pub(crate) principal: &'a Principal,
    pub(crate) source: Option<IpAddr>,
    pub(crate) interface: Interface,
    /// What was asked for.
    pub(crate) name: &'static str,
    pub(crate) exception: Exception,
    /// What was answered.
    pub(crate) message: &'a str,
    /// How many requests there were in it.
    pub(crate) items: usize,
}

/// Calls of one principal that were refused in one way in one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusals {
    /// For whom they count; empty: those who share a record.
    party: Arc<str>,
    /// As whom the first of them came.
    pub(crate) principal: Principal,
    /// Where all of them came from; absent where that was not one address.
    pub(crate) source: Option<IpAddr>,
    pub(crate) interface: Interface,
    pub(crate) exception: Exception,
    /// What the first was answered.
    pub(crate) message: String,
    /// When the first was, in milliseconds since the Unix epoch.
    pub(crate) first: i64,
    /// When the last was.
    pub(crate) last: i64,
    /// How many there were.
    pub(crate) count: u64,
    operations: BTreeMap<&'static str, u64>,
}

/// Refusals of the present minute, and of those before that wait to be recorded.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway {
    /// Its number since the Unix epoch.
    minute: i64,
    of: HashMap<Arc<str>, Party>,
    /// For whom they count, and what they came to.
    over: HashMap<(Arc<str>, Exception), Refusals>,
}

#[derive(Debug, Default)]
struct Party {
    /// Records of their own that its calls had.
    own: u32,
    /// One for each outcome.
    refusals: Vec<Refusals>,
}

impl TurnedAway {
    /// Whether the call has no record of its own, and was counted.
    pub(crate) fn is_counted(&mut self, unix_millis: i64, refusal: &Refusal<'_>) -> bool {
        self.turn(unix_millis);
        let party = self.party(refusal.party);
        if party.0.is_some() && party.1.own < OWN {
            party.1.own += 1;
            return false;
        }
        count(party, unix_millis, refusal);
        true
    }

    /// Counts a call whose record was not accepted, whatever it was refused for.
    pub(crate) fn count(&mut self, unix_millis: i64, refusal: &Refusal<'_>) {
        self.turn(unix_millis);
        count(self.party(refusal.party), unix_millis, refusal);
    }

    /// What is to be recorded, of minutes that are over. A calendar that was put back begins another one.
    pub(crate) fn over(&mut self, unix_millis: i64) -> Vec<Refusals> {
        self.turn(unix_millis);
        std::mem::take(&mut self.over).into_values().collect()
    }

    /// What is to be recorded, whether the minute is over or not.
    pub(crate) fn all(&mut self) -> Vec<Refusals> {
        self.end();
        std::mem::take(&mut self.over).into_values().collect()
    }

    /// Keeps what could not be recorded; it is counted with what comes next.
    pub(crate) fn put_back(&mut self, refusals: Refusals) {
        merge(&mut self.over, refusals);
    }

    fn turn(&mut self, unix_millis: i64) {
        let minute = unix_millis.div_euclid(MINUTE);
        // Calls of a minute that has just ended may come after the first of the next one.
        if minute > self.minute || minute < self.minute - 1 {
            self.minute = minute;
            self.end();
        }
    }

    fn end(&mut self) {
        for refusals in self.of.drain().flat_map(|(_, party)| party.refusals) {
            merge(&mut self.over, refusals);
        }
    }

    /// What is counted for somebody, with its name; for those who share it, without.
    fn party(&mut self, name: &str) -> (Option<Arc<str>>, &mut Party) {
        let known = self.of.get_key_value(name).map(|(name, _)| Arc::clone(name));
        let own = known.or_else(|| (self.of.len() < PRINCIPALS).then(|| Arc::from(name)));
        let party = self.of.entry(own.clone().unwrap_or_default()).or_default();
        (own, party)
    }
}

fn count((name, party): (Option<Arc<str>>, &mut Party), unix_millis: i64, refusal: &Refusal<'_>) {
    let count = u64::try_from(refusal.items.max(1)).unwrap_or(u64::MAX);
    let known = party.refusals.iter().position(|known| known.exception == refusal.exception);
    let at = known.unwrap_or_else(|| {
        party.refusals.push(Refusals {
            principal: if name.is_some() { refusal.principal.clone() } else { Principal::new(OTHERS) },
            party: name.unwrap_or_default(),
            source: refusal.source,
            interface: refusal.interface,
            exception: refusal.exception,
            message: refusal.message.to_owned(),
            first: unix_millis,
            last: unix_millis,
            count: 0,
            operations: BTreeMap::new(),
        });
        party.refusals.len() - 1
    });
    let refusals = &mut party.refusals[at];
    refusals.last = refusals.last.max(unix_millis);
    refusals.count = refusals.count.saturating_add(count);
    if refusals.source != refusal.source {
        refusals.source = None;
    }
    refusals.add(refusal.name, count);
}

/// Counts refusals with those that wait already; where too many are told apart, with those of others.
fn merge(waiting: &mut HashMap<(Arc<str>, Exception), Refusals>, mut more: Refusals) {
    let named = |waiting: &HashMap<(Arc<str>, Exception), _>| waiting.keys().filter(|key| !key.0.is_empty()).count();
    let is_new = !waiting.contains_key(&(Arc::clone(&more.party), more.exception));
    if is_new && waiting.len() >= WAITING && named(waiting) >= WAITING {
        (more.party, more.principal) = (Arc::default(), Principal::new(OTHERS));
    }
    let known = match waiting.entry((Arc::clone(&more.party), more.exception)) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(free) => {
            free.insert(more);
            return;
        }
    };
    known.first = known.first.min(more.first);
    known.last = known.last.max(more.last);
    known.count = known.count.saturating_add(more.count);
    if known.source != more.source {
        known.source = None;
    }
    for (name, count) in more.operations {
        known.add(name, count);
    }
}

impl Refusals {
    fn add(&mut self, name: &'static str, count: u64) {
        let known = self.operations.len() < OPERATIONS || self.operations.contains_key(name);
        let counted = self.operations.entry(if known { name } else { "other" }).or_default();
        *counted = counted.saturating_add(count);
    }

    /// What their record says beside who was refused.
    pub(crate) fn additional(&self) -> Fields {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let one = |(name, count): (&&str, &u64)| {
            Value::Object(Fields::new().text("eventName", name).number("count", number(*count)))
        };
        Fields::new()
            .number("count", number(self.count))
            .number("firstTimeMillis", self.first)
            .number("lastTimeMillis", self.last)
            .with("refusals", Value::List(self.operations.iter().map(one).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::operation::Operation;

    fn refusal<'a>(party: &'a str, principal: &'a Principal, exception: Exception) -> Refusal<'a> {
        Refusal {
            party,
            principal,
            source: Some(IpAddr::from([192, 0, 2, 1])),
            interface: Interface::Grpc,
            name: "Encrypt",
            exception,
            message: "too many",
            items: 1,
        }
    }

    #[test]
    fn the_first_of_a_minute_have_their_own_and_the_rest_one_for_each_outcome() {
        let (mut away, anna) = (TurnedAway::default(), Principal::new("cn:anna"));
        let start = 100 * MINUTE;
        let mut own = 0;
        for at in 0..1_000 {
            let exception = if at % 4 == 0 { Exception::Validation } else { Exception::Throttling };
            own += u32::from(!away.is_counted(start + at, &refusal("anna", &anna, exception)));
        }
        assert_eq!((own, away.over(start + MINUTE - 1)), (OWN, Vec::new()));
        let over = away.over(start + MINUTE);
        let mut told: Vec<_> = over.iter().map(|one| (one.exception.name(), one.count)).collect();
        told.sort_unstable();
        assert_eq!(told, [("ThrottlingException", 705), ("ValidationException", 235)]);
        let throttled = over.iter().find(|one| one.exception == Exception::Throttling).unwrap();
        assert_eq!((throttled.first, throttled.last), (start + 61, start + 999));
        assert_eq!((throttled.principal.as_str(), throttled.source.is_some()), ("cn:anna", true));
        assert!(!away.is_counted(start + MINUTE, &refusal("anna", &anna, Exception::Throttling)), "a new minute");
        assert_eq!(away.all(), Vec::new());
    }

    #[test]
    fn whoever_they_are_what_they_leave_is_bounded_and_all_of_it_is_counted() {
        let (mut away, operations) = (TurnedAway::default(), Operation::ALL);
        let (mut all, mut own) = (0, 0);
        // Nothing is accepted for three minutes.
        for minute in 0..3 {
            for number in 0..5_000_usize {
                let name = format!("cn:{minute}-{number}");
                let principal = Principal::new(&name);
                let one = Refusal {
                    name: operations[number % operations.len()].spec().event,
                    items: 2,
                    ..refusal(&name, &principal, Exception::Throttling)
                };
                all += 2;
                own += 2 * u64::from(!away.is_counted(minute * MINUTE, &one));
                away.count(minute * MINUTE, &one);
                all += 2;
            }
            for refusals in away.over((minute + 1) * MINUTE) {
                away.put_back(refusals);
            }
            assert!(away.over.len() <= WAITING + 1, "{}", away.over.len());
        }
        assert_eq!(own, 3 * 2 * u64::try_from(PRINCIPALS).unwrap());
        let over = away.all();
        assert_eq!(over.iter().map(|one| one.count).sum::<u64>(), all - own);
        for one in &over {
            assert_eq!(one.operations.values().sum::<u64>(), one.count);
            assert!(one.operations.len() <= OPERATIONS + 1);
        }
        assert!(over.iter().any(|one| one.principal.as_str() == OTHERS && one.source.is_some()));
    }

    /// What one minute has is told apart, whether it could be recorded in time or not; of many minutes what is beyond the
    /// bound is counted in one for each outcome.
    #[test]
    fn what_waits_is_told_apart_by_principal_and_outcome() {
        let mut away = TurnedAway::default();
        let outcomes = &Exception::ALL[..5];
        let mut minute = |minute: i64| {
            for number in 0..PRINCIPALS {
                let name = format!("cn:{minute}-{number}");
                let principal = Principal::new(&name);
                for exception in outcomes {
                    away.count(minute * MINUTE, &refusal(&name, &principal, *exception));
                }
            }
            let over = away.over((minute + 1) * MINUTE);
            let told = (over.len(), over.iter().filter(|one| one.principal.as_str() == OTHERS).count());
            over.into_iter().for_each(|one| away.put_back(one));
            told
        };
        let each = PRINCIPALS * outcomes.len();
        assert_eq!(minute(0), (each, 0));
        for number in 1..4 {
            assert_eq!(minute(number), (WAITING + outcomes.len(), outcomes.len()));
        }
        let all = away.all();
        assert_eq!(all.iter().map(|one| one.count).sum::<u64>(), 4 * u64::try_from(each).unwrap());
    }

    #[test]
    fn an_address_stands_in_a_record_that_all_came_from() {
        let (mut away, anna) = (TurnedAway::default(), Principal::new("cn:anna"));
        let of = |address: u8| Refusal {
            source: Some(IpAddr::from([192, 0, 2, address])),
            ..refusal("anna", &anna, Exception::Throttling)
        };
        for address in [1, 1, 2] {
            away.count(1, &of(address));
        }
        away.count(MINUTE, &of(1));
        let over = away.over(MINUTE);
        assert_eq!((over.len(), over[0].source, over[0].count), (1, None, 3));
        assert_eq!(away.all()[0].source, of(1).source);
    }
}
