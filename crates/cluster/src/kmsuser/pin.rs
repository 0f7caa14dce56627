//! kmsuser's PIN in one HSM: with which PIN to log in, and how to change it so that no crash at any point loses it.
//! Pure.
//!
//! ```text
//! RecordAttempt → Login → RecordOutcome → Prove ─┬───────────────────────────────────────────────► done
//!       ▲         │ │ refused, another candidate │ rotation due
//!       ├─────────┼─┘                            └► RecordPending → ChangePin → RecordRotated ───► done
//!       └─────────┼───────────────────────────────────────────────────────────────┘
//!                 └ to be changed first: RecordPending → ChangePin → RecordRotated, and in again with the new one
//! ```
//!
//! Candidates are the PIN on record, the one of a rotation that was broken off, and the one that an operator has told
//! ([`told`]). The one on record comes first, where the token has not refused it: it has worked before, and a PIN that
//! was mistyped then costs no try. After the security officer has set the PIN, the one that was told comes first. The
//! one that the token takes is its PIN, and the others leave the record.
//!
//! A token may say of the right PIN that it has to be changed before anything else. Then it is the one on record from here
//! on, the others stay beside it until a login has worked, and it is changed once: a token that says so of the new one too
//! is not let in.
//!
//! Invariants: nothing is tried that was not recorded before; an attempt that is found without an outcome counts as
//! failed, and the next one begins with the next candidate; a PIN on record that was refused is not tried again; after
//! as many failures in a row as the policy allows, nothing is tried, whatever an operator tells, until he says that the
//! officer has cleared the token's count too; a PIN is in the record before it can be in the token, and leaves the
//! record only when another one has proven to be the token's.

pub(crate) mod told;

use bytes::Bytes;

use model::pin::{Candidate, Pin};
use model::step::steps;
use protocol::UserFlags;

/// What the vendor and the operator want.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Failures in a row after which nothing is tried any more.
    pub(crate) tries: u32,
    /// This worker rotates the PIN, if that is due.
    pub(crate) rotates: bool,
    /// A PIN that has to be changed before the first login is changed, by the worker that rotates.
    pub(crate) changes_first: bool,
}

steps! {
    /// What is to be done next.
    pub enum Step in "kmsuser" {
        /// Record that a login with a PIN is about to be tried.
        RecordAttempt = "record-attempt",
        /// Try it.
        Login = "login",
        /// Record what came of it.
        RecordOutcome = "record-outcome",
        /// Have the token prove its identity.
        Prove = "prove",
        /// Make a new PIN and record it as pending.
        RecordPending = "record-pending",
        /// Change the PIN in the token from current to pending.
        ChangePin = "change-pin",
        /// Record that the pending PIN is the token's.
        RecordRotated = "record-rotated",
        /// Record that the token refused to change its PIN.
        RecordUnchanged = "record-unchanged",
        /// Try the token with the canary key: one that was lost, that answered wrongly, or that makes its own IV comes
        /// in only when that works.
        TryCanary = "try-canary",
    }
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The record is durable.
    Recorded,
    /// The canary key worked as it must.
    Worked,
    /// The token took the PIN.
    LoggedIn,
    /// The token refused the PIN.
    LoginRefused,
    /// The token said of the PIN that it has to be changed before anything else.
    Expired,
    /// The token said that it has locked the user.
    LockedOut,
    /// The PIN could not be opened, and was not tried.
    Sealed,
    /// The login failed for another reason than its PIN.
    LoginNotJudged,
    /// It proved itself.
    Proven,
    /// A new PIN was made and sealed; not recorded yet.
    Made(Bytes),
    /// The token has the pending PIN.
    Changed,
    /// The token refused, and has the current PIN.
    Unchanged,
    /// The token refused the current PIN as a wrong one.
    NotCurrent,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Do this.
    Do(Step),
    /// The worker may serve.
    Done,
    /// It may not.
    Stop(LoginRefusal),
}

/// Why there is nothing to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginRefusal {
    /// The token has no user.
    NoUser,
    /// The token has locked the user.
    Locked,
    /// One more wrong PIN would lock the user.
    LastTry,
    /// Every PIN on record was refused.
    Refused,
    /// Too many attempts in a row were refused or have no outcome.
    Spent,
    /// It passes: the login failed for another reason than its PIN.
    NotJudged,
    /// It passes: the PIN has to be changed first, and another worker does that.
    NotYetChanged,
    /// The PIN has to be changed first, and that was not allowed, in vain, or refused.
    Expired,
    /// It passes: what is left to be tried cannot be opened.
    Sealed,
    /// The user may not change its PIN.
    Unchangeable,
}

