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
pub(super) enum Verb {
    /// Make a key in every HSM of a key store
    Create(create::Arguments),
    /// Show a key: its state, its versions and where it is
    Describe(describe::Arguments),
    /// Make a key usable again
    Enable(enable::Arguments),
    /// Make a key unusable, until it is enabled again
    Disable(disable::Arguments),
    /// List all keys
    List(list::Arguments),
}

pub(super) async fn run(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(arguments) => create::run(context, arguments).await,
        Verb::Describe(arguments) => describe::run(context, arguments).await,
        Verb::Enable(arguments) => enable::run(context, arguments).await,
        Verb::Disable(arguments) => disable::run(context, arguments).await,
        Verb::List(arguments) => list::run(context, arguments).await,
    }
}

/// What the verbs that switch a key tell.
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
