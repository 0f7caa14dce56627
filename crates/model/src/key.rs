//! What a key is and which states it can be in.

use serde::{Deserialize, Serialize};

/// The state of a key as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyState {
    /// Being made: its row exists, its proof in two zones does not yet.
    Creating,
    /// Proven in two zones, and used for everything.
    Enabled,
    /// Not usable until somebody enables it.
    Disabled,
    /// Waiting for its deletion.
    PendingDeletion,
    /// Derived, never stored: the key store is not connected, or the key was removed in every HSM.
    Unavailable,
}

impl KeyState {
    /// AWS's name; also the form in which the metadata keeps it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingDeletion => "PendingDeletion",
            Self::Unavailable => "Unavailable",
        }
    }

    /// The state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Creating, Self::Enabled, Self::Disabled, Self::PendingDeletion, Self::Unavailable]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// Where a key version is meant to be, and is, in one HSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Placement {
    /// Wanted there; not there yet, or not proven.
    Pending,
    /// There, and proven by opening the proof ciphertext.
    Present,
    /// Somebody took the object away in the HSM. Not served from there, and not refilled, until an operator says so.
    Removed,
}

impl Placement {
    /// The form in which the metadata keeps it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Present => "present",
            Self::Removed => "removed",
        }
    }

    /// The placement with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pending, Self::Present, Self::Removed].into_iter().find(|placement| placement.name() == name)
    }
}

/// Why a key was given a new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationCause {
    /// Somebody asked for it.
    Request,
    /// The period of its rotation was over.
    Period,
    /// The version before had done as many encryptions as one is meant to.
    Wear,
}

impl RotationCause {
    /// The form in which the metadata keeps it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Period => "period",
            Self::Wear => "wear",
        }
    }

    /// The cause with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Request, Self::Period, Self::Wear].into_iter().find(|cause| cause.name() == name)
    }
}

/// Length of a data key: AWS's two key specs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKeySpec {
    /// 32 bytes.
    Aes256,
    /// 16 bytes.
    Aes128,
}

impl DataKeySpec {
    /// AWS's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256 => "AES_256",
            Self::Aes128 => "AES_128",
        }
    }

    /// Length of the data key in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Aes256 => 32,
            Self::Aes128 => 16,
        }
    }
}
