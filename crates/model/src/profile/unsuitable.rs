//! Libraries of HSMs that cannot do keystored's job, whatever their lists of mechanisms say.
//!
//! The list decides for all others (see [`super::Abilities`]). It does not tell everything: that a wrapped key carries its
//! own attributes, or that a library has no C_UnwrapKey. So those that are known are known by what C_GetInfo says of them,
//! letter by letter, from their published code; none was run on the device.

use serde::{Deserialize, Serialize};

/// A library of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unsuitable {
    /// Yubico's of the YubiHSM 2.
    YubiHsm2,
    /// Nitrokey's of the NetHSM.
    NetHsm,
    /// tpm2-pkcs11.
    Tpm2,
    /// CardContact's of the SmartCard-HSM (also sold as Nitrokey HSM).
    SmartCardHsm,
    /// Google's of Cloud KMS, kmsp11.
    CloudKms,
}

/// What C_GetInfo says: manufacturer and description, without the blanks behind them.
const KNOWN: &[(&str, &str, Unsuitable)] = &[
    ("Yubico (www.yubico.com)", "YubiHSM PKCS#11 Library", Unsuitable::YubiHsm2),
    ("Nitrokey", "Nitrokey PKCS#11 library", Unsuitable::NetHsm),
    ("tpm2-software.github.io", "TPM2.0 Cryptoki", Unsuitable::Tpm2),
    ("CardContact (www.cardcontact.de)", "SmartCard-HSM via PC/SC", Unsuitable::SmartCardHsm),
    ("CardContact (www.cardcontact.de)", "SmartCard-HSM R/O with PC/SC", Unsuitable::SmartCardHsm),
    ("CardContact (www.cardcontact.de)", "SmartCard-HSM R/O with CT-API", Unsuitable::SmartCardHsm),
    ("Google", "Cryptoki Library for Cloud KMS", Unsuitable::CloudKms),
];

impl Unsuitable {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::YubiHsm2, Self::NetHsm, Self::Tpm2, Self::SmartCardHsm, Self::CloudKms];

    /// The library that says this of itself, where it is one of these.
    #[must_use]
    pub fn named(manufacturer: &str, description: &str) -> Option<Self> {
        let (manufacturer, description) = (manufacturer.trim_end(), description.trim_end());
        let is = |(of, what, _): &&(&str, &str, Self)| (*of, *what) == (manufacturer, description);
        KNOWN.iter().find(is).map(|(_, _, library)| *library)
    }

    /// What it is the library of.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::YubiHsm2 => "YubiHSM 2",
            Self::NetHsm => "Nitrokey NetHSM",
            Self::Tpm2 => "TPM 2.0",
            Self::SmartCardHsm => "SmartCard-HSM",
            Self::CloudKms => "Google Cloud KMS",
        }
    }

    /// Why it cannot be used.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::YubiHsm2 => {
                "it has no AES-GCM, and a key that it unwraps comes with its own attributes, whatever the template says"
            }
            Self::NetHsm => "it has no AES-GCM, and neither wraps nor unwraps keys",
            Self::Tpm2 => "it has no AES-GCM, makes no AES keys by C_GenerateKey, and neither wraps nor unwraps keys",
            Self::SmartCardHsm => "it has no AES-GCM",
            Self::CloudKms => {
                "it neither wraps nor unwraps keys, so that no two of its key rings can hold the same key"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_known_by_both_of_its_names_letter_by_letter() {
        for (manufacturer, description, library) in KNOWN {
            // As C_GetInfo has them.
            let (manufacturer, description) = (format!("{manufacturer:<32}"), format!("{description:<32}"));
            assert_eq!(Unsuitable::named(&manufacturer, &description), Some(*library));
        }
        for (manufacturer, description) in [
            // The YubiKey's, by the same manufacturer.
            ("Yubico (www.yubico.com)", "PKCS#11 PIV Library (SP-800-73)"),
            ("Yubico (www.yubico.com)", "YubiHSM PKCS#11 Library 3"),
            ("Yubico", "YubiHSM PKCS#11 Library"),
            ("google", "Cryptoki Library for Cloud KMS"),
            ("SoftHSM", "Implementation of PKCS11"),
            ("", ""),
        ] {
            assert_eq!(Unsuitable::named(manufacturer, description), None, "{manufacturer} {description}");
        }
    }

    #[test]
    fn each_has_names_and_a_reason() {
        for library in Unsuitable::ALL {
            assert!(KNOWN.iter().any(|(_, _, known)| *known == library), "{library:?}");
            assert!(library.why().starts_with("it ") && !library.name().is_empty());
        }
    }
}
