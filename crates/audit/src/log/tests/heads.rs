//! Heads, who signs them, and what is done with bundles that are closed.

use super::*;
use crate::note::Heads;

fn newest(directory: &Path) -> Checkpoint {
    Checkpoint::from_bytes(&std::fs::read(directory.join(layout::CHECKPOINT)).expect("a checkpoint")).expect("a head")
}

fn heads(directory: &Path) -> Vec<Checkpoint> {
    let bytes = std::fs::read(directory.join(layout::HEADS)).expect("heads");
    Heads::new(&bytes).collect::<Result<_, _>>().expect("whole heads")
}

/// A zone that signs when it is let.
struct Zone {
    key: LogKey,
    slow: Mutex<bool>,
    changed: Condvar,
}

impl Zone {
    fn new(slow: bool) -> Arc<Self> {
        let key = LogKey::from_seed("zone-a.example", &[3; 32]).expect("a key");
        Arc::new(Self { key, slow: Mutex::new(slow), changed: Condvar::new() })
    }

    fn release(&self) {
        *locked(&self.slow) = false;
        self.changed.notify_all();
    }
}

impl Cosigner for Zone {
    fn cosign(&self, text: &[u8]) -> Vec<crate::note::Line> {
        let slow = locked(&self.slow);
        drop(self.changed.wait_while(slow, |slow| *slow).unwrap_or_else(PoisonError::into_inner));
        vec![self.key.sign(text)]
    }
}

/// Heads are signed over all that came, at least once in a while; each is kept, and they follow each other.
#[test]
fn heads_follow_the_records() {
    let setup = Setup::new();
    let log = setup.open();
    for size in (0..2_000).step_by(100) {
        fill(&log, size..size + 100);
        until("a head is over it", || log.head().size == size + 100);
    }
    log.close();
    let heads = heads(setup.directory());
    assert!(heads.len() >= 20);
    assert!(heads.is_sorted_by(|one, next| one.head().size <= next.head().size));
    let mut edge = Edge::default();
    let mut left = heads.iter().peekable();
    for number in 0..=2_000 {
        while let Some(head) = left.next_if(|head| head.head().size == number) {
            assert_eq!(head.head(), edge.head());
            assert_eq!(head.signed_by(key().verifier()), Signed::Well);
        }
        edge.push(leaves::record_hash(&record(number)), |_| {});
    }
    assert!(left.next().is_none());
    assert_eq!(contents(setup.directory()), records_of(0..2_000));
}

/// A log to which nothing comes signs all the same, and its heads do not pile up.
#[test]
fn an_idle_log_signs_now_and_then() {
    let mut setup = Setup::new();
    setup.settings.idle_checkpoint_every = Duration::from_millis(20);
    let log = setup.open();
    fill(&log, 0..1);
    until("a head is over it", || log.head().size == 1);
    let signed = log.state().signed_at;
    until("it is signed again", || log.state().signed_at > signed);
    log.close();
    assert_eq!(heads(setup.directory()).iter().filter(|head| head.head().size == 1).count(), 1);
}

#[test]
fn partial_files_are_those_of_the_newest_heads() {
    let setup = Setup::new();
    let log = setup.open();
    for number in 0..300 {
        fill(&log, number..number + 1);
        if number % 10 == 0 {
            until("a head is over it", || log.head().size == number + 1);
        }
    }
    log.close();
    drop(log);
    drop(setup.open());
    let partial: Vec<PathBuf> =
        files(setup.directory()).into_keys().filter(|path| path.to_string_lossy().contains(".p/")).collect();
    assert_eq!(partial, [layout::tile(0, 1, 44), layout::tile(1, 0, 1), layout::bundle(1, 44)]);
}

