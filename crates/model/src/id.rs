//! Names of things: keys, HSMs, zones, clusters, key stores, and the ARNs that callers see.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{limits, text};

/// A key's id, a random UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(Uuid);

impl KeyId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The sixteen bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads the hyphenated form, 36 characters in either case. No other spelling of a UUID is a key id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 36).then(|| Uuid::try_parse(text).ok().map(Self)).flatten()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// A version of a key: what one AES-256 object in each HSM holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyVersionId {
    /// The key.
    pub key: KeyId,
    /// Its version, from 1.
    pub version: u32,
}

impl KeyVersionId {
    /// Key id, then version, big-endian: the CKA_ID of its objects, and bytes 1 to 20 of its ciphertexts.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(self.key.as_bytes());
        bytes[16..].copy_from_slice(&self.version.to_be_bytes());
        bytes
    }

    /// A number that spreads keys evenly, and has nothing to do with their order: the last four bytes of the key's id,
    /// all of which are random.
    #[must_use]
    pub fn spread(self) -> u32 {
        let bytes = self.key.as_bytes();
        u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]])
    }

    /// Reads what [`KeyVersionId::to_bytes`] wrote. Version 0 does not exist.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (key, version) = bytes.split_first_chunk::<16>()?;
        let version = u32::from_be_bytes(version.try_into().ok()?);
        (version > 0).then_some(Self { key: KeyId::from_bytes(*key), version })
    }
}

impl fmt::Display for KeyVersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.key, self.version)
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

names! {
    /// An HSM, by the name that the configuration gives it.
    HsmId,
    /// A zone: HSMs of one zone may fail together.
    Zone,
    /// A cluster of HSMs: `cluster-` and 11 to 16 characters of `[2-7a-zA-Z]`, AWS's pattern.
    ClusterId,
    /// A key store: `cks-` and 17 hexadecimal digits.
    KeyStoreId,
    /// Another name of a key: `alias/` and letters, digits, `/`, `_` and `-`.
    AliasName,
    /// A principal for as long as it is mapped: `AIDA` and 17 characters of `[A-Z2-7]`, drawn at random. One that is made
    /// anew under an old name has another.
    PrincipalId,
    /// An access key: `AKKS` and 16 characters of `[A-Z2-7]`, drawn at random.
    AccessKeyId,
    /// A grant: 64 hexadecimal digits, drawn at random.
    GrantId,
    /// A request that others have to approve: `apr-` and 17 hexadecimal digits, drawn at random.
    ApprovalId,
    /// A group of principals.
    GroupName,
    /// An identity policy.
    PolicyName,
}

impl ClusterId {
    /// Checks AWS's pattern.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let tail = text.strip_prefix("cluster-")?;
        let legal = |c: u8| c.is_ascii_alphabetic() || (b'2'..=b'7').contains(&c);
        ((11..=16).contains(&tail.len()) && tail.bytes().all(legal)).then(|| text.into())
    }
}

impl HsmId {
    /// Names end up in file names, metric labels, certificates and log lines: 1 to 64 letters, digits, `-`, `_` and
    /// `.`, the first no `.`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| text.into())
    }
}

/// What the name of an HSM or of a zone may look like.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(legal) && !text.starts_with('.')
}

/// What names an alias.
pub const ALIAS_PREFIX: &str = "alias/";

impl AliasName {
    /// Checks AWS's rule: with its prefix 1 to 256 characters, letters, digits, `/`, `_` and `-` behind the prefix.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_prefix(ALIAS_PREFIX)?;
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'_' | b'-');
        (!name.is_empty() && text.len() <= limits::ALIAS_CHARS && name.bytes().all(legal)).then(|| text.into())
    }

    /// Whether AWS keeps names like this one for itself, which nobody may give.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with("alias/aws/")
    }
}

impl KeyStoreId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        let digits = Uuid::new_v4().as_simple().to_string();
        Self(format!("cks-{}", &digits[..17]).into())
    }
}

impl PrincipalId {
    /// Begins every one.
    pub const PREFIX: &str = "AIDA";

    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(drawn(Self::PREFIX, 17).into())
    }

    /// An account as a whole, where a grant is for one: its number, which is no principal's id.
    #[must_use]
    pub fn of_account(number: &str) -> Option<Self> {
        is_account(number).then(|| number.into())
    }

    /// The account that it stands for as a whole.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        is_account(&self.0).then_some(&*self.0)
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|c| c.is_ascii_digit())
}

