//! What is noted of how far a sink is.

use super::*;

/// How far a sink is is noted of a file that was moved away as well: its lines are on the disk before.
#[test]
fn what_was_moved_away_is_on_the_disk_before_it_is_noted() {
    let bench = Bench::new();
    let mut sink = bench.sink(bench.lines());
    drained(&mut sink, 2);
    let at = |name: &str| bench.folder.path().join(name);
    let before = json::SYNCED.get();
    std::fs::rename(at("lines"), at("lines.1")).unwrap();
    drained(&mut sink, 4);
    assert_eq!((json::SYNCED.get() - before, bench.kept("json")), (1, None), "the one that was moved away");
    bench.clock.advance(KEEP);
    drained(&mut sink, 4);
    assert_eq!((json::SYNCED.get() - before, bench.kept("json")), (2, Some(4)));
}

/// What it was given, and whether its disk takes that.
#[derive(Clone, Default)]
struct Failing(Arc<Mutex<(Vec<u64>, bool, bool)>>, Option<u64>);

impl Outlet for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn is_empty(&self) -> bool {
        true
    }

    fn take(&mut self, chunk: &Chunk) {
        let end = chunk.first + chunk.records.len() as u64;
        self.0.lock().unwrap().0.extend(chunk.first..end);
        self.1 = Some(end);
    }

    fn push(&mut self) -> Result<(), String> {
        let fails = self.0.lock().unwrap().1;
        if fails { self.1.take().map_or(Ok(()), |_| Err("nobody takes it".to_owned())) } else { Ok(()) }
    }

    fn arrived(&mut self) -> Option<u64> {
        self.1.take()
    }

    fn settle(&mut self) -> Result<(), String> {
        // As kernels have it: who asks once more is told that all is well.
        match std::mem::take(&mut self.0.lock().unwrap().2) {
            true => Err("the disk did not take it".to_owned()),
            false => Ok(()),
        }
    }
}

#[test]
fn what_the_disk_did_not_take_is_passed_on_again_before_anything_is_noted() {
    let bench = Bench::new();
    let outlet = Failing::default();
    let state = Arc::clone(&outlet.0);
    let mut sink = bench.sink(outlet);
    drained(&mut sink, 2);
    bench.clock.advance(KEEP);
    drained(&mut sink, 2);
    assert_eq!(bench.kept("failing"), Some(2));
    state.lock().unwrap().2 = true;
    bench.clock.advance(KEEP);
    assert_eq!(sink.step(5), Step::Failed);
    assert_eq!(bench.kept("failing"), Some(2));
    drained(&mut sink, 5);
    assert_eq!((bench.kept("failing"), sink.standing().arrived), (Some(5), 5));
    assert_eq!(state.lock().unwrap().0, [0, 1, 2, 3, 4, 2, 3, 4]);
    // Not in time: then the next start passes it on.
    state.lock().unwrap().2 = true;
    bench.clock.advance(KEEP);
    assert_eq!(sink.step(6), Step::Failed);
    sink.close().unwrap();
    assert_eq!(bench.kept("failing"), Some(5));
}

#[test]
fn what_was_moved_away_is_counted_once_however_often_the_rest_is_tried() {
    let bench = Bench::new();
    bench.records.0.lock().unwrap().first = 10;
    let outlet = Failing::default();
    let state = Arc::clone(&outlet.0);
    state.lock().unwrap().1 = true;
    let mut sink = bench.sink(outlet);
    for _ in 0..3 {
        assert_eq!((sink.step(12), sink.standing().missed), (Step::Failed, 10));
    }
    state.lock().unwrap().1 = false;
    drained(&mut sink, 12);
    bench.records.0.lock().unwrap().first = 15;
    drained(&mut sink, 17);
    assert_eq!(sink.standing().missed, 13);
}
