//! `keystorectl approval …`

mod approve;
mod list;
mod refuse;
mod show;
mod view;

use clap::Subcommand;

use super::Context;
use super::failure::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List calls that wait for the approval of others
    List(list::Arguments),
    /// Show one of them: who made the call, what it asks for, who has approved it
    Show(show::Arguments),
    /// Approve somebody else's call, which they then make again
    Approve(approve::Arguments),
    /// Refuse a call for good, or take back one of your own
    Refuse(refuse::Arguments),
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list::run(context, &arguments).await,
        Command::Show(arguments) => show::run(context, &arguments).await,
        Command::Approve(arguments) => approve::run(context, arguments).await,
        Command::Refuse(arguments) => refuse::run(context, &arguments).await,
    }
}
