//! Which tokens the module shows, blank ones too.

use crate::fault::Failure;
use crate::module::{Module, user_flags};
use protocol::{Reply, TokenSeen};

/// All of them. What a blank token does not tell of its mechanisms is asked again when it is none any more.
pub(super) fn run(module: &Module) -> Result<Reply, Failure> {
    let seen = module.all_tokens()?.into_iter().map(|found| TokenSeen {
        label: found.info.label().trim_end().to_owned(),
        serial: found.info.serial_number().trim().to_owned(),
        initialised: found.info.token_initialized(),
        user: user_flags(&found.info, &module.capabilities().login),
        abilities: module.abilities(&found).unwrap_or_default(),
    });
    Ok(Reply::Tokens(seen.collect()))
}
