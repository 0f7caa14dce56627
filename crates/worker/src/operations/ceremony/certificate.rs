//! Keep the certificate of a key pair in the token, where every later login can find it.

use crate::fault::Failure;
use crate::owner::Owner;
use crate::{objects, template};
use protocol::{Pair, Reply};

/// Takes the place of an earlier certificate of the same pair.
pub(super) fn run(owner: &mut Owner, of: Pair, certificate: &[u8], subject: &[u8]) -> Result<Reply, Failure> {
    let label = match of {
        Pair::Identity => template::IDENTITY,
        Pair::Transport => template::TRANSPORT,
    };
    let session = &owner.session;
    for earlier in objects::certificates(session, label)? {
        session.destroy_object(earlier)?;
    }
    session.create_object(&template::certificate(owner.token.module.capabilities(), label, certificate, subject))?;
    Ok(Reply::Done)
}
