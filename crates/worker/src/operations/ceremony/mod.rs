//! Steps of the key ceremony inside one token.

mod canary;
mod certificate;
mod discover;
mod identity;
mod init_token;
mod init_user_pin;
mod make_wrapping_key;
pub(super) mod place_wrapping_key;
pub(super) mod transport;

use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectClass;

use crate::fault::Failure;
use crate::module::Module;
use crate::owner::Owner;
use crate::{objects, template};
use model::profile::{Capabilities, OaepHash};
use protocol::{CeremonyOp, Class, Inspected, Reply};

/// Does one step. Only called in a ceremony worker.
pub(super) fn run(owner: &mut Owner, step: &CeremonyOp) -> Result<Reply, Failure> {
    // What is missing in a token that is gone would be made anew: ask first.
    owner.token_info()?;
    match step {
        CeremonyOp::Discover | CeremonyOp::InitToken { .. } | CeremonyOp::InitUserPin { .. } => {
            let detail = "tokens are looked for and initialised by a ceremony worker that was started without one";
            Err(Failure::own(Class::Refused, "worker", detail))
        }
        CeremonyOp::Inspect => inspect(owner),
        CeremonyOp::MakeIdentityPair => identity::run(owner),
        CeremonyOp::StoreCertificate { of, certificate, subject } => certificate::run(owner, *of, certificate, subject),
        CeremonyOp::MakeTransportPair => transport::run(owner),
        CeremonyOp::MakeCanary => canary::run(owner),
        CeremonyOp::MakeWrappingKey { transports } => make_wrapping_key::run(owner, transports),
        CeremonyOp::PlaceWrappingKey { blob } => place_wrapping_key::run(owner, blob),
    }
}

/// Does one step of a worker that has no token.
pub(crate) fn without_token(module: &Module, step: CeremonyOp) -> Reply {
    let done = match step {
        CeremonyOp::Discover => discover::run(module),
        CeremonyOp::InitToken { token, so_pin } => init_token::run(module, &token, &so_pin),
        CeremonyOp::InitUserPin { token, so_pin, user_pin } => init_user_pin::run(module, &token, &so_pin, &user_pin),
        _ => Err(Failure::own(Class::Refused, "worker", "a worker without a token can only initialise one")),
    };
    done.unwrap_or_else(|failure| Reply::Failed(failure.into_fault(module.codes())))
}

fn inspect(owner: &mut Owner) -> Result<Reply, Failure> {
    let (session, known) = (&owner.session, owner.token.module.capabilities());
    let mut objects = objects::ceremony(session)?;
    // Half a pair has yet to be made. Only here: at a worker's start each search costs more than this is worth.
    for (there, label) in [(&mut objects.identity, template::IDENTITY), (&mut objects.transport, template::TRANSPORT)] {
        *there = *there && objects::named(session, ObjectClass::PUBLIC_KEY, label)?.is_some();
    }
    Ok(Reply::Inspected(Box::new(Inspected {
        objects,
        identity_certificate: objects::certificate(session, known, template::IDENTITY)?,
        transport_certificate: objects::certificate(session, known, template::TRANSPORT)?,
    })))
}

/// The one mechanism by which wrapping keys travel. SoftHSM knows OAEP with SHA-1 only, which is sound for OAEP; all
/// tokens of a cluster have the same.
pub(super) fn oaep(of: &Capabilities) -> Mechanism<'static> {
    let (hash, mask) = match of.wrap.oaep_hash {
        OaepHash::Sha1 => (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
        OaepHash::Sha224 => (MechanismType::SHA224, PkcsMgfType::MGF1_SHA224),
        OaepHash::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
        OaepHash::Sha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384),
        OaepHash::Sha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512),
    };
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mask, PkcsOaepSource::empty()))
}
