//! What comes of the steps, and what follows from it.

use bytes::Bytes;

use super::Step;

impl Step {
    /// What people are told of it.
    pub(crate) const fn words(self) -> Option<&'static str> {
        match self {
            Self::Login => Some("logging in"),
            Self::Prove => Some("proving its identity"),
            Self::ChangePin => Some("rotating kmsuser's PIN"),
            Self::TryCanary => Some("examining its token"),
            Self::RecordAttempt
            | Self::RecordOutcome
            | Self::RecordPending
            | Self::RecordRotated
            | Self::RecordUnchanged => None,
        }
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
    /// The token said of the PIN that it has to be changed before anything else. Some say so of wrong ones, too.
    Expired,
    /// The token said that it has locked the user.
    LockedOut,
    /// A PIN could not be opened, and was not tried.
    Sealed,
    /// The login, or the change before one, was not tried, or failed for another reason than its PIN.
    LoginNotJudged,
    /// The token said of the PIN, or of the change before a login, what it may say of a wrong PIN as of all else.
    Unclear,
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
