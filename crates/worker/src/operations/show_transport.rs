//! Show the token's transport key, and have its identity key sign that the token holds the private half.
//!
//! The statement is put together here, of what is read in the token: nobody outside chooses what is signed. A module
//! that lies can have anything signed; this is about tokens that are asked and answer truly.

use bytes::Bytes;
use cryptoki::object::ObjectClass;

use super::ceremony::transport;
use super::prove;
use crate::fault::Failure;
use crate::owner::Owner;
use crate::{objects, template};
use model::id::{ClusterId, Zone};
use model::identity::Purpose;
use protocol::{Class, Reply, ShownTransport};

/// Fails where the transport key was not made in this token, or may have left it.
pub(super) fn run(owner: &mut Owner, cluster: &ClusterId, zone: &Zone, nonce: [u8; 32]) -> Result<Reply, Failure> {
    // A token that is gone shows nothing and says OK.
    owner.token_info()?;
    let session = &owner.session;
    let key = transport::own(session)?;
    let known = owner.token.module.capabilities();
    let identity_certificate = match objects::certificate(session, known, template::IDENTITY)? {
        Some(certificate) => certificate,
        None if known.objects.in_host_file() => Bytes::new(),
        None => {
            let detail = "the token holds no identity certificate, or more than one";
            return Err(Failure::own(Class::Refused, "ShowTransport", detail));
        }
    };
    let purpose = Purpose::Transport { modulus: key.modulus.to_vec(), exponent: key.exponent.to_vec() };
    let signature = prove::sign(owner, purpose, cluster, zone, nonce)?;
    let holds_wrapping_key = objects::named(session, ObjectClass::SECRET_KEY, template::WRAPPING)?.is_some();
    let incarnation = owner.token.incarnation;
    let shown = ShownTransport { key, identity_certificate, incarnation, signature, holds_wrapping_key };
    Ok(Reply::Transport(Box::new(shown)))
}
