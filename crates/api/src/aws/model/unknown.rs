//! Members that the model does not know. AWS ignores them, and so does this service: clients of a newer model send more
//! than an older one knows. Those that say what must *not* happen are never ignored.

use serde_json::value::RawValue;

/// Members with which a request asks for less than it would get without them: nothing done, an answer that only an
/// enclave can read, no more than a grant lets one do. In whatever letters: somebody meant it.
const KEPT: &[&str] = &["DryRun", "DryRunModifiers", "Recipient", "GrantTokens"];

/// Characters of a name that a message repeats.
const SHOWN: usize = 64;

/// A member that must not be ignored, by its name as it was sent.
pub(super) enum Refused {
    /// One of the request itself.
    Parameter(String),
    /// One of an object that limits what the request allows.
    Limit(String),
}

/// What follows from a member that a shape does not know. `narrows`: the shape limits what the request allows. `top`: the
/// shape is the request itself.
pub(super) fn judge(name: &str, value: &RawValue, narrows: bool, top: bool) -> Option<Refused> {
    if asks_for_nothing(value) {
        return None;
    }
    let shown = || name.chars().take(SHOWN).collect();
    if narrows {
        return Some(Refused::Limit(shown()));
    }
    let kept = top && KEPT.iter().any(|kept| kept.eq_ignore_ascii_case(name));
    kept.then(|| Refused::Parameter(shown()))
}

/// Whether nothing changes when the member is not there.
fn asks_for_nothing(value: &RawValue) -> bool {
    let letters = || value.get().bytes().filter(|letter| !letter.is_ascii_whitespace());
    ["null", "false", "[]", "{}"].iter().any(|nothing| letters().eq(nothing.bytes()))
}

impl Refused {
    /// What ValidationException says.
    pub(super) fn message(&self, operation: &str) -> String {
        match self {
            Self::Parameter(name) => format!(
                "{operation} has no parameter {name}. It is not ignored, because the call would do more than it asks for: \
                 leave it out, or write it as the API does where the operation has it"
            ),
            Self::Limit(name) => format!(
                "{operation}: there is no constraint {name}. It is not ignored, because the grant would allow more than was \
                 asked for: leave it out"
            ),
        }
    }
}
