//! Which tokens have taken a PIN that belongs to the whole cluster, so that a token's own trouble is not blamed on the PIN after a
//! restart either. Pure.
//!
//! Only this very PIN counts: with another one on record, or after a token has refused it as a wrong one, nobody has taken it
//! until it takes it anew. And only this very token: one that was put in the place of another is not taken for it.

use aws_lc_rs::digest::{self, SHA256};

use model::id::HsmId;
use model::pin::Pin;

/// More than there are HSMs in a cluster. Those of HSMs that have gone are forgotten first.
const MOST: usize = 64;

/// By which a token is known again: with what identity the ceremony has certified it, so that one that was initialised anew is
/// another one.
pub(crate) fn mark(hsm: &HsmId, serial: &str, certificate: &[u8]) -> String {
    let mut context = digest::Context::new(&SHA256);
    for part in [hsm.as_str().as_bytes(), serial.as_bytes(), certificate] {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this token has taken the PIN on record.
pub(crate) fn has(record: &Pin, mark: &str) -> bool {
    record.current_proven && record.taken_by.iter().any(|taken| taken == mark)
}

/// Has `pin`, which is about to take the place of `before` on record, say who has taken it; the token of this mark just now, if any.
pub(crate) fn note(before: &Pin, pin: &mut Pin, taken: Option<&str>) {
    if pin.current != before.current || pin.current_refused {
        pin.taken_by.clear();
    }
    let Some(mark) = taken else { return };
    pin.taken_by.retain(|other| other != mark);
    pin.taken_by.push(mark.to_owned());
    let most = pin.taken_by.len().saturating_sub(MOST);
    pin.taken_by.drain(..most);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(taken_by: &[&str]) -> Pin {
        let taken_by = taken_by.iter().map(|&mark| mark.to_owned()).collect();
        Pin { current_proven: true, taken_by, ..Pin::given(Bytes::from_static(b"current")) }
    }

    #[test]
    fn only_who_has_taken_this_very_pin_has_taken_it() {
        let before = record(&["a", "b"]);
        let with = |change: fn(&mut Pin)| {
            let mut pin = before.clone();
            change(&mut pin);
            pin
        };
        let same = || before.clone();
        let another = || with(|pin| pin.current = Bytes::from_static(b"rotated"));
        let refused = || with(|pin| pin.current_refused = true);
        for (what, mut pin, taken, expected) in [
            ("it is tried", same(), None, &["a", "b"][..]),
            ("a further one takes it", same(), Some("c"), &["a", "b", "c"]),
            ("one takes it again", same(), Some("a"), &["b", "a"]),
            ("it was rotated, and is this one's alone", another(), Some("a"), &["a"]),
            ("another one is on record that nobody has taken", another(), None, &[]),
            ("a token says that it is wrong, so it may be of the others as well", refused(), None, &[]),
        ] {
            note(&before, &mut pin, taken);
            assert_eq!(pin.taken_by, expected, "{what}");
        }
    }

    #[test]
    fn what_no_token_has_proven_is_nobody_s() {
        assert!(has(&record(&["a", "b"]), "b") && !has(&record(&["a"]), "b"));
        assert!(!has(&Pin { current_proven: false, ..record(&["b"]) }, "b"));
    }

    #[test]
    fn they_do_not_become_more_and_more() {
        let mut pin = record(&[]);
        for number in 0..2 * MOST {
            note(&pin.clone(), &mut pin, Some(&number.to_string()));
        }
        assert_eq!((pin.taken_by.len(), pin.taken_by.last()), (MOST, Some(&(2 * MOST - 1).to_string())));
    }

    #[test]
    fn another_token_under_the_same_name_has_another_mark() {
        let (a, b) = (HsmId::from("hsm-a"), HsmId::from("hsm-b"));
        let known = mark(&a, "1", b"certificate");
        assert_eq!(known, mark(&a, "1", b"certificate"));
        for other in [mark(&b, "1", b"certificate"), mark(&a, "2", b"certificate"), mark(&a, "1", b"of a new ceremony")]
        {
            assert_ne!(known, other);
        }
    }
}