/// One worker's admission, as far as PINs go.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    policy: Policy,
    flags: UserFlags,
    /// What is known; to be recorded where a step says so.
    pub(crate) pin: Pin,
    /// The PIN that is being tried.
    pub(crate) candidate: Candidate,
    step: Option<Step>,
    /// The token has taken a PIN.
    logged_in: bool,
    /// The candidate of the last attempt that came to nothing, so that the next one begins with the one after it.
    last: Option<Candidate>,
    /// Those that cannot be opened.
    sealed: Vec<Candidate>,
    /// The token has said that it has locked the user.
    locked: bool,
    /// The token wants the PIN changed, and nobody does that now.
    expired: Option<LoginRefusal>,
    /// It was changed before the first login.
    changed: bool,
}

impl Login {
    /// With what is on record and what the token says of its user.
    pub(crate) fn new(mut pin: Pin, flags: UserFlags, policy: Policy) -> Self {
        let last = pin.attempt.take();
        if last.is_some() {
            // Nobody knows what came of it: perhaps the token counted a wrong PIN.
            pin.failures = pin.failures.saturating_add(1);
        }
        Self {
            policy,
            flags,
            pin,
            candidate: Candidate::Current,
            step: None,
            logged_in: false,
            last,
            sealed: Vec::new(),
            locked: false,
            expired: None,
            changed: false,
        }
    }

    /// The first step.
    pub(crate) fn begin(&mut self) -> Next {
        if !self.flags.initialised {
            return Next::Stop(LoginRefusal::NoUser);
        }
        if self.flags.locked {
            return Next::Stop(LoginRefusal::Locked);
        }
        if self.flags.final_try {
            return Next::Stop(LoginRefusal::LastTry);
        }
        self.attempt()
    }

    /// What follows from what came of the last step.
    pub(crate) fn next(&mut self, event: Event, now: i64) -> Next {
        match (self.step, event) {
            (Some(Step::RecordAttempt), Event::Recorded) => self.go(Step::Login),
            (Some(Step::Login), Event::LoggedIn) => {
                self.accept(now);
                self.go(Step::RecordOutcome)
            }
            (Some(Step::Login), Event::LoginRefused) => {
                self.fail();
                self.last = Some(self.candidate);
                self.attempt_or_record()
            }
            (Some(Step::Login), Event::LockedOut) => {
                self.fail();
                self.locked = true;
                self.go(Step::RecordOutcome)
            }
            (Some(Step::Login), Event::Expired) => {
                self.pin.attempt = None;
                self.expired = match self.policy {
                    Policy { changes_first: true, rotates: false, .. } => Some(LoginRefusal::NotYetChanged),
                    Policy { changes_first: true, .. } if !self.changed => None,
                    _ => Some(LoginRefusal::Expired),
                };
                if self.expired.is_some() {
                    return self.go(Step::RecordOutcome);
                }
                self.adopt();
                self.go(Step::RecordPending)
            }
            (Some(Step::Login), Event::Sealed) => {
                self.pin.attempt = None;
                self.sealed.push(self.candidate);
                self.attempt_or_record()
            }
            (Some(Step::Login), Event::LoginNotJudged) => {
                self.pin.attempt = None;
                self.go(Step::RecordOutcome)
            }
            (Some(Step::RecordOutcome), Event::Recorded) if self.logged_in => self.go(Step::Prove),
            (Some(Step::RecordOutcome), Event::Recorded) if self.locked => Next::Stop(LoginRefusal::Locked),
            // Where a candidate is left, it was not judged.
            (Some(Step::RecordOutcome), Event::Recorded) => {
                Next::Stop(self.expired.or_else(|| self.candidate().err()).unwrap_or(LoginRefusal::NotJudged))
            }
            (Some(Step::Prove), Event::Proven) if self.policy.rotates && self.pin.rotation_due => {
                self.go(Step::RecordPending)
            }
            (Some(Step::Prove), Event::Proven) => self.go(Step::TryCanary),
            (Some(Step::TryCanary), Event::Worked) => Next::Done,
            (Some(Step::RecordPending), Event::Made(sealed)) => {
                self.pin.pending = Some(sealed);
                self.pin.pending_refused = false;
                Next::Do(Step::RecordPending)
            }
            (Some(Step::RecordPending), Event::Recorded) => self.go(Step::ChangePin),
            (Some(Step::ChangePin), Event::Changed) => {
                if let Some(pending) = self.pin.pending.take() {
                    self.pin.current = pending;
                }
                self.pin.rotated_at = Some(now);
                self.pin.rotation_due = false;
                self.go(Step::RecordRotated)
            }
            // No login has shown that it is the right one: this is as good as one that was refused.
            (Some(Step::ChangePin), Event::NotCurrent) if !self.logged_in => {
                self.pin.pending = None;
                self.fail();
                self.last = Some(self.candidate);
                self.attempt_or_record()
            }
            (Some(Step::ChangePin), Event::Unchanged | Event::NotCurrent) => {
                self.pin.pending = None;
                self.go(Step::RecordUnchanged)
            }
            (Some(Step::RecordRotated), Event::Recorded) if !self.logged_in => {
                self.changed = true;
                self.attempt()
            }
            (Some(Step::RecordRotated), Event::Recorded) => self.go(Step::TryCanary),
            (Some(Step::RecordUnchanged), Event::Recorded) if !self.logged_in => Next::Stop(LoginRefusal::Expired),
            (Some(Step::RecordUnchanged), Event::Recorded) => Next::Stop(LoginRefusal::Unchangeable),
            // No other step has this event.
            _ => Next::Stop(LoginRefusal::NotJudged),
        }
    }

