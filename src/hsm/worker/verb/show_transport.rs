//! Show the token's transport key, and have its identity key sign that the token holds the private half.
//!
//! The statement is put together here, of what is read in the token: nobody outside chooses what is signed. A module that
//! lies can have anything signed; this is about tokens that are asked and answer truly.

use aws_lc_rs::digest::{SHA256, digest};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectClass;

use super::ceremony::transport;
use crate::hsm::protocol::{Class, Reply, ShownTransport};
use crate::hsm::worker::fault::Failure;
use crate::hsm::worker::owner::Owner;
use crate::hsm::worker::{objects, template};
use crate::model::id::{ClusterId, Zone};
use crate::model::identity::{Purpose, Statement};

/// Fails where the transport key was not made in this token, or may have left it.
pub(super) fn run(owner: &mut Owner, cluster: &ClusterId, zone: &Zone, nonce: [u8; 32]) -> Result<Reply, Failure> {
    // A token that is gone shows nothing and says OK.
    owner.token_info()?;
    let (session, token) = (&owner.session, &owner.token);
    let refused = |detail: &str| Failure::own(Class::Refused, "ShowTransport", detail);
    let key = transport::own(session)?;
    let identity = objects::named(session, ObjectClass::PRIVATE_KEY, template::IDENTITY)?
        .ok_or_else(|| refused("the token holds no identity key: it never went through this cluster's ceremony"))?;
    let identity_certificate = objects::certificate(session, template::IDENTITY)?
        .ok_or_else(|| refused("the token holds no identity certificate, or more than one"))?;
    let statement = Statement {
        purpose: Purpose::Transport { modulus: key.modulus.to_vec(), exponent: key.exponent.to_vec() },
        cluster: cluster.clone(),
        hsm: token.hsm.clone(),
        zone: zone.clone(),
        serial: token.serial.clone(),
        incarnation: token.incarnation,
        nonce,
    };
    let hash = digest(&SHA256, &statement.to_bytes());
    let signature = session.sign(&Mechanism::Ecdsa, identity, hash.as_ref())?.into();
    let holds_wrapping_key = objects::named(session, ObjectClass::SECRET_KEY, template::WRAPPING)?.is_some();
    let incarnation = token.incarnation;
    let shown = ShownTransport { key, identity_certificate, incarnation, signature, holds_wrapping_key };
    Ok(Reply::Transport(Box::new(shown)))
}
