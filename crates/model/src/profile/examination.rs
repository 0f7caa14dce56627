//! What was found when a token was examined against its capabilities, as the worker tells it. What follows from it is
//! [`super::judgement`]'s.

use serde::{Deserialize, Serialize};

use super::{Gcm, OaepHash, Optional};

/// What came of something that was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tried {
    /// It was not, for want of what it needs.
    #[default]
    Not,
    /// The token does it.
    Works,
    /// It does not; in its words.
    Fails(String),
    /// It said nothing but what it may say when it is busy; in its words.
    NotJudged(String),
}

/// Something that can be set, tried as it is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting<T> {
    /// As the capabilities have it.
    pub as_said: Tried,
    /// What works in its place, where that was looked for and found.
    pub instead: Option<T>,
    /// Something else might work in its place: what the token said of that, which may mean that it is busy.
    pub unjudged: Option<String>,
}

impl<T> Default for Setting<T> {
    fn default() -> Self {
        Self { as_said: Tried::Not, instead: None, unjudged: None }
    }
}

impl<T> Setting<T> {
    /// It works as it is set.
    #[must_use]
    pub const fn works() -> Self {
        Self { as_said: Tried::Works, instead: None, unjudged: None }
    }

    /// Nothing can be said of it.
    #[must_use]
    pub const fn not_judged(said: String) -> Self {
        Self { as_said: Tried::NotJudged(said), instead: None, unjudged: None }
    }
}

/// Whether a token keeps to what it is told of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kept {
    /// Not tried, for want of what that needs.
    #[default]
    Untried,
    /// It does.
    Enforced,
    /// It takes it, and does not; what it has let somebody do.
    Ignored(String),
    /// It cannot be told; in its words.
    Untold(String),
    /// It said nothing but what it may say when it is busy; in its words.
    NotJudged(String),
}

/// What a token says of a ciphertext with a wrong tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrongTag {
    /// Not tried, for want of a ciphertext.
    #[default]
    Untried,
    /// It opens it.
    Opened,
    /// It refuses it.
    Refused {
        /// By which function.
        function: String,
        /// By which return value.
        code: u64,
        /// Both, with the value's name.
        said: String,
        /// That is taken for what it is: a bad ciphertext, or one that may be.
        understood: bool,
    },
    /// It said nothing but what it may say when it is busy; in its words.
    NotJudged(String),
}

/// So many of something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// That were wanted.
    pub wanted: u64,
    /// That there were, or that can be had.
    pub found: u64,
    /// What the token said of more.
    pub said: Option<String>,
    /// What it said of more that does not count: it may be busy, or others may have what is missing.
    pub unjudged: Option<String>,
}

impl Count {
    /// The same where others have some as well, which may be what is missing.
    #[must_use]
    pub fn beside_others(self) -> Self {
        match self {
            Self { wanted, found, said: Some(said), .. } if found < wanted => {
                let unjudged = format!("{said}, while other workers of the HSM have some");
                Self { wanted, found, said: None, unjudged: Some(unjudged) }
            }
            same => same,
        }
    }
}

/// How AES key wrap is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyWrapBy {
    /// The mechanism's number.
    pub number: u64,
    /// CKA_VALUE_LEN is named where a key is unwrapped.
    pub value_len: bool,
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// Sessions of one process, with those that it looks with.
    pub sessions: Count,
    /// Bytes of one C_GenerateRandom.
    pub random: Count,
    /// AES-GCM: who makes the IV, and all that is said of it.
    pub gcm: Setting<Gcm>,
    /// The longest plaintext with the longest additional data that keystored encrypts.
    pub gcm_longest: Tried,
    /// A ciphertext whose tag is wrong.
    pub wrong_tag: WrongTag,
    /// AES key wrap, there and back.
    pub key_wrap: Setting<KeyWrapBy>,
    /// RSA-OAEP with the token's transport key, there and back.
    pub oaep_hash: Setting<OaepHash>,
    /// The template by which keys of callers are unwrapped; what it would have to leave out.
    pub placed: Setting<Vec<Optional>>,
    /// A label as long as keystored's, read back; how long one may be.
    pub label: Setting<u64>,
    /// An id as long as keystored's, read back; how long one may be.
    pub id: Setting<u64>,
    /// CKA_UNWRAP_TEMPLATE.
    pub unwrap_template: Kept,
    /// CKA_ALLOWED_MECHANISMS.
    pub allowed_mechanisms: Kept,
    /// CKA_SENSITIVE.
    pub sensitive: Kept,
    /// CKA_EXTRACTABLE = false.
    pub extractable: Kept,
    /// C_CopyObject.
    pub copy_object: Tried,
    /// A read-only session, and encrypting in it.
    pub read_only_sessions: Tried,
}

impl Examined {
    /// There were no sessions to look at anything with, and that says nothing against the token.
    #[must_use]
    pub fn is_of_nothing(&self) -> bool {
        self.random == Count::default() && self.sessions.unjudged.is_some()
    }
}
