//! The PIN that a change is about to set.

use bytes::Bytes;

use super::Login;
use model::pin::{Candidate, Pin};

impl Login {
    /// There is a pending PIN now: the one that is on record, which may be the token's, or else this new one.
    pub(super) fn make(&mut self, sealed: Bytes) {
        if self.pin.pending.is_none() || self.pending_wrong {
            (self.pin.pending, self.pin.pending_refused) = (Some(sealed), false);
            (self.made, self.pending_wrong) = (true, false);
        }
        if !self.logged_in {
            self.pin.attempt = Some(self.candidate);
        }
    }

    /// Whether a login with the pending PIN is to tell if it is the token's. Not of one that was made here, nor twice.
    pub(super) fn may_ask_pending(&self) -> bool {
        let Pin { pending: Some(_), pending_refused: false, failures, .. } = self.pin else { return false };
        let first = !self.logged_in && !self.made && !self.put_off && self.unchanged.is_none();
        first && failures < self.policy.tries && !self.sealed.contains(&Candidate::Pending)
    }

    /// The token has not taken the pending PIN.
    pub(super) fn unmake(&mut self) {
        if std::mem::take(&mut self.made) {
            self.pin.pending = None;
        }
    }
}
