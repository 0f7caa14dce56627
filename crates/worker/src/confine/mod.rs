//! Confining the process before it has threads and before the vendor's code is loaded.
//!
//! Applied always: no core dumps, no attaching, memory locked where the limits allow. With a sandbox also Landlock and
//! seccomp. What cannot be applied is said, one sentence each, and goes into `Ready.degraded`; nothing is skipped
//! silently.

mod calls;
mod filesystem;
mod lacks;
mod named;
mod system_calls;

use std::env;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, geteuid, getrlimit, set_dumpable_behavior, setrlimit};

pub(super) use self::filesystem::token_directories;
use self::named::Named;
use super::fault::Failure;
use model::profile::Codes;
use protocol::{Class, OPEN_FILES, Start};

/// A limit on locked memory below this would have allocations fail later instead of now.
const LOCKABLE_BYTES: u64 = 1 << 30;
/// Files that a failure at the start names.
const NAMED: usize = 3;

const OFF: &str = "The module is NOT confined (sandbox = false): it can do whatever this user can, with the seal key, the \
                   database, other HSMs' tokens, this daemon and its ports.";

/// How the process is confined.
#[derive(Default)]
pub(super) struct Confinement {
    /// What could not be applied, one sentence each.
    lacks: Vec<String>,
    /// What the module is known to be denied, likewise.
    denied: Vec<String>,
}

impl Confinement {
    /// All of it.
    pub(super) fn sentences(&self) -> Vec<String> {
        [&self.lacks[..], &self.denied[..]].concat()
    }

    /// A failure of the module's start, which may come of what it was denied.
    pub(super) fn explain(&self, failure: Failure, codes: &Codes) -> Failure {
        if self.denied.is_empty() {
            return failure;
        }
        let mut fault = failure.into_fault(codes);
        let denied = self.denied.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ");
        fault.detail = Some(match fault.detail {
            Some(detail) => format!("{detail}. {denied}"),
            None => denied,
        });
        fault.into()
    }
}

/// Takes the soft limit on open files that the parent had before it raised it. Before anything of a module is loaded.
pub(super) fn limit_files() {
    let Some(wanted) = env::var(OPEN_FILES).ok().and_then(|text| text.parse::<u64>().ok()) else { return };
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, ..limit }) {
        tracing::warn!(%error, wanted, "the module has more descriptors than it may be made for");
    }
}

/// Applies what can be applied; answers what could not. Fails only where memory must be locked and is not, and where
/// there is nothing yet that access could be given to.
pub(super) fn confine(start: &Start) -> Result<Confinement, Failure> {
    let mut degraded = Vec::new();
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        degraded.push(format!("Core dumps are not switched off: {error}."));
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        degraded.push(format!("Other processes of this user may read the memory of this one: {error}."));
    }
    if let Err(reason) = lock_memory() {
        if start.require_mlock {
            let detail = format!("{reason}; raise LimitMEMLOCK or set require_mlock = false");
            return Err(Failure::own(Class::Refused, "mlockall", detail));
        }
        degraded.push(format!("Memory is not locked and may be swapped out: {reason}."));
    }
    let Some(sandbox) = &start.sandbox else {
        degraded.push(OFF.to_owned());
        return Ok(Confinement { lacks: degraded, denied: Vec::new() });
    };
    filesystem::require_tokens(sandbox.tokens)?;
    let named = Named::look();
    degraded.extend(filesystem::restrict(sandbox, &start.module)?);
    degraded.extend(system_calls::restrict(sandbox, std::process::id()).err());
    Ok(Confinement { lacks: degraded, denied: named.denied() })
}

fn lock_memory() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock).current;
    if let Some(bytes) = limit
        && bytes < LOCKABLE_BYTES
        && !geteuid().is_root()
    {
        return Err(format!("the limit on locked memory is {bytes} bytes, {LOCKABLE_BYTES} are needed"));
    }
    // Pages are locked as they are touched: the reserves of the allocator and of thread stacks are never all used.
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(|error| error.to_string())
}
