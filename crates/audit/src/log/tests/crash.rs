//! A crash before each act on a file: what is left opens, has all that was accepted, and goes on.

use super::*;

/// Takes a copy of the directory before each act, and notes what was accepted and signed until then.
struct Copies {
    directory: PathBuf,
    to: TempDir,
    taken: Mutex<Vec<Taken>>,
    seen: Mutex<Seen>,
    /// Copies are taken.
    on: AtomicBool,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    accepted: u64,
    synced: u64,
    head: Option<Head>,
}

struct Taken {
    directory: PathBuf,
    before: Act,
    of: PathBuf,
    seen: Seen,
}

impl Acts for Copies {
    fn before(&self, act: Act, path: &Path) -> io::Result<()> {
        if self.on.load(Ordering::SeqCst) && !matches!(act, Act::Read | Act::Look | Act::Open) {
            let mut taken = locked(&self.taken);
            let directory = self.to.path().join(taken.len().to_string());
            std::fs::create_dir(&directory).expect("a directory");
            copied(&self.directory, &directory);
            taken.push(Taken { directory, before: act, of: path.to_owned(), seen: *locked(&self.seen) });
        }
        Ok(())
    }
}

/// A log of which one thread does all that its threads do.
struct ByHand {
    log: Log,
    tiles: Tiles,
    compressing: compress::Compressing,
    copies: Arc<Copies>,
}

impl ByHand {
    fn open(directory: &Path) -> Self {
        let copies = Arc::new(Copies {
            directory: directory.to_owned(),
            to: quick_directory(),
            taken: Mutex::default(),
            seen: Mutex::default(),
            on: AtomicBool::new(false),
        });
        let mut setup = Setup::at(directory);
        setup.settings.checkpoint_every = Duration::ZERO;
        setup.settings.idle_checkpoint_every = Duration::ZERO;
        setup.settings.reserve_bytes = 1_000;
        setup.sizes.segment = 20_000;
        let asked = Arc::new(Asked::default());
        let acts = Arc::clone(&copies) as Arc<dyn Acts>;
        let (log, tiles) =
            Log::prepare(setup.settings, setup.sizes, acts, key(), &asked, None).expect("a log that opens");
        Self { log, tiles, compressing: compress::Compressing::default(), copies }
    }

    fn note(&self) {
        let state = self.log.state();
        let head = (state.head.size > 0).then_some(state.head);
        *locked(&self.copies.seen) = Seen { accepted: state.size, synced: state.synced, head };
    }

    fn append(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            assert!(data(&self.log, number).is_ok());
            self.note();
            if number % 50 == 49 {
                // Sees to room for the next.
                self.sync();
            }
        }
    }

    fn sync(&self) {
        sync::round(&self.log.shared).expect("synced");
        self.note();
    }

    fn tiles(&mut self) {
        self.tiles.attempt(false);
        assert!(self.log.state().accepting());
        self.note();
    }

    fn compress(&mut self) {
        self.compressing.step(&self.log.shared).expect("compressed");
    }
}

/// The copy opens by what was known then, has the records, and goes on to a log that is right.
fn check(taken: &Taken, least: u64) {
    let before = format!("before {:?} of {}", taken.before, taken.of.display());
    let mut setup = Setup::at(&taken.directory);
    setup.known = taken.seen.head;
    let log = setup.try_open().unwrap_or_else(|error| panic!("{before}: {error}"));
    let size = log.state().size;
    assert!(size >= least, "{before}: {size} of {least}");
    fill(&log, size..size + 2);
    log.close();
    drop(log);
    assert_eq!(contents(&taken.directory), records_of(0..size + 2), "{before}");
}

