//! The identity pair: what the token proves itself with.

use bytes::Bytes;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::fault::Failure;
use crate::owner::Owner;
use crate::{objects, template};
use protocol::{Class, Reply};

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
            let (public, private) = template::identity_pair(owner.token.module.capabilities());
            session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?.0
        }
    };
    read(session, public).map(Reply::IdentityKey)
}

fn read(session: &Session, public: ObjectHandle) -> Result<Bytes, Failure> {
    let point = objects::ec_point(session, public)?;
    let point = point.as_deref().and_then(objects::p256_point).map(Bytes::copy_from_slice);
    point.ok_or_else(|| Failure::own(Class::Token, "MakeIdentityPair", "the public key does not show a point of P-256"))
}
