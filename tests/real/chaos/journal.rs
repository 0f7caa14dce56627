//! What callers may meet and when, and what they did meet.
//!
//! A call may fail only while no zone is sound, and only with an error that says that it may be tried again; or while an
//! operator has disconnected the key store, with one that says so. It may give wrong bytes only while a zone lies and its
//! canary has not found it out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use model::clock::Clock;
use tonic::Code;

use crate::harness::Failure;

/// More of them say nothing new.
const MOST_KEPT: usize = 10;

pub(super) struct Journal {
    pub(super) clock: Clock,
    windows: Mutex<Windows>,
    wrong: Mutex<Vec<String>>,
    /// Calls and items of batches that were answered, whatever the answer.
    pub(super) answers: AtomicUsize,
    /// Errors that were allowed.
    pub(super) errors: AtomicUsize,
    /// Lies that were allowed.
    pub(super) lies: AtomicUsize,
}

#[derive(Default)]
struct Windows {
    outages: Vec<Window>,
    /// The key store is disconnected. Outages too.
    closed: Vec<Window>,
    lies: Vec<(&'static str, Window)>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    from: Instant,
    until: Option<Instant>,
}

impl Window {
    fn meets(&self, from: Instant, until: Instant) -> bool {
        self.from <= until && self.until.is_none_or(|end| from <= end)
    }
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            clock: Clock::system(),
            windows: Mutex::default(),
            wrong: Mutex::default(),
            answers: AtomicUsize::default(),
            errors: AtomicUsize::default(),
            lies: AtomicUsize::default(),
        }
    }

    /// From now on no zone may be sound. To be called before anything is done.
    pub(super) fn begin_outage(&self) {
        self.windows().outages.push(Window { from: self.clock.now(), until: None });
    }

    /// A zone is sound again.
    pub(super) fn end_outage(&self) {
        let now = self.clock.now();
        self.windows().outages.iter_mut().for_each(|window| _ = window.until.get_or_insert(now));
    }

    /// From now on the key store may be disconnected. To be called before an operator does it.
    pub(super) fn begin_closed(&self) {
        self.begin_outage();
        self.windows().closed.push(Window { from: self.clock.now(), until: None });
    }

    /// It is connected again; no zone has to be sound yet.
    pub(super) fn end_closed(&self) {
        let now = self.clock.now();
        self.windows().closed.iter_mut().for_each(|window| _ = window.until.get_or_insert(now));
    }

    /// From now on a zone gives wrong bytes for this function. To be called before it does.
    pub(super) fn begin_lie(&self, function: &'static str) {
        self.windows().lies.push((function, Window { from: self.clock.now(), until: None }));
    }

    /// It is out of service, or no longer lies.
    pub(super) fn end_lie(&self) {
        let now = self.clock.now();
        self.windows().lies.iter_mut().for_each(|(_, window)| _ = window.until.get_or_insert(now));
    }

    /// Whether a zone may have lied in this function to a call that began then and ends now.
    pub(super) fn is_lied_to(&self, function: &str, began: Instant) -> bool {
        let now = self.clock.now();
        self.windows().lies.iter().any(|(of, window)| *of == function && window.meets(began, now))
    }

    /// A call, or an item of one, that was answered rightly.
    pub(super) fn right(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// One that began then and failed.
    pub(super) fn failed(&self, what: &str, began: Instant, failure: &Failure) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        let now = self.clock.now();
        let took = now - began;
        let meets = |windows: &[Window]| windows.iter().any(|window| window.meets(began, now));
        let (in_outage, closed) = {
            let windows = self.windows();
            (meets(&windows.outages), meets(&windows.closed))
        };
        match (is_clean(failure) || (closed && says_closed(failure)), in_outage) {
            (true, true) => drop(self.errors.fetch_add(1, Ordering::Relaxed)),
            (true, false) => self.wrong(format!("{what} failed after {took:?} though a zone is sound: {failure:?}")),
            (false, _) => self.wrong(format!("{what} failed after {took:?}, and not cleanly: {failure:?}")),
        }
    }

    /// One that began then and gave other bytes than it should have.
    pub(super) fn lied(&self, what: &str, function: &str, began: Instant) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        match self.is_lied_to(function, began) {
            true => drop(self.lies.fetch_add(1, Ordering::Relaxed)),
            false => self.wrong(format!("{what} gave wrong bytes")),
        }
    }

    /// What must not be.
    pub(super) fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < MOST_KEPT {
            wrong.push(what);
        }
    }

    /// Fails when something was wrong.
    #[track_caller]
    pub(super) fn check(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap()
    }
}

