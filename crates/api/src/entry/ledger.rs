//! What one connection holds: its open calls, and answers whose bytes are in its own buffers.
//!
//! HTTP's library keeps what it was given until the socket takes it. Where the socket takes nothing, answers without a
//! body (errors are such) are seen by nobody: they are counted here until the connection has written all that it had.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::budget::{Account, whole_millis};
use super::open_call::{FETCHED_WITHIN, Judgement, Kind, OpenCall};
use super::sizes;
use model::lock::MutexExt as _;

/// Calls that a connection may have open at once before HTTP/2's account of them is counted: its tables grow with them
/// and shrink with the connection alone. Few clients have more calls in flight on one connection.
const FREE_PLACES: usize = 32;

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
    /// Calls that were refused, and of which the same is true.
    refused: AtomicUsize,
    over: AtomicBool,
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
            account,
            calls: Mutex::default(),
            begun: Mutex::default(),
            unflushed: AtomicUsize::new(0),
            unflushed_since: AtomicU64::new(0),
            wrote: AtomicU64::new(0),
            refused: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
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

    /// A call is refused. It takes room all the same until it has left, so that a connection that has many such calls
    /// at once is over where there is none for them either.
    pub fn refused(&self) {
        if !self.has_place(&mut self.calls.lock_anyway()) {
            self.over.store(true, Ordering::Relaxed);
        }
        self.unflushed(sizes::ANSWER);
        self.refused.fetch_add(1, Ordering::Relaxed);
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

    /// The socket has taken all that the connection had.
    pub fn flushed(&self) {
        if self.unflushed.load(Ordering::Relaxed) == 0 {
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
        let wanted = self.account.budget().is_wanted() && self.account.is_heavy();
        // The lock is not held while they are looked at: the last one to drop a call takes it.
        let calls: Vec<_> = self.calls.lock_anyway().open.iter().filter_map(Weak::upgrade).collect();
        let mut swept = Swept { cut: 0, ends: self.is_over() };
        for call in calls {
            match call.judge(now, wanted) {
                Judgement::Stays => {}
                Judgement::CutOff => swept.cut += 1,
                Judgement::Lingers => swept.ends = true,
            }
        }
        let since = self.unflushed_since.load(Ordering::Relaxed);
        if since != 0 {
            let last = since.max(self.wrote.load(Ordering::Relaxed));
            swept.ends |= now.saturating_sub(last) >= whole_millis(FETCHED_WITHIN);
        }
        swept
    }

    pub(super) fn millis(&self) -> u64 {
        self.account.budget().millis()
    }

    /// A call has ended that held so many bytes.
    pub(super) fn ended(&self, place: usize, held: usize, answered: bool) {
        {
            let mut calls = self.calls.lock_anyway();
            calls.free.push(place);
        }
        if answered {
            self.unflushed(sizes::ANSWER);
        }
        self.account.give_back(held);
    }

    fn unflushed(&self, bytes: usize) {
        self.account.take_anyway(bytes);
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