    fn go(&mut self, step: Step) -> Next {
        self.step = Some(step);
        Next::Do(step)
    }

    /// The token took this PIN: the others are not its.
    fn accept(&mut self, now: i64) {
        match self.candidate {
            Candidate::Current => {}
            Candidate::Pending => {
                // The rotation went through; only its record was missing.
                if let Some(pending) = self.pin.pending.take() {
                    self.pin.current = pending;
                }
                (self.pin.rotated_at, self.pin.rotation_due) = (Some(now), false);
            }
            Candidate::Offered => {
                if let Some(offered) = self.pin.offered.take() {
                    self.pin.current = offered;
                }
                self.pin.rotated_at = None;
            }
        }
        (self.pin.pending, self.pin.offered) = (None, None);
        (self.pin.current_refused, self.pin.pending_refused, self.pin.offered_refused) = (false, false, false);
        (self.pin.current_proven, self.pin.offered_first) = (true, false);
        (self.pin.attempt, self.pin.failures) = (None, 0);
        (self.last, self.logged_in) = (None, true);
    }

    /// The token takes this PIN for the right one, and has not let anybody in by it: it is the current one, and what was
    /// that before stays on record.
    fn adopt(&mut self) {
        let pin = &mut self.pin;
        let taken = match self.candidate {
            Candidate::Current => None,
            Candidate::Pending => pin.pending.take(),
            Candidate::Offered => pin.offered.take(),
        };
        if let Some(taken) = taken {
            let before = std::mem::replace(&mut pin.current, taken);
            if pin.offered.is_none() {
                (pin.offered, pin.offered_refused) = (Some(before), pin.current_refused);
            }
        }
        (pin.current_proven, pin.current_refused, pin.offered_first) = (true, false, false);
        (self.candidate, self.last) = (Candidate::Current, None);
    }

    /// The token refused this PIN.
    fn fail(&mut self) {
        self.pin.attempt = None;
        self.pin.failures = self.pin.failures.saturating_add(1);
        told::refused(&mut self.pin, self.candidate, true);
    }

    /// Goes on to the next candidate, if one may be tried. That is recorded together with what came of this one.
    fn attempt_or_record(&mut self) -> Next {
        match self.attempt() {
            Next::Stop(_) => self.go(Step::RecordOutcome),
            next => next,
        }
    }

    /// Goes on to the next candidate, if one may be tried.
    fn attempt(&mut self) -> Next {
        match self.candidate() {
            Ok(candidate) => {
                self.candidate = candidate;
                self.pin.attempt = Some(candidate);
                self.go(Step::RecordAttempt)
            }
            Err(why) => Next::Stop(why),
        }
    }

    fn candidate(&self) -> Result<Candidate, LoginRefusal> {
        let usable = |candidate: &Candidate| {
            let refused = match candidate {
                Candidate::Current => self.pin.current_refused,
                Candidate::Pending => self.pin.pending_refused,
                Candidate::Offered => self.pin.offered_refused,
            };
            self.pin.sealed(*candidate).is_some() && !refused
        };
        let mut order = match self.pin.offered_first {
            true => [Candidate::Offered, Candidate::Current, Candidate::Pending],
            false => [Candidate::Current, Candidate::Pending, Candidate::Offered],
        };
        if let Some(last) = order.iter().position(|candidate| Some(*candidate) == self.last) {
            order.rotate_left(last + 1);
        }
        let mut usable = order.into_iter().filter(usable).peekable();
        match usable.peek() {
            None => Err(LoginRefusal::Refused),
            Some(_) if self.pin.failures >= self.policy.tries => Err(LoginRefusal::Spent),
            Some(_) => usable.find(|candidate| !self.sealed.contains(candidate)).ok_or(LoginRefusal::Sealed),
        }
    }
}

/// Logins that may still fail before nothing is tried any more.
pub(crate) fn tries_left(pin: &Pin, tries: u32) -> u32 {
    tries.saturating_sub(pin.spent())
}

#[cfg(test)]
mod tests;
