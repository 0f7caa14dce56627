//! What keystored needs of a token, and what is missing: decided from the mechanisms that the token lists. Pure.
//!
//! A list is taken at its word where it has no mechanism of the standard: such a token is refused. Where it has the
//! mechanism and not its uses, or lacks a number that is a vendor's own, it alone does not condemn, since flags lie and
//! lists are not complete: then a try decides. At each connect the token proves its identity (ECDSA, by a key pair that it
//! made), and each of its workers draws random numbers and encrypts and decrypts with a key that the token made
//! (AES-GCM); the ceremony gives up where a token makes no key pair or does not unwrap by RSA-OAEP.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Capabilities;
use super::unsuitable::Unsuitable;

/// A use of a mechanism, of those that its flags tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the standard's names")]
pub enum Use {
    Encrypt,
    Decrypt,
    Sign,
    Generate,
    GenerateKeyPair,
    Wrap,
    Unwrap,
}

/// A mechanism that a token says it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its number.
    pub mechanism: u64,
    /// What its flags say that it is for.
    pub uses: BTreeSet<Use>,
}

/// Something that keystored does in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Need {
    /// Encrypts and decrypts.
    AesGcm,
    /// Makes keys.
    AesKeyGeneration,
    /// Carries keys from one token to another.
    AesKeyWrap,
    /// Carries the wrapping key.
    RsaOaep,
    /// Makes the pair to which the wrapping key is wrapped.
    RsaKeyPairs,
    /// Makes the pair that shows which token it is.
    EcKeyPairs,
    /// Signs with it.
    Ecdsa,
    /// IVs and challenges.
    RandomNumbers,
}

const CKM_RSA_PKCS_KEY_PAIR_GEN: u64 = 0x0;
const CKM_RSA_PKCS_OAEP: u64 = 0x9;
const CKM_EC_KEY_PAIR_GEN: u64 = 0x1040;
const CKM_ECDSA: u64 = 0x1041;
const CKM_AES_KEY_GEN: u64 = 0x1080;
/// From here on numbers are vendors' own.
const VENDOR_DEFINED: u64 = 0x8000_0000;

impl Need {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AesGcm,
        Self::AesKeyGeneration,
        Self::AesKeyWrap,
        Self::RsaOaep,
        Self::RsaKeyPairs,
        Self::EcKeyPairs,
        Self::Ecdsa,
        Self::RandomNumbers,
    ];

    /// The mechanism, by its number in this HSM, and the uses of it; none for random numbers, of which the token's own
    /// flag tells.
    #[must_use]
    pub fn mechanism(self, of: &Capabilities) -> Option<(u64, &'static [Use])> {
        let (number, uses): (u64, &'static [Use]) = match self {
            Self::AesGcm => (of.gcm.mechanism, &[Use::Encrypt, Use::Decrypt]),
            Self::AesKeyGeneration => (CKM_AES_KEY_GEN, &[Use::Generate]),
            Self::AesKeyWrap => (of.wrap.key_wrap, &[Use::Wrap, Use::Unwrap]),
            Self::RsaOaep => (CKM_RSA_PKCS_OAEP, &[Use::Wrap, Use::Unwrap]),
            Self::RsaKeyPairs => (CKM_RSA_PKCS_KEY_PAIR_GEN, &[Use::GenerateKeyPair]),
            Self::EcKeyPairs => (CKM_EC_KEY_PAIR_GEN, &[Use::GenerateKeyPair]),
            Self::Ecdsa => (CKM_ECDSA, &[Use::Sign]),
            Self::RandomNumbers => return None,
        };
        Some((number, uses))
    }

    /// Whether an HSM of these capabilities needs it: keys that are made in place travel nowhere, and no key that would wrap
    /// them does.
    #[must_use]
    pub fn is_one_of(self, of: &Capabilities) -> bool {
        match self {
            Self::AesKeyWrap | Self::RsaOaep | Self::RsaKeyPairs => !of.keys.in_place(),
            Self::AesGcm | Self::AesKeyGeneration | Self::EcKeyPairs | Self::Ecdsa | Self::RandomNumbers => true,
        }
    }

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesGcm => "AES-GCM",
            Self::AesKeyGeneration => "AES key generation",
            Self::AesKeyWrap => "AES key wrap",
            Self::RsaOaep => "RSA-OAEP to wrap and unwrap",
            Self::RsaKeyPairs => "RSA key pairs",
            Self::EcKeyPairs => "EC key pairs",
            Self::Ecdsa => "ECDSA",
            Self::RandomNumbers => "random numbers",
        }
    }

    /// What follows where it is missing.
    #[must_use]
    pub const fn without(self) -> &'static str {
        match self {
            Self::AesGcm => "nothing can be encrypted in it",
            Self::AesKeyGeneration => "no key can be made in it",
            Self::AesKeyWrap => "no key comes into it from another token, and none goes from it to another",
            Self::RsaOaep | Self::RsaKeyPairs => "the cluster's wrapping key cannot come into it",
            Self::EcKeyPairs | Self::Ecdsa => "it cannot prove which token it is",
            Self::RandomNumbers => "it has none for IVs and challenges",
        }
    }

    /// The setting that says by which number it is called, where there is one.
    #[must_use]
    pub const fn setting(self) -> Option<&'static str> {
        match self {
            Self::AesGcm => Some("capabilities.gcm.mechanism"),
            Self::AesKeyWrap => Some("capabilities.wrap.key_wrap"),
            _ => None,
        }
    }
}

