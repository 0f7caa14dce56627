//! When and where token objects were made, for all processes.
//!
//! An object is known by its class, id and label: handles mean nothing to other processes, and SoftHSM has no
//! CKA_UNIQUE_ID. Only the last ones are remembered; an older one is everywhere.

use std::sync::atomic::Ordering;

use cryptoki_sys::*;

use super::layer::{Below, real};
use crate::decide::mix;
use crate::state::{BIRTHS, State};

/// The mark of one that was on two back ends at some time.
const EVERYWHERE: u64 = u64::MAX;
/// Most bytes of an id or a label that tell objects apart.
const BYTES: usize = 256;

/// Which back ends have an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not this one.
    NotYet,
    /// This one alone.
    Once,
    /// All.
    Everywhere,
}

/// What a token object is known by; `None` for a session object, and for no object.
pub(super) fn identity(below: &Below, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Option<u64> {
    let (mut token, mut class) = (CK_FALSE, [0_u8; size_of::<CK_ULONG>()]);
    let (mut id, mut label) = ([0_u8; BYTES], [0_u8; BYTES]);
    let one = |type_, value: &mut [u8]| CK_ATTRIBUTE {
        type_,
        pValue: value.as_mut_ptr().cast(),
        ulValueLen: value.len() as CK_ULONG,
    };
    let mut template = [
        one(CKA_TOKEN, std::slice::from_mut(&mut token)),
        one(CKA_CLASS, &mut class),
        one(CKA_ID, &mut id),
        one(CKA_LABEL, &mut label),
    ];
    let count = template.len() as CK_ULONG;
    let result = real!(below, C_GetAttributeValue(session, object, template.as_mut_ptr(), count));
    // An attribute that an object of this class does not have is no error here.
    if token != CK_TRUE || matches!(result, Err(CKR_OBJECT_HANDLE_INVALID)) {
        return None;
    }
    let length = |at: usize| (template[at].ulValueLen as usize).min(BYTES);
    let (ids, labels) = (length(2), length(3));
    let parts = [&class[..], &[0], &id[..ids], &[1], &label[..labels]];
    let hash = parts.iter().flat_map(|part| part.iter()).fold(1, |state, byte| mix(state ^ u64::from(*byte)));
    // Zero is the mark of no object.
    Some(hash.max(1))
}

/// Writes that an object was made.
pub(super) fn write(state: &State, identity: u64, now: u64, home: usize) {
    let at = state.born.fetch_add(1, Ordering::AcqRel) as usize % BIRTHS;
    let birth = &state.births[at];
    birth.identity.store(0, Ordering::Release);
    birth.at.store(now, Ordering::Release);
    birth.home.store(home as u64, Ordering::Release);
    birth.identity.store(identity, Ordering::Release);
}

/// Which back ends have an object `now`, as the one named `home` sees it, of which so many are up.
pub(super) fn seen(state: &State, identity: u64, now: u64, delay: u64, home: usize, up: usize) -> Seen {
    let births = state.births.iter().filter(|birth| birth.identity.load(Ordering::Acquire) == identity);
    let Some(birth) = births.max_by_key(|birth| birth.at.load(Ordering::Acquire)) else { return Seen::Everywhere };
    let (at, made_on) = (birth.at.load(Ordering::Acquire), birth.home.load(Ordering::Acquire));
    // The clock begins anew with the machine, and the file may be older.
    let old = at > now || now - at >= delay;
    if made_on == EVERYWHERE || (old && up >= 2) {
        birth.home.store(EVERYWHERE, Ordering::Release);
        return Seen::Everywhere;
    }
    if made_on == home as u64 { Seen::Once } else { Seen::NotYet }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> &'static State {
        let dir = tempfile::tempdir().unwrap();
        crate::state::open(&dir.path().join("state")).unwrap()
    }

    #[test]
    fn an_object_is_on_its_own_back_end_first_and_later_everywhere() {
        let state = state();
        write(state, 7, 1_000, 1);
        assert_eq!(seen(state, 7, 1_050, 100, 1, 2), Seen::Once);
        assert_eq!(seen(state, 7, 1_050, 100, 0, 2), Seen::NotYet);
        assert_eq!(seen(state, 8, 1_050, 100, 0, 2), Seen::Everywhere, "one that nobody saw being made");
        assert_eq!(seen(state, 7, 1_100, 100, 1, 1), Seen::Once, "there is no other one to have it");
        assert_eq!(seen(state, 7, 1_100, 100, 0, 1), Seen::NotYet, "the one that has it is down");
        assert_eq!(seen(state, 7, 1_100, 100, 0, 2), Seen::Everywhere);
        assert_eq!(seen(state, 7, 1_101, 100, 0, 1), Seen::Everywhere, "and stays there");
    }

    #[test]
    fn an_object_that_is_made_anew_is_young_again() {
        let state = state();
        write(state, 7, 1_000, 0);
        assert_eq!(seen(state, 7, 2_000, 100, 1, 2), Seen::Everywhere);
        write(state, 7, 3_000, 0);
        assert_eq!(seen(state, 7, 3_001, 100, 1, 2), Seen::NotYet);
    }

    #[test]
    fn a_clock_that_began_anew_hides_nothing() {
        let state = state();
        write(state, 7, 1_000_000, 0);
        assert_eq!(seen(state, 7, 5, 100, 1, 2), Seen::Everywhere);
    }
}
