//! How an HSM wraps keys, and what objects in it are described by.

use serde::{Deserialize, Serialize};

/// How keys are wrapped and unwrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrap {
    /// The number of AES key wrap without padding, as RFC 3394 has it.
    pub key_wrap: u64,
    /// CKA_VALUE_LEN is named where a key is unwrapped by it.
    pub value_len: bool,
    /// The hash of RSA-OAEP and of its mask.
    pub oaep_hash: OaepHash,
    /// Where the wrapping key is told what it may unwrap to.
    pub unwrap_template: UnwrapTemplate,
}

/// A hash of RSA-OAEP and of its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "their names")]
pub enum OaepHash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl OaepHash {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512, Self::Sha224];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }
}

/// Where a wrapping key is told what it may unwrap to, by CKA_UNWRAP_TEMPLATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnwrapTemplate {
    /// Where it is unwrapped itself.
    AtUnwrap,
    /// Only where it is made, by C_GenerateKey or C_CreateObject. Every token gets the cluster's wrapping key by C_UnwrapKey,
    /// the one that made it too, so that this is as good as nowhere.
    AtGenerate,
    /// Nowhere: whoever has kmsuser's PIN and a wrapped key can unwrap that as one that can be read.
    None,
}

impl UnwrapTemplate {
    /// The wrapping key of such a token is told.
    #[must_use]
    pub fn is_told(self) -> bool {
        self == Self::AtUnwrap
    }
}

impl Wrap {
    /// See [`super::Capabilities::standard`].
    #[must_use]
    pub fn standard() -> Self {
        let (key_wrap, oaep_hash, unwrap_template) = (CKM_AES_KEY_WRAP, OaepHash::Sha1, UnwrapTemplate::AtUnwrap);
        Self { key_wrap, value_len: false, oaep_hash, unwrap_template }
    }
}

/// What the standard has.
pub const CKM_AES_KEY_WRAP: u64 = 0x2109;

/// What objects are described by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// What is not named in templates.
    pub left_out: Vec<LeftOut>,
    /// The halves of a pair, and their certificate, may have one CKA_ID.
    pub shared_ids: bool,
    /// Longest CKA_ID, in bytes.
    pub id_max: u64,
    /// Longest CKA_LABEL, in bytes.
    pub label_max: u64,
}

/// Attributes that some functions do not take for some objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// The functions' names in the standard; `*` is any.
    pub functions: Vec<String>,
    /// Of which objects.
    pub objects: Vec<Objects>,
    /// What is left out.
    pub names: Vec<Optional>,
}

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "their names")]
pub enum Objects {
    SecretKey,
    PrivateKey,
    PublicKey,
    Certificate,
}

/// An attribute that can be left out: the HSM's default is then what it is. What makes a key the key that it is, or keeps
/// it from being read, is always named; and so is each use that it is for, of which only those that it is not for can be
/// left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the standard's names")]
pub enum Optional {
    #[serde(rename = "CKA_ALLOWED_MECHANISMS")]
    AllowedMechanisms,
    #[serde(rename = "CKA_COPYABLE")]
    Copyable,
    #[serde(rename = "CKA_MODIFIABLE")]
    Modifiable,
    #[serde(rename = "CKA_DESTROYABLE")]
    Destroyable,
    #[serde(rename = "CKA_PRIVATE")]
    Private,
    #[serde(rename = "CKA_ENCRYPT")]
    Encrypt,
    #[serde(rename = "CKA_DECRYPT")]
    Decrypt,
    #[serde(rename = "CKA_WRAP")]
    Wrap,
    #[serde(rename = "CKA_UNWRAP")]
    Unwrap,
    #[serde(rename = "CKA_SIGN")]
    Sign,
    #[serde(rename = "CKA_SIGN_RECOVER")]
    SignRecover,
    #[serde(rename = "CKA_VERIFY")]
    Verify,
    #[serde(rename = "CKA_VERIFY_RECOVER")]
    VerifyRecover,
    #[serde(rename = "CKA_DERIVE")]
    Derive,
}

impl Optional {
    /// Its name in the standard and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllowedMechanisms => "CKA_ALLOWED_MECHANISMS",
            Self::Copyable => "CKA_COPYABLE",
            Self::Modifiable => "CKA_MODIFIABLE",
            Self::Destroyable => "CKA_DESTROYABLE",
            Self::Private => "CKA_PRIVATE",
            Self::Encrypt => "CKA_ENCRYPT",
            Self::Decrypt => "CKA_DECRYPT",
            Self::Wrap => "CKA_WRAP",
            Self::Unwrap => "CKA_UNWRAP",
            Self::Sign => "CKA_SIGN",
            Self::SignRecover => "CKA_SIGN_RECOVER",
            Self::Verify => "CKA_VERIFY",
            Self::VerifyRecover => "CKA_VERIFY_RECOVER",
            Self::Derive => "CKA_DERIVE",
        }
    }
}

impl Attributes {
    /// See [`super::Capabilities::standard`].
    #[must_use]
    pub fn standard() -> Self {
        Self { left_out: Vec::new(), shared_ids: true, id_max: 255, label_max: 255 }
    }

    /// Whether a function's template for such an object is not to name this attribute.
    #[must_use]
    pub fn leave_out(&self, function: &str, object: Objects, attribute: Optional) -> bool {
        self.left_out.iter().any(|left| {
            left.names.contains(&attribute)
                && left.objects.contains(&object)
                && left.functions.iter().any(|name| name == function || name == "*")
        })
    }

    /// A label as long as the HSM takes it: of a longer one the end, which tells keys apart.
    #[must_use]
    pub fn label<'l>(&self, label: &'l str) -> &'l str {
        let longest = usize::try_from(self.label_max).unwrap_or(usize::MAX);
        let mut from = label.len().saturating_sub(longest);
        while !label.is_char_boundary(from) {
            from += 1;
        }
        label.get(from..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_label_the_end_is_kept() {
        let of = |label_max| Attributes { label_max, ..Attributes::standard() };
        assert_eq!(of(255).label("arn:key/1234"), "arn:key/1234");
        assert_eq!(of(6).label("arn:key/1234"), "y/1234");
        assert_eq!(of(3).label("aöb"), "öb");
        assert_eq!(of(2).label("aöb"), "b", "no half of a character");
    }

    #[test]
    fn what_is_left_out_is_so_for_its_functions_and_objects_alone() {
        let left = LeftOut {
            functions: vec!["C_UnwrapKey".to_owned()],
            objects: vec![Objects::SecretKey],
            names: vec![Optional::Copyable],
        };
        let attributes = Attributes { left_out: vec![left], ..Attributes::standard() };
        assert!(attributes.leave_out("C_UnwrapKey", Objects::SecretKey, Optional::Copyable));
        assert!(!attributes.leave_out("C_GenerateKey", Objects::SecretKey, Optional::Copyable));
        assert!(!attributes.leave_out("C_UnwrapKey", Objects::PublicKey, Optional::Copyable));
        assert!(!attributes.leave_out("C_UnwrapKey", Objects::SecretKey, Optional::Modifiable));
    }
}
