//! How a worker begins: what it is told, and what it found before and after its login.

use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use model::id::{HsmId, KeyVersionId};
use model::profile::{Abilities, Capabilities};
use model::sandbox::Sandbox;

/// The environment variable by which a worker is told the soft limit on open files that its module is to have. Its
/// parent has raised its own, which it inherits: a module may use select(2), which knows no descriptor above 1,023.
pub const OPEN_FILES: &str = "KEYSTORED_OPEN_FILES";

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Encrypt, decrypt, random: the fast operations.
    Data,
    /// What is slow or writes to the token: make, place, destroy, list.
    Control,
    /// The key ceremony. The only role that may initialise a token or its user PIN.
    Ceremony,
}

/// How to find the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// CKA label of the token, blanks at the end ignored.
    pub label: String,
    /// Serial numbers that it may have; empty: any. Several tokens may carry one label.
    pub serials: Vec<String>,
}

/// Everything a worker needs to start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// Whose worker this is; for its log lines and errors.
    pub hsm: HsmId,
    /// What it is for.
    pub role: Role,
    /// Which of the workers of this role, from 0; for its log lines.
    pub index: u16,
    /// Counts the workers started for this HSM. Whatever was learned under another incarnation is void.
    pub incarnation: u64,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// The token inside it. Absent for a ceremony worker that is to look for tokens, or to make one.
    pub token: Option<Token>,
    /// What this HSM can do and how.
    pub capabilities: Capabilities,
    /// Threads, each with one session of its own.
    pub sessions: u16,
    /// Keep copies of keys in use as session objects.
    pub hot_copies: bool,
    /// Refuse to start when memory cannot be locked.
    pub require_mlock: bool,
    /// What the process is confined to (Landlock, seccomp) before the module is loaded; absent where it is not.
    pub sandbox: Option<Sandbox>,
    /// Start-up is given up after this many milliseconds of transient errors.
    pub start_timeout_ms: u64,
    /// A login that nobody waits for any more is given up after this many milliseconds.
    pub login_limit_ms: u64,
}

#[cfg(any(test, feature = "test-support"))]
impl Start {
    /// What a data worker with one session is told, for tests without a module.
    #[must_use]
    pub fn of_a_test() -> Self {
        Self {
            hsm: "a".into(),
            role: Role::Data,
            index: 0,
            incarnation: 1,
            module: "/m.so".into(),
            token: Some(Token { label: "t".into(), serials: Vec::new() }),
            capabilities: Capabilities::standard(),
            sessions: 1,
            hot_copies: true,
            require_mlock: false,
            sandbox: None,
            start_timeout_ms: 1_000,
            login_limit_ms: 60_000,
        }
    }
}

/// What a started worker found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The token's serial number.
    pub serial: String,
    /// The token's label.
    pub label: String,
    /// Manufacturer and version of the module, for humans.
    pub module: String,
    /// What the token says of kmsuser and its PIN.
    pub user: UserFlags,
    /// DER: the certificate of the token's identity key, where the token holds one. Can be read without a login. A worker
    /// says nothing of one in a file: whoever starts it fills that in.
    pub identity: Option<Bytes>,
    /// What the token can do of what is needed, by its list of mechanisms.
    pub abilities: Abilities,
    /// What could not be applied of the confinement, and what it is known to keep from the module, one sentence each.
    pub degraded: Vec<String>,
}

/// A token's flags about its user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserFlags {
    /// There is a user: its PIN was set by the security officer.
    pub initialised: bool,
    /// A wrong PIN was entered since the last login.
    pub count_low: bool,
    /// One more wrong PIN locks the user.
    pub final_try: bool,
    /// The user is locked.
    pub locked: bool,
    /// Longest PIN that the token takes, in bytes.
    pub longest_pin: u32,
}

/// What a worker found once it was logged in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// Key objects found, by version.
    pub keys: Vec<KeyVersionId>,
    /// Which objects of the ceremony the token holds.
    pub ceremony: CeremonyObjects,
}

/// Which objects of the ceremony a token holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CeremonyObjects {
    /// Identity key pair.
    pub identity: bool,
    /// RSA transport key pair.
    pub transport: bool,
    /// Canary key.
    pub canary: bool,
    /// Cluster wrapping key.
    pub wrapping: bool,
}
