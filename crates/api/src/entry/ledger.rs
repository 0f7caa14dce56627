//! What one connection holds: its open calls, and answers whose bytes are in its own buffers.
//!
//! HTTP's library keeps what it was given until the socket takes it. Where the socket takes nothing, answers without a
//! body (errors are such) are seen by nobody: they are counted here until the connection has written all that it had.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::budget::{Account, whole_millis};
use super::open_call::{FETCHED_WITHIN, Judgement, Kind, OpenCall};
use super::sizes;
use model::lock::MutexExt as _;

/// Calls that a connection may have open at once before HTTP/2's account of them is counted: its tables grow with them
/// and shrink with the connection alone. Few clients have more calls in flight on one connection.
const FREE_PLACES: usize = 32;

/// How long an answer that was handed over may take to come into the connection's buffers. Whether these are empty is
/// seen only when something is written.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);

/// A connection.
pub struct Ledger {
    account: Arc<Account>,
    calls: Mutex<Calls>,
    /// The call that was begun last, for whoever gives it its task.
    begun: Mutex<Option<Arc<OpenCall>>>,
    /// Bytes of answers that the connection may still have in its buffers.
    unflushed: AtomicUsize,
    /// Since when there have been some, in the budget's milliseconds; 0: there are none.
    unflushed_since: AtomicU64,
    /// When the socket took something last, likewise.
    wrote: AtomicU64,
    /// The socket does not take all that there is.
    blocked: AtomicBool,
    /// Calls that were refused, and of which the same is true.
    refused: AtomicUsize,
    over: AtomicBool,
    /// Somebody has proven on it who it is.
    pub(super) proven: AtomicBool,
}

/// The open calls, in places that are used again.
#[derive(Default)]
struct Calls {
    open: Vec<Weak<OpenCall>>,
    free: Vec<usize>,
    /// Places beyond the free ones that are counted until the connection ends.
    counted: usize,
}

/// What a look at a connection came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Calls that were cut off.
    pub cut: usize,
    /// The connection is to end.
    pub ends: bool,
}

