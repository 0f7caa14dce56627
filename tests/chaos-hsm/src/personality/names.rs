//! Names of the standard, and numbers of vendors, as settings have them.

use std::fmt::Display;

use cryptoki_sys::*;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::codes;
use crate::forward::NAMES;

macro_rules! table {
    ($table:ident: $($name:ident)+) => {
        const $table: &[(&str, CK_ULONG)] = &[$((stringify!($name), $name)),+];
    };
}

table!(MECHANISMS:
    CKM_RSA_PKCS_KEY_PAIR_GEN CKM_RSA_PKCS CKM_RSA_X_509 CKM_RSA_PKCS_OAEP CKM_RSA_PKCS_PSS CKM_SHA256_RSA_PKCS
    CKM_SHA384_RSA_PKCS CKM_SHA512_RSA_PKCS CKM_SHA256_RSA_PKCS_PSS CKM_SHA384_RSA_PKCS_PSS CKM_SHA512_RSA_PKCS_PSS
    CKM_SHA_1 CKM_SHA224 CKM_SHA256 CKM_SHA384 CKM_SHA512 CKM_SHA_1_HMAC CKM_SHA256_HMAC CKM_SHA384_HMAC CKM_SHA512_HMAC
    CKM_GENERIC_SECRET_KEY_GEN CKM_EC_KEY_PAIR_GEN CKM_EC_EDWARDS_KEY_PAIR_GEN CKM_ECDSA CKM_ECDSA_SHA256 CKM_ECDSA_SHA384
    CKM_ECDSA_SHA512 CKM_EDDSA CKM_ECDH1_DERIVE CKM_AES_KEY_GEN CKM_AES_ECB CKM_AES_CBC CKM_AES_CBC_PAD CKM_AES_CTR
    CKM_AES_GCM CKM_AES_CCM CKM_AES_CMAC CKM_AES_MAC CKM_AES_KEY_WRAP CKM_AES_KEY_WRAP_PAD CKM_AES_KEY_WRAP_KWP
    CKM_AES_KEY_WRAP_PKCS7 CKM_AES_CBC_ENCRYPT_DATA CKM_AES_ECB_ENCRYPT_DATA CKM_DES3_KEY_GEN CKM_DES3_CBC CKM_DES3_CBC_PAD
);

table!(ATTRIBUTES:
    CKA_CLASS CKA_TOKEN CKA_PRIVATE CKA_LABEL CKA_UNIQUE_ID CKA_APPLICATION CKA_VALUE CKA_OBJECT_ID CKA_CERTIFICATE_TYPE
    CKA_ISSUER CKA_SERIAL_NUMBER CKA_TRUSTED CKA_CHECK_VALUE CKA_KEY_TYPE CKA_SUBJECT CKA_ID CKA_SENSITIVE CKA_ENCRYPT
    CKA_DECRYPT CKA_WRAP CKA_UNWRAP CKA_SIGN CKA_SIGN_RECOVER CKA_VERIFY CKA_VERIFY_RECOVER CKA_DERIVE CKA_START_DATE
    CKA_END_DATE CKA_MODULUS CKA_MODULUS_BITS CKA_PUBLIC_EXPONENT CKA_PRIVATE_EXPONENT CKA_PRIME_1 CKA_PRIME_2 CKA_EXPONENT_1
    CKA_EXPONENT_2 CKA_COEFFICIENT CKA_PUBLIC_KEY_INFO CKA_VALUE_LEN CKA_EXTRACTABLE CKA_LOCAL CKA_NEVER_EXTRACTABLE
    CKA_ALWAYS_SENSITIVE CKA_KEY_GEN_MECHANISM CKA_MODIFIABLE CKA_COPYABLE CKA_DESTROYABLE CKA_EC_PARAMS CKA_EC_POINT
    CKA_ALWAYS_AUTHENTICATE CKA_WRAP_WITH_TRUSTED CKA_WRAP_TEMPLATE CKA_UNWRAP_TEMPLATE CKA_DERIVE_TEMPLATE
    CKA_ALLOWED_MECHANISMS
);

