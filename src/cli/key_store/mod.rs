//! `keystorectl key-store …`

mod describe;

use clap::Subcommand;

use super::Context;
use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show key stores and the health of each HSM
    Describe(describe::Arguments),
}

pub(super) async fn run(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Describe(arguments) => describe::run(context, arguments).await,
    }
}
