//! `keystorectl cluster …`

mod add_hsm;
mod doctor;
#[cfg(test)]
mod fixture;
mod init;
mod pins;
mod place;
mod reseal;
mod resync;
mod status;

use clap::Subcommand;

use super::Context;
use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the clusters of the configuration: which HSMs have joined and are proven, and which keys they lack
    Status(status::Arguments),
    /// Carry the ceremony out: make the cluster of the configuration's tokens, blank ones or prepared ones, or go on
    /// where it was broken off. Needs the HSMs, and no daemon
    Init(init::Arguments),
    /// Add another HSM of the configuration to a cluster whose key store is connected
    AddHsm(add_hsm::Arguments),
    /// Seal all stored PINs, the secrets of access keys and the audit log's key anew, after the seal key was replaced
    Reseal,
    /// Report on one HSM, for its vendor's support desk: versions, mechanisms, what it was found to do, and how fast it is
    Doctor(doctor::Arguments),
    /// Check the HSMs now and fill in the keys that they lack; --key and --all-removed put back what somebody removed
    Resync(resync::Arguments),
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Status(arguments) => status::run(context, arguments).await,
        Command::Init(arguments) => init::run(context, arguments).await,
        Command::AddHsm(arguments) => add_hsm::run(context, arguments).await,
        Command::Reseal => reseal::run(context).await,
        Command::Doctor(arguments) => doctor::run(context, arguments).await,
        Command::Resync(arguments) => resync::run(context, arguments).await,
    }
}