const CLASSES: &[(&str, CK_ULONG)] = &[
    ("data", CKO_DATA),
    ("certificate", CKO_CERTIFICATE),
    ("public-key", CKO_PUBLIC_KEY),
    ("private-key", CKO_PRIVATE_KEY),
    ("secret-key", CKO_SECRET_KEY),
];

/// A name of the table, or a number in hexadecimal (`0x…`).
fn find(table: &[(&str, CK_ULONG)], text: &str) -> Option<CK_ULONG> {
    match text.strip_prefix("0x") {
        Some(digits) => CK_ULONG::from_str_radix(digits, 16).ok(),
        None => table.iter().find(|(name, _)| *name == text).map(|(_, number)| *number),
    }
}

macro_rules! named {
    ($(#[$meta:meta])* $name:ident, $find:expr, $what:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub(crate) struct $name(pub(crate) CK_ULONG);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                $find(&text).map(Self).ok_or_else(|| unknown(&text, $what))
            }
        }
    };
}

fn unknown(text: &dyn Display, what: &str) -> String {
    format!("{text} is no {what} of PKCS#11 that is known here; a number is written 0x…")
}

named!(
    /// A mechanism.
    Mechanism,
    |text: &str| find(MECHANISMS, text),
    "mechanism"
);
named!(
    /// An attribute's type.
    Attribute,
    |text: &str| find(ATTRIBUTES, text),
    "attribute"
);
named!(
    /// A class of objects.
    Class,
    |text: &str| find(CLASSES, text),
    "class of objects"
);
named!(
    /// A return value.
    Code,
    codes::code,
    "return value"
);

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Function(pub(crate) &'static str);

impl TryFrom<String> for Function {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = NAMES.iter().find(|name| **name == text);
        known.map(|name| Self(name)).ok_or_else(|| format!("{text} is no function of PKCS#11"))
    }
}

// A derived one would live no longer than the text.
impl<'de> Deserialize<'de> for Function {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::try_from(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A value of an attribute: a truth, a number, or text (`hex:…` for bytes; the name of a class).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    /// One byte.
    Truth(bool),
    /// A CK_ULONG.
    Number(u32),
    /// Bytes.
    Text(String),
}

impl Value {
    /// As an attribute holds it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Truth(truth) => vec![CK_BBOOL::from(*truth)],
            Self::Number(number) => CK_ULONG::from(*number).to_ne_bytes().to_vec(),
            Self::Text(text) => match (find(CLASSES, text), text.strip_prefix("hex:")) {
                (Some(class), _) => class.to_ne_bytes().to_vec(),
                (None, Some(digits)) => {
                    let pairs = digits.as_bytes().chunks(2);
                    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap_or_default(), 16).unwrap_or(0);
                    pairs.map(byte).collect()
                }
                (None, None) => text.as_bytes().to_vec(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        assert_eq!(Mechanism::try_from("CKM_AES_GCM".to_owned()), Ok(Mechanism(CKM_AES_GCM)));
        assert_eq!(Mechanism::try_from("0x80000170".to_owned()), Ok(Mechanism(0x8000_0170)));
        assert!(Mechanism::try_from("CKM_AES_GMC".to_owned()).unwrap_err().contains("CKM_AES_GMC"));
        assert_eq!(Attribute::try_from("CKA_ID".to_owned()), Ok(Attribute(CKA_ID)));
        assert_eq!(Class::try_from("secret-key".to_owned()), Ok(Class(CKO_SECRET_KEY)));
        assert_eq!(Code::try_from("CKR_PIN_EXPIRED".to_owned()), Ok(Code(CKR_PIN_EXPIRED)));
        assert_eq!(Function::try_from("C_Login".to_owned()), Ok(Function("C_Login")));
        assert!(Function::try_from("C_Logni".to_owned()).is_err());
    }

    #[test]
    fn values_have_an_attributes_bytes() {
        assert_eq!(Value::Truth(true).bytes(), [1]);
        assert_eq!(Value::Number(32).bytes(), 32_u64.to_ne_bytes());
        assert_eq!(Value::Text("secret-key".to_owned()).bytes(), CKO_SECRET_KEY.to_ne_bytes());
        assert_eq!(Value::Text("hex:00ff".to_owned()).bytes(), [0, 255]);
        assert_eq!(Value::Text("label".to_owned()).bytes(), *b"label");
    }
}
