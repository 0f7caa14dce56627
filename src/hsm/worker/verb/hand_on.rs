//! Hand the cluster wrapping key on to a token that joins.
//!
//! The blob from the ceremony folder is opened as an extractable session object, wrapped to the newcomer's transport key,
//! and forgotten. For as long as these calls last, whoever controls this process could extract the wrapping key.

use cryptoki::object::ObjectClass;

use super::ceremony::{oaep, transport};
use crate::hsm::protocol::{Class, Reply, TransportKey};
use crate::hsm::worker::fault::Failure;
use crate::hsm::worker::owner::Owner;
use crate::hsm::worker::{objects, template};

/// The wrapping key, wrapped to `to`.
pub(super) fn run(owner: &mut Owner, blob: &[u8], to: &TransportKey) -> Result<Reply, Failure> {
    let session = &owner.session;
    let own = objects::named(session, ObjectClass::PRIVATE_KEY, template::TRANSPORT)?.ok_or_else(|| {
        Failure::own(Class::Refused, "HandOnWrappingKey", "the token holds no transport key; the ceremony makes one")
    })?;
    let opened = session.unwrap_key(&oaep(), own, blob, &template::passing_wrapping_key());
    let key = opened.map_err(|error| {
        let what = "opening the wrapped key from the ceremony folder";
        let mut fault = Failure::from(error).during(what, owner.profile());
        // It was made for another token, or is damaged; this one is in order.
        if fault.class == Class::Ambiguous {
            fault.class = Class::Refused;
        }
        fault
    })?;
    let wrapped = transport::wrap_to(session, to, key);
    let destroyed = session.destroy_object(key);
    let wrapped = wrapped?;
    destroyed?;
    Ok(Reply::Blob(wrapped))
}
