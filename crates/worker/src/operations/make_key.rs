//! Make a random AES-256 key, wrap it under the cluster wrapping key, forget it.
//!
//! The key is extractable only as a session object of this process, for as long as these calls last.

use cryptoki::mechanism::Mechanism;

use crate::fault::Failure;
use crate::owner::Owner;
use crate::template::{self, Kind};
use protocol::Reply;

/// The wrapped key.
pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    let blob = owner.with_wrapping_key(|module, session, wrapping| {
        let key_wrap = module.key_wrap()?;
        let key = session
            .generate_key(&Mechanism::AesKeyGen, &template::passing_key(module.capabilities(), Kind::Encryption))?;
        let wrapped = module.extra().wrap_key(session, &key_wrap, wrapping, key);
        let destroyed = session.destroy_object(key);
        let wrapped = wrapped?;
        // A key that stays extractable in memory is not handed on.
        destroyed?;
        Ok(wrapped)
    })?;
    Ok(Reply::Blob(blob.into()))
}
