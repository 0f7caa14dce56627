//! The whole log, on real files.

mod again;
mod archived;
mod crash;
mod heads;
mod hostile;
mod hot;
mod opening;
mod others;
mod room;
mod trouble;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use model::clock::Clock;
use tempfile::TempDir;

use super::bundles::TILE_BYTES;
use super::disk::{Act, Acts, Disk};
use super::settings::Sizes;
use super::tree::Edge;
use super::*;
use crate::layout;
use crate::note::{Checkpoint, Signed};

const ORIGIN: &str = "keystored.example/audit/test";

/// As long as a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

fn key() -> LogKey {
    LogKey::from_seed(ORIGIN, &[7; 32]).expect("a key")
}

/// How a log of a test is opened.
struct Setup {
    settings: Settings,
    sizes: Sizes,
    acts: Arc<dyn Acts>,
    cosigner: Arc<dyn Cosigner>,
    known: Option<Head>,
    _directory: Option<TempDir>,
}

impl Setup {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut setup = Self::at(&directory.path().join("audit"));
        setup._directory = Some(directory);
        setup
    }

    /// Small files and little time, so that there is much to happen.
    fn at(directory: &Path) -> Self {
        let mut settings = Settings::new(directory.to_owned(), ORIGIN.to_owned(), Clock::system());
        settings.sync = Sync::Interval(Duration::from_millis(5));
        settings.reserve_bytes = 64 << 10;
        settings.checkpoint_every = Duration::from_millis(20);
        // All heads are kept, and no write of a busy machine counts as slow or is given up, but where a test is about that.
        let (heads_apart, slow_write, wait) = (Duration::ZERO, Duration::from_secs(3_600), PATIENCE);
        let sizes = Sizes { segment: 256 << 10, heads_apart, slow_write, wait, ..Sizes::default() };
        Self { settings, sizes, acts: Arc::new(()), cosigner: Arc::new(()), known: None, _directory: None }
    }

    fn with(mut self, acts: &Arc<Script>) -> Self {
        self.acts = Arc::clone(acts) as Arc<dyn Acts>;
        self
    }

    fn directory(&self) -> &Path {
        &self.settings.directory
    }

    fn try_open(&self) -> Result<Log, OpenError> {
        let (settings, acts, cosigner) = (self.settings.clone(), Arc::clone(&self.acts), Arc::clone(&self.cosigner));
        Log::open_with(settings, self.sizes, acts, key(), cosigner, self.known)
    }

    fn open(&self) -> Log {
        self.try_open().expect("a log that opens")
    }
}

/// A directory in memory where there is one: for what is done again for every byte.
fn quick_directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// Which acts fail.
type Rule = dyn FnMut(Act, &Path) -> Option<io::Error> + Send;

/// What happens to acts on files.
#[derive(Default)]
struct Script {
    rule: Mutex<Option<Box<Rule>>>,
    /// Writes wait while this is so.
    held: Mutex<bool>,
    changed: Condvar,
    holding: AtomicUsize,
    /// Writes are cut short.
    short: AtomicBool,
    acts: Mutex<Vec<(Act, PathBuf)>>,
}

impl Script {
    fn fail(&self, rule: impl FnMut(Act, &Path) -> Option<io::Error> + Send + 'static) {
        *locked(&self.rule) = Some(Box::new(rule));
    }

    fn pass(&self) {
        *locked(&self.rule) = None;
    }

    /// Holds writes to the journal until [`Self::release`].
    fn hold(&self) {
        *locked(&self.held) = true;
    }

    fn release(&self) {
        *locked(&self.held) = false;
        self.changed.notify_all();
    }

    fn count(&self, act: Act, within: &str) -> usize {
        locked(&self.acts).iter().filter(|(done, path)| *done == act && path.starts_with(within)).count()
    }
}

impl Acts for Script {
    fn before(&self, act: Act, path: &Path) -> io::Result<()> {
        locked(&self.acts).push((act, path.to_owned()));
        if act == Act::Write && path.starts_with(layout::JOURNAL) {
            self.holding.fetch_add(1, Ordering::SeqCst);
            let held = locked(&self.held);
            drop(self.changed.wait_while(held, |held| *held).unwrap_or_else(PoisonError::into_inner));
            self.holding.fetch_sub(1, Ordering::SeqCst);
        }
        let failed = locked(&self.rule).as_mut().and_then(|rule| rule(act, path));
        failed.map_or(Ok(()), Err)
    }