/// A crash of the process: what the kernel has is there.
#[test]
fn a_crash_at_any_moment_loses_nothing_that_was_accepted() {
    let directory = quick_directory();
    let mut by_hand = ByHand::open(&directory.path().join("audit"));
    by_hand.append(0..250);
    by_hand.sync();
    by_hand.tiles();
    by_hand.copies.on.store(true, Ordering::SeqCst);
    // Over the end of a bundle, over that of a file of the journal, with heads, trimming and compression.
    for numbers in [250..254, 254..259, 259..260] {
        by_hand.append(numbers);
        by_hand.sync();
        by_hand.tiles();
    }
    by_hand.append(260..263);
    by_hand.tiles();
    by_hand.copies.on.store(false, Ordering::SeqCst);
    by_hand.append(263..510);
    by_hand.sync();
    by_hand.copies.on.store(true, Ordering::SeqCst);
    by_hand.append(510..515);
    by_hand.sync();
    by_hand.tiles();
    by_hand.compress();
    by_hand.tiles();
    let taken = std::mem::take(&mut *locked(&by_hand.copies.taken));
    assert!(taken.len() > 60);
    for act in [Act::Write, Act::Sync, Act::Rename, Act::Remove, Act::Create] {
        assert!(taken.iter().any(|taken| taken.before == act), "{act:?}");
    }
    for taken in &taken {
        check(taken, taken.seen.accepted);
    }
}

/// A loss of power: of what was written to the journal and not synced any part may be missing.
#[test]
fn a_loss_of_power_takes_only_what_was_not_synced() {
    let directory = quick_directory();
    let mut by_hand = ByHand::open(&directory.path().join("audit"));
    by_hand.append(0..250);
    by_hand.sync();
    by_hand.tiles();
    by_hand.append(250..258);
    by_hand.sync();
    let kept = std::fs::metadata(journal_files(&by_hand.copies.directory).pop().expect("a file")).expect("there").len();
    by_hand.append(258..262);
    by_hand.copies.on.store(true, Ordering::SeqCst);
    by_hand.append(262..263);
    let taken = locked(&by_hand.copies.taken).pop().expect("a copy");
    let file = journal_files(&taken.directory).pop().expect("a file");
    let whole = std::fs::read(&file).expect("read");
    assert!(kept < whole.len() as u64 && taken.seen.synced == 258);
    for (at, length) in (kept as usize..=whole.len()).enumerate() {
        // A page that was not written is full of nothing.
        let hole = if at % 2 == 0 { whole.len() - length } else { 0 };
        let copy = quick_directory();
        copied(&taken.directory, copy.path());
        let file = journal_files(copy.path()).pop().expect("a file");
        std::fs::write(file, [&whole[..length], &vec![0; hole]].concat()).expect("written");
        let torn =
            Taken { directory: copy.path().to_owned(), before: taken.before, of: taken.of.clone(), seen: taken.seen };
        check(&torn, taken.seen.synced);
    }
}

/// Crashes one after the other, each while the last one's remains are put in order.
#[test]
fn a_crash_while_it_is_opened_is_one_like_any_other() {
    let directory = quick_directory();
    let first = directory.path().join("audit");
    let mut by_hand = ByHand::open(&first);
    by_hand.append(0..300);
    by_hand.sync();
    by_hand.tiles();
    by_hand.append(300..310);
    let crashed = directory.path().join("crashed");
    copied(&first, &crashed);
    let file = journal_files(&crashed).pop().expect("a file");
    let mut bytes = std::fs::read(&file).expect("read");
    bytes.extend(b"\x00\x09torn");
    std::fs::write(&file, bytes).expect("written");
    std::fs::write(crashed.join(layout::journal(400)), b"stray").expect("written");
    let copies = Arc::new(Copies {
        directory: crashed.clone(),
        to: quick_directory(),
        taken: Mutex::default(),
        seen: Mutex::new(Seen { accepted: 310, synced: 300, head: Some(by_hand.log.head()) }),
        on: AtomicBool::new(true),
    });
    let mut setup = Setup::at(&crashed);
    setup.acts = Arc::clone(&copies) as Arc<dyn Acts>;
    let asked = Arc::new(Asked::default());
    let opened = Log::prepare(setup.settings, setup.sizes, setup.acts, key(), &asked, None).expect("a log that opens");
    assert_eq!(opened.0.state().size, 310);
    let taken = std::mem::take(&mut *locked(&copies.taken));
    assert!(taken.len() > 4);
    for taken in &taken {
        check(taken, 310);
    }
}
