//! Bytes that callers make the daemon hold: bounded in all, and shared by principal.
//!
//! A share binds only while others want in. Nobody may hold more than [`GREED`] times what is free: one alone comes to
//! four fifths of all, two that want everything to four ninths each, and whoever comes next always finds some room
//! (dynamic thresholds, as switches share their buffers: Choudhury and Hahne, 1998). It takes no look at anybody else:
//! two atomics.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use auth::peer::Principal;
use model::clock::Clock;
use model::lock::MutexExt as _;

/// Most bytes that calls hold at once. The daemon's own 35 MiB, these, and 1,024 connections with what each costs by
/// itself (35 KiB that lives, and up to 100 KiB of TLS's and HTTP/2's buffers when it is half written and half read)
/// stay under 256 MiB whatever callers do; tests/real/unfetched.rs attacks it. It is twenty-six of the largest batches
/// of data keys, of which one principal alone may have twenty, or 7,000 calls of one item.
pub const HELD_BYTES: usize = 64 << 20;
/// How many times what is free one principal may hold.
const GREED: usize = 4;
/// So long after somebody was refused, bytes count as wanted.
const WANTED: Duration = Duration::from_secs(5);

/// All bytes.
pub struct Budget {
    clock: Clock,
    begun: Instant,
    most: usize,
    held: AtomicUsize,
    /// When somebody was refused last, as [`Budget::millis`]; 0: never.
    wanted: AtomicU64,
    accounts: Mutex<HashMap<Principal, Weak<Account>>>,
}

/// What one principal holds.
pub struct Account {
    budget: Arc<Budget>,
    principal: Principal,
    held: AtomicUsize,
}

impl Budget {
    /// At most `most` bytes.
    #[must_use]
    pub fn new(most: usize, clock: Clock) -> Arc<Self> {
        let begun = clock.now();
        let (held, wanted) = (AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self { clock, begun, most, held, wanted, accounts: Mutex::default() })
    }

    /// What this principal holds, over all of its connections.
    pub fn account(self: &Arc<Self>, principal: &Principal) -> Arc<Account> {
        let mut accounts = self.accounts.lock_anyway();
        if let Some(account) = accounts.get(principal).and_then(Weak::upgrade) {
            return account;
        }
        let account =
            Arc::new(Account { budget: Arc::clone(self), principal: principal.clone(), held: AtomicUsize::new(0) });
        accounts.insert(principal.clone(), Arc::downgrade(&account));
        account
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether somebody was refused bytes a moment ago.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let at = self.wanted.load(Ordering::Relaxed);
        at != 0 && self.millis().saturating_sub(at) < whole_millis(WANTED)
    }

    /// Who holds most.
    #[must_use]
    pub fn heaviest(&self) -> Option<Principal> {
        let accounts: Vec<_> = self.accounts.lock_anyway().values().filter_map(Weak::upgrade).collect();
        accounts.iter().max_by_key(|account| account.held()).map(|account| account.principal.clone())
    }

    /// Milliseconds since the budget was made, from 1.
    pub(super) fn millis(&self) -> u64 {
        1 + whole_millis(self.clock.now().saturating_duration_since(self.begun))
    }

    /// What each principal would hold if all held the same.
    fn average(&self) -> usize {
        self.held() / self.accounts.lock_anyway().len().max(1)
    }
}

/// A duration, to the millisecond.
pub(super) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Account {
    /// Whose it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// All bytes, of which these are a part.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Bytes that this principal holds now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether it holds as much as others do, or more.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        self.held() >= self.budget.average()
    }

    /// Takes so many bytes, or none; whether it may have them.
    #[must_use]
    pub(super) fn take(&self, bytes: usize) -> bool {
        let all = self.budget.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let own = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let free = self.budget.most.checked_sub(all);
        if free.is_some_and(|free| own <= free.saturating_mul(GREED)) {
            return true;
        }
        self.give_back(bytes);
        self.budget.wanted.store(self.budget.millis(), Ordering::Relaxed);
        false
    }

    /// Counts bytes that are there already and cannot be refused.
    pub(super) fn take_anyway(&self, bytes: usize) {
        self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut accounts = self.budget.accounts.lock_anyway();
        // Unless somebody has made another one meanwhile.
        if accounts.get(&self.principal).is_some_and(|account| account.strong_count() == 0) {
            accounts.remove(&self.principal);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accounts(budget: &Arc<Budget>, count: usize) -> Vec<Arc<Account>> {
        (0..count).map(|number| budget.account(&Principal::new(&format!("cn:{number}")))).collect()
    }

    /// Takes until there is no more.
    fn gorge(account: &Account, piece: usize) -> usize {
        while account.take(piece) {}
        account.held()
    }

    #[test]
    fn one_alone_has_nearly_all_and_the_next_finds_room() {
        let budget = Budget::new(1_000, Clock::manual());
        let accounts = accounts(&budget, 3);
        assert_eq!(gorge(&accounts[0], 1), 800);
        assert_eq!(gorge(&accounts[1], 1), 160);
        assert!(accounts[2].take(1), "and so does the one after it");
    }

    #[test]
    fn where_others_want_in_the_greedy_one_gets_no_more_until_it_has_given_back() {
        let budget = Budget::new(1_000, Clock::manual());
        let accounts = accounts(&budget, 2);
        gorge(&accounts[0], 10);
        assert!(accounts[1].take(100));
        accounts[0].give_back(100);
        assert!(!accounts[0].take(100), "that is the other's now");
        accounts[0].give_back(500);
        assert!(accounts[1].take(400));
    }

    #[test]
    fn bytes_are_wanted_for_a_moment_after_a_refusal() {
        let clock = Clock::manual();
        let budget = Budget::new(10, clock.clone());
        let account = budget.account(&Principal::new("cn:a"));
        assert!(account.take(8) && !budget.is_wanted());
        assert!(!account.take(1) && budget.is_wanted());
        clock.advance(WANTED);
        assert!(!budget.is_wanted());
    }

    #[test]
    fn a_principal_has_one_account_for_as_long_as_it_is_here() {
        let budget = Budget::new(10, Clock::manual());
        let name = Principal::new("cn:a");
        let (one, other) = (budget.account(&name), budget.account(&name));
        assert!(Arc::ptr_eq(&one, &other));
        assert_eq!(budget.heaviest(), Some(name));
        drop(one);
        assert_eq!(budget.accounts.lock_anyway().len(), 1);
        drop(other);
        assert!(budget.accounts.lock_anyway().is_empty());
    }

    proptest! {
        #[test]
        fn no_more_is_held_than_may_be_and_what_is_given_back_is_free(
            events in proptest::collection::vec((0..4_usize, 1..400_usize, any::<bool>()), 0..200),
        ) {
            let budget = Budget::new(1_000, Clock::manual());
            let accounts = accounts(&budget, 4);
            let mut taken: Vec<(usize, usize)> = Vec::new();
            for (who, bytes, takes) in events {
                if takes && accounts[who].take(bytes) {
                    taken.push((who, bytes));
                } else if let Some((who, bytes)) = taken.pop() {
                    accounts[who].give_back(bytes);
                }
                prop_assert!(budget.held() <= 1_000);
                prop_assert_eq!(budget.held(), taken.iter().map(|(_, bytes)| bytes).sum::<usize>());
                for account in &accounts {
                    prop_assert!(account.held() <= 800);
                }
            }
        }
    }
}
