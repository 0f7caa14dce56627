//! `keystorectl key …`

mod create;
mod describe;
mod list;
mod metadata;

use clap::Subcommand;

use super::Context;
use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a key in every HSM of a key store
    Create(create::Arguments),
    /// Show a key: its state, its versions and where it is
    Describe(describe::Arguments),
    /// List all keys
    List(list::Arguments),
}

pub(super) async fn run(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Create(arguments) => create::run(context, arguments).await,
        Verb::Describe(arguments) => describe::run(context, arguments).await,
        Verb::List(arguments) => list::run(context, arguments).await,
    }
}