    fn portion(&self, bytes: usize) -> usize {
        if self.short.load(Ordering::SeqCst) { bytes.min(100) } else { bytes }
    }
}

fn os_error(errno: rustix::io::Errno) -> Option<io::Error> {
    Some(errno.into())
}

/// Sets it when the scope ends, also by a panic.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits until this is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Clock::system().now();
    while !so() {
        assert!(Clock::system().now() - begun < PATIENCE, "waited in vain until {what}");
        thread::yield_now();
    }
}

fn record(number: u64) -> Vec<u8> {
    format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat((number % 97) as usize)).into_bytes()
}

fn data(log: &Log, number: u64) -> Result<Position, NotAccepted> {
    log.append(Leaves::one(&record(number)).expect("a leaf"), Class::Data).wait()
}

fn append(log: &Log, number: u64, class: Class) -> Result<Position, NotAccepted> {
    log.append(Leaves::one(&record(number)).expect("a leaf"), class).wait()
}

/// These records, each at its number.
fn fill(log: &Log, numbers: std::ops::Range<u64>) {
    for number in numbers {
        assert_eq!(data(log, number), Ok(Position { first: number, count: 1 }));
    }
}

fn records_of(numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    numbers.map(record).collect()
}

/// The newest head in a directory; its signature is good, and it is the head of the records in the bundles there.
fn checked_head(directory: &Path) -> Head {
    let bytes = std::fs::read(directory.join(layout::CHECKPOINT)).expect("a checkpoint");
    let checkpoint = Checkpoint::from_bytes(&bytes).expect("a head");
    assert_eq!(checkpoint.origin(), ORIGIN);
    assert_eq!(checkpoint.signed_by(key().verifier()), Signed::Well);
    let disk = raw(directory);
    let head = checkpoint.head();
    let mut edge = Edge::default();
    let mut tiles = Vec::new();
    for record in bundled(&disk, head.size) {
        edge.push(leaves::record_hash(&record), |tile| tiles.push(tile));
    }
    assert_eq!(edge.head(), head, "what was signed is what is in the bundles");
    for tile in tiles.into_iter().chain(edge.partial()) {
        let path = layout::tile(tile.level, tile.index, tile.width());
        assert_eq!(
            disk.read(&path, TILE_BYTES).expect("read").as_deref(),
            Some(tile.bytes().as_slice()),
            "{}",
            path.display()
        );
    }
    head
}

/// A directory's files without the lock that a log has.
fn raw(directory: &Path) -> Disk {
    Disk::unlocked(directory).expect("a directory")
}

fn bundled(disk: &Disk, size: u64) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for index in 0..size.div_ceil(FULL) {
        let width = (size - index * FULL).min(FULL);
        let bundle = bundles::read_bundle(disk, index, width).expect("read").expect("a bundle");
        all.extend(bundles::records(&bundle, width).expect("records").into_iter().map(<[u8]>::to_vec));
    }
    all
}

/// All records that a closed log has, by its newest head.
fn contents(directory: &Path) -> Vec<Vec<u8>> {
    let head = checked_head(directory);
    bundled(&raw(directory), head.size)
}

/// All files below a directory, by their paths in it.
fn files(directory: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut left = VecDeque::from([directory.to_owned()]);
    while let Some(next) = left.pop_front() {
        for entry in std::fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push_back(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                found.insert(path.strip_prefix(directory).expect("below").to_owned(), bytes);
            }
        }
    }
    found
}

/// A copy of a directory, as a crash of the process at this moment would leave it.
fn copied(directory: &Path, to: &Path) {
    for (path, bytes) in files(directory) {
        let path = to.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, bytes).expect("a file");
    }
}

/// The journal's files, in order.
fn journal_files(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory.join(layout::JOURNAL))
        .expect("a journal")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.sort();
    found
}
