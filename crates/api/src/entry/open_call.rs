//! A call that is open: the bytes that are counted for it, and whether its answer is being fetched.
//!
//! It lives as long as anything of the call does: its request while it is read, the work for it, its answer until the
//! last byte has left the process. So what is counted is given back when it is no longer there, whoever held it last.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;

use super::budget::{Account, Budget, whole_millis};
use super::ledger::Ledger;
use super::sizes;

/// A caller that takes nothing of an answer for so long is cut off. Whoever waits for an answer reads it at once; a
/// client that was stopped by its machine for so long asks again.
pub const FETCHED_WITHIN: Duration = Duration::from_secs(10);
/// While others want its bytes, an answer must also leave at this rate after that time: 64 KiB a second is a modem's
/// pace on a data centre's network.
const LEAST_A_SECOND: usize = 64 << 10;
/// So long after it was cut off, what is still there of an answer lies in the connection's own buffers, and goes with
/// the connection alone.
pub(super) const LINGERS: Duration = Duration::from_secs(2);

/// How a call's messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one answer.
    Unary,
    /// One request, answers without an end.
    Watch,
    /// Both without an end.
    Stream,
}

/// A call.
pub struct OpenCall {
    ledger: Arc<Ledger>,
    /// On whose account it is, where that came out later than the connection did.
    moved: OnceLock<Arc<Account>>,
    place: usize,
    kind: Kind,
    /// Bytes that are counted for it.
    held: AtomicUsize,
    /// Parts of its answer that have not left.
    parts: AtomicUsize,
    /// When its answer was there (of a stream: the first of what has not left), in the budget's milliseconds; 0: no
    /// answer has to be fetched.
    owed: AtomicU64,
    /// When something of it came or left last, likewise.
    active: AtomicU64,
    /// Bytes of an answer that has been begun of which nothing but headers may be on their way; 0: there is none.
    headers: AtomicUsize,
    /// When it is to be cut off, likewise; 0: it is not.
    leaves_at: AtomicU64,
    /// When it was cut off, likewise; 0: it was not.
    cut_at: AtomicU64,
    waker: AtomicWaker,
    /// Work for it that goes on, whether or not its caller still waits.
    works: AtomicUsize,
    /// What is given back when that work has ended.
    later: AtomicUsize,
}

/// Work for a call: what is counted for the request stays counted until the last of it has ended.
#[derive(Debug)]
pub struct Work(Arc<OpenCall>);

impl Drop for Work {
    fn drop(&mut self) {
        if self.0.works.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.release_later();
        }
    }
}

/// A part of an answer that has not left. Clones are further parts.
#[derive(Debug)]
pub struct Part(Arc<OpenCall>);

/// What is to be done about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It goes on.
    Stays,
    /// It was cut off now.
    CutOff,
    /// It has been cut off, and the connection still holds something of it.
    Lingers,
}

impl OpenCall {
    /// `held` has been taken.
    pub(super) fn new(ledger: Arc<Ledger>, place: usize, kind: Kind, held: usize) -> Arc<Self> {
        let now = ledger.millis();
        let [owed, leaves_at, cut_at] = [const { AtomicU64::new(0) }; 3];
        let (held, parts, active) = (AtomicUsize::new(held), AtomicUsize::new(0), AtomicU64::new(now));
        let waker = AtomicWaker::new();
        let [headers, works, later] = [const { AtomicUsize::new(0) }; 3];
        Arc::new(Self {
            ledger,
            moved: OnceLock::new(),
            place,
            kind,
            held,
            parts,
            owed,
            active,
            headers,
            leaves_at,
            cut_at,
            waker,
            works,
            later,
        })
    }

    /// Work begins for it, and goes on until what this returns is dropped.
    #[must_use]
    pub fn work(self: &Arc<Self>) -> Work {
        self.works.fetch_add(1, Ordering::SeqCst);
        Work(Arc::clone(self))
    }

    fn release_later(&self) {
        let bytes = self.later.swap(0, Ordering::SeqCst);
        if bytes > 0 {
            self.release(bytes);
        }
    }

    /// How its messages come.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// On whose account it is.
    fn account(&self) -> &Account {
        self.moved().unwrap_or_else(|| self.ledger.account())
    }

    /// On whose account it is, where that is not its connection's.
    pub(super) fn moved(&self) -> Option<&Account> {
        self.moved.get().map(Arc::as_ref)
    }

    /// Has all that it holds, and will hold, be on this account, since its caller has proven who it is; whether there is
    /// room for it there. Nothing else must be happening to the call, and it is done once: what is moved stays.
    #[must_use]
    pub fn move_to(&self, account: &Arc<Account>) -> bool {
        self.ledger.proven.store(true, Ordering::Relaxed);
        let from = self.ledger.account();
        if self.moved().is_some() || Arc::ptr_eq(account, from) {
            return true;
        }
        let held = self.held.load(Ordering::Relaxed);
        account.take_over(held, from) && self.moved.set(Arc::clone(account)).is_ok()
    }

