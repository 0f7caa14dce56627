//! Many who append at once, and how long they wait.

use super::*;

/// What each thread appended is in the log once, where it was told, and in the thread's order.
#[test]
fn every_record_is_in_the_log_once_and_in_order() {
    for sync in [Sync::Interval(Duration::from_millis(5)), Sync::Always] {
        let mut setup = Setup::new();
        setup.settings.sync = sync;
        let log = setup.open();
        let (threads, each) = (8_u64, 400_u64);
        let told: Vec<Vec<(u64, Vec<Vec<u8>>)>> = thread::scope(|scope| {
            let work = |by: u64| {
                let log = &log;
                move || {
                    let mut told = Vec::new();
                    for number in 0..each {
                        let class =
                            [Class::Data, Class::Data, Class::Control, Class::Restricting][(number % 4) as usize];
                        let records: Vec<Vec<u8>> =
                            (0..=number % 3).map(|part| format!("{by} {number} {part}").into_bytes()).collect();
                        let mut leaves = Leaves::new();
                        records.iter().for_each(|record| leaves.push(record).expect("a leaf"));
                        let position = log.append(leaves, class).wait().expect("accepted");
                        assert_eq!(position.count as usize, records.len());
                        told.push((position.first, records));
                    }
                    told
                }
            };
            let spawned: Vec<_> = (0..threads).map(|by| scope.spawn(work(by))).collect();
            spawned.into_iter().map(|thread| thread.join().expect("a thread")).collect()
        });
        let size = log.state().size;
        log.close();
        let contents = contents(setup.directory());
        assert_eq!(contents.len() as u64, size);
        for events in &told {
            assert!(events.is_sorted_by(|one, next| one.0 < next.0));
            for (first, records) in events {
                assert_eq!(contents[*first as usize..][..records.len()], records[..]);
            }
        }
        let all: usize = told.iter().flatten().map(|(_, records)| records.len()).sum();
        assert_eq!(all, contents.len());
    }
}

/// Data is accepted when the kernel has it, the rest when the disk has it; and one write takes all that wait.
#[test]
fn classes_say_when_a_record_is_accepted() {
    let script = Arc::new(Script::default());
    let mut setup = Setup::new().with(&script);
    setup.settings.sync = Sync::Interval(Duration::from_secs(3_600));
    let log = setup.open();
    let syncs = || script.count(Act::Sync, layout::JOURNAL);
    let before = syncs();
    fill(&log, 0..10);
    assert_eq!((syncs(), log.state().synced), (before, 0));
    assert_eq!(append(&log, 10, Class::Control).map(|position| position.first), Ok(10));
    assert!(syncs() > before);
    assert_eq!(log.state().synced, 11);
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..11));
}

#[test]
fn who_waits_is_written_with_the_next_write() {
    let script = Arc::new(Script::default());
    let setup = Setup::new().with(&script);
    let log = setup.open();
    script.hold();
    thread::scope(|scope| {
        let first = scope.spawn(|| data(&log, 0));
        until("the first writes", || script.holding.load(Ordering::SeqCst) == 1);
        let waiting: Vec<Appending> =
            (1..100).map(|number| log.append(Leaves::one(&record(number)).expect("a leaf"), Class::Data)).collect();
        // A caller that went away changes nothing.
        drop(log.append(Leaves::one(&record(100)).expect("a leaf"), Class::Data));
        let before = script.count(Act::Write, layout::JOURNAL);
        script.release();
        assert_eq!(first.join().expect("a thread"), Ok(Position { first: 0, count: 1 }));
        for (number, waiting) in (1..).zip(waiting) {
            assert_eq!(waiting.wait(), Ok(Position { first: number, count: 1 }));
        }
        assert_eq!(script.count(Act::Write, layout::JOURNAL), before + 1);
    });
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..101));
}

/// Those who come together are written together, in their order, and before whoever comes then; what waits for the disk does not
/// wait for others.
#[test]
fn who_comes_with_others_is_written_with_them() {
    let script = Arc::new(Script::default());
    let mut setup = Setup::new().with(&script);
    setup.settings.sync = Sync::Interval(Duration::from_secs(3_600));
    let log = setup.open();
    let writes = || script.count(Act::Write, layout::JOURNAL);
    let gather = |number, class| log.gather(Leaves::one(&record(number)).expect("a leaf"), class);
    let before = writes();
    let mut gathered: Vec<Appending> = (0..50).map(|number| gather(number, Class::Data)).collect();
    // Who has gone by then is on record all the same.
    drop(gathered.remove(25));
    log.write_gathered();
    for (number, waiting) in (0..50).filter(|number| *number != 25).zip(gathered) {
        assert_eq!(waiting.wait(), Ok(Position { first: number, count: 1 }));
    }
    // One of them, but for rounds of the log's own thread that end at this moment: whoever comes alone takes 50.
    let after = writes();
    assert!((before + 1..before + 10).contains(&after), "{before} {after}");
    log.write_gathered();
    assert_eq!(writes(), after, "nothing was left");
    let early = gather(50, Class::Data);
    assert_eq!(data(&log, 51), Ok(Position { first: 51, count: 1 }));
    assert_eq!(early.wait(), Ok(Position { first: 50, count: 1 }));
    assert_eq!(gather(52, Class::Control).wait(), Ok(Position { first: 52, count: 1 }));
    // Nobody asks for it.
    assert_eq!(gather(53, Class::Data).wait(), Ok(Position { first: 53, count: 1 }));
    assert_eq!(log.gather(Leaves::new(), Class::Data).wait(), Err(NotAccepted::Empty));
    log.close();
    for class in [Class::Control, Class::Data] {
        assert_eq!(gather(54, class).wait(), Err(NotAccepted::Closed));
    }
    assert_eq!(contents(setup.directory()), records_of(0..54));
}

