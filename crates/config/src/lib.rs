//! Settings as written, parsed once into their checked form.
//!
//! `raw` is the file's shape, `check` turns it into [`Config`]; whoever holds a [`Config`] need not check anything
//! again. Durations are integers with their unit in the name (`_ms`, `_s`) in the file alone. PINs are neither
//! in the file nor in one that it names.

#![forbid(unsafe_code)]

mod audit;
mod aws;
mod certificates;
mod check;
mod functions;
mod hsm;
mod profiles;
mod raw;
mod rules;
mod sandbox;
#[cfg(test)]
mod tests;
mod topology;

pub use self::profiles::{capabilities, overrides};

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::id::{ClusterId, HsmId, Scope, Zone};
use model::limits::Quotas;
use model::operation::Operation;
use model::profile::{Capabilities, PinScope, Profile, Rotation, VerifyWraps};
use model::sandbox::Sandbox;

/// Everything the daemon is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that all of this stands in, to be read again; absent where there is none.
    pub file: Option<PathBuf>,
    /// Where the daemon keeps its database and lock files.
    pub state_dir: PathBuf,
    /// Where locks are kept that all processes of this host respect: one login to a token at a time. Nobody but the
    /// users of keystored may write there.
    pub lock_dir: PathBuf,
    /// The keys that seal kmsuser's PINs.
    pub seal: Seal,
    /// The daemon's own zone.
    pub zone: Option<Zone>,
    /// Names of client certificates that may do everything, whatever policies say.
    pub administrators: BTreeSet<String>,
    /// What ARNs carry.
    pub scope: Scope,
    /// The gRPC listener.
    pub grpc: Grpc,
    /// The listener for clients of AWS KMS; absent where there is none.
    pub aws: Option<Aws>,
    /// The ops listener (plain HTTP; keep it on loopback or a management network).
    pub ops: SocketAddr,
    /// Bounds on requests.
    pub limits: Limits,
    /// Calls that others have to approve.
    pub approvals: Approvals,
    /// How many requests a second there may be.
    pub rate_limits: RateLimits,
    /// The audit log.
    pub audit: Audit,
    /// In what form and how much the daemon logs.
    pub log: Log,
    /// The clusters of HSMs, one for each key store; at least one.
    pub clusters: Vec<Cluster>,
}

/// Files with the keys that seal kmsuser's PINs.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The one in use.
    pub key: PathBuf,
    /// Those before it, until every PIN was sealed anew.
    pub former: Vec<PathBuf>,
}

/// The gRPC listener.
#[derive(Clone, Debug)]
pub struct Grpc {
    /// Where it listens.
    pub listen: SocketAddr,
    /// PEM: the server's certificate chain.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// PEM: CAs of client certificates.
    pub client_ca: PathBuf,
}

/// The listener for clients of AWS KMS.
#[derive(Clone, Debug)]
pub struct Aws {
    /// Where it listens.
    pub listen: SocketAddr,
    /// PEM: the server's certificate chain.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
    /// PEM: CAs of client certificates, which clients are then asked for and need not show.
    pub client_ca: Option<PathBuf>,
    /// Hosts of which a signature must name one, each with a port or for any; empty: any host.
    pub hosts: Vec<String>,
    /// Speak TLS 1.2 with clients that know no TLS 1.3.
    pub tls12: bool,
}

/// Bounds on requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Deadline of data plane calls that name none.
    pub default_deadline: Duration,
    /// Deadline of control plane calls that name none.
    pub default_control_deadline: Duration,
    /// Items in work at once.
    pub items_in_work: usize,
    /// Items in work at once for one principal.
    pub items_in_work_per_principal: usize,
    /// Open connections; those whose handshake is not over, or that make room for others, are not counted.
    pub connections: usize,
    /// Open CryptoService.Stream calls.
    pub streams: usize,
    /// How long a shutdown lets calls finish.
    pub drain: Duration,
    /// How much there may be of keys and what belongs to them.
    pub quotas: Quotas,
}

/// Calls that others have to approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvals {
    /// Of these operations; of none unless the file names them.
    pub operations: Vec<Operation>,
    /// So many others have to approve a call.
    pub required: NonZeroU32,
    /// For so long a call can be approved and repeated.
    pub expires_after: Duration,
}

/// How many requests a second there may be. No bound where none is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Of one principal.
    pub per_principal: Option<NonZeroU32>,
    /// With the keys of one key store.
    pub per_key_store: Option<NonZeroU32>,
    /// So many seconds' worth of them may come at once.
    pub burst_s: NonZeroU32,
}

