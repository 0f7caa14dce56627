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
//! A token may say of the right PIN that it has to be changed before anything else. Then it is changed from the one that was
//! tried to the pending one, which is a new one, or the one of a rotation that was broken off where one is on record: that
//! may be the token's already, and nothing is written over it. All PINs stay where they are on record until a login has
//! worked with the new one. It is changed once: a token that says so of the new one too is not let in.
//!
//! Some tokens say so of wrong PINs as well. So a change before the first login is a try like a login: it is on record
//! before it is made and counts where the token refuses it, and the next candidate has its turn. The pending one is changed
//! itself only when the token has refused all others, since its place is needed. One from before that the token does not
//! let a PIN be changed to is tried by a login, once: where it refuses that, a new one takes the pending one's place.
//!
//! Some tokens have no better word for a wrong PIN than for all else that goes wrong. Where such a word is all that there is,
//! the attempt has no outcome, unless the token has taken this very PIN before and no other may be its by now.
//!
//! Invariants: nothing is tried that was not recorded before; an attempt that is found without an outcome counts as
//! failed, and the next one begins with the next candidate; a PIN on record that was refused is not tried again; after
//! as many failures in a row as the policy allows, nothing is tried, whatever an operator tells, until he says that the
//! officer has cleared the token's count too; after the token has said that it has locked the user, nothing is tried; a
//! PIN is in the record before it can be in the token, and one that may be in it leaves the record only when the token has
//! taken another, in a login or in a change after one, or when it is pending and the token has refused a login with it during
//! the same admission, with no change to it since.

pub(crate) mod answer;
mod event;
mod pending;
pub(crate) mod told;

use bytes::Bytes;

