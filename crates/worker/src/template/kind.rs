//! What a secret key may do: which uses, by which mechanism.
//!
//! Each kind of keys that callers use has a wrapping key of its own. A wrapping key tells its token what everything must be
//! that it unwraps, and that is one set of uses: one for two kinds could say no more than what both have in common, and
//! a thief could unwrap a key of one kind as one of the other. So nothing here is made without naming a kind, and a
//! further kind does not compile before it has its own uses, its own mechanism and its own wrapping key.

use cryptoki::mechanism::MechanismType;
use cryptoki::object::Attribute;

use model::profile::Capabilities;

/// A kind of keys that callers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// They encrypt and decrypt, by AES-GCM.
    Encryption,
}

impl Kind {
    /// The label of the wrapping key under which keys of this kind are wrapped, and no others.
    pub(super) fn wrapping_key(self) -> &'static str {
        match self {
            Self::Encryption => super::WRAPPING,
        }
    }
}

/// What a secret key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// What keys of a kind are for.
    Key(Kind),
    /// Wrapping and unwrapping keys of a kind.
    Wrapping(Kind),
}

impl Use {
    /// Each use, those that the key is not for as well: modules' defaults let a key do more.
    pub(super) fn uses(self) -> Vec<Attribute> {
        let (data, wrapping) = match self {
            Self::Key(Kind::Encryption) => (true, false),
            Self::Wrapping(Kind::Encryption) => (false, true),
        };
        uses(data, wrapping)
    }

    /// The only mechanism that takes it as its key.
    pub(super) fn mechanism(self, of: &Capabilities) -> Option<Attribute> {
        let number = match self {
            Self::Key(Kind::Encryption) => of.gcm.mechanism,
            Self::Wrapping(Kind::Encryption) => of.wrap.key_wrap,
        };
        // Every number that is not the standard's own is a vendor's, which cryptoki takes as well.
        Some(only(MechanismType::try_from(number).ok()?))
    }
}

/// No use at all: what a key may do that is only wrapped.
pub(super) fn no_use() -> Vec<Attribute> {
    uses(false, false)
}

/// CKA_ALLOWED_MECHANISMS with one of them.
pub(super) fn only(mechanism: MechanismType) -> Attribute {
    Attribute::AllowedMechanisms(vec![mechanism])
}

fn uses(data: bool, wrapping: bool) -> Vec<Attribute> {
    vec![
        Attribute::Encrypt(data),
        Attribute::Decrypt(data),
        Attribute::Wrap(wrapping),
        Attribute::Unwrap(wrapping),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Derive(false),
    ]
}
