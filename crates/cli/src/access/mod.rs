//! `keystorectl access …`

mod check;
mod explain;

use clap::Subcommand;

use super::Context;
use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether a principal may do something, by which statement or grant, and what would have to change
    Explain(Box<explain::Arguments>),
    /// Look for what is wrong or doubtful about a policy before it is put
    Check(check::Arguments),
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Explain(arguments) => explain::run(context, *arguments).await,
        Command::Check(arguments) => check::run(context, arguments).await,
    }
}
