//! `keystorectl data-key …`

mod generate;

use clap::Subcommand;

use super::Context;
use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Generate a data key, in plaintext and encrypted under a key
    Generate(generate::Arguments),
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Generate(arguments) => generate::run(context, arguments).await,
    }
}
