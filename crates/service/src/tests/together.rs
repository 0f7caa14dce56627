//! Records of many calls at once, which are kept together.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Ready, join_all, ready};
use tokio::sync::oneshot;

use super::bench::{Bench, plain};
use crate::core::audit_recorder::{AuditRecorder, Journal};
use crate::core::recorder::{Recorder, ServiceEvent};
use audit::log::{Class, Leaves, NotAccepted, Position};

/// A journal that writes what it was given when it is asked to.
#[derive(Default)]
struct Gathering(Mutex<Vec<oneshot::Sender<Position>>>);

impl Journal for Gathering {
    type Appending = BoxFuture<'static, Result<Position, NotAccepted>>;

    fn append(&self, _: Leaves, _: Class) -> Self::Appending {
        panic!("nothing is written by itself")
    }

    fn gather(&self, _: Leaves, class: Class) -> Self::Appending {
        assert_eq!(class, Class::Data);
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap().push(sender);
        receiver.map(|written| written.map_err(|_| NotAccepted::Closed)).boxed()
    }

    fn write_gathered(&self) {
        let gathered = std::mem::take(&mut *self.0.lock().unwrap());
        for (first, sender) in (0..).zip(gathered) {
            // Whoever has gone need not know.
            let _gone = sender.send(Position { first, count: 1 });
        }
    }

    fn origin(&self) -> Option<Arc<str>> {
        None
    }
}

#[tokio::test]
async fn who_is_asked_first_writes_for_all() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.recorder.taken();
    for _ in 0..3 {
        bench.encrypt(plain(&key.arn, b"x")).await.unwrap();
    }
    let journal = Arc::new(Gathering::default());
    let recorder = Arc::new(AuditRecorder::new(Arc::clone(&journal), bench.service.core.scope().clone()));
    let records = bench.recorder.taken().into_iter();
    let accepting: Vec<_> = records.map(|record| Arc::clone(&recorder).record_with_others(record)).collect();
    assert_eq!(journal.0.lock().unwrap().len(), 3, "nobody has asked yet");
    let places: Vec<u64> = join_all(accepting).await.into_iter().map(|place| place.unwrap().unwrap().first).collect();
    assert_eq!(places, [0, 1, 2]);
}

/// A journal whose disk does not answer.
#[derive(Default)]
struct Unsynced;

impl Journal for Unsynced {
    type Appending = Ready<Result<Position, NotAccepted>>;

    fn append(&self, _: Leaves, _: Class) -> Self::Appending {
        ready(Err(NotAccepted::Unsynced))
    }

    fn origin(&self) -> Option<Arc<str>> {
        None
    }
}

/// What nothing is given out by is not recorded twice because the disk is slow, and counted as well; all else waits for the disk.
#[tokio::test]
async fn what_is_written_and_not_on_the_disk_is_no_reason_to_record_a_refusal_again() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
    bench.recorder.taken();
    bench.service.enable_key(&bench.call(), &key.arn).await.unwrap();
    bench.service.get_key_last_usage(&bench.call(), &key.arn).await.unwrap();
    bench.service.delete_alias(&bench.call(), "alias/none").await.unwrap_err();
    bench.may_nothing();
    bench.service.enable_key(&bench.call(), &key.arn).await.unwrap_err();
    let recorder = Arc::new(AuditRecorder::new(Arc::new(Unsynced), bench.service.core.scope().clone()));
    for record in bench.recorder.taken() {
        let is_refusal = record.failure.is_some() && record.intent.is_none();
        let told = format!("{:?} {:?}", record.operation, record.phase);
        let accepted = Arc::clone(&recorder).record(record).await;
        assert_eq!(accepted.map_err(|error| error.0).ok(), is_refusal.then_some(None), "{told}");
    }
    let event = ServiceEvent::ours(1, "ZoneBack");
    assert_eq!(recorder.happened(event).await.map_err(|error| error.0), Ok(None));
}

/// Where few are in work each is recorded at once.
#[tokio::test]
async fn where_many_items_are_in_work_their_records_are_kept_together() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let together = || bench.recorder.together.load(Ordering::Relaxed);
    for (items, kept_together) in [(1, 0), (15, 0), (16, 1), (200, 2), (1, 2)] {
        bench.recorder.taken();
        let batch = (0..items).map(|_| plain(&key.arn, b"x")).collect();
        let results = bench.service.encrypt(&bench.call(), batch).await.unwrap();
        assert!(results.len() == items && results.iter().all(Result::is_ok));
        assert_eq!((bench.recorder.taken().len(), together()), (1, kept_together), "{items}");
    }
}
