//! What stands behind a slot, and where keys are made.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What stands behind the HSM's slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Whether it has copies of its objects elsewhere.
    pub kind: TopologyKind,
    /// How long a new object may take to be wherever the HSM keeps its objects, in milliseconds.
    pub settles_ms: u64,
}

/// Whether an HSM has copies of its objects elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TopologyKind {
    /// It is one token, and what is to be in another one is placed there.
    Independent,
    /// Its module has token objects in several HSMs, and moves from one to another by itself.
    SelfReplicating,
}

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// How they come to be in the HSM.
    pub made: KeysMade,
}

/// How keys come to be in an HSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeysMade {
    /// Made in it as token objects, which never were outside and never can be.
    InPlace,
    /// Made in some HSM of the cluster, wrapped, and unwrapped in each.
    Wrapped,
}

impl Topology {
    /// See [`super::Capabilities::standard`].
    #[must_use]
    pub fn standard() -> Self {
        Self { kind: TopologyKind::Independent, settles_ms: 0 }
    }

    /// How long what is not there yet is waited for.
    #[must_use]
    pub fn settles(&self) -> Duration {
        Duration::from_millis(self.settles_ms)
    }

    /// The module has its objects in several HSMs by itself.
    #[must_use]
    pub fn replicates(&self) -> bool {
        self.kind == TopologyKind::SelfReplicating
    }
}

impl Keys {
    /// See [`super::Capabilities::standard`].
    #[must_use]
    pub fn standard() -> Self {
        Self { made: KeysMade::Wrapped }
    }

    /// They are made in the HSM and never leave it.
    #[must_use]
    pub fn in_place(&self) -> bool {
        self.made == KeysMade::InPlace
    }
}
