//! Files as crashes leave them are opened; files that were copied over them by hand are not, whatever is copied and
//! how.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use super::pages::{Log, Main, Mark};
use super::record::{self, Beside, Record, State};
use super::verdict::{Foreign, Seen, Standing, judge, reaches};
use super::{INDEX, JOURNAL, LOG, RECORD, beside, pragma};
use crate::{Begun, Error, NewKey, Store};
use model::clock::Clock;
use model::id::{ClusterId, HsmId, KeyId, KeyStoreId};
use model::key::KeyState;

/// So many keys that SQLite writes its log into the file on the way.
const MANY: usize = 400;
const FEW: usize = 3;

/// A state directory.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("keystored.db")
    }

    async fn open(&self) -> Result<Store, Error> {
        Store::open(&self.file(), Clock::manual()).await
    }

    /// A store with a key, closed in order.
    async fn used() -> (Self, KeyId) {
        let site = Self::new();
        let store = site.open().await.unwrap();
        store.connected_key_store("main", &ClusterId::parse("cluster-abcdefghijk").unwrap()).await;
        let key = make(&store, 1).await[0];
        store.close().await;
        (site, key)
    }

    /// What a crash at this moment would leave, in another directory.
    fn crashed(&self) -> Self {
        let copy = Self::new();
        for what in ["", LOG, INDEX, RECORD] {
            let from = beside(&self.file(), what);
            if from.exists() {
                copy_with_time(&from, &beside(&copy.file(), what));
            }
        }
        copy
    }

    fn bytes(&self) -> Vec<Option<Vec<u8>>> {
        ["", LOG, RECORD].iter().map(|what| fs::read(beside(&self.file(), what)).ok()).collect()
    }

    /// It is refused, in these words, and nothing is changed by that.
    async fn refused(&self, says: &str) {
        let before = self.bytes();
        let error = self.open().await.err().unwrap_or_else(|| panic!("it was opened, though: {says}"));
        assert!(matches!(&error, Error::Copied { .. }), "{error}");
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(error.to_string().contains("keystored restore --config"), "{error}");
        assert!(before == self.bytes(), "{error}");
    }

    async fn holds(&self, keys: &[KeyId]) {
        let store = self.open().await.unwrap();
        let known = store.catalogue();
        assert!(keys.iter().all(|key| known.key(*key).is_some()), "{} of {}", known.key_count(), keys.len());
        store.close().await;
    }
}

async fn make(store: &Store, count: usize) -> Vec<KeyId> {
    let key_store: KeyStoreId = store.catalogue().key_stores().next().unwrap().id.clone();
    let mut keys = Vec::new();
    for _ in 0..count {
        let hsms: [HsmId; 2] = ["hsm-a".into(), "hsm-b".into()];
        let description = "described at length; ".repeat(20);
        let new = NewKey { description, ..NewKey::new(&key_store, &hsms) };
        let made = store.begin_key(new, None).await.unwrap();
        let Begun::New(key) = made else { panic!("without a token every key is new") };
        keys.push(key);
    }
    keys
}

fn copy_with_time(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    File::options().write(true).open(to).unwrap().set_modified(from.metadata().unwrap().modified().unwrap()).unwrap();
}

/// How people put files back.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// cp: the file that is there gets other bytes.
    Over,
    /// cp -p, and reflinks.
    OverWithTime,
    /// mv, rsync: another file takes its name.
    Instead,
}

const WAYS: [Way; 3] = [Way::Over, Way::OverWithTime, Way::Instead];

