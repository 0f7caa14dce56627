//! Make a hot copy of a key: unwrapped once more, as an object of this process's memory.
//!
//! Not by C_CopyObject, where there is a choice: it wants an object in the token that can be copied, by anybody who has
//! kmsuser's PIN, and in SoftHSM also changed. So the wrapped key comes from the daemon's database. It is not believed:
//! before a copy is used in the place of the token's object, that one has to open what the copy has encrypted.

use std::time::Instant;

use cryptoki::object::ObjectHandle;

use super::gcm;
use crate::fault::Failure;
use crate::owner::{Owner, lock};
use crate::template::{self, Kind};
use model::ciphertext::IV_BYTES;
use model::id::KeyVersionId;
use protocol::{Class, Reply};

/// What the sample is encrypted with beside the key.
const AAD: &[u8] = b"keystored hot copy";
/// Bytes of the sample.
const SAMPLE: usize = 16;

/// Nothing fails by this: without a copy the token's object goes on being used.
pub(super) fn run(owner: &mut Owner, key: KeyVersionId, blob: Option<&[u8]>) -> Reply {
    let now = owner.token.clock.now();
    let Some((object, permit)) = owner.token.keys.permit(key, now) else { return Reply::Done };
    match make(owner, key, object, blob, now) {
        Ok(copy) => {
            tracing::debug!(%key, "hot copy made");
            owner.destroy_copies(owner.token.keys.keep_copy(key, copy, now, permit));
        }
        Err(failure) => match failure.class(owner.codes()) {
            // It is looked for when it is used next.
            Class::KeyAbsent => owner.forget(&[key]),
            // It is wanted again soon.
            Class::Session | Class::Token | Class::Busy | Class::AmbiguousOrBusy => {
                let fault = failure.into_fault(owner.codes());
                tracing::debug!(%key, %fault, "no hot copy was made");
            }
            _ => {
                let fault = failure.into_fault(owner.codes());
                tracing::warn!(%key, %fault, "no hot copy can be made of this key; the token's object is used");
                owner.token.keys.refuse_copies(key, now);
            }
        },
    }
    Reply::Done
}

fn make(
    owner: &mut Owner,
    key: KeyVersionId,
    object: ObjectHandle,
    blob: Option<&[u8]>,
    now: Instant,
) -> Result<ObjectHandle, Failure> {
    owner.is_still(key, object, now)?;
    let copy = match blob {
        Some(blob) => unwrap(owner, blob)?,
        None if owner.token.module.capabilities().calls.copy_object => {
            lock(&owner.token.pinned).copy_object(object, &template::copied())?
        }
        None => {
            let detail = "there is no wrapped key to make it of, and this HSM copies no objects";
            return Err(Failure::own(Class::Refused, "hot copy", detail));
        }
    };
    match is_copy(owner, copy, object) {
        Ok(()) => Ok(copy),
        Err(failure) => {
            owner.destroy_copies([copy]);
            Err(failure)
        }
    }
}

fn unwrap(owner: &mut Owner, blob: &[u8]) -> Result<ObjectHandle, Failure> {
    // The wrapping key is looked for where its handle is not known, or stands for something else by now.
    owner.searches();
    owner.with_wrapping_key(|module, _, wrapping| {
        let template = template::hot_copy(module.capabilities(), Kind::Encryption);
        // Owned by the session that is never replaced.
        Ok(lock(&owner.token.pinned).unwrap_key(&module.key_wrap()?, wrapping, blob, &template)?)
    })
}

/// Fails where the copy is another key than the object. It is one encryption of the key for each copy that is made, which no
/// budget counts: one holds half of what the key is good for.
fn is_copy(owner: &mut Owner, copy: ObjectHandle, object: ObjectHandle) -> Result<(), Failure> {
    let (mut iv, mut sample) = ([0; IV_BYTES], [0; SAMPLE]);
    owner.random(&mut iv)?;
    owner.random(&mut sample)?;
    let (module, session) = (&*owner.token.module, &owner.session);
    let another = || Failure::own(Class::Refused, "hot copy", "the wrapped key is another one than the token's object");
    let (iv, sealed) = gcm::seal(module, session, copy, iv, AAD, &sample)?;
    match gcm::open(module, session, object, iv, AAD, &sealed) {
        Ok(opened) if opened.expose() == sample => Ok(()),
        Ok(_) => Err(another()),
        Err(failure) => match failure.class(owner.codes()) {
            Class::Ambiguous | Class::Request => Err(another()),
            _ => Err(failure),
        },
    }
}
