//! Which tokens the module shows, blank ones too.

use crate::fault::Failure;
use crate::module::{Module, user_flags};
use protocol::{Reply, TokenSeen};

/// All that can be asked; why one cannot, where none can. What a blank token does not tell of its mechanisms is asked again when it is none any more.
pub(super) fn run(module: &Module) -> Result<Reply, Failure> {
    let (tokens, silent) = module.tokens_that_answer()?;
    if tokens.is_empty()
        && let Some(silent) = silent
    {
        return Err(silent);
    }
    let seen = tokens.into_iter().map(|found| TokenSeen {
        label: found.info.label().trim_end().to_owned(),
        serial: found.info.serial_number().trim().to_owned(),
        initialised: found.info.token_initialized(),
        user: user_flags(&found.info, &module.capabilities().login),
        abilities: module.abilities(&found).unwrap_or_default(),
    });
    Ok(Reply::Tokens(seen.collect()))
}
