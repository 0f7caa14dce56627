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

impl Core {
    /// Has results looked at for the last time, and says how many were withheld. Where it is none, they may be given out,
    /// and nothing is awaited from then on.
    ///
    /// `look` gets some of them, with the place of the first, and withholds what is forbidden as things are then.
    pub(super) async fn last_look<T>(
        &self,
        results: &mut [Result<T, Error>],
        look: &mut impl FnMut(usize, &mut [Result<T, Error>]) -> usize,
    ) -> usize {
        for _ in 0..ROUNDS {
            let began = self.moment();
            let mut withheld = 0;
            for (index, some) in results.chunks_mut(TOGETHER).enumerate() {
                if index > 0 {
                    tokio::task::yield_now().await;
                }
                withheld += look(index * TOGETHER, some);
            }
            // What was withheld goes on record, and another look comes after that.
            if withheld > 0 || self.still_is(&began) {
                return withheld;
            }
        }
        let _released = self.hold_release();
        look(0, results)
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