/// A write that hangs keeps nobody for longer than that, and no more wait than may.
#[test]
fn nobody_waits_without_end() {
    let script = Arc::new(Script::default());
    let mut setup = Setup::new().with(&script);
    setup.sizes.queue = (3, 1 << 20);
    // As long as this thread may stand still between two lines.
    setup.sizes.wait = Duration::from_secs(1);
    let log = setup.open();
    script.hold();
    thread::scope(|scope| {
        let hangs = scope.spawn(|| data(&log, 0));
        until("it hangs", || script.holding.load(Ordering::SeqCst) == 1);
        let leaf = |number| Leaves::one(&record(number)).expect("a leaf");
        let waiting: Vec<Appending> = (1..4).map(|number| log.append(leaf(number), Class::Data)).collect();
        assert_eq!(data(&log, 4), Err(NotAccepted::Busy));
        for waiting in waiting {
            assert_eq!(waiting.wait(), Err(NotAccepted::TimedOut));
        }
        script.release();
        assert_eq!(hangs.join().expect("a thread"), Ok(Position { first: 0, count: 1 }));
    });
    // Who gave up before it was written is not written later.
    assert_eq!(data(&log, 1), Ok(Position { first: 1, count: 1 }));
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..2));
}

/// What the kernel has is in the log when the disk answers: whoever gave up need not append it again, and knows that.
#[test]
fn who_gives_up_is_told_whether_it_is_written() {
    let script = Arc::new(Script::default());
    let mut setup = Setup::new().with(&script);
    setup.sizes.wait = Duration::from_secs(1);
    let log = setup.open();
    script.fail(|act, path| {
        (act == Act::Sync && path.starts_with(layout::JOURNAL)).then(|| rustix::io::Errno::IO.into())
    });
    assert_eq!(append(&log, 0, Class::Control), Err(NotAccepted::Unsynced));
    assert!(!log.state().accepting());
    assert_eq!(append(&log, 1, Class::Control), Err(NotAccepted::TimedOut), "nothing is written to such a file");
    script.pass();
    until("it has healed", || log.state().accepting());
    // One that does not wait for the disk: it has a second.
    assert_eq!(data(&log, 1), Ok(Position { first: 1, count: 1 }));
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..2));
}

#[test]
fn a_queue_has_as_many_bytes_as_it_may() {
    let script = Arc::new(Script::default());
    let mut setup = Setup::new().with(&script);
    setup.sizes.queue = (1_000, 2_500);
    let log = setup.open();
    script.hold();
    thread::scope(|scope| {
        let hangs = scope.spawn(|| data(&log, 0));
        until("it hangs", || script.holding.load(Ordering::SeqCst) == 1);
        let leaf = || Leaves::one(&[b'x'; 1_000]).expect("a leaf");
        let waiting = [log.append(leaf(), Class::Data), log.append(leaf(), Class::Data)];
        assert_eq!(log.append(leaf(), Class::Data).wait(), Err(NotAccepted::Busy));
        script.release();
        assert!(hangs.join().expect("a thread").is_ok());
        assert!(waiting.into_iter().all(|waiting| waiting.wait().is_ok()));
    });
}

/// A future is woken, by a runtime as by a thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn futures_are_woken() {
    let setup = Setup::new();
    let log = Arc::new(setup.open());
    let one = |number: u64| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let class = if number.is_multiple_of(2) { Class::Data } else { Class::Control };
            log.append(Leaves::one(&record(number)).expect("a leaf"), class).await
        })
    };
    let tasks: Vec<_> = (0..500).map(one).collect();
    let mut positions = Vec::new();
    for task in tasks {
        positions.push(task.await.expect("a task").expect("accepted").first);
    }
    positions.sort_unstable();
    assert_eq!(positions, (0..500).collect::<Vec<_>>());
    assert!(log.wait_beyond(499).await.is_some_and(|size| size >= 500));
    let (waiting, log) = (Arc::clone(&log), log);
    let beyond = tokio::spawn(async move { waiting.wait_beyond(500).await });
    tokio::task::spawn_blocking(move || log.close()).await.expect("closed");
    assert_eq!(beyond.await.expect("a task"), None);
}

