//! Backups and restores over real files: what comes back, what is not undone, and that nothing changes before it is
//! decided.

mod access;
mod audit;
mod life;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;

use super::{MARGIN, Order, Plan, Present, Restore, UnknownAccessKeys, files};
use crate::backup::backup;
use crate::engine::sqlite::copy::open;
use crate::engine::sqlite::lineage::{LOG, beside};
use crate::engine::value::values;
use crate::{Begun, Error, NewKey, NewKeyStore, Store};
use model::clock::Clock;
use model::id::{ClusterId, HsmId, KeyStoreId, KeyVersionId};
use model::key::KeyState;
use model::key_store::{ConnectionState, Event};
use model::limits::ENCRYPTIONS_PER_VERSION;
use model::pin::{Candidate, Pin, PinChange};

struct Site {
    folder: TempDir,
    clock: Clock,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Clock::manual() }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("state/keystored.db")
    }

    fn copy(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn open(&self) -> Result<Store, Error> {
        fs::create_dir_all(self.folder.path().join("state")).unwrap();
        Store::open(&self.file(), self.clock.clone()).await
    }

    async fn used() -> (Self, Store, KeyStoreId) {
        let site = Self::new();
        let store = site.open().await.unwrap();
        let key_store = store.connected_key_store("main", &cluster("a")).await;
        (site, store, key_store)
    }

    async fn prepare(&self, source: &Path) -> Result<Restore, Error> {
        Restore::prepare(&self.file(), source, &self.clock).await
    }

    async fn restore(&self, source: &Path) -> (Plan, Vec<PathBuf>) {
        self.restore_with(source, UnknownAccessKeys::Disable).await
    }

    async fn restore_with(&self, source: &Path, unknown: UnknownAccessKeys) -> (Plan, Vec<PathBuf>) {
        let mut restore = self.prepare(source).await.unwrap();
        let plan = restore.take_over(unknown).await.unwrap();
        (plan, restore.commit().await.unwrap())
    }

    /// Every file in the state directory, with what is in it, but for what belongs to no database.
    fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.folder.path().join("state")).unwrap();
        let apart = ["keystored.db.lock", "keystored.db.reserve"];
        let files = entries.map(|entry| entry.unwrap().path());
        let files = files.filter(|path| !apart.iter().any(|name| path.ends_with(name)));
        files.map(|path| (path.clone(), fs::read(path).unwrap_or_else(|_| b"a directory".to_vec()))).collect()
    }

    async fn refuses(&self, source: &Path, says: &str) {
        let before = self.bytes();
        let error = self.prepare(source).await.err().unwrap_or_else(|| panic!("it was taken, though: {says}"));
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(before == self.bytes(), "{says}: {:?}", self.bytes().keys());
    }
}

fn cluster(letter: &str) -> ClusterId {
    ClusterId::parse(&format!("cluster-{}", letter.repeat(11))).unwrap()
}

fn hsm() -> HsmId {
    "hsm-a".into()
}

fn pin(text: &'static str) -> Pin {
    Pin::given(Bytes::from_static(text.as_bytes()))
}

async fn key(store: &Store, key_store: &KeyStoreId) -> KeyVersionId {
    let Begun::New(key) = store.begin_key(NewKey::new(key_store, &[hsm()]), None).await.unwrap() else {
        panic!("without a token every key is new")
    };
    let version = KeyVersionId { key, version: 1 };
    store.keep_blob(version, &Bytes::from_static(b"blob")).await.unwrap();
    store.force_state(key, KeyState::Enabled).await.unwrap();
    version
}

/// Records a PIN in the place of another one.
async fn replace(store: &Store, key_store: &KeyStoreId, hsm: HsmId, before: Option<Pin>, after: Pin) {
    store.replace_pin(key_store, PinChange { hsm, before, after }).await.unwrap();
}

