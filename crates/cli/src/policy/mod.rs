//! `keystorectl policy …`

mod attach;
mod delete;
pub(super) mod document;
mod get;
mod list;
mod put;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::printer::Report;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an identity policy, or replace the one of its name
    Put(put::Arguments),
    /// Print an identity policy
    Get(Named),
    /// List identity policies; Administrator, Operator, Auditor, KeyUser and Approver are part of the program
    List,
    /// Delete an identity policy that is attached to nobody
    Delete(Named),
    /// Attach an identity policy to a principal or a group
    Attach(attach::Arguments),
    /// Detach an identity policy
    Detach(attach::Arguments),
}

/// The policy that a command is for.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name: 1 to 128 of letters, digits and +=,.@_-
    policy: String,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let done = match command {
        Command::Put(arguments) => put::run(context, arguments).await,
        Command::Get(named) => get::run(context, named).await,
        Command::List => list::run(context).await,
        Command::Delete(named) => delete::run(context, named).await,
        Command::Attach(arguments) => attach::attach(context, arguments).await,
        Command::Detach(arguments) => attach::detach(context, arguments).await,
    };
    done.map_err(|failure| {
        failure.hinted_where(
            "NotFoundException",
            "`keystorectl policy list` shows the policies there are, `keystorectl principal list` and `keystorectl group \
             list` whom they can be attached to",
        )
    })
}

/// Something was done to an identity policy.
#[derive(Serialize)]
struct Done {
    #[serde(skip)]
    text: String,
    policy: String,
}

impl Report for Done {
    fn text(&self) -> String {
        self.text.clone()
    }
}
