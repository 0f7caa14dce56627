//! `keystorectl cluster …`

mod reseal;
mod status;

use clap::Subcommand;

use super::Context;
use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show the clusters of the configuration: which HSMs have joined and are proven, and which keys they lack
    Status(status::Arguments),
    /// Seal all stored PINs anew, after the seal key of the configuration was replaced
    Reseal,
}

pub(super) async fn run(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Status(arguments) => status::run(context, arguments).await,
        Verb::Reseal => reseal::run(context).await,
    }
}