impl AccessKeyId {
    /// Begins every one. Not AWS's `AKIA`: who looks for secrets that were published (scanners of repositories, AWS itself)
    /// would take it for a key of an AWS account, and tell AWS and its customers of it.
    pub const PREFIX: &str = "AKKS";
    /// Begins the name of the identity that an access key is.
    const IDENTITY: &str = "access-key:";
    /// Characters behind the prefix.
    const TAIL: usize = 16;

    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(drawn(Self::PREFIX, Self::TAIL).into())
    }

    /// What looks like one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let tail = text.strip_prefix(Self::PREFIX)?;
        (tail.len() == Self::TAIL && tail.bytes().all(|c| DIGITS.contains(&c))).then(|| text.into())
    }

    /// The identity of calls that are signed with it, which a principal is known by: no certificate has a name like this
    /// one.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{}{self}", Self::IDENTITY)
    }

    /// The access key of such an identity.
    #[must_use]
    pub fn of_identity(name: &str) -> Option<Self> {
        Self::parse(name.strip_prefix(Self::IDENTITY)?)
    }
}

/// Base 32.
const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A prefix and so many random characters, at most 25.
fn drawn(prefix: &str, count: usize) -> String {
    // Six of its bits are no random ones: those are at 62 and 63, and at 76 to 79. What is left suffices for what nobody
    // is to guess, and no secret is made of it.
    let mut bits = Uuid::new_v4().as_u128();
    let tail = (0..count).map(|_| {
        let digit = DIGITS[(bits & 31) as usize];
        bits >>= 5;
        char::from(digit)
    });
    prefix.chars().chain(tail).collect()
}

impl GrantId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        let half = || Uuid::new_v4().as_simple().to_string();
        Self((half() + &half()).into())
    }
}

impl ApprovalId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        let digits = Uuid::new_v4().as_simple().to_string();
        Self(format!("apr-{}", &digits[..17]).into())
    }
}

/// What ARNs of this installation have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `aws`, unless configured otherwise.
    pub partition: Arc<str>,
    /// The region that ARNs carry.
    pub region: Arc<str>,
    /// Twelve digits.
    pub account: Arc<str>,
}

/// So much of what is no key's name comes back in the error: enough to know it by, and no answer that is longer than its
/// request.
const SHOWN_CHARS: usize = 256;

/// Why text names no key. Texts are AWS's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyReferenceError {
    /// Neither a key id nor an ARN nor an alias.
    #[error("Invalid keyId '{0}'")]
    NotAKeyId(String),
    /// Begins like an ARN, but is none of a key.
    #[error("'{0}' is not a valid key ARN; it must look like arn:PARTITION:kms:REGION:ACCOUNT:key/KEY-ID")]
    MalformedArn(String),
    /// An ARN of another region or partition, by its region.
    #[error("Invalid arn {0}")]
    Elsewhere(String),
    /// An ARN of another account. This is how AWS's sentence ends, which begins with who may not do what.
    #[error(
        "on this resource because the resource does not exist in this Region, no resource-based policies allow access, \
         or a resource-based policy explicitly denies access"
    )]
    OtherAccount,
    /// An alias, with its ARN.
    #[error("Alias {0} is not found.")]
    UnknownAlias(String),
    /// An alias, where an operation takes a key's id or ARN alone: whether there is one makes no difference.
    #[error("Key Aliases are not supported for this operation.")]
    AliasNotTaken,
    /// The id of a multi-Region key, with its ARN: there are none of those here.
    #[error("Key '{0}' does not exist")]
    MultiRegion(String),
}

/// What names a key in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReference {
    /// Its id, alone or in an ARN.
    Id(KeyId),
    /// One of its aliases, alone or in an ARN.
    Alias(AliasName),
}

impl Scope {
    /// The ARN of a key.
    #[must_use]
    pub fn key_arn(&self, key: KeyId) -> String {
        self.arn_of_key(key)
    }

    fn arn_of_key(&self, id: impl fmt::Display) -> String {
        format!("arn:{}:kms:{}:{}:key/{id}", self.partition, self.region, self.account)
    }

