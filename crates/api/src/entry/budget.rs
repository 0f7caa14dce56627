//! Bytes that callers make the daemon hold: bounded in all, and shared by principal.
//!
//! A share binds only while others want in. Nobody may hold more than [`GREED`] times what is free: one alone comes to
//! four fifths of all, two that want everything to four ninths each, and whoever comes next always finds some room
//! (dynamic thresholds, as switches share their buffers: Choudhury and Hahne, 1998). It takes no look at anybody else:
//! two atomics.
//!
//! Who has proven nothing is counted by where it comes from, and all of those together share a part of the bytes in the
//! same way: addresses are cheap, and many of them must not take what principals need. What they are refused is no reason
//! to take anything from a principal either.

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
/// What part of all bytes those may hold who have proven nothing. A call is theirs for no longer than it takes to read it.
const STRANGERS: usize = 4;
/// So long after somebody was refused, bytes count as wanted.
const WANTED: Duration = Duration::from_secs(5);

/// All bytes.
pub struct Budget {
    clock: Clock,
    begun: Instant,
    /// All bytes, and the accounts of principals.
    all: Pool,
    /// Those of them that strangers hold, and their accounts.
    strangers: Pool,
}

/// Bytes that are shared.
struct Pool {
    most: usize,
    held: AtomicUsize,
    /// When somebody was refused last, as [`Budget::millis`]; 0: never.
    wanted: AtomicU64,
    accounts: Mutex<HashMap<Principal, Weak<Account>>>,
}

/// What one principal holds, or one source of strangers.
pub struct Account {
    budget: Arc<Budget>,
    principal: Principal,
    stranger: bool,
    held: AtomicUsize,
}

impl Pool {
    fn new(most: usize) -> Self {
        Self { most, held: AtomicUsize::new(0), wanted: AtomicU64::new(0), accounts: Mutex::default() }
    }

    /// Takes so many bytes; what is left, where there were as many.
    fn take(&self, bytes: usize) -> Option<usize> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.most.checked_sub(held)
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn is_wanted(&self, now: u64) -> bool {
        let at = self.wanted.load(Ordering::Relaxed);
        at != 0 && now.saturating_sub(at) < whole_millis(WANTED)
    }

    fn accounts(&self) -> Vec<Arc<Account>> {
        self.accounts.lock_anyway().values().filter_map(Weak::upgrade).collect()
    }
}

impl Budget {
    /// At most `most` bytes.
    #[must_use]
    pub fn new(most: usize, clock: Clock) -> Arc<Self> {
        let begun = clock.now();
        Arc::new(Self { clock, begun, all: Pool::new(most), strangers: Pool::new(most / STRANGERS) })
    }

    /// What this principal holds, over all of its connections.
    pub fn account(self: &Arc<Self>, principal: &Principal) -> Arc<Account> {
        self.account_in(&self.all, principal, false)
    }

    /// What those hold who have proven nothing and come from there.
    pub fn account_of_source(self: &Arc<Self>, source: &Principal) -> Arc<Account> {
        self.account_in(&self.strangers, source, true)
    }

    fn account_in(self: &Arc<Self>, pool: &Pool, principal: &Principal, stranger: bool) -> Arc<Account> {
        let mut accounts = pool.accounts.lock_anyway();
        if let Some(account) = accounts.get(principal).and_then(Weak::upgrade) {
            return account;
        }
        let (budget, principal_of, held) = (Arc::clone(self), principal.clone(), AtomicUsize::new(0));
        let account = Arc::new(Account { budget, principal: principal_of, stranger, held });
        accounts.insert(principal.clone(), Arc::downgrade(&account));
        account
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.all.held()
    }

