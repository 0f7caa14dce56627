//! Hand the cluster wrapping key on to a token that joins.
//!
//! The blob from the ceremony folder is opened as an extractable session object, compared with the token's own wrapping
//! key, wrapped to the newcomer's transport key, and forgotten. For as long as these calls last, whoever controls this
//! process could extract the wrapping key.

use bytes::Bytes;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::ceremony::{oaep, transport};
use crate::fault::Failure;
use crate::module::Module;
use crate::owner::Owner;
use crate::template::Kind;
use crate::{objects, template};
use protocol::{Class, Reply, TransportKey};

/// The wrapping key, wrapped to `to`. Whoever brings the blob could have made it of a key that he knows: what it holds
/// is handed on only if it is the key that this token keeps.
pub(super) fn run(owner: &mut Owner, blob: &[u8], to: &TransportKey) -> Result<Reply, Failure> {
    transport::sound(to)?;
    let session = &owner.session;
    let own = objects::named(session, ObjectClass::PRIVATE_KEY, template::TRANSPORT)?.ok_or_else(|| {
        Failure::own(Class::Refused, "HandOnWrappingKey", "the token holds no transport key; the ceremony makes one")
    })?;
    let of = owner.token.module.capabilities();
    let opened = session.unwrap_key(&oaep(of), own, blob, &template::passing_wrapping_key(of, Kind::Encryption));
    let key = opened.map_err(|error| {
        let what = "opening the wrapped key from the ceremony folder";
        let mut fault = Failure::from(error).during(what, owner.codes());
        // It was made for another token, or is damaged; this one is in order.
        if matches!(fault.class, Class::Ambiguous | Class::Request) {
            fault.class = Class::Refused;
        }
        fault
    })?;
    let wrapped = rewrapped(owner, key, to);
    let destroyed = session.destroy_object(key);
    let wrapped = wrapped?;
    destroyed?;
    Ok(Reply::Blob(wrapped))
}

fn rewrapped(owner: &Owner, key: ObjectHandle, to: &TransportKey) -> Result<Bytes, Failure> {
    if !owner.with_wrapping_key(|module, session, wrapping| are_one(module, session, wrapping, key))? {
        let detail = "the wrapped copy that was given for this token holds another key than the cluster's wrapping key; \
                      nothing was handed on";
        return Err(Failure::own(Class::Refused, "HandOnWrappingKey", detail));
    }
    transport::wrap_to(&owner.token.module, &owner.session, to, key)
}

/// Whether two wrapping keys are one: AES key wrap is deterministic, so that both make the same of a fresh key.
fn are_one(module: &Module, session: &Session, one: ObjectHandle, other: ObjectHandle) -> Result<bool, Failure> {
    let key_wrap = module.key_wrap()?;
    let sample =
        session.generate_key(&Mechanism::AesKeyGen, &template::passing_key(module.capabilities(), Kind::Encryption))?;
    let wrapped = [one, other].map(|wrapping| module.extra().wrap_key(session, &key_wrap, wrapping, sample));
    let destroyed = session.destroy_object(sample);
    let [by_one, by_other] = wrapped;
    let (by_one, by_other) = (by_one?, by_other?);
    destroyed?;
    Ok(by_one == by_other)
}
