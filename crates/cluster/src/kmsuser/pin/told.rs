//! What becomes of the record when an operator tells a PIN. Pure.
//!
//! Invariants: a PIN that a token has taken stays on record until it has taken another; so does one that may be in the
//! token because a rotation was broken off. What is told stands beside it, in the place of what was told before.
//! Telling changes no count and makes no refused PIN good again; saying that the security officer has cleared the
//! token's own count does.

use bytes::Bytes;

use model::pin::{Candidate, Pin};

/// A PIN that an operator tells.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The PIN, sealed for this HSM of this key store.
    pub(crate) sealed: Bytes,
    /// It is one of those on record.
    pub(crate) same: Option<Candidate>,
}

/// The PIN is told, and no more is said.
pub(crate) fn tell(pin: Pin, told: Told) -> Pin {
    match told.same {
        Some(_) => pin,
        None => beside(pin, told.sealed),
    }
}

/// The security officer has cleared the token's own count: by setting the PIN that is told, or, where none is, by
/// unlocking the user, whose PIN is what it was.
pub(crate) fn reset(pin: Pin, told: Option<Told>, now: i64) -> Pin {
    let mut pin = Pin { failures: 0, attempt: None, reset_at: Some(now), ..pin };
    match told {
        None => (pin.current_refused, pin.pending_refused, pin.offered_refused) = (false, false, false),
        Some(Told { same: Some(same), .. }) => {
            refused(&mut pin, same, false);
            pin.offered_first = same == Candidate::Offered;
            if same != Candidate::Offered {
                // The officer did not set what was told before.
                (pin.offered, pin.offered_refused) = (None, false);
            }
        }
        Some(Told { sealed, same: None }) => {
            pin = beside(pin, sealed);
            pin.offered_first = pin.offered.is_some();
        }
    }
    pin
}

/// A PIN that no token has taken, nor is about to, is known to those who told it: another one takes its place. Where one that was
/// told stands beside it, the current one may be known to nobody else.
fn beside(mut pin: Pin, sealed: Bytes) -> Pin {
    if pin.attempt == Some(Candidate::Offered) {
        // Of what is given up here nobody will learn whether the token counted it.
        (pin.attempt, pin.failures) = (None, pin.failures.saturating_add(1));
    }
    let beside = pin.offered.take().is_some();
    (pin.offered_refused, pin.offered_first) = (false, false);
    if pin.current_proven || beside || pin.attempt == Some(Candidate::Current) {
        pin.offered = Some(sealed);
    } else {
        (pin.current, pin.current_refused) = (sealed, false);
        pin.taken_by.clear();
    }
    pin
}

/// `pin` was made from `before`, and meanwhile `now` is on record: the two together, where nothing else happened than
/// that a PIN was told.
pub(crate) fn meanwhile(pin: Pin, before: &Pin, now: &Pin) -> Option<Pin> {
    let told = |pin: Pin| Pin {
        offered: now.offered.clone(),
        offered_refused: now.offered_refused,
        offered_first: now.offered_first,
        rotation_due: pin.rotation_due || now.rotation_due,
        ..pin
    };
    // Telling gives up the attempt with what was told before; whoever comes now knows what came of it.
    let given_up = before.attempt == Some(Candidate::Offered)
        && now.attempt.is_none()
        && now.failures == before.failures.saturating_add(1);
    let before =
        if given_up { Pin { attempt: None, failures: now.failures, ..before.clone() } } else { before.clone() };
    (told(before) == *now).then(|| told(pin))
}