impl Ledger {
    /// A connection of this account's principal.
    #[must_use]
    pub fn new(account: Arc<Account>) -> Arc<Self> {
        Arc::new(Self {
            proven: AtomicBool::new(!account.is_of_source()),
            account,
            calls: Mutex::default(),
            begun: Mutex::default(),
            unflushed: AtomicUsize::new(0),
            unflushed_since: AtomicU64::new(0),
            wrote: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Whether somebody has proven on it who it is: by its certificate, or with a call.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Begins a call that holds so many bytes, where there is room for them.
    pub fn begin(self: &Arc<Self>, kind: Kind, bytes: usize) -> Option<Arc<OpenCall>> {
        if !self.account.take(bytes) {
            return None;
        }
        let mut calls = self.calls.lock_anyway();
        if !self.has_place(&mut calls) {
            drop(calls);
            self.account.give_back(bytes);
            return None;
        }
        let place = calls.free.pop().unwrap_or(calls.open.len());
        let call = OpenCall::new(Arc::clone(self), place, kind, bytes);
        match calls.open.get_mut(place) {
            Some(free) => *free = Arc::downgrade(&call),
            None => calls.open.push(Arc::downgrade(&call)),
        }
        drop(calls);
        *self.begun.lock_anyway() = Some(Arc::clone(&call));
        Some(call)
    }

    /// Whether HTTP/2 may keep account of one more call at once.
    fn has_place(&self, calls: &mut Calls) -> bool {
        let open = calls.open.len() - calls.free.len() + self.refused.load(Ordering::Relaxed);
        if open < FREE_PLACES + calls.counted {
            return true;
        }
        let taken = self.account.take(sizes::PLACE);
        calls.counted += usize::from(taken);
        taken
    }

    /// The call that was begun since this was asked last: a connection begins one after the other.
    pub fn begun(&self) -> Option<Arc<OpenCall>> {
        self.begun.lock_anyway().take()
    }

    /// A call is refused. Its answer takes room all the same until it has left: for as many as there are free places
    /// that is the connection's own, since whoever has its share could take others' by being refused; one that has more
    /// of them is over where there is no place for them either.
    pub fn refused(&self) {
        if !self.has_place(&mut self.calls.lock_anyway()) {
            self.over.store(true, Ordering::Relaxed);
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.unflushed(0);
    }

    /// Whether the connection is to end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// The socket has taken something.
    pub fn wrote(&self) {
        // Nobody asks when nothing was owed.
        if self.unflushed_since.load(Ordering::Relaxed) != 0 {
            self.wrote.store(self.millis(), Ordering::Relaxed);
        }
    }

    /// The socket takes nothing at the moment.
    pub fn blocked(&self) {
        self.blocked.store(true, Ordering::Relaxed);
    }

    /// The socket has taken all that the connection had.
    pub fn flushed(&self) {
        self.blocked.store(false, Ordering::Relaxed);
        if self.unflushed_since.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.unflushed_since.store(0, Ordering::Relaxed);
        self.refused.store(0, Ordering::Relaxed);
        self.account.give_back(self.unflushed.swap(0, Ordering::Relaxed));
    }

    /// Cuts calls off whose answers are not fetched, and says whether the connection itself is to end.
    pub fn sweep(&self) -> Swept {
        let now = self.millis();
        // One's own bytes are no reason to lose a stream that takes little.
        let wanted = self.account.is_in_the_way();
        // The lock is not held while they are looked at: the last one to drop a call takes it.
        let calls: Vec<_> = self.calls.lock_anyway().open.iter().filter_map(Weak::upgrade).collect();
        let mut swept = Swept { cut: 0, ends: self.is_over() };
        for call in calls {
            match call.judge(now, call.moved().map_or(wanted, Account::is_in_the_way)) {
                Judgement::Stays => {}
                Judgement::CutOff => swept.cut += 1,
                Judgement::Lingers => swept.ends = true,
            }
        }
        let since = self.unflushed_since.load(Ordering::Relaxed);
        if since != 0 && self.blocked.load(Ordering::Relaxed) {
            let last = since.max(self.wrote.load(Ordering::Relaxed));
            swept.ends |= now.saturating_sub(last) >= whole_millis(FETCHED_WITHIN);
        } else if since != 0 && now.saturating_sub(since) >= whole_millis(FLUSHED_WITHIN) {
            // It left before its call ended here.
            self.flushed();
        }
        swept
    }

    pub(super) fn millis(&self) -> u64 {
        self.account.budget().millis()
    }

    /// A call has ended that held so many bytes, and of whose answer so many may be in the connection's buffers. `moved`
    /// is on whose account it held them, where that is not the connection's.
    pub(super) fn ended(&self, place: usize, held: usize, headers: usize, moved: Option<&Account>) {
        {
            let mut calls = self.calls.lock_anyway();
            calls.free.push(place);
        }
        // Of what the call held, so that no more is taken than there was room for.
        let stays = headers.min(held);
        if let Some(account) = moved {
            self.account.take_anyway(stays);
            account.give_back(held);
        } else {
            self.account.give_back(held - stays);
        }
        if headers > 0 {
            self.unflushed(stays);
        }
    }

    /// So many bytes that have been taken are in the connection's buffers now.
    fn unflushed(&self, bytes: usize) {
        self.unflushed.fetch_add(bytes, Ordering::Relaxed);
        if self.unflushed_since.load(Ordering::Relaxed) == 0 {
            self.unflushed_since.store(self.millis(), Ordering::Relaxed);
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let places = self.calls.lock_anyway().counted;
        self.account.give_back(*self.unflushed.get_mut() + places * sizes::PLACE);
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::super::open_call::LINGERS;
    use super::*;
    use auth::peer::Principal;
    use model::clock::Clock;

    const ALL: usize = 1 << 20;
    const STAYS: Swept = Swept { cut: 0, ends: false };

    fn scene() -> (Clock, Arc<Budget>, Arc<Ledger>) {
        let clock = Clock::manual();
        let budget = Budget::new(ALL, clock.clone());
        let ledger = of(&budget, "cn:a");
        (clock, budget, ledger)
    }

    fn of(budget: &Arc<Budget>, name: &str) -> Arc<Ledger> {
        Ledger::new(budget.account(&Principal::new(name)))
    }

    fn begin(ledger: &Arc<Ledger>, kind: Kind) -> Arc<OpenCall> {
        let call = ledger.begin(kind, sizes::CALL).unwrap();
        assert!(Arc::ptr_eq(&ledger.begun().unwrap(), &call));
        call
    }

    #[test]
    fn what_a_call_holds_is_given_back_when_the_last_of_it_has_gone() {
        let (_, budget, ledger) = scene();
        let call = begin(&ledger, Kind::Unary);
        assert!(call.reserve(50_000));
        let part = call.part();
        assert!(call.settle(20_000));
        drop(call);
        assert_eq!(budget.held(), sizes::CALL + 20_000);
        drop(part);
        assert_eq!(budget.held(), sizes::ANSWER, "its headers may still be on their way");
        ledger.flushed();
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_call_whose_caller_is_known_later_is_counted_for_that_one_and_its_buffers_for_the_connection() {
        let (_, budget, _) = scene();
        let (source, app) = (Principal::new("source:192.0.2.7"), budget.account(&Principal::new("access-key:app")));
        let ledger = Ledger::new(budget.account_of_source(&source));
        let call = begin(&ledger, Kind::Unary);
        assert!(call.reserve(50_000) && call.move_to(&app));
        assert_eq!((ledger.account().held(), app.held()), (0, sizes::CALL + 50_000));
        assert!(call.reserve(10_000) && call.move_to(&app), "it stays where it is");
        let part = call.part();
        assert!(call.settle(20_000));
        assert_eq!((ledger.account().held(), app.held()), (0, sizes::CALL + 20_000));
        drop((call, part));
        assert_eq!((ledger.account().held(), app.held()), (sizes::ANSWER, 0));
        ledger.flushed();
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_call_that_would_be_more_than_its_caller_may_have_stays_where_it_was() {
        let (_, budget, _) = scene();
        let app = budget.account(&Principal::new("access-key:app"));
        let by_certificate = of(&budget, "access-key:app");
        let own = by_certificate.begin(Kind::Unary, ALL / 5 * 4 - 100).unwrap();
        let ledger = Ledger::new(budget.account_of_source(&Principal::new("source:192.0.2.7")));
        let call = begin(&ledger, Kind::Unary);
        assert!(!call.move_to(&app));
        assert_eq!(ledger.account().held(), sizes::CALL);
        drop((own, by_certificate.begun()));
        assert!(call.move_to(&app));
        drop(call);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn the_headers_of_an_answer_are_counted_until_they_have_been_written() {
        let (_, budget, ledger) = scene();
        let call = begin(&ledger, Kind::Unary);
        call.answers_with(2_000);
        drop(call.part());
        drop(call);
        assert_eq!(budget.held(), sizes::ANSWER + 2_000);
        ledger.flushed();
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn an_answer_that_was_not_foreseen_is_refused_only_where_it_is_far_from_it() {
        let (_, budget, ledger) = scene();
        let (small, large) = (begin(&ledger, Kind::Unary), begin(&ledger, Kind::Unary));
        assert!(large.settle(100_000));
        assert!(small.reserve(ALL / 2));
        let held = budget.held();
        assert!(small.settle(ALL / 2 + 10) && budget.held() > held);
        assert!(!begin(&ledger, Kind::Unary).settle(ALL));
    }

    #[test]
    fn whoever_takes_nothing_of_an_answer_is_cut_off_and_with_it_its_connection_if_that_does_not_help() {
        let (clock, _, ledger) = scene();
        let (works, slow, owed) =
            (begin(&ledger, Kind::Unary), begin(&ledger, Kind::Unary), begin(&ledger, Kind::Unary));
        let (slow_part, owed_part) = (slow.part(), owed.part());
        clock.advance(FETCHED_WITHIN - Duration::from_millis(1));
        assert_eq!(ledger.sweep(), STAYS);
        slow_part.progresses();
        clock.advance(Duration::from_millis(1));
        assert_eq!(ledger.sweep(), Swept { cut: 1, ends: false });
        assert_eq!(ledger.sweep(), STAYS);
        clock.advance(LINGERS);
        assert_eq!(ledger.sweep(), Swept { cut: 0, ends: true });
        drop(owed_part);
        assert_eq!(ledger.sweep(), STAYS);
        drop((works, owed));
    }

    #[test]
    fn a_trickle_is_enough_until_others_want_the_bytes() {
        let (clock, budget, ledger) = scene();
        let call = begin(&ledger, Kind::Unary);
        let part = call.part();
        for _ in 0..60 {
            clock.advance(Duration::from_secs(1));
            part.progresses();
            assert_eq!(ledger.sweep(), STAYS);
        }
        assert!(of(&budget, "cn:b").begin(Kind::Unary, ALL).is_none());
        assert_eq!(ledger.sweep().cut, 1);
    }

    #[test]
    fn a_stream_that_is_not_read_stays_until_others_want_its_bytes() {
        let (clock, budget, ledger) = scene();
        let (stream, watch) = (begin(&ledger, Kind::Stream), begin(&ledger, Kind::Watch));
        let _parts = (stream.part(), watch.part());
        clock.advance(6 * FETCHED_WITHIN);
        assert_eq!(ledger.sweep(), STAYS);
        let other = of(&budget, "cn:b");
        let held = other.begin(Kind::Unary, 10 * sizes::CALL).unwrap();
        assert!(other.begin(Kind::Unary, ALL).is_none());
        assert_eq!(ledger.sweep(), STAYS, "the other one has more itself");
        drop((held, other.begun()));
        assert!(other.begin(Kind::Unary, ALL).is_none());
        assert_eq!(ledger.sweep().cut, 2);
    }

    #[test]
    fn a_stream_that_makes_room_has_its_time() {
        let (clock, _, ledger) = scene();
        let stream = begin(&ledger, Kind::Stream);
        stream.leaves_within(Duration::from_secs(5));
        assert_eq!(ledger.sweep(), STAYS);
        clock.advance(Duration::from_secs(5));
        assert_eq!(ledger.sweep().cut, 1);
    }

    #[test]
    fn a_socket_that_takes_nothing_ends_its_connection() {
        let (clock, _, ledger) = scene();
        drop(begin(&ledger, Kind::Unary).part());
        ledger.blocked();
        clock.advance(FETCHED_WITHIN / 2);
        ledger.wrote();
        clock.advance(FETCHED_WITHIN / 2);
        assert_eq!(ledger.sweep(), STAYS);
        clock.advance(FETCHED_WITHIN / 2);
        assert_eq!(ledger.sweep(), Swept { cut: 0, ends: true });
        ledger.flushed();
        assert_eq!(ledger.sweep(), STAYS);
    }

    #[test]
    fn an_idle_connection_whose_last_answer_left_before_its_call_ended_stays() {
        let (clock, budget, ledger) = scene();
        let call = begin(&ledger, Kind::Unary);
        drop(call.part());
        ledger.flushed();
        drop(call);
        assert_eq!(budget.held(), sizes::ANSWER);
        clock.advance(FETCHED_WITHIN);
        assert_eq!((ledger.sweep(), budget.held()), (STAYS, 0));
    }

    #[test]
    fn places_are_counted_while_the_connection_lives() {
        let (_, budget, ledger) = scene();
        let calls: Vec<_> = (0..FREE_PLACES + 5).map(|_| begin(&ledger, Kind::Unary)).collect();
        drop(calls);
        assert_eq!(budget.held(), 5 * sizes::PLACE);
        drop(ledger);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_connection_that_is_refused_and_asks_on_is_over_where_there_is_no_room_for_that_either() {
        let (_, budget, ledger) = scene();
        let _held = of(&budget, "cn:a").begin(Kind::Unary, ALL / 5 * 4 - 100).unwrap();
        for _ in 0..FREE_PLACES {
            assert!(ledger.begin(Kind::Unary, ALL).is_none());
            ledger.refused();
            assert!(!ledger.is_over());
        }
        ledger.flushed();
        ledger.refused();
        assert!(!ledger.is_over(), "it fetches what it is told");
        for _ in 0..FREE_PLACES {
            ledger.refused();
        }
        assert!(ledger.is_over() && ledger.sweep().ends);
    }
}