    /// The ARN of an account as a whole.
    #[must_use]
    pub fn root_arn(&self, account: &str) -> String {
        format!("arn:{}:iam::{account}:root", self.partition)
    }

    /// The account that an ARN names as a whole, whether there is one or not.
    #[must_use]
    pub fn account_of_root<'t>(&self, arn: &'t str) -> Option<&'t str> {
        let behind = arn.strip_prefix("arn:")?.strip_prefix(&*self.partition)?.strip_prefix(":iam::")?;
        behind.strip_suffix(":root").filter(|account| is_account(account))
    }

    /// The ARN of a key store with this id, whether there is one or not.
    #[must_use]
    pub fn key_store_arn(&self, id: &str) -> String {
        format!("arn:{}:kms:{}:{}:key-store/{id}", self.partition, self.region, self.account)
    }

    /// The ARN of a cluster with this id, whether there is one or not.
    #[must_use]
    pub fn cluster_arn(&self, id: &str) -> String {
        format!("arn:{}:kms:{}:{}:cluster/{id}", self.partition, self.region, self.account)
    }

    /// The ARN of an audit log of this name, whether there is one or not. Colons of the name are percent-encoded (and so `%`
    /// is), so that a pattern for something else, such as `arn:aws:kms:*:*:alias/*`, is one for no audit log.
    #[must_use]
    pub fn audit_log_arn(&self, name: &str) -> String {
        let name = name.replace('%', "%25").replace(':', "%3A");
        format!("arn:{}:kms:{}:{}:audit-log/{name}", self.partition, self.region, self.account)
    }

    /// The ARN of a group of principals, whether there is one of this name or not.
    #[must_use]
    pub fn group_arn(&self, name: &str) -> String {
        format!("arn:{}:iam::{}:group/{name}", self.partition, self.account)
    }

    /// The ARN of an identity policy, whether there is one of this name or not.
    #[must_use]
    pub fn policy_arn(&self, name: &str) -> String {
        format!("arn:{}:iam::{}:policy/{name}", self.partition, self.account)
    }

    /// The ARN of an alias, whether there is one of this name or not.
    #[must_use]
    pub fn alias_arn(&self, name: &str) -> String {
        format!("arn:{}:kms:{}:{}:{name}", self.partition, self.region, self.account)
    }

    /// What a request's `key_id` names: a key id, a key ARN, an alias or the ARN of an alias.
    pub fn parse_key_reference(&self, text: &str) -> Result<KeyReference, KeyReferenceError> {
        // Callers' text comes back in the error, so it is cut to what the interface allows anyway.
        let as_shown = |text: &str| text::shown(&text.chars().take(SHOWN_CHARS).collect::<String>()).into_owned();
        let shown = || as_shown(text);
        // What can be no alias is one that nobody has.
        let alias = |name: &str| {
            let unknown = || KeyReferenceError::UnknownAlias(self.alias_arn(&as_shown(name)));
            AliasName::parse(name).map(KeyReference::Alias).ok_or_else(unknown)
        };
        let key = |id: &str| match KeyId::parse(id) {
            Some(id) => Ok(KeyReference::Id(id)),
            None if is_multi_region(id) => Err(KeyReferenceError::MultiRegion(self.arn_of_key(id))),
            None => Err(KeyReferenceError::NotAKeyId(as_shown(id))),
        };
        if text.starts_with(ALIAS_PREFIX) {
            return alias(text);
        }
        if !text.starts_with("arn:") {
            return key(text);
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [_, partition, "kms", region, account, resource] = parts[..] else {
            return Err(KeyReferenceError::MalformedArn(shown()));
        };
        if (partition, region) != (&*self.partition, &*self.region) {
            return Err(KeyReferenceError::Elsewhere(as_shown(region)));
        }
        if account != &*self.account {
            return Err(KeyReferenceError::OtherAccount);
        }
        if resource.starts_with(ALIAS_PREFIX) {
            return alias(resource);
        }
        key(resource.strip_prefix("key/").ok_or_else(|| KeyReferenceError::MalformedArn(shown()))?)
    }
}

/// What AWS calls a multi-Region key.
fn is_multi_region(id: &str) -> bool {
    id.strip_prefix("mrk-").is_some_and(|tail| tail.len() == 32 && tail.bytes().all(|c| c.is_ascii_hexdigit()))
}