#[test]
fn zones_sign_beside_the_log() {
    let mut setup = Setup::new();
    let zone = Zone::new(false);
    setup.cosigner = Arc::clone(&zone) as Arc<dyn Cosigner>;
    let log = setup.open();
    fill(&log, 0..10);
    log.close();
    let head = newest(setup.directory());
    assert_eq!(head.head().size, 10);
    assert_eq!(head.signed_by(key().verifier()), Signed::Well);
    assert_eq!(head.signed_by(zone.key.verifier()), Signed::Well);
    assert_eq!(log.state().signatures, 2);
}

/// A zone that hangs holds nothing up, and its signature comes later.
#[test]
fn a_head_does_not_wait_for_a_zone() {
    let mut setup = Setup::new();
    let zone = Zone::new(true);
    setup.cosigner = Arc::clone(&zone) as Arc<dyn Cosigner>;
    setup.settings.checkpoint_every = Duration::from_millis(100);
    let log = setup.open();
    fill(&log, 0..10);
    until("a head is over it", || log.head().size == 10);
    assert_eq!(newest(setup.directory()).signed_by(zone.key.verifier()), Signed::Not);
    zone.release();
    until("the zone has signed", || log.state().signatures == 2);
    let head = newest(setup.directory());
    assert_eq!((head.head().size, head.signed_by(zone.key.verifier())), (10, Signed::Well));
    log.close();
    let heads = heads(setup.directory());
    let by_zone = heads.iter().filter(|head| head.signed_by(zone.key.verifier()) == Signed::Well);
    assert!(by_zone.count() >= 1);
}

/// Closed bundles are a fifth of what they were, or less, and hold the same.
#[test]
fn closed_bundles_are_compressed() {
    let setup = Setup::new();
    let log = setup.open();
    fill(&log, 0..2_000);
    until("a head is over it", || log.head().size == 2_000);
    until("it is compressed", || (0..7).all(|index| setup.directory().join(bundles::compressed(index)).exists()));
    until("the plain ones are gone", || {
        (0..7).all(|index| !setup.directory().join(layout::bundle(index, 256)).exists())
    });
    assert!(setup.directory().join(layout::bundle(7, 208)).exists());
    log.close();
    drop(log);
    assert_eq!(contents(setup.directory()), records_of(0..2_000));
    let log = setup.open();
    fill(&log, 2_000..2_100);
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..2_100));
}

#[test]
fn the_state_says_how_the_log_is() {
    let setup = Setup::new();
    let log = setup.open();
    fill(&log, 0..10);
    until("a head is over it", || log.state().behind() == 0 && log.head().size == 10);
    let state = log.state();
    assert_eq!((state.size, state.synced, state.head, state.signatures), (10, 10, log.head(), 1));
    assert!(state.accepting() && state.signed_at.is_some() && state.bytes > 0);
    until("it was measured", || log.state().free_bytes.is_some_and(|free| free > 0));
    assert_eq!((state.full_in, state.bytes_per_second), (None, 0.0));
}

/// One whose program has a fault.
struct Faulty;

impl Cosigner for Faulty {
    fn cosign(&self, _text: &[u8]) -> Vec<crate::note::Line> {
        panic!("a fault that a test has planted")
    }
}

/// A thread that ended by a fault is seen, and a log that is opened anew has everything and goes on.
#[test]
fn a_thread_that_ends_by_a_fault_is_seen() {
    let mut setup = Setup::new();
    setup.cosigner = Arc::new(Faulty);
    let log = setup.open();
    fill(&log, 0..100);
    until("the fault is seen", || log.has_failed());
    log.close();
    assert!(!log.has_failed(), "closed");
    drop(log);
    setup.cosigner = Arc::new(());
    let log = setup.open();
    fill(&log, 100..200);
    assert!(!log.has_failed());
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..200));
}

