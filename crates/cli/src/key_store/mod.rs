//! `keystorectl key-store …`

mod advice;
mod connect;
mod create;
mod delete;
mod describe;
mod disconnect;
mod steps;
mod update;
mod wait;
mod which;

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::printer::Report;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Register a cluster of the configuration as a key store; prints its id
    Create(create::Arguments),
    /// Change a key store: its name, the password on record, its cluster
    Update(update::Arguments),
    /// Log in to the HSMs, have them prove their identity, rotate kmsuser's PIN
    Connect(connect::Arguments),
    /// Stop the use of a key store's keys and log out of its HSMs; also the way out of FAILED
    Disconnect(disconnect::Arguments),
    /// Delete a key store that is disconnected and has no keys
    Delete(delete::Arguments),
    /// Show key stores and the health of each HSM
    Describe(describe::Arguments),
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create::run(context, arguments).await,
        Command::Update(arguments) => update::run(context, arguments).await,
        Command::Connect(arguments) => connect::run(context, arguments).await,
        Command::Disconnect(arguments) => disconnect::run(context, arguments).await,
        Command::Delete(arguments) => delete::run(context, arguments).await,
        Command::Describe(arguments) => describe::run(context, arguments).await,
    }
}

/// What a command tells that has nothing to show but what it did.
#[derive(Serialize)]
struct Done {
    key_store_id: String,
    #[serde(skip)]
    text: String,
}

impl Report for Done {
    fn text(&self) -> String {
        self.text.clone()
    }
}