/// Sets whether the token refused a candidate.
pub(super) fn refused(pin: &mut Pin, candidate: Candidate, refused: bool) {
    match candidate {
        Candidate::Current => pin.current_refused = refused,
        Candidate::Pending => pin.pending_refused = refused,
        Candidate::Offered => pin.offered_refused = refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn new(text: &str) -> Told {
        Told { sealed: sealed(text), same: None }
    }

    fn proven() -> Pin {
        Pin { current_proven: true, ..Pin::given(sealed("current")) }
    }

    #[test]
    fn what_a_token_has_taken_stays_and_what_was_only_told_does_not() {
        let told = tell(proven(), new("told"));
        assert_eq!(told, Pin { offered: Some(sealed("told")), ..proven() });
        let refused = Pin { offered_refused: true, failures: 2, ..told };
        assert_eq!(tell(refused, new("again")), Pin { offered: Some(sealed("again")), failures: 2, ..proven() });
        let unproven = Pin { current_refused: true, failures: 1, ..Pin::given(sealed("first")) };
        assert_eq!(tell(unproven, new("second")), Pin { failures: 1, ..Pin::given(sealed("second")) });
    }

    /// What a login has found out is known although a PIN was told during it.
    #[test]
    fn a_pin_that_is_told_during_a_login_stands_beside_what_comes_of_it() {
        let trying = Pin { attempt: Some(Candidate::Current), failures: 2, ..proven() };
        let worked = Pin { attempt: None, failures: 0, ..trying.clone() };
        let now = tell(trying.clone(), new("told"));
        let both = meanwhile(worked.clone(), &trying, &now).unwrap();
        assert_eq!(both, Pin { offered: Some(sealed("told")), ..proven() });
        // The attempt was with what was told before.
        let offered =
            Pin { attempt: Some(Candidate::Offered), offered: Some(sealed("first")), failures: 1, ..proven() };
        let now = tell(offered.clone(), new("second"));
        assert_eq!((now.attempt, now.failures), (None, 2));
        let worked = Pin { current: sealed("first"), ..proven() };
        let both = meanwhile(worked.clone(), &offered, &now).unwrap();
        assert_eq!(both, Pin { offered: Some(sealed("second")), ..worked.clone() });
        // What is more than telling is the business of those who did it.
        for other in [
            Pin { failures: 7, ..now.clone() },
            Pin { current: sealed("another"), ..now.clone() },
            Pin { reset_at: Some(1), ..now.clone() },
            Pin { attempt: Some(Candidate::Current), ..now },
        ] {
            assert_eq!(meanwhile(worked.clone(), &offered, &other), None, "{other:?}");
        }
    }

    #[test]
    fn what_may_be_in_the_token_stays() {
        let pending = Pin { pending: Some(sealed("pending")), current_refused: true, failures: 1, ..proven() };
        let told = tell(pending.clone(), new("told"));
        assert_eq!(told, Pin { offered: Some(sealed("told")), ..pending });
        let in_a_login = Pin { attempt: Some(Candidate::Current), ..Pin::given(sealed("first")) };
        let told = tell(in_a_login.clone(), new("told"));
        assert_eq!(told, Pin { offered: Some(sealed("told")), ..in_a_login });
    }

    /// A PIN is being changed before the first login: both the one that is the token's and the one that is about to be stay.
    #[test]
    fn what_is_being_changed_stays_beside_what_is_told() {
        let changing =
            Pin { pending: Some(sealed("new")), attempt: Some(Candidate::Current), ..Pin::given(sealed("given")) };
        let now = tell(changing.clone(), new("told"));
        assert_eq!(now, Pin { offered: Some(sealed("told")), ..changing.clone() });
        // The token has taken the new one meanwhile.
        let changed = Pin { current_refused: true, attempt: None, ..changing.clone() };
        let both = meanwhile(changed.clone(), &changing, &now).unwrap();
        assert_eq!(both, Pin { offered: Some(sealed("told")), ..changed });
    }

    #[test]
    fn an_attempt_with_what_is_given_up_counts() {
        let tried = Pin { offered: Some(sealed("told")), attempt: Some(Candidate::Offered), ..proven() };
        let told = tell(tried, new("another"));
        assert_eq!(told, Pin { offered: Some(sealed("another")), failures: 1, ..proven() });
    }

    #[test]
    fn what_is_on_record_is_told_in_vain() {
        let known = Pin {
            offered: Some(sealed("told")),
            current_refused: true,
            offered_refused: true,
            failures: 2,
            ..proven()
        };
        for same in Candidate::ALL {
            assert_eq!(tell(known.clone(), Told { sealed: sealed("x"), same: Some(same) }), known, "{same:?}");
        }
    }

    #[test]
    fn a_reset_clears_the_count_and_believes_what_is_told() {
        let spent = Pin {
            pending: Some(sealed("pending")),
            offered: Some(sealed("told")),
            current_refused: true,
            pending_refused: true,
            offered_refused: true,
            failures: 2,
            attempt: Some(Candidate::Offered),
            ..proven()
        };
        let after = |pin: Pin| Pin { failures: 0, attempt: None, reset_at: Some(7), ..pin };
        let with = |same| reset(spent.clone(), Some(Told { sealed: sealed("set"), same }), 7);
        assert_eq!(
            with(None),
            after(Pin { offered: Some(sealed("set")), offered_refused: false, offered_first: true, ..spent.clone() }),
            "the others are what they were"
        );
        assert_eq!(
            with(Some(Candidate::Offered)),
            after(Pin { offered_refused: false, offered_first: true, ..spent.clone() })
        );
        assert_eq!(
            with(Some(Candidate::Current)),
            after(Pin { offered: None, offered_refused: false, current_refused: false, ..spent.clone() })
        );
        let unlocked = Pin { current_refused: false, pending_refused: false, offered_refused: false, ..spent.clone() };
        assert_eq!(reset(spent, None, 7), after(unlocked));
        let unproven = Pin { current_refused: true, failures: 3, ..Pin::given(sealed("first")) };
        assert_eq!(reset(unproven, Some(new("set")), 7), after(Pin::given(sealed("set"))));
    }
}
