//! The identity pair: what the token proves itself with.

use bytes::Bytes;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::fault::Failure;
use crate::owner::Owner;
use crate::{objects, template};
use protocol::{Class, Reply};

/// Length of an uncompressed point of P-256.
const POINT_BYTES: usize = 65;

/// Makes it if it is not there, and answers its public half.
pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    let session = &owner.session;
    let private = objects::named(session, ObjectClass::PRIVATE_KEY, template::IDENTITY)?;
    let public = objects::named(session, ObjectClass::PUBLIC_KEY, template::IDENTITY)?;
    let public = match (private, public) {
        (Some(private), Some(public)) => {
            objects::made_here(session, private, template::IDENTITY)?;
            public
        }
        (private, public) => {
            // Half a pair is what an interrupted generation leaves. Nothing depends on it: a pair is certified only
            // when both halves are there.
            for leftover in [private, public].into_iter().flatten() {
                session.destroy_object(leftover)?;
            }
            let (public, private) = template::identity_pair();
            session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?.0
        }
    };
    read(session, public).map(Reply::IdentityKey)
}

/// The standard has the point as a DER octet string; some vendors give it bare.
fn read(session: &Session, public: ObjectHandle) -> Result<Bytes, Failure> {
    let wrong = || Failure::own(Class::Token, "MakeIdentityPair", "the public key does not show a point of P-256");
    let Some(Attribute::EcPoint(point)) = session.get_attributes(public, &[AttributeType::EcPoint])?.pop() else {
        return Err(wrong());
    };
    match &point[..] {
        [0x04, 0x41, bare @ ..] if bare.len() == POINT_BYTES => Ok(Bytes::copy_from_slice(bare)),
        bare if bare.len() == POINT_BYTES && bare.first() == Some(&0x04) => Ok(Bytes::copy_from_slice(bare)),
        _ => Err(wrong()),
    }
}
