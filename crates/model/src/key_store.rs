//! States of a key store: AWS's names and meaning, and the table of what leads from one to another.

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

/// What happens to a key store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// An operator wants it connected.
    Connect,
    /// The connect succeeded.
    ConnectSucceeded,
    /// The connect failed.
    ConnectFailed,
    /// An operator wants it disconnected.
    Disconnect,
    /// The disconnect is done.
    DisconnectDone,
    /// An operator renames it.
    Rename,
    /// An operator changes something else about it: the PIN on record, the cluster.
    Change,
    /// An operator deletes it.
    Delete,
    /// A key is made in it, or random bytes are drawn from it.
    Use,
}

/// What follows from an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is, or goes on being, in this state.
    State(ConnectionState),
    /// It is gone.
    Gone,
    /// The event has no place in this state: CustomKeyStoreInvalidStateException.
    Refused,
}

impl ConnectionState {
    /// Every state.
    pub const ALL: &[Self] =
        &[Self::Disconnected, Self::Connecting, Self::Connected, Self::Disconnecting, Self::Failed];

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
        Self::ALL.iter().copied().find(|state| state.name() == name)
    }

    /// The table: what an event leads to.
    #[must_use]
    pub const fn next(self, event: Event) -> Next {
        use ConnectionState::{Connected, Connecting, Disconnected, Disconnecting, Failed};
        use Next::{Gone, Refused, State};
        match (self, event) {
            (Disconnected, Event::Connect) => State(Connecting),
            // Said once more; nothing begins anew.
            (Connecting, Event::Connect) => State(Connecting),
            (Connected, Event::Connect) => State(Connected),
            // FAILED has one way out, so that nobody burns PINs by connecting again and again.
            (Disconnecting | Failed, Event::Connect) => Refused,

            (Connecting, Event::ConnectSucceeded) => State(Connected),
            (Connecting, Event::ConnectFailed) => State(Failed),
            // Somebody disconnected meanwhile: what became of the connect is of no interest any more.
            (_, Event::ConnectSucceeded | Event::ConnectFailed) => Refused,

            (Connecting | Connected | Failed, Event::Disconnect) => State(Disconnecting),
            (Disconnected | Disconnecting, Event::Disconnect) => Refused,
            (Disconnecting, Event::DisconnectDone) => State(Disconnected),
            (_, Event::DisconnectDone) => Refused,

            (Disconnected | Connected, Event::Rename) => State(self),
            (Connecting | Disconnecting | Failed, Event::Rename) => Refused,
            (Disconnected, Event::Change) => State(self),
            (_, Event::Change) => Refused,
            (Disconnected, Event::Delete) => Gone,
            (_, Event::Delete) => Refused,
            (Connected, Event::Use) => State(self),
            (_, Event::Use) => Refused,
        }
    }
}

/// Why the last connect failed: AWS's names and meaning, as far as they have one outside AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConnectionErrorCode {
    /// The token has locked kmsuser, or is one try away from it.
    UserLockedOut,
    /// The token knows no user.
    UserNotFound,
    /// The PIN on record is not the one in the token.
    InvalidCredentials,
    /// The configuration describes no such cluster.
    ClusterNotFound,
    /// A module or an HSM does not answer.
    NetworkErrors,
    /// No HSM of the cluster is active: its token is not there, or is not the one that the ceremony certified.
    InsufficientCloudHsmHsms,
    /// The fault is in the daemon or its settings: a seal key that does not open a PIN, or a PIN that nobody may change.
    InternalError,
}

impl ConnectionErrorCode {
    /// Every code.
    pub const ALL: &[Self] = &[
        Self::UserLockedOut,
        Self::UserNotFound,
        Self::InvalidCredentials,
        Self::ClusterNotFound,
        Self::NetworkErrors,
        Self::InsufficientCloudHsmHsms,
        Self::InternalError,
    ];

    /// AWS's name; also the form in which the metadata keeps it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserLockedOut => "USER_LOCKED_OUT",
            Self::UserNotFound => "USER_NOT_FOUND",
            Self::InvalidCredentials => "INVALID_CREDENTIALS",
            Self::ClusterNotFound => "CLUSTER_NOT_FOUND",
            Self::NetworkErrors => "NETWORK_ERRORS",
            Self::InsufficientCloudHsmHsms => "INSUFFICIENT_CLOUDHSM_HSMS",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// The code with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 9] = [
        Event::Connect,
        Event::ConnectSucceeded,
        Event::ConnectFailed,
        Event::Disconnect,
        Event::DisconnectDone,
        Event::Rename,
        Event::Change,
        Event::Delete,
        Event::Use,
    ];

    /// Each state's row, an entry for each event above, as AWS's documents have it: `-` refused, `x` gone.
    #[test]
    fn the_whole_table() {
        let expected = [
            // connect, succeeded, failed, disconnect, done, rename, change, delete, use
            ("DISCONNECTED", ["CONNECTING", "-", "-", "-", "-", "DISCONNECTED", "DISCONNECTED", "x", "-"]),
            ("CONNECTING", ["CONNECTING", "CONNECTED", "FAILED", "DISCONNECTING", "-", "-", "-", "-", "-"]),
            ("CONNECTED", ["CONNECTED", "-", "-", "DISCONNECTING", "-", "CONNECTED", "-", "-", "CONNECTED"]),
            ("DISCONNECTING", ["-", "-", "-", "-", "DISCONNECTED", "-", "-", "-", "-"]),
            ("FAILED", ["-", "-", "-", "DISCONNECTING", "-", "-", "-", "-", "-"]),
        ];
        assert_eq!(expected.len(), ConnectionState::ALL.len());
        for (name, row) in expected {
            let state = ConnectionState::from_name(name).unwrap();
            for (event, expected) in EVENTS.into_iter().zip(row) {
                let seen = match state.next(event) {
                    Next::State(next) => next.name(),
                    Next::Gone => "x",
                    Next::Refused => "-",
                };
                assert_eq!(seen, expected, "{name} and {event:?}");
            }
        }
    }

    #[test]
    fn every_state_leads_back_to_disconnected() {
        for state in ConnectionState::ALL {
            let mut at = *state;
            for event in [Event::Disconnect, Event::DisconnectDone] {
                if let Next::State(next) = at.next(event) {
                    at = next;
                }
            }
            assert_eq!(at, ConnectionState::Disconnected, "{state:?}");
        }
    }

    #[test]
    fn names_come_back() {
        for state in ConnectionState::ALL {
            assert_eq!(ConnectionState::from_name(state.name()), Some(*state));
        }
        for code in ConnectionErrorCode::ALL {
            assert_eq!(ConnectionErrorCode::from_name(code.name()), Some(*code));
        }
    }
}
