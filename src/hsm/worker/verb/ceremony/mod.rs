//! Steps of the key ceremony inside one token.

mod canary;
pub(in crate::hsm::worker) mod init_token;
mod make_wrapping_key;
mod place_wrapping_key;
mod transport;

use crate::hsm::protocol::{CeremonyOp, Class, Reply};
use crate::hsm::worker::fault::Failure;
use crate::hsm::worker::objects;
use crate::hsm::worker::owner::Owner;

/// Does one step. Only called in a ceremony worker.
pub(super) fn run(owner: &mut Owner, step: &CeremonyOp) -> Result<Reply, Failure> {
    // What is missing in a token that is gone would be made anew: ask first.
    owner.token_info()?;
    match step {
        CeremonyOp::InitToken { .. } => {
            let detail = "a token is initialised by a ceremony worker that was started without a PIN";
            Err(Failure::own(Class::Refused, "InitToken", detail))
        }
        CeremonyOp::Inspect => Ok(Reply::CeremonyObjects(objects::ceremony(&owner.session)?)),
        CeremonyOp::MakeTransportPair => transport::run(owner),
        CeremonyOp::MakeCanary => canary::run(owner),
        CeremonyOp::MakeWrappingKey { transports } => make_wrapping_key::run(owner, transports),
        CeremonyOp::PlaceWrappingKey { blob } => place_wrapping_key::run(owner, blob),
    }
}

/// The one mechanism by which wrapping keys travel. SoftHSM knows OAEP with SHA-1 only, which is sound for OAEP.
fn oaep() -> cryptoki::mechanism::Mechanism<'static> {
    use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
    use cryptoki::mechanism::{Mechanism, MechanismType};
    let source = PkcsOaepSource::empty();
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1, source))
}
