//! Of several objects of a key version, one that may be used without knowing which of them is meant: where all are of one
//! material, as where a wrapped key was unwrapped twice, or where one object is shown under several handles.

use cryptoki::object::ObjectHandle;

use super::gcm;
use crate::fault::Failure;
use crate::objects;
use crate::owner::Owner;
use model::ciphertext::IV_BYTES;
use model::id::KeyVersionId;
use protocol::Class;

/// What is encrypted beside fresh random bytes.
const AAD: &[u8] = b"keystored objects of one key";
/// Bytes of them.
const BLOCK: usize = 16;

/// None where one of them does not open what another one has encrypted, or where there are not several any more. The ciphertext
/// is seen by nobody: that its IV may be one that the key has had does no harm.
pub(crate) fn one_of_several(owner: &mut Owner, key: KeyVersionId) -> Result<Option<ObjectHandle>, Failure> {
    let found = objects::of_key(&owner.session, key)?;
    let Some((first, others)) = found.split_first().filter(|(_, others)| !others.is_empty()) else { return Ok(None) };
    let (mut iv, mut plaintext) = ([0; IV_BYTES], [0; BLOCK]);
    owner.random(&mut iv)?;
    owner.random(&mut plaintext)?;
    match are_one(owner, *first, others, iv, &plaintext) {
        Ok(one) => Ok(one.then_some(*first)),
        Err(failure) => match failure.class(owner.codes()) {
            // Another process is at them just now.
            Class::KeyAbsent => Ok(None),
            _ => Err(owner.left(failure)),
        },
    }
}

/// Whether the others open what the first one encrypts. An HSM that has no answer to that has not said so.
fn are_one(
    owner: &Owner,
    first: ObjectHandle,
    others: &[ObjectHandle],
    iv: [u8; IV_BYTES],
    plaintext: &[u8],
) -> Result<bool, Failure> {
    let (module, session) = (&owner.token.module, &owner.session);
    let (iv, sealed) = gcm::seal(module, session, first, iv, AAD, plaintext)?;
    for other in others {
        match gcm::open(module, session, *other, iv, AAD, &sealed) {
            Ok(opened) if opened.expose() == plaintext => {}
            Ok(_) => return Ok(false),
            Err(failure) => match failure.class(owner.codes()) {
                Class::Ambiguous | Class::AmbiguousOrBusy | Class::Request => return Ok(false),
                _ => return Err(failure),
            },
        }
    }
    Ok(true)
}
