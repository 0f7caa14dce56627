//! Make the cluster wrapping key and wrap it to every token of the cluster.
//!
//! It is extractable only as a session object, for as long as these calls last.

use bytes::Bytes;
use cryptoki::mechanism::Mechanism;

use super::transport::wrap_to;
use crate::fault::Failure;
use crate::owner::Owner;
use crate::template::{self, Kind};
use protocol::{Class, Reply, TransportKey};

/// Most tokens of one cluster.
const TOKENS: usize = 64;

/// One blob for each transport key, in their order.
pub(super) fn run(owner: &mut Owner, transports: &[TransportKey]) -> Result<Reply, Failure> {
    if transports.is_empty() || transports.len() > TOKENS {
        let detail = format!("{} transport keys were named; 1 to {TOKENS} can be served", transports.len());
        return Err(Failure::own(Class::Request, "MakeWrappingKey", detail));
    }
    let module = &*owner.token.module;
    let key = owner
        .session
        .generate_key(&Mechanism::AesKeyGen, &template::new_wrapping_key(module.capabilities(), Kind::Encryption))?;
    let blobs = transports
        .iter()
        .map(|transport| wrap_to(module, &owner.session, transport, key))
        .collect::<Result<Vec<Bytes>, _>>();
    let destroyed = owner.session.destroy_object(key);
    let blobs = blobs?;
    destroyed?;
    Ok(Reply::Blobs(blobs))
}