/// Of the heads that are signed while records come, one is kept in a while, and the last before a pause and before the end;
/// each that replaces another one is over what the one before was over, so nothing is lost to who verifies.
#[test]
fn heads_are_kept_now_and_then() {
    let clock = Clock::manual();
    let mut setup = Setup::new();
    setup.settings.clock = clock.clone();
    setup.settings.checkpoint_every = Duration::from_secs(1);
    setup.settings.idle_checkpoint_every = Duration::from_secs(600);
    setup.sizes.heads_apart = Duration::from_secs(60);
    let asked = Arc::new(Asked::default());
    let open = |setup: &Setup| {
        let (settings, acts) = (setup.settings.clone(), Arc::clone(&setup.acts));
        Log::prepare(settings, setup.sizes, acts, key(), &asked, None).expect("a log that opens")
    };
    let (log, mut tiles) = open(&setup);
    let grow = |log: &Log, tiles: &mut Tiles| {
        let size = log.state().size;
        fill(log, size..size + 1);
        sync::round(&log.shared).expect("synced");
        tiles.attempt(false);
        assert_eq!((log.head().size, newest(setup.directory()).head().size), (size + 1, size + 1));
    };
    for _ in 0..300 {
        grow(&log, &mut tiles);
        clock.advance(Duration::from_secs(1));
    }
    let sizes = |directory: &Path| heads(directory).iter().map(|head| head.head().size).collect::<Vec<_>>();
    let kept = sizes(setup.directory());
    assert_eq!(kept, [1, 61, 121, 181, 241]);
    // A pause: what was the newest all the while is kept before another one takes its place.
    clock.advance(Duration::from_secs(100));
    grow(&log, &mut tiles);
    assert_eq!(sizes(setup.directory()), [1, 61, 121, 181, 241, 300]);
    clock.advance(Duration::from_secs(1));
    grow(&log, &mut tiles);
    tiles.attempt(true);
    assert_eq!(sizes(setup.directory()), [1, 61, 121, 181, 241, 300, 302], "the last one");
    drop((log, tiles));
    // Opened and closed, it is there already.
    let (log, mut tiles) = open(&setup);
    tiles.attempt(true);
    assert_eq!(sizes(setup.directory()).last_chunk(), Some(&[300, 302]));
    drop((log, tiles));
    assert_eq!(contents(setup.directory()), records_of(0..302));
}

/// Zones that sign one time and not the next: a head over the same records keeps the signatures that it had.
#[test]
fn a_head_that_is_signed_again_keeps_its_signatures() {
    struct Turns([LogKey; 2], AtomicUsize);
    impl Cosigner for Turns {
        fn cosign(&self, text: &[u8]) -> Vec<crate::note::Line> {
            let turn = self.1.fetch_add(1, Ordering::SeqCst);
            self.0.get(turn % 3).map(|key| key.sign(text)).into_iter().collect()
        }
    }
    let zone = |name: &str, seed| LogKey::from_seed(name, &[seed; 32]).expect("a key");
    let zones = Arc::new(Turns([zone("zone-a.example", 3), zone("zone-b.example", 4)], AtomicUsize::new(0)));
    let mut setup = Setup::new();
    setup.cosigner = Arc::clone(&zones) as Arc<dyn Cosigner>;
    setup.settings.idle_checkpoint_every = Duration::from_millis(20);
    let log = setup.open();
    fill(&log, 0..1);
    until("both have signed", || log.head().size == 1 && log.state().signatures == 3);
    let asked = zones.1.load(Ordering::SeqCst);
    until("it is signed again and again", || {
        let head = newest(setup.directory());
        assert!(zones.0.iter().all(|zone| head.signed_by(zone.verifier()) == Signed::Well), "{:?}", head.lines());
        zones.1.load(Ordering::SeqCst) > asked + 5
    });
    assert_eq!(log.state().signatures, 3);
    // Other records have to be signed anew.
    fill(&log, 1..2);
    until("a head is over it", || log.head().size == 2);
    assert!(newest(setup.directory()).lines().len() <= 3);
    log.close();
    assert_eq!(newest(setup.directory()).signed_by(key().verifier()), Signed::Well);
}