impl Way {
    fn put(self, from: &Path, to: &Path) {
        match self {
            Self::Over => drop(fs::copy(from, to).unwrap()),
            Self::OverWithTime => copy_with_time(from, to),
            Self::Instead => {
                let beside = to.with_extension("new");
                copy_with_time(from, &beside);
                fs::rename(&beside, to).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn what_a_crash_leaves_is_opened() {
    let (site, first) = Site::used().await;
    let store = site.open().await.unwrap();
    let mut keys = vec![first];
    // A store that is dropped is closed some time later; these stay as they are.
    let (mut open, mut open_sites) = (Vec::new(), Vec::new());
    for count in [0, 1, FEW, MANY] {
        keys.extend(make(&store, count).await);
        let mut left = site.crashed();
        // Once more, without a change in between, and once more closed in order.
        for _ in 0..2 {
            open.push(left.open().await.unwrap());
            let again = left.crashed();
            open_sites.push(std::mem::replace(&mut left, again));
        }
        left.holds(&keys).await;
        left.holds(&keys).await;
    }
    // What was written and not committed, and what a power failure took back of the record.
    let left = site.crashed();
    let log = beside(&left.file(), LOG);
    fs::write(&log, [fs::read(&log).unwrap(), vec![7; 5_000]].concat()).unwrap();
    let (open, known) = Beside::open(&beside(&left.file(), RECORD)).unwrap();
    let earlier = Record { last: known.as_ref().unwrap().base, boot: "an-earlier-one".into(), ..known.unwrap() };
    open.unwrap().write(&earlier, true).unwrap();
    left.holds(&keys).await;
    let known = record::look(&beside(&left.file(), RECORD)).unwrap().unwrap();
    assert!(known.boot != "an-earlier-one" && !known.boot.is_empty(), "{known:?}");
}

#[tokio::test]
async fn a_checkpoint_that_was_broken_off_is_no_copy() {
    let (site, first) = Site::used().await;
    let store = site.open().await.unwrap();
    let mut keys = make(&store, FEW).await;
    keys.push(first);
    let (left, before) = (site.crashed(), fs::read(site.file()).unwrap());
    store.close().await;
    let after = fs::read(site.file()).unwrap();
    assert_ne!(before, after);
    // Page by page, as SQLite writes them.
    for pages in 1..=after.len() / 4_096 {
        let written = pages * 4_096;
        fs::write(left.file(), [&after[..written], before.get(written..).unwrap_or_default()].concat()).unwrap();
        left.crashed().holds(&keys).await;
    }
}

#[tokio::test]
async fn a_file_of_an_earlier_release_is_taken_and_numbered() {
    let (site, key) = Site::used().await;
    let old = Site::new();
    copy_with_time(&site.file(), &old.file());
    let mut database = SqliteConnectOptions::new().filename(old.file()).connect().await.unwrap();
    pragma(&mut database, "application_id", 0).await.unwrap();
    pragma(&mut database, "user_version", 0).await.unwrap();
    database.close().await.unwrap();
    let unnumbered = old.crashed();
    old.holds(&[key]).await;
    let known = record::look(&beside(&old.file(), RECORD)).unwrap().unwrap();
    assert!(known.instance != 0 && known.last >= 1 && known.state == State::Closed, "{known:?}");
    for way in WAYS {
        let left = old.crashed();
        way.put(&unnumbered.file(), &left.file());
        left.refused("of an earlier release").await;
    }
    // A start that was broken off when the number was on record and not in the file yet.
    let left = old.crashed();
    copy_with_time(&unnumbered.file(), &left.file());
    let (open, _) = Beside::open(&beside(&left.file(), RECORD)).unwrap();
    open.unwrap().write(&Record { state: State::Begun, base: 0, last: 0, ..known.clone() }, true).unwrap();
    left.holds(&[key]).await;
    assert_eq!(record::look(&beside(&left.file(), RECORD)).unwrap().unwrap().instance, known.instance);
    // And when it was in the log only.
    let left = old.crashed();
    copy_with_time(&unnumbered.file(), &left.file());
    fs::remove_file(beside(&left.file(), RECORD)).unwrap();
    let _open = left.open().await.unwrap();
    left.crashed().holds(&[key]).await;
}

#[tokio::test]
async fn a_copy_from_before_the_last_start_is_refused_after_a_crash() {
    for count in [0, FEW, MANY] {
        let (site, _) = Site::used().await;
        let copy = site.crashed();
        let store = site.open().await.unwrap();
        make(&store, count).await;
        for way in WAYS {
            let left = site.crashed();
            way.put(&copy.file(), &left.file());
            left.refused("copied here by hand").await;
            // Whoever knows of logs takes them away.
            for what in [LOG, INDEX] {
                let _ = fs::remove_file(beside(&left.file(), what));
            }
            left.refused("was on record here").await;
        }
    }
}

#[tokio::test]
async fn a_copy_from_before_the_last_start_is_refused_after_a_clean_stop() {
    for count in [0, FEW] {
        let (site, _) = Site::used().await;
        let copy = site.crashed();
        let store = site.open().await.unwrap();
        make(&store, count).await;
        store.close().await;
        for way in WAYS {
            let left = site.crashed();
            way.put(&copy.file(), &left.file());
            left.refused("was on record here").await;
        }
    }
}

#[tokio::test]
async fn a_copy_of_a_running_database_is_refused_after_a_crash() {
    for count in [FEW, MANY] {
        let (site, _) = Site::used().await;
        let store = site.open().await.unwrap();
        make(&store, 1).await;
        let copy = site.crashed();
        make(&store, count).await;
        for way in WAYS {
            let left = site.crashed();
            // The file alone. With its time, and before a checkpoint, it is the very same file.
            way.put(&copy.file(), &left.file());
            match (count, way) {
                (FEW, Way::Over) => left.refused("something else than keystored has written it").await,
                (FEW, _) => left.open().await.unwrap().close().await,
                _ => left.refused("copied here by hand").await,
            }
            // All that SQLite has of it.
            let left = site.crashed();
            for what in ["", LOG, INDEX] {
                way.put(&beside(&copy.file(), what), &beside(&left.file(), what));
            }
            left.refused("copied here by hand").await;
        }
    }
}

#[tokio::test]
async fn a_log_that_is_gone_or_another_s_is_noticed() {
    let (site, key) = Site::used().await;
    let stopped = site.crashed();
    let store = site.open().await.unwrap();
    make(&store, FEW).await;
    let left = site.crashed();
    fs::remove_file(beside(&left.file(), LOG)).unwrap();
    left.refused("taken away").await;
    let log = beside(&site.file(), LOG);
    let other = Site::used().await.0;
    for (at, says) in [(&other, "keystored.db-wal does not continue it"), (&stopped, "keystored.db-wal does not")] {
        fs::copy(&log, beside(&at.file(), LOG)).unwrap();
        at.refused(says).await;
        fs::remove_file(beside(&at.file(), LOG)).unwrap();
    }
    fs::write(beside(&stopped.file(), JOURNAL), b"left by something").unwrap();
    stopped.refused("keystored.db-journal").await;
    fs::remove_file(beside(&stopped.file(), JOURNAL)).unwrap();
    stopped.holds(&[key]).await;
}

#[tokio::test]
async fn a_file_that_is_gone_is_missed_and_a_whole_directory_is_not() {
    let (site, key) = Site::used().await;
    let snapshot = site.crashed();
    let store = site.open().await.unwrap();
    make(&store, FEW).await;
    store.close().await;
    let left = site.crashed();
    fs::remove_file(beside(&left.file(), RECORD)).unwrap();
    left.refused("keystored.db.id, which belongs beside it, is not there").await;
    fs::write(beside(&left.file(), RECORD), b"nothing that can be read").unwrap();
    left.refused("cannot be read").await;
    for empty in [false, true] {
        let left = site.crashed();
        fs::remove_file(left.file()).unwrap();
        if empty {
            fs::write(left.file(), b"").unwrap();
        }
        let error = left.open().await.err().unwrap();
        assert!(error.to_string().contains("keystored.db.id beside it tells of one"), "{error}");
    }
    fs::write(left.file(), [b'x'; 5_000]).unwrap();
    left.refused("no SQLite database").await;
    // Both gone: whoever takes everything away begins anew.
    let left = Site::new();
    assert!(left.open().await.unwrap().catalogue().key_count() == 0);
    // What is old and fits together is as good as new: that is told by the tokens alone.
    snapshot.holds(&[key]).await;
    let other = Site::used().await.0;
    copy_with_time(&other.file(), &snapshot.file());
    snapshot.refused("another database").await;
}

#[tokio::test]
async fn reading_is_no_change() {
    let (site, key) = Site::used().await;
    let store = site.open().await.unwrap();
    let look = || record::look(&beside(&site.file(), RECORD)).unwrap().unwrap();
    let (before, log) = (look(), beside(&site.file(), LOG));
    let length = log.metadata().map_or(0, |log| log.len());
    let key_store = store.catalogue().key_stores().next().unwrap().id.clone();
    store.pins(&key_store).await.unwrap();
    assert_eq!((look(), log.metadata().map_or(0, |log| log.len())), (before.clone(), length));
    store.force_state(key, KeyState::Disabled).await.unwrap();
    assert_eq!(look().last, before.last + 1);
}

#[test]
fn changes_go_round() {
    assert!(reaches(5, 5) && reaches(6, 5) && !reaches(5, 6));
    assert!(reaches(0, u32::MAX) && reaches(3, u32::MAX - 3) && !reaches(u32::MAX, 0));
}

/// Each rule by itself, with what is right on both sides of it.
#[test]
fn the_decision_as_a_table() {
    let mark = |change| Mark { instance: 5, change, backup: false };
    let log = |first, last| Log { commits: true, marks: Some([mark(first), mark(last)]) };
    let seen = |main, log| Seen { main, log, journal: false, written: 100, boot: "b".into() };
    let of = |base, last, state| Record { instance: 5, base, last, state, written: 100, boot: "b".into() };
    let none = Log::default();
    let ours = |change| Ok(Standing::Ours(mark(change)));
    for (at, log, record, verdict) in [
        (10, none, of(10, 10, State::Closed), ours(10)),
        (10, none, of(10, 11, State::Closed), Err(Foreign::Change { at: 10, recorded: 11 })),
        (10, none, of(10, 9, State::Closed), Err(Foreign::Change { at: 10, recorded: 9 })),
        (10, none, of(10, 10, State::Open), ours(10)),
        (10, none, of(10, 9, State::Open), ours(10)),
        (10, log(11, 15), of(10, 15, State::Open), ours(15)),
        (10, log(11, 15), of(10, 14, State::Open), ours(15)),
        (10, log(11, 15), of(10, 16, State::Open), Err(Foreign::Change { at: 15, recorded: 16 })),
        (12, log(11, 15), of(10, 15, State::Open), ours(15)),
        (15, log(11, 15), of(10, 15, State::Open), ours(15)),
        (16, log(11, 15), of(10, 15, State::Open), Err(Foreign::Log)),
        (9, log(11, 15), of(10, 15, State::Open), Err(Foreign::Log)),
        (10, log(10, 15), of(11, 15, State::Open), Err(Foreign::Change { at: 10, recorded: 11 })),
        (10, log(11, 15), of(0, 0, State::Begun), ours(15)),
        (u32::MAX, log(0, 2), of(0, 0, State::Begun), ours(2)),
        (u32::MAX, log(0, 2), of(u32::MAX, 2, State::Open), ours(2)),
    ] {
        assert_eq!(judge(&seen(Main::Database(mark(at)), log), Some(&record)), verdict, "{at} {log:?} {record:?}");
    }
    let open = of(10, 15, State::Open);
    let now = seen(Main::Database(mark(10)), log(11, 15));
    assert_eq!(judge(&Seen { written: 101, ..now.clone() }, Some(&open)), Err(Foreign::Written));
    for log in [none, log(9, 10)] {
        let looked_at = Seen { written: 101, log, ..now.clone() };
        assert_eq!(judge(&looked_at, Some(&of(10, 10, State::Open))), ours(10), "SQLite may write the same once more");
    }
    let unknown = Record { written: 0, ..open.clone() };
    assert_eq!(judge(&Seen { written: 101, ..now.clone() }, Some(&unknown)), ours(15));
    for boot in ["", "another"] {
        let seen = Seen { written: 101, boot: boot.into(), ..now.clone() };
        assert_eq!(judge(&seen, Some(&Record { boot: "b".into(), ..open.clone() })), ours(15), "{boot:?}");
    }
    let backup = Mark { backup: true, ..mark(10) };
    assert_eq!(judge(&seen(Main::Database(backup), none), Some(&open)), Err(Foreign::Backup));
    assert_eq!(judge(&seen(Main::Database(backup), none), None), Err(Foreign::Backup));
    assert_eq!(judge(&seen(Main::Absent, none), None), Ok(Standing::New));
    assert_eq!(judge(&seen(Main::Absent, log(1, 1)), None), Err(Foreign::LogAlone));
}
