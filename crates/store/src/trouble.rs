//! Trouble of the machine under the metadata, as data; and what is known of how writing goes at the moment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Error;
use super::disk::{Room, in_words};
use super::reserve::{Kept, Standing};
use model::lock::MutexExt as _;
use model::outage::Outage;

/// A change that is under way for longer says that the disk hangs.
const SLOW: Duration = Duration::from_secs(10);

/// What the metadata could not have of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What is missing.
    pub outage: Outage,
    /// The directory of the database.
    pub place: PathBuf,
    /// SQLite's extended result code.
    pub code: i32,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outage, place, code } = self;
        let (words, remedy) = (outage.words(), outage.remedy());
        write!(f, "the metadata in {} cannot be written: {words} (SQLite's code {code}); {remedy}", place.display())
    }
}

/// How the disk under the metadata is, as far as is known without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The directory of the database.
    pub place: PathBuf,
    /// What was free at the last look.
    pub room: Option<Room>,
    /// The reserve.
    pub reserve: Kept,
    /// Why the last change was not recorded, and how many have not been since it began.
    pub failing: Option<(String, u64)>,
    /// How long the change has been under way that is under way.
    pub busy: Option<Duration>,
    /// How long the disk has been asked what is free, where it has not answered.
    pub silent: Option<Duration>,
    /// Changes that could not be recorded, since the start.
    pub failures: u64,
}

impl Status {
    /// What is wrong, one sentence each, with what to do about it.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let place = self.place.display();
        let mut sentences = Vec::new();
        if let Some((why, times)) = &self.failing {
            sentences.push(format!("{why}; until then new keys and other changes are refused (so far: {times})"));
        }
        if let Some(busy) = self.busy.filter(|busy| *busy > SLOW) {
            sentences.push(format!(
                "a change of the metadata in {place} has been under way for {} s: the disk hangs, or is very slow",
                busy.as_secs()
            ));
        }
        if let Some(silent) = self.silent.filter(|silent| *silent > SLOW) {
            sentences
                .push(format!("the disk of {place} has not said for {} s what is free: it hangs", silent.as_secs()));
        }
        let room = self.room.filter(|room| room.free < room.wanted().free);
        let has = room.map(|room| format!("; {} are free", in_words(room.free))).unwrap_or_default();
        let Kept { standing, bytes, error } = &self.reserve;
        let why = error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        match standing {
            Standing::Spent => sentences.push(format!(
                "the disk of {place} is full or was, and the reserve there has {} left{why}{has}: free space on it. Only \
                 what takes keys out of use is recorded until the reserve is whole again",
                in_words(*bytes)
            )),
            Standing::Missing if error.is_some() => sentences.push(format!(
                "the reserve in {place}, by which keys can be disabled on a full disk, cannot be made{why}"
            )),
            Standing::Missing => sentences.push(format!(
                "there is no room in {place} for the reserve by which keys can be disabled on a full disk{has}: free space \
                 on it"
            )),
            Standing::Whole => sentences.extend(room.map(|room| {
                let wanted = in_words(room.wanted().free);
                format!("the disk of {place} is nearly full{has}, of {wanted} that there should be: free space on it")
            })),
        }
        sentences
    }
}

/// How writing goes. Told by those who write; asked by whoever wants to know, at any time.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    room: Option<Room>,
    failing: Option<Failing>,
    busy: Option<Instant>,
    asked: Option<Instant>,
    failures: u64,
}

#[derive(Debug)]
struct Failing {
    why: String,
    since: Instant,
    times: u64,
}

impl Record {
    /// A change is begun.
    pub(super) fn begun(&self, now: Instant) {
        self.known().busy = Some(now);
    }

    /// It has come to its end. One that was recorded may have been small enough for what was left: it ends no trouble,
    /// and an error of the caller's says nothing about the disk.
    pub(super) fn ended(&self, error: Option<&Error>, now: Instant) {
        let mut known = self.known();
        known.busy = None;
        match error {
            Some(Error::Storage(trouble)) => {
                known.failures += 1;
                let why = trouble.to_string();
                match &mut known.failing {
                    // Said once; each caller is told, and the metrics count.
                    Some(failing) => (failing.times, failing.why) = (failing.times + 1, why),
                    None => {
                        tracing::error!("{why}");
                        known.failing = Some(Failing { why, since: now, times: 1 });
                    }
                }
            }
            Some(Error::Kept(_)) => {
                known.failures += 1;
                if let Some(failing) = &mut known.failing {
                    failing.times += 1;
                }
            }
            _ => {}
        }
    }

