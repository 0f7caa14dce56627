//! `keystorectl key …`

mod create;
mod describe;
mod disable;
mod enable;
mod list;
mod metadata;

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::printer::Report;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a key in every HSM of a key store
    Create(create::Arguments),
    /// Show a key: its state, its versions and which HSMs hold it
    Describe(describe::Arguments),
    /// Enable a disabled key
    Enable(enable::Arguments),
    /// Disable a key until it is enabled again
    Disable(disable::Arguments),
    /// List all keys
    List(list::Arguments),
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create::run(context, arguments).await,
        Command::Describe(arguments) => describe::run(context, arguments).await,
        Command::Enable(arguments) => enable::run(context, arguments).await,
        Command::Disable(arguments) => disable::run(context, arguments).await,
        Command::List(arguments) => list::run(context, arguments).await,
    }
}

/// What the commands that switch a key tell.
#[derive(Serialize)]
struct Switched {
    key_id: String,
    enabled: bool,
}

impl Report for Switched {
    fn text(&self) -> String {
        format!("{} {}", if self.enabled { "Enabled" } else { "Disabled" }, self.key_id)
    }
}