    /// All bytes, of which those of this call are a part.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        self.ledger.account().budget()
    }

    /// Takes so many bytes more, or none; whether it may have them.
    #[must_use]
    pub fn reserve(&self, bytes: usize) -> bool {
        let taken = self.account().take(bytes);
        if taken {
            self.held.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Counts what is there already.
    fn count(&self, bytes: usize) {
        self.account().take_anyway(bytes);
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what was taken by [`OpenCall::reserve`].
    pub fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.account().give_back(bytes);
    }

    /// The whole answer is there and takes so many bytes: what was reserved beyond it is given back, what is missing is
    /// taken; whether it may be given out. Only one that is far from what was foreseen is refused, a list for instance:
    /// what was done for another one is done.
    #[must_use]
    pub fn settle(&self, answer: usize) -> bool {
        let (held, needed) = (self.held.load(Ordering::Relaxed), sizes::CALL + answer);
        if needed <= held {
            self.later.store(held - needed, Ordering::SeqCst);
            // The answer may be no more than that its time is over: the work still has the request.
            if self.works.load(Ordering::SeqCst) == 0 {
                self.release_later();
            }
            return true;
        }
        if needed - held > held {
            return self.reserve(needed - held);
        }
        self.count(needed - held);
        true
    }

    /// The headers of its answer take so many bytes until they have been written, which [`sizes::CALL`] covers while the
    /// call lives.
    pub fn answers_with(&self, headers: usize) {
        self.headers.store(sizes::ANSWER + headers, Ordering::Relaxed);
    }

    /// A part of the answer that will be given back as fetched when it is dropped.
    #[must_use]
    pub fn part(self: &Arc<Self>) -> Part {
        if self.parts.fetch_add(1, Ordering::Relaxed) == 0 {
            self.headers.fetch_max(sizes::ANSWER, Ordering::Relaxed);
            let now = self.ledger.millis();
            self.active.store(now, Ordering::Relaxed);
            self.owed.store(now, Ordering::Relaxed);
        }
        Part(Arc::clone(self))
    }

    /// Something of it came or left.
    pub fn progresses(&self) {
        self.active.store(self.ledger.millis(), Ordering::Relaxed);
    }

    /// Whether its task is to end; it is woken when that changes.
    pub fn is_cut(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.cut_at.load(Ordering::Relaxed) != 0
    }

    /// Ends its task, whatever that waits for.
    pub fn cut(&self) {
        self.cut_at.store(self.ledger.millis(), Ordering::Relaxed);
        self.waker.wake();
    }

    /// It is to end by itself within this time, and is cut off after it.
    pub fn leaves_within(&self, time: Duration) {
        self.leaves_at.store(self.ledger.millis() + whole_millis(time), Ordering::Relaxed);
    }

    /// Cuts it off if its time is over. `wanted`: others want its bytes.
    pub(super) fn judge(&self, now: u64, wanted: bool) -> Judgement {
        let cut_at = self.cut_at.load(Ordering::Relaxed);
        if cut_at != 0 {
            // Work for it that goes on is not the connection's.
            let parts_left = self.parts.load(Ordering::Relaxed) > 0;
            let lingers = parts_left && now.saturating_sub(cut_at) >= whole_millis(LINGERS);
            return if lingers { Judgement::Lingers } else { Judgement::Stays };
        }
        if self.is_over(now, wanted) {
            self.cut();
            return Judgement::CutOff;
        }
        Judgement::Stays
    }

    fn is_over(&self, now: u64, wanted: bool) -> bool {
        let leaves_at = self.leaves_at.load(Ordering::Relaxed);
        if leaves_at != 0 && now >= leaves_at {
            return true;
        }
        let owed = self.owed.load(Ordering::Relaxed);
        let still = now.saturating_sub(self.active.load(Ordering::Relaxed)) >= whole_millis(FETCHED_WITHIN);
        match self.kind {
            Kind::Unary if owed == 0 => false,
            Kind::Unary => {
                let pace = u64::try_from(self.held.load(Ordering::Relaxed) / (LEAST_A_SECOND / 1_000));
                let due = whole_millis(FETCHED_WITHIN).saturating_add(pace.unwrap_or(u64::MAX));
                still || (wanted && now.saturating_sub(owed) >= due)
            }
            // Nobody knows whether it is not used or not read: neither is a reason to keep what others want.
            Kind::Watch | Kind::Stream => wanted && still,
        }
    }

    fn part_left(&self) {
        self.active.store(self.ledger.millis(), Ordering::Relaxed);
        if self.parts.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.owed.store(0, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for OpenCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenCall").field("kind", &self.kind).field("held", &self.held).finish_non_exhaustive()
    }
}

impl Part {
    /// Of which it is a part.
    #[must_use]
    pub fn call(&self) -> &Arc<OpenCall> {
        &self.0
    }

    /// Something of it has left.
    pub fn progresses(&self) {
        self.0.progresses();
    }
}

impl Clone for Part {
    fn clone(&self) -> Self {
        self.0.part()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.part_left();
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let held = *self.held.get_mut();
        let headers = *self.headers.get_mut();
        self.ledger.ended(self.place, held, headers, self.moved.get().map(Arc::as_ref));
    }
}
