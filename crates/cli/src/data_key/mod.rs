//! `keystorectl data-key …`

mod generate;

use clap::Subcommand;

use super::Context;
use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a data key, in clear and encrypted under a key
    Generate(generate::Arguments),
}

pub(super) async fn run(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Generate(arguments) => generate::run(context, arguments).await,
    }
}