#[test]
fn leaves_have_bounds() {
    assert_eq!(Leaves::one(b"").map(|_| ()), Err(NoLeaf::Size(0)));
    assert_eq!(Leaves::one(&[0; 65_536]).map(|_| ()), Err(NoLeaf::Size(65_536)));
    let mut leaves = Leaves::one(&[1; 65_535]).expect("the longest");
    let refused = std::iter::repeat_with(|| leaves.push(&[1; 65_535])).find_map(Result::err);
    assert_eq!(refused, Some(NoLeaf::Event));
    assert_eq!(leaves.count(), 127);
    let setup = Setup::new();
    let log = setup.open();
    assert_eq!(log.append(leaves.clone(), Class::Control).wait(), Ok(Position { first: 0, count: 127 }));
    assert_eq!(log.append(leaves, Class::Data).wait(), Ok(Position { first: 127, count: 127 }));
    assert_eq!(log.append(Leaves::new(), Class::Data).wait(), Err(NotAccepted::Empty));
}

#[test]
fn a_log_that_is_closed_takes_nothing() {
    let setup = Setup::new();
    let log = setup.open();
    fill(&log, 0..3);
    log.close();
    for class in [Class::Data, Class::Control, Class::Restricting] {
        assert_eq!(append(&log, 3, class), Err(NotAccepted::Closed));
    }
    assert_eq!(contents(setup.directory()), records_of(0..3));
}

/// Those who wait in vain are let go of, in their order, and those who ended before are not kept.
#[test]
fn the_timekeeper_keeps_those_who_wait() {
    let clock = Clock::manual();
    let times = waiting::Timekeeper::default();
    let second = Duration::from_secs(1);
    let waiters: Vec<_> = (0..3).map(|_| Arc::new(waiting::Waiter::default())).collect();
    assert_eq!(times.expire(clock.now()), None);
    for (number, waiter) in (1..).zip(&waiters) {
        times.keep(clock.now() + second * number, waiter);
    }
    assert_eq!(times.expire(clock.now()), Some(clock.now() + second));
    clock.advance(second);
    assert_eq!(times.expire(clock.now()), Some(clock.now() + second));
    assert_eq!(waiters.iter().map(|waiter| waiter.is_settled()).collect::<Vec<_>>(), [true, false, false]);
    waiters[1].settle(Ok(Position { first: 1, count: 1 }));
    waiters[2].settle(Ok(Position { first: 2, count: 1 }));
    times.keep(clock.now() + second, &Arc::new(waiting::Waiter::default()));
    assert_eq!(times.kept(), 1);
}

/// Writes take as long as it says, by the log's clock; who did them is noted.
struct Slow {
    clock: Clock,
    takes: Mutex<Duration>,
    by: Mutex<Vec<Option<String>>>,
}

impl Acts for Slow {
    fn before(&self, act: Act, path: &Path) -> io::Result<()> {
        if act == Act::Write && path.starts_with(layout::JOURNAL) {
            self.clock.advance(*locked(&self.takes));
            locked(&self.by).push(thread::current().name().map(str::to_owned));
        }
        Ok(())
    }
}

/// A slow write keeps its caller, and from then on the log's own thread writes, until writes have been quick for a while.
#[test]
fn after_a_slow_write_no_caller_writes() {
    let clock = Clock::manual();
    let slow = Arc::new(Slow { clock: clock.clone(), takes: Mutex::default(), by: Mutex::default() });
    let mut setup = Setup::new();
    setup.settings.clock = clock.clone();
    setup.sizes.slow_write = Duration::from_millis(50);
    // So that the log's own thread does nothing that it is not asked for, and is in no caller's way.
    setup.settings.sync = Sync::Interval(Duration::from_secs(3_600));
    setup.acts = Arc::clone(&slow) as Arc<dyn Acts>;
    let log = setup.open();
    let ours = || thread::current().name().map(str::to_owned);
    let writes = |number, takes| {
        *locked(&slow.takes) = Duration::from_millis(takes);
        assert_eq!(data(&log, number), Ok(Position { first: number, count: 1 }));
        locked(&slow.by).pop().expect("it was written")
    };
    let thread = || Some("audit-sync".to_owned());
    assert_eq!(writes(0, 0), ours());
    assert_eq!(writes(1, 60), ours(), "nobody knows before");
    for number in 2..10 {
        assert_eq!(writes(number, 60), thread());
    }
    assert_eq!(writes(10, 10), thread(), "quick once is not quick again");
    clock.advance(Duration::from_secs(2));
    assert_eq!(writes(11, 10), thread());
    assert_eq!(writes(12, 10), ours());
    log.close();
    assert_eq!(contents(setup.directory()), records_of(0..13));
}

/// What the bench shows: how many records one sync takes.
#[test]
fn groups_are_counted() {
    let mut setup = Setup::new();
    setup.settings.sync = Sync::Always;
    let log = setup.open();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|number| assert!(data(&log, number).is_ok())));
        }
    });
    let groups = log.state().groups;
    assert_eq!(groups.records, 400);
    assert!((1..=400).contains(&groups.syncs) && (1..=8).contains(&groups.last), "{groups:?}");
    assert_eq!(data(&log, 400).map(|position| position.first), Ok(400));
    let after = log.state().groups;
    assert_eq!(after, Groups { syncs: groups.syncs + 1, records: 401, last: 1 });
}
