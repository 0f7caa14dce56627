//! The built-in rule: any certificate of the client CA may call everything. Policies take this place.

use super::peer::Principal;
use model::id::KeyId;
use model::operation::Operation;

/// What the rules say of a call, with the statement that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed, by this statement.
    Allow(&'static str),
    /// Denied, by this statement or for want of one.
    Deny(&'static str),
}

/// Decides one call. Pure.
#[must_use]
pub fn decide(_principal: &Principal, _operation: Operation, _key: Option<KeyId>) -> Verdict {
    Verdict::Allow("every certificate of the client CA may call everything")
}
