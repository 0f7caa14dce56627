//! Vendors' habits that decide how an HSM is run.
//!
//! A profile is a name for a set of [`capabilities`]. Nobody asks for the name: what a worker does follows from the
//! capabilities, which the configuration decides once. The values of each profile are in the configuration's data file.

mod capabilities;
pub mod examination;
pub mod judgement;
mod login;
mod needs;
mod notes;
mod objects;
mod promises;
mod stored;
mod topology;
mod unsuitable;

use serde::{Deserialize, Serialize};

pub use self::capabilities::{Basis, CKM_AES_GCM, Calls, Capabilities, Codes, Gcm, IvBy, Meaning, Means, Run};
pub use self::login::{ChangedBy, FirstLogin, Flags, Login, PinAlphabet, PinForm};
pub use self::needs::{Abilities, Need, Offer, Use};
pub use self::notes::notes;
pub use self::objects::{Attributes, CKM_AES_KEY_WRAP, LeftOut, OaepHash, Objects, Optional, UnwrapTemplate, Wrap};
pub use self::promises::{Broken, Promise, promises};
pub use self::stored::{CertificateIn, Reach, Stored};
pub use self::topology::{Keys, KeysMade, Topology, TopologyKind};
pub use self::unsuitable::Unsuitable;

/// Which vendor's habits to expect, before what the configuration says otherwise of one HSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// SoftHSM 2.6.
    #[serde(rename = "softhsm")]
    SoftHsm,
    /// kryoptic 1.5.
    Kryoptic,
    /// AWS CloudHSM, client SDK 5.
    #[serde(rename = "cloudhsm")]
    CloudHsm,
    /// Thales Luna, a partition, not in FIPS mode.
    Luna,
    /// The same in FIPS mode, firmware 7.9.3 or newer.
    LunaFips,
    /// A group of Luna partitions behind one virtual slot.
    LunaHa,
    /// Entrust nShield.
    #[serde(rename = "nshield")]
    NShield,
    /// Utimaco SecurityServer.
    Utimaco,
    /// Anything else: no assumption beyond the standard.
    Generic,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::SoftHsm,
        Self::Kryoptic,
        Self::CloudHsm,
        Self::Luna,
        Self::LunaFips,
        Self::LunaHa,
        Self::NShield,
        Self::Utimaco,
        Self::Generic,
    ];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftHsm => "softhsm",
            Self::Kryoptic => "kryoptic",
            Self::CloudHsm => "cloudhsm",
            Self::Luna => "luna",
            Self::LunaFips => "luna-fips",
            Self::LunaHa => "luna-ha",
            Self::NShield => "nshield",
            Self::Utimaco => "utimaco",
            Self::Generic => "generic",
        }
    }
}

/// Whose kmsuser's PIN is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinScope {
    /// Each HSM has its own.
    #[default]
    Hsm,
    /// All HSMs of the cluster have the same: changed in one, it is changed in all.
    Cluster,
}

/// When kmsuser's PIN is rotated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotation {
    /// At each connect, as AWS KMS does.
    #[default]
    Connect,
    /// Never: this vendor's user cannot change its PIN.
    None,
}

/// Which ciphertexts are opened again, in another zone where there is one, before they are given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyWraps {
    /// Data keys that were made here, and what was encrypted anew: nobody else has looked at what they hold.
    #[default]
    DataKeys,
    /// Those, and whatever callers have encrypted.
    All,
    /// Nothing is opened again before it is given out.
    None,
}
