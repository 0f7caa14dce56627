//! Of several objects of a key version, keep the one that opens its proof, and destroy those that do not.

use cryptoki::object::ObjectHandle;

use super::{destroy, gcm};
use crate::fault::Failure;
use crate::objects;
use crate::owner::Owner;
use protocol::{Class, DecryptItem, Reply};

/// Each object is tried so often, in turn: an HSM that says by one code that it has too much to do and that a key does not open a
/// ciphertext would else have the right one taken for a wrong one.
const ROUNDS: u32 = 3;

/// Nothing is destroyed before each of them has opened the proof each time or never, and one has. Several that do are of one
/// material, or are one object under several handles, with which the key would go: they are left alone. Done is what is seen to be
/// done: as many objects are left as opened the proof, and the one that is used opens it again.
pub(super) fn run(owner: &mut Owner, proof: &DecryptItem) -> Result<Reply, Failure> {
    owner.token_info()?;
    let key = proof.key;
    let found = objects::of_key(&owner.session, key)?;
    if found.len() < 2 {
        return Ok(Reply::Done);
    }
    let mut tried: Vec<(ObjectHandle, u32)> = found.into_iter().map(|handle| (handle, 0)).collect();
    for round in 1..=ROUNDS {
        for (handle, opened) in &mut tried {
            *opened += u32::from(opens(owner, *handle, proof)?);
        }
        if !is_clear(&tried, round) {
            break;
        }
    }
    let right = right(&tried);
    let Some(kept) = right.first().copied() else {
        let detail = format!(
            "key {key} has {} objects in this token, and it is not clear which of them opens its proof ciphertext; nothing \
             was destroyed",
            tried.len()
        );
        return Err(Failure::own(Class::Refused, "objects of a key", detail));
    };
    for (handle, _) in tried.iter().filter(|(_, opened)| *opened == 0) {
        destroy::object(owner, *handle)?;
    }
    owner.token.keys.placed(key, kept, owner.token.clock.now());
    let refused = |detail: String| Err(Failure::own(Class::Refused, "objects of a key", detail));
    let left = objects::of_key(&owner.session, key)?.len();
    let mut still = false;
    for _ in 0..ROUNDS {
        still = still || opens(owner, kept, proof)?;
    }
    match (left, still) {
        (1, true) => Ok(Reply::Done),
        (left, true) if left == right.len() => Ok(Reply::OneMaterial(u64::try_from(left).unwrap_or(u64::MAX))),
        (_, true) => refused(format!("key {key} has still {left} objects in this token")),
        (_, false) => {
            refused(format!("the object of key {key} that was kept has not opened its proof ciphertext again"))
        }
    }
}

/// Whether each of them has opened the proof in each of so many rounds, or in none.
fn is_clear<H>(tried: &[(H, u32)], rounds: u32) -> bool {
    tried.iter().all(|(_, opened)| *opened == 0 || *opened == rounds)
}

/// The objects that have opened the proof in each round, where all others have in none.
fn right<H: Copy>(tried: &[(H, u32)]) -> Vec<H> {
    let right = tried.iter().filter(|(_, opened)| *opened == ROUNDS && is_clear(tried, ROUNDS));
    right.map(|(handle, _)| *handle).collect()
}

/// Whether an object opens the proof. An HSM that has no answer to that has none.
fn opens(owner: &Owner, handle: ObjectHandle, proof: &DecryptItem) -> Result<bool, Failure> {
    match gcm::open(&owner.token.module, &owner.session, handle, proof.iv, &proof.aad, &proof.sealed) {
        Ok(_) => Ok(true),
        Err(failure) => match failure.class(owner.codes()) {
            Class::Ambiguous | Class::AmbiguousOrBusy | Class::Request => Ok(false),
            _ => Err(failure),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_kept_only_where_each_is_clear() {
        assert_eq!(right(&[('a', 0), ('b', ROUNDS)]), ['b']);
        assert_eq!(right(&[('a', ROUNDS), ('b', ROUNDS), ('c', 0)]), ['a', 'b'], "the same material twice");
        assert_eq!(right(&[('a', 0), ('b', 0)]), [], "neither is the one that the key was proven with");
        assert_eq!(right(&[('a', 1), ('b', ROUNDS)]), [], "it may be the right one of an HSM that has too much to do");
        assert_eq!(right(&[('a', 0), ('b', ROUNDS - 1)]), []);
        assert_eq!(right::<char>(&[]), []);
    }

    #[test]
    fn what_is_unclear_is_so_from_its_first_round() {
        assert!(is_clear(&[('a', 0), ('b', 1)], 1));
        for round in 2..=ROUNDS {
            assert!(is_clear(&[('a', 0), ('b', round)], round));
            assert!(!is_clear(&[('a', 1), ('b', round)], round));
            assert!(!is_clear(&[('a', 0), ('b', round - 1)], round));
        }
    }
}