#[tokio::test]
async fn a_backup_is_one_state_that_nobody_else_reads_and_nobody_opens() {
    let (site, store, key_store) = Site::used().await;
    let version = key(&store, &key_store).await;
    let before = site.bytes();
    let made = backup(&site.file(), &site.copy("one"), &site.clock).await.unwrap();
    assert_eq!(before[&site.file()], site.bytes()[&site.file()]);
    key(&store, &key_store).await;
    let copy = site.copy("one");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(made.bytes, fs::metadata(&copy).unwrap().len());
    assert!(backup(&site.file(), &copy, &site.clock).await.unwrap_err().to_string().contains("nothing is overwritten"));
    let dangling = site.copy("dangling");
    std::os::unix::fs::symlink(site.copy("nowhere"), &dangling).unwrap();
    assert!(backup(&site.file(), &dangling, &site.clock).await.unwrap_err().to_string().contains("is there already"));
    let own = beside(&site.file(), "-journal");
    assert!(backup(&site.file(), &own, &site.clock).await.unwrap_err().to_string().contains("belongs to the database"));
    let nowhere = site.copy("no/such/folder");
    assert!(backup(&site.file(), &nowhere, &site.clock).await.is_err());
    assert!(
        backup(&site.copy("none"), &site.copy("two"), &site.clock)
            .await
            .unwrap_err()
            .to_string()
            .contains("no database")
    );
    let left: Vec<_> = fs::read_dir(site.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    // Without the daemon, and of a crashed one.
    store.close().await;
    backup(&site.file(), &site.copy("two"), &site.clock).await.unwrap();
    let error = Store::open(&copy, site.clock.clone()).await.err().unwrap();
    assert!(matches!(&error, Error::Copied { why, .. } if why.contains("backup")), "{error}");
    fs::copy(&copy, site.file()).unwrap();
    let error = site.open().await.err().unwrap();
    assert!(error.to_string().contains("it is a backup"), "{error}");
    let error = backup(&site.file(), &site.copy("three"), &site.clock).await.unwrap_err();
    assert!(matches!(error, Error::Copied { .. }), "{error}");
    // The way out of it: what lies there is not what keystored left.
    let restore = site.prepare(&site.copy("two")).await.unwrap();
    assert!(matches!(restore.present(), Present::Unreadable(why) if why.contains("backup")), "{:?}", restore.present());
    assert_eq!(restore.restored().key_count(), 2);
    restore.commit().await.unwrap();
    assert!(site.open().await.unwrap().catalogue().key(version.key).is_some());
}

#[tokio::test]
async fn what_was_backed_up_comes_back_and_what_was_there_is_set_aside() {
    let (site, store, key_store) = Site::used().await;
    let version = key(&store, &key_store).await;
    site.clock.advance(std::time::Duration::from_secs(100));
    let made = backup(&site.file(), &site.copy("backup"), &site.clock).await.unwrap();
    let later = key(&store, &key_store).await;
    // As a crash leaves it: not closed, the later key in the log alone, and nobody holds the lock any more.
    let _left = store;
    fs::remove_file(beside(&site.file(), ".lock")).unwrap();
    let before = site.bytes();
    let there: Vec<&PathBuf> = before.keys().collect();
    let restore = site.prepare(&site.copy("backup")).await.unwrap();
    assert_eq!((restore.origin().made_at, restore.origin().change), (Some(100_000), made.change));
    assert!(matches!(restore.present(), Present::Readable { change, damage: None } if *change > made.change));
    assert!(matches!(restore.former(), Some((_, Order::FormerIsNewer))));
    restore.abandon().await.unwrap();
    assert!(before == site.bytes(), "{:?}", site.bytes().keys());

    let (plan, aside) = site.restore(&site.copy("backup")).await;
    assert_eq!(plan.unknown.iter().map(|key| key.id).collect::<Vec<_>>(), [later.key]);
    assert_eq!(aside.len(), there.len(), "{aside:?}");
    for path in &aside {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("keystored.db.before-1970-01-01T00-01-40Z"), "{name}");
    }
    for entry in fs::read_dir(site.folder.path().join("state")).unwrap().map(Result::unwrap) {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
    let store = site.open().await.unwrap();
    assert_eq!(store.catalogue().keys().map(|key| key.id).collect::<Vec<_>>(), [version.key]);
    store.close().await;

    // And back again, from what was set aside: its log belongs to it.
    site.clock.advance(std::time::Duration::from_secs(1));
    let (plan, _) = site.restore(&aside[0]).await;
    assert!(plan.unknown.is_empty() && plan.back == [later.key], "{plan:?}");
    assert_eq!(site.open().await.unwrap().catalogue().key_count(), 2);
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_nothing_is_changed() {
    let (site, store, key_store) = Site::used().await;
    key(&store, &key_store).await;
    let good = site.copy("good");
    backup(&site.file(), &good, &site.clock).await.unwrap();
    let in_use = site.prepare(&good).await.err().unwrap();
    assert!(matches!(in_use, Error::InUse(_)), "{in_use}");
    let raw = site.copy("raw");
    fs::copy(site.file(), &raw).unwrap();
    fs::copy(beside(&site.file(), LOG), beside(&raw, LOG)).unwrap();
    store.close().await;

    site.refuses(&site.copy("none"), "No such file").await;
    site.refuses(site.folder.path(), "it is no file").await;
    site.refuses(&raw, "write-ahead log (-wal) lies beside it").await;
    let bytes = fs::read(&good).unwrap();
    let odd = site.copy("odd");
    for (content, says) in [
        (vec![], "it is empty"),
        (b"a letter to somebody".to_vec(), "no SQLite database"),
        (bytes[..bytes.len() / 2].to_vec(), "damaged"),
    ] {
        fs::write(&odd, content).unwrap();
        site.refuses(&odd, says).await;
    }
    let mut torn = bytes.clone();
    torn[4_096..8_192].fill(0xa5);
    fs::write(&odd, torn).unwrap();
    site.refuses(&odd, "damaged").await;
    fs::write(&odd, &bytes).unwrap();
    for (what, says) in [(LOG, "-wal"), ("-journal", "-journal")] {
        fs::write(beside(&odd, what), b"something").unwrap();
        site.refuses(&odd, says).await;
        fs::remove_file(beside(&odd, what)).unwrap();
    }
    for (sql, says) in [
        ("INSERT INTO _sqlx_migrations VALUES (99, 'later', '', TRUE, x'00', 0)", "newer release"),
        ("UPDATE _sqlx_migrations SET checksum = x'01' WHERE version = 1", "another build"),
        ("DROP TABLE revision", "no database of keystored"),
    ] {
        fs::write(&odd, &bytes).unwrap();
        let mut database = open(&odd).await.unwrap();
        database.execute(sql, values![]).await.unwrap();
        database.close().await.unwrap();
        site.refuses(&odd, says).await;
    }
    assert_eq!(site.open().await.unwrap().catalogue().key_count(), 1);
}

#[tokio::test]
async fn what_happened_since_in_tokens_and_outside_is_not_undone() {
    let (site, store, key_store) = Site::used().await;
    let (kept, disabled) = (key(&store, &key_store).await, key(&store, &key_store).await);
    let destroyed = key(&store, &key_store).await;
    store.force_state(destroyed.key, KeyState::Creating).await.unwrap();
    replace(&store, &key_store, hsm(), None, pin("first")).await;
    store.reserve_encryptions(kept, 1_000).await.unwrap();
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();

    let rotated = Pin { rotated_at: Some(7), ..pin("rotated") };
    replace(&store, &key_store, hsm(), Some(pin("first")), rotated.clone()).await;
    replace(&store, &key_store, "hsm-b".into(), None, pin("of another HSM")).await;
    store.reserve_encryptions(kept, 500).await.unwrap();
    store.force_state(disabled.key, KeyState::Disabled).await.unwrap();
    store.abandon_key(destroyed.key).await.unwrap();
    store.advance_key_store(&key_store, Event::Disconnect, None, false).await.unwrap();
    let other = NewKeyStore {
        id: KeyStoreId::random(),
        name: "later".into(),
        cluster: cluster("b"),
        trust_anchor: "PEM".into(),
        pins: vec![(hsm(), pin("of later"))],
        maker: None,
    };
    let later = store.create_key_store(other).await.unwrap();
    let revision = store.revision();
    store.close().await;

    let (plan, _) = site.restore(&copy).await;
    assert_eq!(plan.gone, [destroyed]);
    assert_eq!(plan.unknown_stores.iter().map(|store| store.id.clone()).collect::<Vec<_>>(), [later]);
    let store = site.open().await.unwrap();
    let catalogue = store.catalogue();
    assert!(catalogue.revision() > revision);
    assert!(catalogue.is_destroyed(destroyed) && catalogue.key(destroyed.key).is_none());
    assert_eq!(catalogue.key(disabled.key).unwrap().state, KeyState::Disabled);
    assert_eq!(catalogue.key_store(&key_store).unwrap().state, ConnectionState::Disconnected);
    let pins = [(hsm(), rotated), ("hsm-b".into(), pin("of another HSM"))];
    assert_eq!(store.pins(&key_store).await.unwrap(), pins);
    assert_eq!(store.facts().await.unwrap().reserved[&kept], 1_500);
}

#[tokio::test]
async fn without_what_was_there_budgets_shrink_by_a_margin() {
    let (site, store, key_store) = Site::used().await;
    let (kept, spent) = (key(&store, &key_store).await, key(&store, &key_store).await);
    store.reserve_encryptions(kept, 1_000).await.unwrap();
    store.reserve_encryptions(spent, ENCRYPTIONS_PER_VERSION - 5).await.unwrap();
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();
    store.close().await;
    let elsewhere = Site::new();
    fs::create_dir(elsewhere.folder.path().join("state")).unwrap();
    let restore = elsewhere.prepare(&copy).await.unwrap();
    assert_eq!(restore.present(), &Present::Missing);
    restore.abandon().await.unwrap();
    let (plan, aside) = elsewhere.restore(&copy).await;
    assert_eq!((plan.by_margin, aside), (2, vec![]));
    let reserved = elsewhere.open().await.unwrap().facts().await.unwrap().reserved;
    assert_eq!([reserved[&kept], reserved[&spent]], [1_000 + MARGIN, ENCRYPTIONS_PER_VERSION]);
}

/// Somebody moved the file and forgot the record, or put a snapshot of the file system's there.
#[tokio::test]
async fn the_very_file_is_taken_over_in_its_place() {
    let (site, store, key_store) = Site::used().await;
    let version = key(&store, &key_store).await;
    let elsewhere = Site::new();
    fs::create_dir(elsewhere.folder.path().join("state")).unwrap();
    for what in ["", LOG] {
        fs::copy(beside(&site.file(), what), beside(&elsewhere.file(), what)).unwrap();
    }
    assert!(matches!(elsewhere.open().await.err().unwrap(), Error::Copied { .. }));
    let (plan, aside) = elsewhere.restore(&elsewhere.file()).await;
    assert_eq!((plan.by_margin, aside.len()), (1, 2));
    assert!(elsewhere.open().await.unwrap().catalogue().key(version.key).is_some());
    // But not with a log that is another's.
    let (other, _open, _) = Site::used().await;
    fs::copy(beside(&other.file(), LOG), beside(&elsewhere.file(), LOG)).unwrap();
    let error = elsewhere.prepare(&elsewhere.file()).await.err().unwrap();
    assert!(error.to_string().contains("-wal"), "{error}");
}

#[tokio::test]
async fn a_damaged_database_still_tells_what_can_be_read() {
    let (site, store, key_store) = Site::used().await;
    let version = key(&store, &key_store).await;
    store.reserve_encryptions(version, 10).await.unwrap();
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();
    replace(&store, &key_store, hsm(), None, pin("newest")).await;
    store.close().await;
    // The index of client tokens, which no restore asks for.
    let mut database = open(&site.file()).await.unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'client_tokens_by_age'";
    let (page,): (i64,) = database.one(root, values![]).await.unwrap();
    database.close().await.unwrap();
    let mut bytes = fs::read(site.file()).unwrap();
    let at = usize::try_from(page - 1).unwrap() * 4_096;
    bytes[at..at + 4_096].fill(0x5a);
    fs::write(site.file(), bytes).unwrap();
    let restore = site.prepare(&copy).await.unwrap();
    assert!(matches!(restore.present(), Present::Readable { damage: Some(_), .. }), "{:?}", restore.present());
    restore.abandon().await.unwrap();
    let (plan, _) = site.restore(&copy).await;
    assert_eq!(plan.pins, [(key_store.clone(), hsm(), pin("newest"))]);
    let store = site.open().await.unwrap();
    assert_eq!(store.pins(&key_store).await.unwrap(), [(hsm(), pin("newest"))]);
}

/// What a token said of a PIN during a restore is remembered, also when the restore came to nothing.
#[tokio::test]
async fn what_came_of_logins_is_remembered_whatever_comes_of_the_restore() {
    let (site, store, key_store) = Site::used().await;
    replace(&store, &key_store, hsm(), None, pin("known")).await;
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();
    store.close().await;
    let attempt = Pin { attempt: Some(Candidate::Current), ..pin("known") };
    let refused = Pin { current_refused: true, failures: 1, ..pin("known") };

    // All is well: nothing is left to remember.
    let before = site.bytes();
    let restore = site.prepare(&copy).await.unwrap();
    let former = restore.former().unwrap().0.clone();
    restore.begin_looking().unwrap();
    replace(&former, &key_store, hsm(), Some(pin("known")), attempt.clone()).await;
    replace(&former, &key_store, hsm(), Some(attempt.clone()), pin("known")).await;
    restore.end_looking().await.unwrap();
    restore.abandon().await.unwrap();
    assert!(before == site.bytes());

    // Broken off inside the login.
    let restore = site.prepare(&copy).await.unwrap();
    let former = restore.former().unwrap().0.clone();
    restore.begin_looking().unwrap();
    replace(&former, &key_store, hsm(), Some(pin("known")), attempt.clone()).await;
    drop((restore, former));
    let store = site.open().await.unwrap();
    assert_eq!(store.pins(&key_store).await.unwrap(), [(hsm(), attempt.clone())]);
    store.close().await;
    assert!(!site.bytes().keys().any(|path| path.to_string_lossy().contains("restore")), "{:?}", site.bytes().keys());

    // Refused, and nobody said yes.
    let restore = site.prepare(&copy).await.unwrap();
    let former = restore.former().unwrap().0.clone();
    restore.begin_looking().unwrap();
    replace(&former, &key_store, hsm(), Some(attempt), refused.clone()).await;
    restore.end_looking().await.unwrap();
    restore.abandon().await.unwrap();
    let store = site.open().await.unwrap();
    assert_eq!(store.pins(&key_store).await.unwrap(), [(hsm(), refused.clone())]);
    store.close().await;

    // And restored.
    site.restore(&copy).await;
    assert_eq!(site.open().await.unwrap().pins(&key_store).await.unwrap(), [(hsm(), refused)]);
}
