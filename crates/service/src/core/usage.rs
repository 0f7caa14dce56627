//! When each key, or access key, was used last: kept in memory, and told to the metadata now and then, so that no call writes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use crate::core::Core;
use model::id::KeyId;
use model::lock::MutexExt as _;
use model::operation::Operation;
use store::{LastUse, Store};

/// Uses closer together than this, in milliseconds, count as one.
const APART: i64 = 1_000;

/// The last successful use of one thing.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    /// Milliseconds since the Unix epoch; 0 where it was never used. All that most calls look at.
    at: AtomicI64,
    last: Mutex<Noted<T>>,
}

/// That of a key.
pub(crate) type Usage = Recent<LastUse>;

#[derive(Debug)]
struct Noted<T> {
    last: Option<T>,
    /// The metadata do not have it yet.
    untold: bool,
}

impl Usage {
    /// Takes note of a use that succeeded.
    pub(crate) fn note(&self, at: i64, operation: Operation, request_id: &str) {
        self.note_at(at, || {
            let operation = operation.spec().event.to_owned();
            LastUse { at, operation, request_id: request_id.to_owned() }
        });
    }
}

impl<T: Clone> Recent<T> {
    /// What is on record, with its time.
    pub(crate) fn known(last: Option<(i64, T)>) -> Self {
        let (at, last) = last.map_or((0, None), |(at, last)| (at, Some(last)));
        Self { at: AtomicI64::new(at), last: Mutex::new(Noted { last, untold: false }) }
    }

    pub(crate) fn note_at(&self, at: i64, last: impl FnOnce() -> T) {
        if (0..APART).contains(&(at - self.at.load(Ordering::Relaxed))) {
            return;
        }
        let mut noted = self.last.lock_anyway();
        self.at.store(at, Ordering::Relaxed);
        *noted = Noted { last: Some(last()), untold: true };
    }

    /// The last use, if there was one.
    pub(crate) fn last(&self) -> Option<T> {
        self.last.lock_anyway().last.clone()
    }

    /// When that was, in milliseconds since the Unix epoch.
    pub(crate) fn last_at(&self) -> Option<i64> {
        Some(self.at.load(Ordering::Relaxed)).filter(|at| *at != 0)
    }

    /// The last use, if it is not on record yet; it counts as that from now on.
    pub(crate) fn take_untold(&self) -> Option<T> {
        let mut noted = self.last.lock_anyway();
        if std::mem::take(&mut noted.untold) { noted.last.clone() } else { None }
    }

    /// It could not be put on record.
    pub(crate) fn keep_untold(&self) {
        self.last.lock_anyway().untold = true;
    }
}

/// The last uses of all keys, and until the next look of some that are gone.
#[derive(Debug, Default)]
pub(crate) struct Usages(Mutex<HashMap<KeyId, Arc<Usage>>>);

impl Usages {
    /// The last use of a key. Not for the hot path: keyrings keep what this returns.
    pub(crate) fn of(&self, key: KeyId) -> Arc<Usage> {
        let mut usages = self.0.lock_anyway();
        Arc::clone(usages.entry(key).or_insert_with(|| Arc::new(Usage::known(None))))
    }

    /// Drops those of keys that are gone. Keys that cannot be made come and go as often as somebody asks for one.
    fn drop_gone(&self, store: &Store) {
        let mut usages = self.0.lock_anyway();
        // Looked at under the lock: whatever is there is of a key that an older catalogue had.
        let catalogue = store.catalogue();
        if usages.len() > catalogue.key_count() {
            usages.retain(|key, _| catalogue.key(*key).is_some());
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.lock_anyway().len()
    }

    fn all(&self) -> Vec<(KeyId, Arc<Usage>)> {
        self.0.lock_anyway().iter().map(|(key, usage)| (*key, Arc::clone(usage))).collect()
    }
}

impl Core {
    /// Takes over what is on record. Before the first call.
    pub(crate) async fn load_usage(&self) {
        match self.store().usage().await {
            Ok(known) => {
                let known = known.into_iter().map(|(key, last)| (key, Arc::new(Usage::known(Some((last.at, last))))));
                self.usages().0.lock_anyway().extend(known);
            }
            Err(error) => tracing::warn!(%error, "when keys were used last could not be read"),
        }
    }

    /// Puts on record what was not yet, of keys and of access keys. What cannot be recorded is kept for the next time.
    pub(crate) async fn record_usage(&self) {
        self.record_key_usage().await;
        self.record_access().await;
    }

    async fn record_key_usage(&self) {
        self.usages().drop_gone(self.store());
        let untold =
            self.usages().all().into_iter().filter_map(|(key, usage)| Some((key, usage.take_untold()?, usage)));
        let (mut uses, mut of) = (Vec::new(), Vec::new());
        for (key, last, usage) in untold {
            uses.push((key, last));
            of.push(usage);
        }
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.store().note_usage(&uses).await {
            of.iter().for_each(|usage| usage.keep_untold());
            tracing::debug!(%error, "the last use of keys could not be recorded yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_of_one_second_are_one_and_each_is_told_once() {
        let usage = Usage::known(None);
        assert_eq!((usage.last(), usage.take_untold()), (None, None));
        usage.note(5_000, Operation::Encrypt, "first");
        usage.note(5_999, Operation::Decrypt, "second");
        let last = usage.last().unwrap();
        assert_eq!((last.at, &*last.operation, &*last.request_id), (5_000, "Encrypt", "first"));
        assert_eq!(usage.take_untold(), Some(last));
        assert_eq!(usage.take_untold(), None);
        usage.note(6_000, Operation::Decrypt, "third");
        assert_eq!(usage.take_untold().unwrap().request_id, "third");
        // A clock that was put back.
        usage.note(1_000, Operation::Decrypt, "fourth");
        assert_eq!(usage.take_untold().unwrap().at, 1_000);
    }
}