/// What a token can do of what keystored needs, as far as its list tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// What it has not. With any of it, it is refused.
    pub missing: BTreeSet<Need>,
    /// What its list does not tell: a try decides.
    pub unclear: BTreeSet<Need>,
    /// It is of a kind that is known not to do.
    pub unsuitable: Option<Unsuitable>,
}

impl Abilities {
    /// Judges a token by its mechanisms, by whether it says that it has random numbers, and by what its library says of
    /// itself (manufacturer and description).
    #[must_use]
    pub fn of(offers: &[Offer], random: bool, library: (&str, &str), capabilities: &Capabilities) -> Self {
        let mut abilities = Self { unsuitable: Unsuitable::named(library.0, library.1), ..Self::default() };
        for need in Need::ALL.into_iter().filter(|need| need.is_one_of(capabilities)) {
            let unclear = match need.mechanism(capabilities) {
                None => !random,
                Some((number, uses)) => match offers.iter().find(|offer| offer.mechanism == number) {
                    Some(offer) => !uses.iter().all(|wanted| offer.uses.contains(wanted)),
                    None if number < VENDOR_DEFINED => {
                        abilities.missing.insert(need);
                        false
                    }
                    None => true,
                },
            };
            if unclear {
                abilities.unclear.insert(need);
            }
        }
        abilities
    }

    /// Why the token cannot be used, and what follows; `None` where nothing is against it.
    #[must_use]
    pub fn refusal(&self, capabilities: &Capabilities) -> Option<String> {
        if let Some(library) = self.unsuitable {
            return Some(format!(
                "the library of a {} cannot do what keystored needs: {}; use another HSM",
                library.name(),
                library.why()
            ));
        }
        if self.missing.is_empty() {
            return None;
        }
        let lacks = self.missing.iter().map(|need| match need.mechanism(capabilities) {
            Some((number, _)) => format!("{} (mechanism {number:#x}): {}", need.name(), need.without()),
            None => format!("{}: {}", need.name(), need.without()),
        });
        let lacks: Vec<String> = lacks.collect();
        let settings: Vec<&str> = self.missing.iter().filter_map(|need| need.setting()).collect();
        let own = match &settings[..] {
            [] => String::new(),
            settings => format!(" (if it has them by numbers of its own: {})", settings.join(", ")),
        };
        Some(format!(
            "the token cannot do what keystored needs. It lists no {}. Use another HSM, or enable them in its policy{own}",
            lacks.join("; no ")
        ))
    }

    /// What is not told by its list, for people; `None` where that is nothing.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        let unclear: Vec<&str> = self.unclear.iter().map(|need| need.name()).collect();
        (!unclear.is_empty()).then(|| {
            format!(
                "the token's list of mechanisms does not say that it can do {}; a try decides, in the ceremony and at each \
                 connect",
                unclear.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests;
