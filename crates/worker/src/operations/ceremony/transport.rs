//! The RSA transport pair: what the cluster wrapping key is wrapped to on its way into this token.

use bytes::Bytes;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::fault::Failure;
use crate::module::Module;
use crate::owner::Owner;
use crate::{objects, template};
use model::identity::{significant, sound_transport_key};
use protocol::{Class, Reply, TransportKey};

/// Makes it if it is not there, and answers its public half.
pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    let session = &owner.session;
    let private = objects::named(session, ObjectClass::PRIVATE_KEY, template::TRANSPORT)?;
    let public = objects::named(session, ObjectClass::PUBLIC_KEY, template::TRANSPORT)?;
    match (private, public) {
        (Some(_), Some(_)) => {}
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
            let (public, private) = template::transport_pair(owner.token.module.capabilities());
            session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)?;
        }
    }
    own(session).map(Reply::TransportKey)
}

/// The public half of the token's transport pair, where the private one was made in this token and cannot leave it. The
/// public object alone proves nothing: whoever has kmsuser's PIN can put one there.
pub(in crate::operations) fn own(session: &Session) -> Result<TransportKey, Failure> {
    let refused = |detail: &str| Failure::own(Class::Refused, "transport key", detail);
    let missing = || refused("the token holds no transport key pair; the ceremony makes one");
    let private = objects::named(session, ObjectClass::PRIVATE_KEY, template::TRANSPORT)?.ok_or_else(missing)?;
    let public = objects::named(session, ObjectClass::PUBLIC_KEY, template::TRANSPORT)?.ok_or_else(missing)?;
    objects::made_here(session, private, template::TRANSPORT)?;
    let key = read(session, public)?;
    let held = session.get_attributes(private, &[AttributeType::Modulus])?.pop();
    if !matches!(held, Some(Attribute::Modulus(modulus)) if key.modulus == significant(&modulus)) {
        let detail =
            format!("the public half of '{}' in the token is not that of the private one", template::TRANSPORT);
        return Err(refused(&detail));
    }
    sound(&key)?;
    Ok(key)
}

/// Whether the wrapping key may be wrapped to this key.
pub(in crate::operations) fn sound(key: &TransportKey) -> Result<(), Failure> {
    sound_transport_key(&key.modulus, &key.exponent).map_err(|why| Failure::own(Class::Refused, "transport key", why))
}

/// Wraps a session object to some token's transport key.
pub(in crate::operations) fn wrap_to(
    module: &Module,
    session: &Session,
    transport: &TransportKey,
    key: ObjectHandle,
) -> Result<Bytes, Failure> {
    sound(transport)?;
    let of = module.capabilities();
    let public = session.create_object(&template::transport_public(of, &transport.modulus, &transport.exponent))?;
    let wrapped = module.extra().wrap_key(session, &super::oaep(of), public, key);
    session.destroy_object(public)?;
    Ok(wrapped?.into())
}

fn read(session: &Session, public: ObjectHandle) -> Result<TransportKey, Failure> {
    let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
    match &session.get_attributes(public, &wanted)?[..] {
        [Attribute::Modulus(modulus), Attribute::PublicExponent(exponent)] => Ok(TransportKey::new(modulus, exponent)),
        _ => Err(Failure::own(Class::Token, "transport key", "the public key does not show modulus and exponent")),
    }
}
