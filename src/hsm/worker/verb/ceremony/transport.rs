//! The RSA transport pair: what the cluster wrapping key is wrapped to on its way into this token.

use bytes::Bytes;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::hsm::protocol::{Class, Reply, TransportKey};
use crate::hsm::worker::fault::Failure;
use crate::hsm::worker::owner::Owner;
use crate::hsm::worker::{objects, template};

/// Makes it if it is not there, and answers its public half.
pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    let session = &owner.session;
    let private = objects::named(session, ObjectClass::PRIVATE_KEY, template::TRANSPORT)?;
    let public = objects::named(session, ObjectClass::PUBLIC_KEY, template::TRANSPORT)?;
    let public = match (private, public) {
        (Some(_), Some(public)) => public,
        (Some(_), None) => {
            let detail = format!(
                "the token holds the private half of '{}' without the public one; remove it and begin again",
                template::TRANSPORT
            );
            return Err(Failure::own(Class::Refused, "MakeTransportPair", detail));
        }
        (None, leftover) => {
            // A public half alone is what an interrupted generation leaves, and good for nothing.
            if let Some(leftover) = leftover {
                session.destroy_object(leftover)?;
            }
            let (public, private) = template::transport_pair();
            session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)?.0
        }
    };
    read(session, public).map(Reply::TransportKey)
}

/// Wraps a session object to some token's transport key.
pub(in crate::hsm::worker::verb) fn wrap_to(
    session: &Session,
    transport: &TransportKey,
    key: ObjectHandle,
) -> Result<Bytes, Failure> {
    let public = session.create_object(&template::transport_public(&transport.modulus, &transport.exponent))?;
    let wrapped = session.wrap_key(&super::oaep(), public, key);
    session.destroy_object(public)?;
    Ok(wrapped?.into())
}

fn read(session: &Session, public: ObjectHandle) -> Result<TransportKey, Failure> {
    let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
    match &session.get_attributes(public, &wanted)?[..] {
        [Attribute::Modulus(modulus), Attribute::PublicExponent(exponent)] => {
            Ok(TransportKey { modulus: modulus.clone().into(), exponent: exponent.clone().into() })
        }
        _ => Err(Failure::own(Class::Token, "MakeTransportPair", "the public key does not show modulus and exponent")),
    }
}
