//! Members that the model does not know. AWS ignores them, and so does this service: clients of a newer model send more
//! than an older one knows. Those that say what must *not* happen are never ignored.

use serde_json::value::RawValue;

/// Members with which a request asks for less than it would get without them: nothing done, an answer that only an
/// enclave can read, no more than a grant lets one do. In whatever letters: somebody meant it.
const KEPT: &[&str] = &["DryRun", "DryRunModifiers", "Recipient", "GrantTokens"];

/// Longest part of a name that a message repeats.
const SHOWN: usize = 64;

/// A member that must not be ignored.
pub(super) enum Refused {
    /// One of the request itself, by the name that the model would have for it.
    Parameter(&'static str),
    /// One of an object that limits what the request allows, as it was sent.
    Limit(String),
}

/// What follows from a member that a shape does not know. `narrows`: the shape limits what the request allows. `top`: the
/// shape is the request itself.
pub(super) fn judge(name: &str, value: &RawValue, narrows: bool, top: bool) -> Option<Refused> {
    // What asks for nothing is not missed.
    if matches!(value.get(), "null" | "false" | "[]" | "{}") {
        return None;
    }
    if narrows {
        return Some(Refused::Limit(name.chars().take(SHOWN).collect()));
    }
    KEPT.iter().find(|kept| top && kept.eq_ignore_ascii_case(name)).map(|kept| Refused::Parameter(kept))
}

impl Refused {
    /// What ValidationException says.
    pub(super) fn message(&self, operation: &str) -> String {
        match self {
            Self::Parameter(name) => format!(
                "{operation} has no parameter that is named so: {name}. It is not ignored, because the call would do more than \
                 it asks for; call without it, or by its exact name where the operation has it"
            ),
            Self::Limit(name) => format!(
                "{operation}: no constraint is named {name}. It is not ignored, because the grant would allow more than was \
                 asked for"
            ),
        }
    }
}