pub(crate) use self::event::{Event, LoginRefusal, Next};
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
    /// A PIN on record that a token has taken was this token's, and not another one's with the same record.
    pub(crate) proven_here: bool,
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
    /// Nothing more is tried, whatever is left.
    stop: Option<LoginRefusal>,
    /// What is being changed before the first login.
    changing: Option<Bytes>,
    /// Which one was changed before the first login.
    changed: Option<Candidate>,
    /// The pending PIN has to be changed, and is once the others were tried.
    put_off: bool,
    /// The pending PIN was made here, so that it is nobody's where the token has not taken it.
    made: bool,
    /// This one was not changed to a pending PIN from before, which was tried by a login then.
    unchanged: Option<Candidate>,
    /// The token has refused the pending PIN as a wrong one, here. On record that may have been a lock.
    pending_wrong: bool,
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
            stop: None,
            changing: None,
            changed: None,
            put_off: false,
            made: false,
            unchanged: None,
            pending_wrong: false,
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
                self.pending_wrong |= self.candidate == Candidate::Pending;
                self.fail();
                self.last = Some(self.candidate);
                self.attempt_or_record()
            }
            (Some(Step::Login), Event::LockedOut) => {
                self.fail();
                self.stop(LoginRefusal::Locked)
            }
            (Some(Step::Login), Event::Expired) => self.expired(),
            (Some(Step::Login), Event::Sealed) => {
                self.pin.attempt = None;
                self.sealed.push(self.candidate);
                self.attempt_or_record()
            }
            (Some(Step::Login), Event::LoginNotJudged) => {
                self.pin.attempt = None;
                self.go(Step::RecordOutcome)
            }
            (Some(Step::RecordOutcome), Event::Recorded) => match (self.stop, self.logged_in) {
                (Some(why), _) => Next::Stop(why),
                (None, true) => self.go(Step::Prove),
                // Where a candidate is left, it was not judged.
                (None, false) => Next::Stop(self.candidate().err().unwrap_or(LoginRefusal::NotJudged)),
            },
            (Some(Step::Prove), Event::Proven) if self.policy.rotates && self.pin.rotation_due => {
                self.go(Step::RecordPending)
            }
            (Some(Step::Prove), Event::Proven) => self.go(Step::TryCanary),
            (Some(Step::TryCanary), Event::Worked) => Next::Done,
            (Some(Step::RecordPending), Event::Made(sealed)) => {
                self.make(sealed);
                Next::Do(Step::RecordPending)
            }
            (Some(Step::RecordPending), Event::Recorded) if self.was_replaced() => {
                (self.pin.attempt, self.last) = (None, None);
                self.attempt_or_record()
            }
            (Some(Step::RecordPending), Event::Recorded) => self.go(Step::ChangePin),
            (Some(Step::ChangePin), Event::Changed) => {
                self.change(now);
                self.go(Step::RecordRotated)
            }
            // No login has shown that it is the right one: this is as good as one that was refused.
            (Some(Step::ChangePin), Event::NotCurrent) if !self.logged_in => {
                self.unmake();
                self.fail();
                self.last = Some(self.candidate);
                self.attempt_or_record()
            }
            (Some(Step::ChangePin), Event::LockedOut) => {
                self.unmake();
                self.fail();
                self.stop(LoginRefusal::Locked)
            }
            (Some(Step::ChangePin), Event::Unchanged) if self.may_ask_pending() => {
                self.unchanged = Some(std::mem::replace(&mut self.candidate, Candidate::Pending));
                self.pin.attempt = Some(Candidate::Pending);
                self.go(Step::RecordAttempt)
            }
            (Some(Step::ChangePin), event @ (Event::Unchanged | Event::NotCurrent)) => {
                self.unmake();
                self.pin.attempt = None;
                if event == Event::NotCurrent {
                    self.fail();
                }
                self.go(Step::RecordUnchanged)
            }
            // As good as one without an outcome, so that the next candidate has its turn.
            (Some(Step::Login | Step::ChangePin), Event::Unclear) => {
                if self.is_beyond_doubt() {
                    self.pin.attempt = None;
                }
                self.stop(LoginRefusal::NotJudged)
            }
            // The token may have the new one all the same: both stay.
            (Some(Step::ChangePin), Event::LoginNotJudged) => {
                self.pin.attempt = None;
                self.stop(LoginRefusal::NotJudged)
            }
            (Some(Step::ChangePin), Event::Sealed) => {
                self.pin.attempt = None;
                self.stop(LoginRefusal::Sealed)
            }
            (Some(Step::RecordRotated), Event::Recorded) if !self.logged_in => self.attempt_or_record(),
            (Some(Step::RecordRotated), Event::Recorded) => self.go(Step::TryCanary),
            (Some(Step::RecordUnchanged), Event::Recorded) if !self.logged_in => Next::Stop(LoginRefusal::Expired),
            (Some(Step::RecordUnchanged), Event::Recorded) => Next::Stop(LoginRefusal::Unchangeable),
            // No other step has this event.
            _ => Next::Stop(LoginRefusal::NotJudged),
        }
    }

    /// The PIN that is to be changed; sealed.
    pub(crate) fn old(&self) -> Option<&Bytes> {
        if self.logged_in { Some(&self.pin.current) } else { self.pin.sealed(self.candidate) }
    }

    /// The token has taken a PIN.
    pub(crate) const fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// What was told is the token's, or was until it was changed before the first login.
    pub(crate) fn told_rightly(&self) -> bool {
        [Some(self.candidate), self.changed].contains(&Some(Candidate::Offered))
    }

    /// An attempt counts of which the token has said nothing that is clear.
    pub(crate) const fn is_unclear(&self) -> bool {
        self.pin.attempt.is_some()
    }

    /// The token has taken this PIN before, and no other may be its by now: what goes wrong with it is the token's own trouble.
    fn is_beyond_doubt(&self) -> bool {
        let alone = self.pin.pending.is_none() && self.pin.offered.is_none();
        self.candidate == Candidate::Current && self.pin.current_proven && self.policy.proven_here && alone
    }

    fn go(&mut self, step: Step) -> Next {
        self.step = Some(step);
        Next::Do(step)
    }

    /// Nothing is tried any more once what came of the last try is on record.
    fn stop(&mut self, why: LoginRefusal) -> Next {
        self.stop = Some(why);
        self.go(Step::RecordOutcome)
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

    /// The token wants this PIN changed before anything else.
    fn expired(&mut self) -> Next {
        self.pin.attempt = None;
        match self.policy {
            Policy { changes_first: true, rotates: false, .. } => return self.stop(LoginRefusal::NotYetChanged),
            Policy { changes_first: true, .. } if self.changed.is_none() => {}
            _ => return self.stop(LoginRefusal::Expired),
        }
        if self.candidate == Candidate::Pending {
            let others_refused = self.pin.current_refused && (self.pin.offered.is_none() || self.pin.offered_refused);
            if others_refused {
                self.promote();
            } else if self.put_off || self.unchanged.is_some() {
                // What is left of the others cannot be tried, or changed.
                return self.stop(LoginRefusal::Expired);
            } else {
                self.put_off = true;
                return self.attempt_or_record();
            }
        }
        self.changing = self.pin.sealed(self.candidate).cloned();
        self.go(Step::RecordPending)
    }

    /// The pending PIN is all that may be the token's, and makes room for a new one. The one before it, which nobody else
    /// may know, takes the place of what was told and is not the token's.
    fn promote(&mut self) {
        let pin = &mut self.pin;
        if let Some(pending) = pin.pending.take() {
            pin.offered = Some(std::mem::replace(&mut pin.current, pending));
        }
        (pin.current_refused, pin.pending_refused, pin.offered_refused) = (false, false, true);
        (pin.current_proven, pin.offered_first) = (false, false);
        (self.candidate, self.last) = (Candidate::Current, None);
    }

    /// What was tried has become another one on record, by what an operator has told meanwhile.
    fn was_replaced(&self) -> bool {
        !self.logged_in && self.pin.sealed(self.candidate) != self.changing.as_ref()
    }

    /// The token has the pending PIN.
    fn change(&mut self, now: i64) {
        let pin = &mut self.pin;
        if self.logged_in {
            if let Some(pending) = pin.pending.take() {
                pin.current = pending;
            }
            (pin.rotated_at, pin.rotation_due) = (Some(now), false);
            return;
        }
        // All that is on record stays until a login has worked, and this one alone is tried.
        (pin.current_refused, pin.pending_refused, pin.offered_refused) = (true, false, pin.offered.is_some());
        pin.attempt = None;
        (self.changed, self.last, self.made) = (Some(self.candidate), None, false);
    }

    /// The token refused this PIN. One that it has taken before is the right one whatever it says.
    fn fail(&mut self) {
        self.pin.attempt = None;
        self.pin.failures = self.pin.failures.saturating_add(1);
        if !self.logged_in {
            told::refused(&mut self.pin, self.candidate, true);
        }
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
        if let Some(unchanged) = self.unchanged {
            order.sort_by_key(|candidate| *candidate != unchanged);
        }
        if self.put_off {
            order.sort_by_key(|candidate| *candidate == Candidate::Pending);
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
