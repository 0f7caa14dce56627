//! States of a key store. AWS's names and meaning.

use serde::{Deserialize, Serialize};

/// What the last connect or disconnect came to. History, not health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConnectionState {
    /// Never connected, or disconnected by an operator.
    Disconnected,
    /// A connect is under way.
    Connecting,
    /// The last connect succeeded and nobody disconnected since.
    Connected,
    /// A disconnect is under way.
    Disconnecting,
    /// The last connect failed.
    Failed,
}

impl ConnectionState {
    /// AWS's name; also the form in which the metadata keeps it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "DISCONNECTED",
            Self::Connecting => "CONNECTING",
            Self::Connected => "CONNECTED",
            Self::Disconnecting => "DISCONNECTING",
            Self::Failed => "FAILED",
        }
    }

    /// The state with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Disconnected, Self::Connecting, Self::Connected, Self::Disconnecting, Self::Failed]
            .into_iter()
            .find(|state| state.name() == name)
    }
}