/// The audit log, which there always is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Its directory.
    pub dir: PathBuf,
    /// What it is called in its checkpoints: a key name as C2SP's signed notes have it.
    pub origin: String,
    /// When records are synced.
    pub sync: AuditSync,
    /// A file to which records go as JSON lines as well.
    pub json: Option<PathBuf>,
    /// A receiver to which they go by syslog as well.
    pub syslog: Option<SyslogAddress>,
}

/// When records of the data plane are synced; those of the control plane always are before they are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditSync {
    /// So long after the kernel has taken them, at most.
    Interval(Duration),
    /// Before they are accepted.
    Always,
}

/// Where syslog is received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    /// Over TCP, at HOST:PORT.
    Tcp(String),
    /// At this socket of the host.
    Unix(PathBuf),
}

/// In what form and how much the daemon logs.
#[derive(Clone, Debug)]
pub struct Log {
    /// JSON lines, or text for a terminal.
    pub json: bool,
    /// tracing's filter, such as `info` or `keystored_cluster=debug,info`.
    pub filter: String,
}

/// One cluster of HSMs.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its id, AWS's pattern.
    pub id: ClusterId,
    /// An answer later than this goes to another zone as well.
    pub hedge_after: Duration,
    /// Which ciphertexts are opened again before they are given out.
    pub verify_wraps: VerifyWraps,
    /// Plaintexts are had from two zones and compared before they are given out.
    pub verify_unwraps: bool,
    /// Whose kmsuser's PIN is.
    pub pin_scope: PinScope,
    /// When kmsuser's PIN is rotated.
    pub rotation: Rotation,
    /// Logins in a row that may fail, or have no outcome, before none is tried any more.
    pub login_tries: u32,
    /// Its HSMs, in at least two zones: at least two, or one that stands in several.
    pub hsms: Vec<Hsm>,
}

/// One HSM.
#[derive(Clone, Debug)]
pub struct Hsm {
    /// Its name.
    pub id: HsmId,
    /// Its zone, or its zones.
    pub zone: Zone,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// Label of the token.
    pub token_label: String,
    /// Serial numbers that the token may have; empty: any.
    pub token_serials: Vec<String>,
    /// The file with its identity certificate; absent where that is in the token.
    pub certificate: Option<PathBuf>,
    /// The name of its vendor's habits.
    pub profile: Profile,
    /// These habits, with what is said otherwise of this HSM.
    pub capabilities: Capabilities,
    /// Environment of its workers.
    pub environment: BTreeMap<String, String>,
    /// Data worker processes.
    pub workers: u16,
    /// Sessions in each.
    pub sessions: u16,
    /// Keep copies of keys in use as session objects.
    pub hot_copies: bool,
    /// Refuse to run with memory that can be swapped out.
    pub require_mlock: bool,
    /// What the workers are confined to; absent where they are not confined.
    pub sandbox: Option<Sandbox>,
    /// Kill limits: crypto, place, generate, login.
    pub kill: [Duration; 4],
    /// Queue bounds: items, bytes.
    pub queue: (usize, usize),
}

/// What is wrong with a configuration: file, line, and what would be right.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {message}", .file.display(), .line.map(|l| format!(":{l}")).unwrap_or_default())]
pub struct Error {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where one can be named.
    pub line: Option<usize>,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Reads and checks a file. Relative paths in it are relative to the file's directory; `credential:NAME` is a file in
/// `$CREDENTIALS_DIRECTORY`.
pub fn load(file: &Path) -> Result<Config, Error> {
    let error = |message| Error { file: file.to_owned(), line: None, message };
    // Absolute, so that nothing depends on the directory in which the daemon happens to run.
    let file = std::path::absolute(file).map_err(|cause| error(cause.to_string()))?;
    let text = std::fs::read_to_string(&file)
        .map_err(|cause| error(format!("cannot be read ({cause}); name the configuration with --config FILE")))?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let context = check::Context { file: &file, text: &text, credentials: credentials.as_deref() };
    let mut config = check::check(&context)?;
    let program = std::env::current_exe().ok();
    let disk = sandbox::Disk {
        canonical: &|path| path.canonicalize().ok(),
        text: &|path| std::fs::read_to_string(path).ok(),
        program: program.as_deref(),
    };
    sandbox::guard(&mut config, credentials.as_deref(), &disk).map_err(error)?;
    Ok(config)
}
