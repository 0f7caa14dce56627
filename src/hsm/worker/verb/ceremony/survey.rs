//! Which tokens the module shows, blank ones too.

use crate::hsm::protocol::{Reply, TokenSeen};
use crate::hsm::worker::fault::Failure;
use crate::hsm::worker::module::{Module, user_flags};

/// All of them.
pub(super) fn run(module: &Module) -> Result<Reply, Failure> {
    let seen = module.all_tokens()?.into_iter().map(|found| TokenSeen {
        label: found.info.label().trim_end().to_owned(),
        serial: found.info.serial_number().trim().to_owned(),
        initialised: found.info.token_initialized(),
        user: user_flags(&found.info),
    });
    Ok(Reply::Tokens(seen.collect()))
}
