//! How many encryptions are still allowed under a key version.
//!
//! Random 96-bit IVs bound a key version to 2^32 encryptions. Blocks of that budget are reserved durably before they
//! are used, so a crash wastes the rest of a block but never forgets one. The hot path takes from the block by one
//! atomic; the next block is reserved in the background when half of it is used. An item counts once: that a call is
//! repeated in a second zone is rare, and the bound has room for it.
//!
//! Only what a worker has had counts: what was taken for an item that no worker has had is given back, and what is left
//! at an orderly end of the daemon goes back to the metadata.
//!
//! A block is as large as what the key did lately needs in [`AHEAD`], so that a disk that takes no writes for an hour
//! is not noticed by those who encrypt. A crash costs a key no more than that, or one [`BLOCK`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::Error;
use crate::core::Core;
use model::clock::Clock;
use model::exception::Exception;
use model::id::KeyVersionId;
use model::limits::ENCRYPTIONS_PER_VERSION;
use model::lock::MutexExt as _;
use telemetry::fault;
use telemetry::watchdog::Task;

/// Reserved when a key is made, and the least whenever half of a block is used.
pub(crate) const BLOCK: u64 = 1 << 20;
/// For how long a block is meant to last. The next one is reserved when half of it is used, so that half of this time
/// is always covered.
const AHEAD: Duration = Duration::from_secs(2 * 60 * 60);
/// What a key did in less time than this is no pace: a burst after each restart would have blocks reserved, and thrown
/// away by the next restart, that the key never uses.
const PACE: Duration = Duration::from_secs(10 * 60);
/// The most of a block: a 32nd of all that a version may do. It lasts two hours at 9,300 encryptions a second.
const LARGEST_BLOCK: u64 = 1 << 26;
/// Reserved for every enabled key at start: small, because a crash wastes it.
pub(crate) const START_BLOCK: u64 = 1 << 16;

/// When less than this is left of a version's budget, a quarter of it, the log says so.
const SCARCE: u64 = ENCRYPTIONS_PER_VERSION / 4;

/// What is left to one key version in this process.
#[derive(Debug)]
pub(crate) struct Budget {
    version: KeyVersionId,
    left: AtomicI64,
    /// It has been said that most of the budget is used up.
    warned: AtomicBool,
    /// Below this the next block is reserved.
    low: AtomicI64,
    /// The durable budget has nothing more to give.
    exhausted: AtomicBool,
    /// Somebody reserves a block in the background.
    refilling: AtomicBool,
    /// What was left when the last block was added, with it, and when that was.
    filled: Mutex<Option<(i64, Instant)>>,
    /// Lets one reserve at a time, so that many short callers take one block. Never held on the hot path.
    turn: tokio::sync::Mutex<()>,
}

/// What came of taking one encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is counted, and may be done.
    Yes,
    /// Taken, and whoever took it has to see to the next block.
    YesRefill,
    /// Nothing reserved is left; more may be had.
    Short,
    /// The version's budget is used up for ever.
    Never,
}