/// The service's own word that the call may be tried again, or the end of the caller's patience, of which the client may
/// learn from its own timer a moment before the service tells.
fn is_clean(failure: &Failure) -> bool {
    let late = matches!(failure.code, Code::Cancelled | Code::DeadlineExceeded) && failure.reason.is_empty();
    late || (failure.retryable && !failure.reason.is_empty())
}

/// The service's word that an operator has disconnected the key store: to try again does not help before he connects it.
fn says_closed(failure: &Failure) -> bool {
    let invalid = ["KMSInvalidStateException", "CustomKeyStoreInvalidStateException"];
    invalid.contains(&&*failure.reason) && failure.message.contains("key store")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(reason: &str, retryable: bool) -> Failure {
        Failure { code: Code::Unavailable, reason: reason.to_owned(), message: String::new(), retryable }
    }

    fn wrongs(journal: &Journal) -> usize {
        journal.wrong.lock().unwrap().len()
    }

    #[test]
    fn a_clean_error_is_allowed_in_an_outage_and_at_no_other_time() {
        let journal = Journal::new();
        let clean = failure("KMSInvalidStateException", true);
        let before = journal.clock.now();
        journal.failed("before", before, &clean);
        assert_eq!(wrongs(&journal), 1);
        journal.begin_outage();
        // It began before the outage and ended in it.
        journal.failed("into", before, &clean);
        let during = journal.clock.now();
        journal.failed("within", during, &failure("KMSInvalidStateException", false));
        assert_eq!(wrongs(&journal), 2, "one that must not be tried again is never allowed");
        journal.end_outage();
        journal.failed("out of", during, &clean);
        assert_eq!((wrongs(&journal), journal.errors.load(Ordering::Relaxed)), (2, 2));
        std::thread::yield_now();
        let after = std::iter::repeat_with(|| journal.clock.now()).find(|now| *now > during).unwrap();
        journal.end_outage();
        while !journal
            .windows()
            .outages
            .iter()
            .all(|window| window.until.is_some_and(|until| until < journal.clock.now()))
        {}
        journal.failed("after", journal.clock.now().max(after), &clean);
        assert_eq!(wrongs(&journal), 3);
    }

    #[test]
    fn that_the_key_store_is_disconnected_is_said_while_it_is() {
        let journal = Journal::new();
        let says = Failure {
            message: "the key is unavailable: its key store main is DISCONNECTED".to_owned(),
            ..failure("KMSInvalidStateException", false)
        };
        journal.begin_outage();
        journal.failed("in an outage", journal.clock.now(), &says);
        assert_eq!(wrongs(&journal), 1, "nobody has disconnected it");
        journal.begin_closed();
        let began = journal.clock.now();
        journal.failed("while it is", began, &says);
        journal.failed("while it is", began, &failure("KMSInvalidStateException", true));
        assert_eq!(wrongs(&journal), 1);
        journal.failed("while it is", began, &failure("KMSInvalidStateException", false));
        assert_eq!(wrongs(&journal), 2, "it says nothing of the key store");
        journal.end_closed();
        let later = std::iter::repeat_with(|| journal.clock.now());
        let later = later.into_iter().find(|now| journal.windows().closed[0].until.is_some_and(|until| until < *now));
        journal.failed("after", later.unwrap(), &says);
        assert_eq!(wrongs(&journal), 3, "no zone is sound yet, and the key store is connected");
    }

    #[test]
    fn wrong_bytes_are_allowed_while_that_function_lies() {
        let journal = Journal::new();
        journal.begin_lie("C_Decrypt");
        let began = journal.clock.now();
        journal.lied("Decrypt", "C_Decrypt", began);
        assert_eq!(wrongs(&journal), 0);
        journal.lied("Encrypt", "C_Encrypt", began);
        assert_eq!(wrongs(&journal), 1);
        journal.end_lie();
        let ended = journal.clock.now();
        let later = std::iter::repeat_with(|| journal.clock.now()).find(|now| *now > ended).unwrap();
        journal.lied("Decrypt", "C_Decrypt", later);
        assert_eq!(wrongs(&journal), 2);
    }
}
