//! The last look at results, before they are given out.
//!
//! What is looked at may cost much, and whoever takes something away waits for the lock under which results are given
//! out. So the look is taken without the lock; under it no more is asked than whether everything is still as it was when
//! the look began.

use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::core::Core;
use crate::core::authority::Authority;

/// After so many looks during each of which something was changed, one is taken under the lock: somebody who makes
/// changes all the time must not keep a result back for ever.
pub(super) const ROUNDS: usize = 4;
/// Nobody waits longer than this for the lock because of many results: those of a call of which a look without the lock took
/// longer are withheld instead of being looked at under it. A single result is looked at, which is one decision.
const LOCKED: Duration = Duration::from_millis(5);
/// So many items are decided on before others have their turn in the runtime, when a call begins as when it ends.
pub(crate) const TOGETHER: usize = 64;
/// And no further one after so long: policies may take some milliseconds for each.
pub(crate) const SLICE: Duration = Duration::from_millis(2);

/// What is decided by, at one moment. None of it is ever what it was before, once it was something else: what is equal
/// was so all the time between.
struct Moment {
    /// Of the catalogue.
    revision: u64,
    /// Of the clusters in use.
    generation: u64,
    authority: Arc<Authority>,
}

/// What became of a look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looked {
    /// How many results it looked at, from the first that it got: one at least.
    pub(crate) results: usize,
    /// How many of them it withheld.
    pub(crate) withheld: usize,
}

impl Core {
    /// Has results looked at for the last time, and says how many were withheld. Where it is none, they may be given out,
    /// and nothing is awaited from then on.
    ///
    /// `look` gets some of them, with the place of the first, and withholds what is forbidden as things are then; it need
    /// not look at all that it gets.
    pub(super) async fn last_look<T>(
        &self,
        results: &mut [Result<T, Error>],
        look: &mut impl FnMut(usize, &mut [Result<T, Error>]) -> Looked,
    ) -> usize {
        let mut took = Duration::ZERO;
        for _ in 0..ROUNDS {
            let began = self.moment();
            let (mut from, mut withheld) = (0, 0);
            took = Duration::ZERO;
            while from < results.len() {
                if from > 0 {
                    tokio::task::yield_now().await;
                }
                let (start, until) = (self.clock().now(), results.len().min(from + TOGETHER));
                let looked = look(from, &mut results[from..until]);
                took += self.clock().now().saturating_duration_since(start);
                from += looked.results.max(1);
                withheld += looked.withheld;
            }
            // What was withheld goes on record, and another look comes after that.
            if withheld > 0 || self.still_is(&began) {
                return withheld;
            }
        }
        if results.len() > 1 && took > LOCKED {
            let there = results.iter_mut().filter(|result| result.is_ok());
            return there.map(|result| *result = Err(Error::changed_all_the_time())).count();
        }
        let _released = self.hold_release();
        let (mut from, mut withheld) = (0, 0);
        while from < results.len() {
            let looked = look(from, &mut results[from..]);
            from += looked.results.max(1);
            withheld += looked.withheld;
        }
        withheld
    }

    fn moment(&self) -> Moment {
        Moment {
            revision: self.store().revision(),
            generation: self.registry().generation(),
            authority: self.authority(),
        }
    }

    /// Whether nothing has changed since. Asked under the lock: a change that is not seen here is answered only after
    /// this.
    fn still_is(&self, began: &Moment) -> bool {
        let _released = self.hold_release();
        self.store().revision() == began.revision
            && self.registry().generation() == began.generation
            && Arc::ptr_eq(&self.inner.authority.load(), &began.authority)
    }

    /// Whether somebody holds the lock under which results are given out.
    #[cfg(test)]
    pub(crate) fn is_release_held(&self) -> bool {
        self.inner.release_lock.try_write().is_err()
    }
}