impl Budget {
    fn new(version: KeyVersionId) -> Self {
        Self {
            version,
            left: AtomicI64::new(0),
            warned: AtomicBool::new(false),
            low: AtomicI64::new(0),
            exhausted: AtomicBool::new(false),
            refilling: AtomicBool::new(false),
            filled: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Takes one encryption.
    pub(crate) fn take(&self) -> Taken {
        let before = self.left.fetch_sub(1, Ordering::Relaxed);
        if before <= 0 {
            self.left.fetch_add(1, Ordering::Relaxed);
            return if self.exhausted.load(Ordering::Acquire) { Taken::Never } else { Taken::Short };
        }
        let low = before <= self.low.load(Ordering::Relaxed);
        let mine = || !self.exhausted.load(Ordering::Relaxed) && !self.refilling.swap(true, Ordering::AcqRel);
        if low && mine() { Taken::YesRefill } else { Taken::Yes }
    }

    /// Whether [`Budget::take`] would say [`Taken::Never`].
    pub(crate) fn is_used_up(&self) -> bool {
        self.left.load(Ordering::Relaxed) <= 0 && self.exhausted.load(Ordering::Acquire)
    }

    /// Adds what was reserved out of `wanted`.
    pub(crate) fn add(&self, granted: u64, wanted: u64, now: Instant) {
        let last = granted < wanted;
        let granted = i64::try_from(granted).unwrap_or(i64::MAX);
        self.low.store(granted / 2, Ordering::Relaxed);
        let before = self.left.fetch_add(granted, Ordering::AcqRel);
        *self.filled.lock_anyway() = Some((before.saturating_add(granted), now));
        // After the block is there: whoever finds nothing left must not be told "never" while this one can be taken.
        if last {
            self.exhausted.store(true, Ordering::Release);
        }
    }

    /// Encryptions that were reserved and not done.
    fn reserved(&self) -> u64 {
        u64::try_from(self.left.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Says in the log, once, that little is left of the version's budget.
    fn tell_if_scarce(&self, unreserved: u64) {
        if !self.is_scarce_now(unreserved) {
            return;
        }
        let left = unreserved + self.reserved();
        tracing::warn!(key = %self.version.key, version = self.version.version, left, of = ENCRYPTIONS_PER_VERSION,
            "the key has done three quarters of the encryptions that are safe under its current version; a new version \
             should have been made by itself long ago, and other lines of this log say why it could not");
    }

    /// True once: when little is left.
    fn is_scarce_now(&self, unreserved: u64) -> bool {
        unreserved + self.reserved() < SCARCE && !self.warned.swap(true, Ordering::Relaxed)
    }

    /// Gives one back that was taken for what no worker has had.
    pub(crate) fn give_back(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes out what is left, for nothing more to be taken.
    fn close(&self) -> u64 {
        u64::try_from(self.left.swap(0, Ordering::AcqRel)).unwrap_or(0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.load(Ordering::Acquire) <= 0
    }

    /// Reserves the next block, unless somebody did while this waited for its turn.
    async fn refill(&self, store: &store::Store, clock: &Clock) -> Result<(), store::Error> {
        let _turn = self.turn.lock().await;
        let left = self.left.load(Ordering::Acquire);
        if left > self.low.load(Ordering::Relaxed) || self.exhausted.load(Ordering::Acquire) {
            return Ok(());
        }
        let filled = *self.filled.lock_anyway();
        let wanted = filled.map_or(BLOCK, |(had, since)| {
            let used = u64::try_from(had.saturating_sub(left)).unwrap_or(0);
            next_block(used, clock.now().saturating_duration_since(since))
        });
        // Callers wait for one where nothing is left. Else a disk without room has time until then.
        let granted = match left > 0 {
            true => store.reserve_encryptions(self.version, wanted).await?,
            false => store.reserve_last_encryptions(self.version, wanted).await?,
        };
        self.add(granted, wanted, clock.now());
        self.tell_if_scarce(store.unreserved_encryptions(self.version));
        Ok(())
    }
}

/// A block is being reserved until this is dropped.
struct Refilling(Arc<Budget>);

impl Drop for Refilling {
    fn drop(&mut self) {
        self.0.refilling.store(false, Ordering::Release);
    }
}

/// How large the next block is, from what was used since the last one was added, and how long ago that was.
fn next_block(used: u64, took: Duration) -> u64 {
    let needed = u128::from(used) * AHEAD.as_millis() / took.max(PACE).as_millis();
    u64::try_from(needed).unwrap_or(u64::MAX).clamp(BLOCK, LARGEST_BLOCK)
}

/// Budgets of all versions, kept while the process lives whatever becomes of the catalogue.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Mutex<HashMap<KeyVersionId, Arc<Budget>>>);

impl Budgets {
    /// The budget of a version. Not for the hot path: keyrings keep what this returns.
    pub(crate) fn of(&self, version: KeyVersionId) -> Arc<Budget> {
        let mut budgets = self.0.lock_anyway();
        Arc::clone(budgets.entry(version).or_insert_with(|| Arc::new(Budget::new(version))))
    }

    /// Encryptions of a version that were reserved and not done.
    fn reserved(&self, version: KeyVersionId) -> u64 {
        self.0.lock_anyway().get(&version).map_or(0, |budget| budget.reserved())
    }

    /// Takes out what is left of each.
    fn close(&self) -> Vec<(KeyVersionId, u64)> {
        let budgets = self.0.lock_anyway();
        budgets.iter().map(|(version, budget)| (*version, budget.close())).filter(|(_, left)| *left > 0).collect()
    }
}

impl Core {
    /// Encryptions that a version may still do.
    pub(crate) fn encryptions_left(&self, version: KeyVersionId) -> u64 {
        self.inner.store.unreserved_encryptions(version) + self.inner.budgets.reserved(version)
    }

    /// The versions with the fewest left, of all that are current; at most so many, the scarcest first.
    pub(crate) fn scarcest(&self, most: usize) -> Vec<(KeyVersionId, u64)> {
        let catalogue = self.inner.store.catalogue();
        let current = catalogue.keys().filter_map(|key| Some(key.current()?.id));
        let mut left: Vec<_> = current.map(|version| (version, self.encryptions_left(version))).collect();
        left.sort_unstable_by_key(|(version, left)| (*left, *version));
        left.truncate(most);
        left
    }

    /// Gives back to the metadata what was reserved and not used. For the end of the daemon: a start reserves anew.
    pub(crate) async fn return_budgets(&self) {
        let unused = self.inner.budgets.close();
        if let Err(error) = self.inner.store.return_encryptions(&unused).await {
            // As after a crash: what was reserved counts as done.
            tracing::warn!(%error, "encryptions that were reserved and not used could not be given back");
        }
    }

    /// Has the next block reserved by a task of its own.
    pub(crate) fn refill_in_background(&self, budget: &Arc<Budget>) {
        let (core, refilling, underway) = (self.clone(), Refilling(Arc::clone(budget)), self.inner.tasks.token());
        // On panic: tried again as soon as another encryption is taken.
        tokio::spawn(async move {
            let budget = &refilling.0;
            fault::point(Task::Refill, "").await;
            if let Err(error) = budget.refill(&core.inner.store, &core.inner.clock).await {
                // Tried again when half of the rest is used, and at the latest when nothing is left.
                budget.low.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |low| Some(low / 2)).ok();
                tracing::warn!(key_version = %budget.version, %error, "no further encryptions could be reserved");
            }
            drop(refilling);
            drop(underway);
        });
    }

    /// Takes one encryption and waits for a block if need be.
    pub(crate) async fn take_slowly(&self, budget: &Arc<Budget>, key_arn: &str) -> Result<(), Error> {
        // Others may empty the new block before this takes from it, but not for ever.
        for _ in 0..8 {
            match budget.take() {
                Taken::Yes => return Ok(()),
                Taken::YesRefill => {
                    self.refill_in_background(budget);
                    return Ok(());
                }
                Taken::Never => return Err(used_up(key_arn)),
                Taken::Short => {
                    budget.refill(&self.inner.store, &self.inner.clock).await.map_err(uncounted)?;
                }
            }
        }
        Err(Error::transient(
            Exception::Throttling,
            "too many encryptions under one key at once; try again in a moment",
        ))
    }
}

/// No further encryptions could be reserved.
fn uncounted(error: store::Error) -> Error {
    match error.passes() {
        true => Error::transient(
            Exception::KmsInternal,
            format!(
                "what was reserved for this key is used up, and no encryption is done that is not counted: {error}; then \
                 call again. What is encrypted can be decrypted meanwhile"
            ),
        ),
        false => Error::of_store(error),
    }
}

/// The version's 2^31 encryptions are done.
pub(crate) fn used_up(key_arn: &str) -> Error {
    Error::permanent(
        Exception::LimitExceeded,
        format!(
            "{key_arn} has done the 2^31 encryptions for which random initialisation vectors are safe under one version, \
             and no new version could be made so far (the daemon's log says why). It encrypts again when it was rotated; \
             it decrypts meanwhile"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::KeyId;

    fn budget() -> Budget {
        Budget::new(KeyVersionId { key: KeyId::random(), version: 1 })
    }

    #[test]
    fn tells_once_that_little_is_left() {
        let budget = budget();
        budget.add(10, 10, Clock::manual().now());
        assert!(!budget.is_scarce_now(SCARCE - 10));
        assert_eq!(budget.take(), Taken::Yes);
        assert_eq!([budget.is_scarce_now(SCARCE - 10), budget.is_scarce_now(SCARCE - 10)], [true, false]);
    }

    #[test]
    fn asks_for_more_once_when_half_is_used() {
        let budget = budget();
        assert_eq!(budget.take(), Taken::Short);
        budget.add(10, 10, Clock::manual().now());
        let taken: Vec<Taken> = (0..10).map(|_| budget.take()).collect();
        assert_eq!(taken.iter().filter(|taken| **taken == Taken::YesRefill).count(), 1);
        assert_eq!(taken[5], Taken::YesRefill);
        assert_eq!(budget.take(), Taken::Short);
        assert!(budget.is_empty());
    }

    #[test]
    fn ends_for_ever_with_the_last_of_the_last_block() {
        let budget = budget();
        budget.add(2, 10, Clock::manual().now());
        assert_eq!([budget.take(), budget.take(), budget.take()], [Taken::Yes, Taken::Yes, Taken::Never]);
    }

    #[test]
    fn a_block_lasts_for_two_hours_at_the_pace_of_the_last_one_within_bounds() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (used, took, block) in [
            (0, minutes(10), BLOCK),
            (1_000, minutes(10), BLOCK),
            // A thousand a second.
            (600_000, minutes(10), 7_200_000),
            (6_000_000, minutes(100), 7_200_000),
            // Ten thousand a second.
            (6_000_000, minutes(10), LARGEST_BLOCK),
            // A burst.
            (32_768, Duration::ZERO, BLOCK),
            (524_288, minutes(1), 12 * 524_288),
            (u64::MAX, Duration::ZERO, LARGEST_BLOCK),
        ] {
            assert_eq!(next_block(used, took), block, "{used} in {took:?}");
        }
    }

    #[test]
    fn never_gives_more_than_it_has() {
        let budget = Arc::new(budget());
        budget.add(10_000, 10_000, Clock::manual().now());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let budget = Arc::clone(&budget);
                std::thread::spawn(move || {
                    (0..5_000).filter(|_| matches!(budget.take(), Taken::Yes | Taken::YesRefill)).count()
                })
            })
            .collect();
        let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(taken, 10_000);
    }
}
