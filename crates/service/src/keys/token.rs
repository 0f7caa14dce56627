//! Client tokens: what makes a create repeatable.
//!
//! They are a principal's, whichever of its certificates and access keys a call comes with: who calls again may have taken
//! another one meanwhile.

use aws_lc_rs::digest::{Context, SHA256};

use crate::RequestContext;
use crate::core::Core;
use model::operation::Operation;
use store::ClientToken;

/// The token of a call with these other parameters; `None` where the caller gave none.
pub(super) fn of<'a>(
    core: &Core,
    call: &RequestContext,
    operation: Operation,
    token: String,
    parameters: impl IntoIterator<Item = &'a str>,
) -> Option<ClientToken> {
    (!token.is_empty()).then(|| ClientToken {
        principal: core.keyring().party(&call.principal).0.to_owned(),
        operation: operation.spec().event,
        token,
        parameters: digest(parameters),
    })
}

/// What must be the same when a client token comes again.
pub(crate) fn digest<'a>(parameters: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parameters {
        // Lengths keep two parts apart whatever they hold.
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_keeps_parts_apart() {
        assert_eq!(digest(["cks-1", "a"]), digest(["cks-1", "a"]));
        assert_ne!(digest(["cks-1", "a"]), digest(["cks-1a", ""]));
        assert_ne!(digest(["cks-1", "a"]), digest(["cks-1", "b"]));
        assert_ne!(digest(["cks-1", "a"]), digest(["cks-1", "a", "", ""]));
    }
}
