//! What nobody can save who opens a token: a process that starts, loads the module, initialises it, finds the token and
//! opens a session. SoftHSM reads every key of the token for that.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use model::clock::Clock;

use super::daemon::{Daemon, hsms};
use super::{Outcome, said};

/// Opens the token of the daemon's first HSM once; how long that takes.
pub(super) fn measure(program: &Path, daemon: &Daemon, softhsm: &Path, clock: &Clock) -> Outcome<Duration> {
    let conf = first_conf(daemon)?;
    let began = clock.now();
    let status = Command::new(program)
        .args([OsStr::new("raw-open"), softhsm.as_os_str()])
        .env("SOFTHSM2_CONF", conf)
        .stdin(Stdio::null())
        .status()
        .map_err(said("starting a process that opens a token"))?;
    let took = clock.now() - began;
    if status.success() { Ok(took) } else { Err(format!("a process could not open a token ({status})")) }
}

/// The process.
pub(super) fn run(module: &OsStr) -> Outcome<()> {
    let pkcs11 = Pkcs11::new(Path::new(module)).map_err(said("loading the module"))?;
    let threads = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    pkcs11.initialize(threads).map_err(said("initialising the module"))?;
    let slots = pkcs11.get_slots_with_initialized_token().map_err(said("finding the token"))?;
    let slot = slots.first().ok_or("there is no token")?;
    pkcs11.open_ro_session(*slot).map_err(said("opening a session"))?;
    Ok(())
}

/// SoftHSM's configuration of the first HSM.
fn first_conf(daemon: &Daemon) -> Outcome<PathBuf> {
    let mut config = daemon.configuration()?;
    let hsm = hsms(&mut config)?.first().ok_or("the configuration has no HSMs")?;
    let conf = hsm.get("env").and_then(|env| env.get("SOFTHSM2_CONF")?.as_str());
    let conf = conf.ok_or("the configuration names no SOFTHSM2_CONF")?;
    Ok(daemon.config.parent().unwrap_or(Path::new("")).join(conf))
}