    /// The disk takes writes again.
    pub(super) fn worked(&self, now: Instant) {
        if let Some(Failing { since, times, .. }) = self.known().failing.take() {
            let lasted = now.saturating_duration_since(since);
            tracing::info!(?lasted, refused = times, "the metadata can be written again");
        }
    }

    /// The disk is asked what is free.
    pub(super) fn asked(&self, now: Instant) {
        self.known().asked = Some(now);
    }

    /// What it has answered.
    pub(super) fn seen(&self, room: Option<Room>) {
        let mut known = self.known();
        (known.room, known.asked) = (room, None);
    }

    /// Whether the last change could not be recorded.
    pub(super) fn fails(&self) -> bool {
        self.known().failing.is_some()
    }

    /// All of it.
    pub(super) fn status(&self, place: &Path, reserve: Kept, now: Instant) -> Status {
        let known = self.known();
        Status {
            place: place.to_owned(),
            room: known.room,
            reserve,
            failing: known.failing.as_ref().map(|failing| (failing.why.clone(), failing.times)),
            busy: known.busy.map(|since| now.saturating_duration_since(since)),
            silent: known.asked.map(|since| now.saturating_duration_since(since)),
            failures: known.failures,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock_anyway()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::clock::Clock;

    fn full() -> Error {
        Error::Storage(Trouble { outage: Outage::Full, place: "/var/lib/keystored".into(), code: 13 })
    }

    fn status(record: &Record, clock: &Clock, (standing, bytes): (Standing, u64)) -> Status {
        let reserve = Kept { standing, bytes, error: None };
        record.status(Path::new("/var/lib/keystored"), reserve, clock.now())
    }

    #[test]
    fn trouble_is_known_until_something_was_recorded() {
        let (record, clock) = (Record::default(), Clock::manual());
        let whole = (Standing::Whole, 4 << 20);
        assert_eq!(status(&record, &clock, whole).sentences(), Vec::<String>::new());
        record.ended(Some(&full()), clock.now());
        record.ended(Some(&Error::HasKeys), clock.now());
        record.ended(Some(&full()), clock.now());
        record.ended(None, clock.now());
        let known = status(&record, &clock, whole);
        assert_eq!((known.failures, known.failing.as_ref().map(|(_, times)| *times)), (2, Some(2)));
        let sentence = known.sentences().concat();
        for words in ["/var/lib/keystored", "is full", "free space", "(SQLite's code 13)"] {
            assert!(sentence.contains(words), "{sentence}");
        }
        record.worked(clock.now());
        let known = status(&record, &clock, whole);
        assert_eq!((known.sentences().len(), known.failures), (0, 2));
    }

    #[test]
    fn a_change_that_does_not_end_is_told() {
        let (record, clock) = (Record::default(), Clock::manual());
        record.begun(clock.now());
        let whole = (Standing::Whole, 4 << 20);
        assert!(status(&record, &clock, whole).sentences().is_empty());
        clock.advance(SLOW + Duration::from_secs(1));
        assert!(status(&record, &clock, whole).sentences().concat().contains("under way for 11 s"));
        record.ended(None, clock.now());
        assert!(status(&record, &clock, whole).sentences().is_empty());
        record.asked(clock.now());
        clock.advance(SLOW + Duration::from_secs(1));
        assert!(status(&record, &clock, whole).sentences().concat().contains("not said for 11 s"));
        record.seen(None);
        assert!(status(&record, &clock, whole).sentences().is_empty());
    }

    #[test]
    fn little_room_and_a_reserve_that_is_not_whole_are_told_with_figures() {
        let (record, clock) = (Record::default(), Clock::manual());
        let says = |reserve, words: &[&str]| {
            let sentences = status(&record, &clock, reserve).sentences();
            assert_eq!(sentences.len(), 1, "{sentences:?}");
            assert!(words.iter().all(|words| sentences[0].contains(words)), "{sentences:?}");
        };
        says((Standing::Spent, 1 << 20), &["the reserve there has 1 MiB left", "free space"]);
        says((Standing::Missing, 0), &["no room in /var/lib/keystored for the reserve", "free space"]);
        record.seen(Some(Room { free: 3 << 20, total: 1 << 40 }));
        says((Standing::Whole, 4 << 20), &["nearly full; 3 MiB are free, of 16 MiB that there should be"]);
        says((Standing::Spent, 0), &["0 bytes left; 3 MiB are free"]);
        record.seen(Some(Room { free: 17 << 20, total: 1 << 40 }));
        assert!(status(&record, &clock, (Standing::Whole, 4 << 20)).sentences().is_empty());
    }
}
