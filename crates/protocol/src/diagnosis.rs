//! What a token is looked at for, beside its use: for its vendor's support desk.

use serde::{Deserialize, Serialize};

/// What a module and its token say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Of the module.
    pub library: Library,
    /// Of the slot.
    pub slot: SlotSeen,
    /// Of the token.
    pub token: TokenDescribed,
    /// The mechanisms that keystored uses, or could be told to use.
    pub mechanisms: Vec<MechanismSeen>,
    /// How many the token lists in all.
    pub mechanisms_listed: u32,
}

/// CK_INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    /// Version of the standard.
    pub cryptoki_version: String,
    /// Who made it.
    pub manufacturer: String,
    /// What the manufacturer calls it.
    pub description: String,
    /// Its version.
    pub version: String,
}

/// CK_SLOT_INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotSeen {
    /// What the manufacturer calls it.
    pub description: String,
    /// Who made it.
    pub manufacturer: String,
    /// Its flags that are set, by their names in the standard.
    pub flags: Vec<String>,
    /// Version of the hardware.
    pub hardware_version: String,
    /// Version of the firmware.
    pub firmware_version: String,
}

/// CK_TOKEN_INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDescribed {
    /// Its label.
    pub label: String,
    /// Who made it.
    pub manufacturer: String,
    /// The model, as the manufacturer names it.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Its flags that are set, by their names in the standard.
    pub flags: Vec<String>,
    /// Version of the hardware.
    pub hardware_version: String,
    /// Version of the firmware.
    pub firmware_version: String,
    /// Sessions that are open, where it tells.
    pub sessions: Option<u64>,
    /// Most sessions, in words.
    pub most_sessions: String,
    /// Shortest PIN in bytes.
    pub shortest_pin: u64,
    /// Longest PIN in bytes.
    pub longest_pin: u64,
}

/// CK_MECHANISM_INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MechanismSeen {
    /// Its number.
    pub number: u64,
    /// Its name in the standard, or what the vendor calls it.
    pub name: String,
    /// The token lists it.
    pub listed: bool,
    /// Smallest key, in whatever the token counts keys.
    pub least: u64,
    /// Largest key, likewise.
    pub most: u64,
    /// Its flags that are set, by their names in the standard.
    pub flags: Vec<String>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Measure {
    /// AES-GCM with a passing key, 32 bytes.
    Encrypt,
    /// The same back.
    Decrypt,
    /// Making an AES-256 key as a session object, and destroying it.
    Generate,
    /// Wrapping such a key.
    Wrap,
    /// Unwrapping one as a session object, and destroying it.
    Unwrap,
    /// 32 random bytes.
    Random,
    /// Looking for a token object that is not there.
    Find,
    /// Class and id of an object.
    GetAttribute,
}

impl Measure {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Encrypt,
        Self::Decrypt,
        Self::Generate,
        Self::Wrap,
        Self::Unwrap,
        Self::Random,
        Self::Find,
        Self::GetAttribute,
    ];

    /// In a word, for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Generate => "generate",
            Self::Wrap => "wrap",
            Self::Unwrap => "unwrap",
            Self::Random => "random",
            Self::Find => "find",
            Self::GetAttribute => "get attribute",
        }
    }
}

/// What came of measuring something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speed {
    /// How often it was done, over all sessions.
    pub times: u64,
    /// How long all of that took, in nanoseconds.
    pub nanos: u64,
}
