//! Sign a statement, such as one of membership, with the identity key that lives in the token.
//!
//! The statement is put together here and begins with its purpose: nobody outside chooses what is signed.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use cryptoki::mechanism::Mechanism;

use crate::fault::Failure;
use crate::owner::Owner;
use model::id::{ClusterId, Zone};
use model::identity::{Purpose, Statement};
use protocol::{Class, Reply};

pub(super) fn run(owner: &mut Owner, cluster: &ClusterId, zone: &Zone, nonce: [u8; 32]) -> Result<Reply, Failure> {
    Ok(Reply::Signature(sign(owner, Purpose::Membership, cluster, zone, nonce)?))
}

/// r and s. CKM_ECDSA takes the digest; that is what every vendor has.
pub(super) fn sign(
    owner: &Owner,
    purpose: Purpose,
    cluster: &ClusterId,
    zone: &Zone,
    nonce: [u8; 32],
) -> Result<Bytes, Failure> {
    let token = &owner.token;
    let statement = Statement {
        purpose,
        cluster: cluster.clone(),
        hsm: token.hsm.clone(),
        zone: zone.clone(),
        serial: token.serial.clone(),
        incarnation: token.incarnation,
        nonce,
    };
    sign_bytes(owner, &statement.to_bytes())
}

/// The same over the bytes of a statement that a worker has put together.
pub(super) fn sign_bytes(owner: &Owner, statement: &[u8]) -> Result<Bytes, Failure> {
    let key = owner.identity()?.ok_or_else(|| {
        let detail = "the token holds no identity key: it never went through this cluster's ceremony";
        Failure::own(Class::Refused, "find identity key", detail)
    })?;
    let hash = digest(&SHA256, statement);
    Ok(owner.session.sign(&Mechanism::Ecdsa, key, hash.as_ref())?.into())
}
