//! Of several objects of a key version, keep the one that opens its proof.

use cryptoki::object::ObjectHandle;

use super::{destroy, gcm};
use crate::fault::Failure;
use crate::objects;
use crate::owner::Owner;
use protocol::{Class, DecryptItem, Reply};

/// Each object is tried so often, in turn: an HSM that says by one code that it has too much to do and that a key does not open a
/// ciphertext would else have the right one taken for a wrong one.
const ROUNDS: u32 = 3;

/// Nothing is destroyed before one of them has opened the proof each time, and each other one never. Of several that do, which
/// hold the same material then, the first is kept.
pub(super) fn run(owner: &mut Owner, proof: &DecryptItem) -> Result<Reply, Failure> {
    owner.token_info()?;
    let key = proof.key;
    let found = objects::of_key(&owner.session, key)?;
    if found.len() < 2 {
        return Ok(Reply::Done);
    }
    let mut tried: Vec<(ObjectHandle, u32)> = found.into_iter().map(|handle| (handle, 0)).collect();
    for _ in 0..ROUNDS {
        for (handle, opened) in &mut tried {
            *opened += u32::from(opens(owner, *handle, proof)?);
        }
    }
    let Some(kept) = kept(&tried) else {
        let detail = format!(
            "key {key} has {} objects in this token, and it is not clear which of them opens its proof ciphertext; nothing \
             was destroyed",
            tried.len()
        );
        return Err(Failure::own(Class::Refused, "objects of a key", detail));
    };
    for (handle, _) in tried.iter().filter(|(handle, _)| *handle != kept) {
        destroy::object(owner, *handle)?;
    }
    owner.token.keys.placed(key, kept, owner.token.clock.now());
    Ok(Reply::Done)
}

/// The object that is kept, where each of them is known to be right or wrong by how often it has opened the proof.
fn kept<H: Copy>(tried: &[(H, u32)]) -> Option<H> {
    let clear = tried.iter().all(|(_, opened)| matches!(*opened, 0 | ROUNDS));
    tried.iter().find(|(_, opened)| clear && *opened == ROUNDS).map(|(handle, _)| *handle)
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
    fn one_is_kept_only_where_each_is_clear() {
        assert_eq!(kept(&[('a', 0), ('b', ROUNDS)]), Some('b'));
        assert_eq!(kept(&[('a', ROUNDS), ('b', ROUNDS), ('c', 0)]), Some('a'), "the same material twice");
        assert_eq!(kept(&[('a', 0), ('b', 0)]), None, "neither is the one that the key was proven with");
        assert_eq!(kept(&[('a', 1), ('b', ROUNDS)]), None, "it may be the right one of an HSM that has too much to do");
        assert_eq!(kept(&[('a', 0), ('b', ROUNDS - 1)]), None);
        assert_eq!(kept::<char>(&[]), None);
    }
}
