//! What went wrong in a worker, as data.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::ckr;

/// Whose trouble a failure is, decided in one place (`worker::classify`), by what the HSM's codes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// The caller's fault.
    Request,
    /// The key's object is gone while the token is sound.
    KeyAbsent,
    /// The token shows the key's object and does not use it, or shows several and nobody can say which is meant.
    KeyUnusable,
    /// The session's trouble; it was replaced and the operation repeated once, in vain.
    Session,
    /// The token or the module is out of service.
    Token,
    /// The login was refused. Never tried again with the same PIN.
    Login,
    /// The token has locked the user. As with a refused login, nothing is tried again.
    Locked,
    /// Caller's or token's: the proof ciphertext tells.
    Ambiguous,
    /// The token has too much to do at this moment, or is not yet ready with this key: asked later, or elsewhere, and no
    /// sign that anything is wrong.
    Busy,
    /// A bad ciphertext, a broken key, or too much to do: all of them by one code. The proof ciphertext tells where it
    /// opens, and nothing where it does not.
    AmbiguousOrBusy,
    /// This worker does not do that: wrong role, missing mechanism, missing ceremony object.
    Refused,
    /// The token does an operation otherwise than keystored relies on, as with an IV of its own: nothing that it has
    /// made may be given out, and starting again does not help.
    Incompatible,
}

/// A failure as data: which function, which code, whose trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{function}: {}{}", ckr::name(*.code), .detail.as_deref().map(|d| format!(" ({d})")).unwrap_or_default())]
pub struct Fault {
    /// Whose trouble it is.
    pub class: Class,
    /// The PKCS#11 function, or the worker's own step.
    pub function: Cow<'static, str>,
    /// The CKR code; 0 where the failure is not a return value.
    pub code: u64,
    /// What was being attempted, where function and code don't say enough. Never key material.
    pub detail: Option<String>,
    /// Of an item with two keys: it was met at the source, whose ciphertext was to be opened.
    pub at_source: bool,
}

impl Class {
    /// The token has too much to do, or may have.
    #[must_use]
    pub const fn may_be_busy(self) -> bool {
        matches!(self, Self::Busy | Self::AmbiguousOrBusy)
    }
}

impl Fault {
    /// A failure without a PKCS#11 code.
    pub fn own(class: Class, function: &'static str, detail: impl Into<String>) -> Self {
        Self { class, function: function.into(), code: 0, detail: Some(detail.into()), at_source: false }
    }

    /// The same, met at the source of an item with two keys.
    #[must_use]
    pub fn of_source(self) -> Self {
        Self { at_source: true, ..self }
    }
}