    /// Whether somebody was refused bytes a moment ago.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let now = self.millis();
        self.all.is_wanted(now) || self.strangers.is_wanted(now)
    }

    /// Who holds most; where strangers alone were refused something, which of their sources does.
    #[must_use]
    pub fn heaviest(&self) -> Option<Principal> {
        let now = self.millis();
        let mut accounts = self.strangers.accounts();
        if self.all.is_wanted(now) || !self.strangers.is_wanted(now) {
            accounts.extend(self.all.accounts());
        }
        accounts.iter().max_by_key(|account| account.held()).map(|account| account.principal.clone())
    }

    /// Milliseconds since the budget was made, from 1.
    pub(super) fn millis(&self) -> u64 {
        1 + whole_millis(self.clock.now().saturating_duration_since(self.begun))
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

    /// Whether it is that of strangers who come from one address, and not a principal's.
    #[must_use]
    pub fn is_of_source(&self) -> bool {
        self.stranger
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

    /// Whether others want bytes that it has: it holds as much as they do, or more, and one of them was refused a moment
    /// ago.
    #[must_use]
    pub(super) fn is_in_the_way(&self) -> bool {
        let Budget { all, strangers, .. } = &*self.budget;
        let now = self.budget.millis();
        // What strangers want is theirs to give.
        let wanted = all.is_wanted(now) || (self.stranger && strangers.is_wanted(now));
        let all_held = if self.stranger { strangers.held() } else { all.held().saturating_sub(strangers.held()) };
        wanted && self.held() >= all_held / self.pool().accounts.lock_anyway().len().max(1)
    }

    /// Where it is one among others.
    fn pool(&self) -> &Pool {
        if self.stranger { &self.budget.strangers } else { &self.budget.all }
    }

    /// Takes so many bytes, or none; whether it may have them.
    #[must_use]
    pub(super) fn take(&self, bytes: usize) -> bool {
        let Budget { all, strangers, .. } = &*self.budget;
        let free = all.take(bytes);
        let of_strangers = if self.stranger { strangers.take(bytes) } else { free };
        let own = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let has_room = |free: Option<usize>| free.is_some_and(|free| own <= free.saturating_mul(GREED));
        if has_room(free) && has_room(of_strangers) {
            return true;
        }
        self.give_back(bytes);
        let refused_by = if has_room(free) { strangers } else { self.pool() };
        refused_by.wanted.store(self.budget.millis(), Ordering::Relaxed);
        false
    }

    /// Takes over bytes that another account holds, or none; whether it may have them.
    #[must_use]
    pub(super) fn take_over(&self, bytes: usize, from: &Self) -> bool {
        if std::ptr::eq(self, from) {
            return true;
        }
        let own = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        // They are among all that are held already.
        let free = self.budget.all.most.saturating_sub(self.budget.held());
        if own > free.saturating_mul(GREED) {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            self.budget.all.wanted.store(self.budget.millis(), Ordering::Relaxed);
            return false;
        }
        from.held.fetch_sub(bytes, Ordering::Relaxed);
        if from.stranger {
            self.budget.strangers.held.fetch_sub(bytes, Ordering::Relaxed);
        }
        true
    }

    /// Counts bytes that are there already and cannot be refused.
    pub(super) fn take_anyway(&self, bytes: usize) {
        self.budget.all.held.fetch_add(bytes, Ordering::Relaxed);
        if self.stranger {
            self.budget.strangers.held.fetch_add(bytes, Ordering::Relaxed);
        }
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.budget.all.held.fetch_sub(bytes, Ordering::Relaxed);
        if self.stranger {
            self.budget.strangers.held.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut accounts = self.pool().accounts.lock_anyway();
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
        assert_eq!(budget.all.accounts.lock_anyway().len(), 1);
        drop(other);
        assert!(budget.all.accounts.lock_anyway().is_empty());
    }

    #[test]
    fn strangers_have_a_part_that_no_number_of_them_makes_larger() {
        let budget = Budget::new(1_000, Clock::manual());
        let name = |number: usize| Principal::new(&format!("source:192.0.2.{number}"));
        let sources: Vec<_> = (0..200).map(|number| budget.account_of_source(&name(number))).collect();
        assert_eq!(gorge(&sources[0], 1), 200);
        for source in &sources {
            gorge(source, 1);
        }
        assert!(budget.held() <= 250, "{}", budget.held());
        let app = budget.account(&Principal::new("cn:app"));
        assert!(!app.is_in_the_way(), "what strangers want is no reason to take anything from a principal");
        assert!(sources[0].is_in_the_way() && budget.is_wanted());
        assert_eq!(budget.heaviest(), Some(name(0)));
        assert_eq!(gorge(&app, 1), 600, "four fifths of the rest");
        assert!(app.is_in_the_way());
    }

    #[test]
    fn a_stranger_that_has_proven_who_it_is_leaves_room_for_the_next() {
        let budget = Budget::new(1_000, Clock::manual());
        let source = budget.account_of_source(&Principal::new("source:192.0.2.7"));
        let app = budget.account(&Principal::new("access-key:app"));
        assert!(source.take(200) && !source.take(1));
        assert!(app.take_over(150, &source));
        assert_eq!((source.held(), app.held(), budget.held()), (50, 150, 200));
        assert!(source.take(150), "and no more: {}", budget.held());
        assert!(!source.take(1));
        // Nobody has more by coming through an address than by a certificate.
        gorge(&app, 1);
        let held = (source.held(), app.held(), budget.held());
        assert!(!app.take_over(100, &source));
        assert_eq!((source.held(), app.held(), budget.held()), held);
        app.give_back(app.held());
        source.give_back(source.held());
        assert_eq!((budget.held(), budget.strangers.held()), (0, 0));
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
