//! `keystorectl group …`

mod create;
mod delete;
mod list;
mod member;
mod members;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::printer::Report;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a group of principals, to which policies can be attached
    Create(Named),
    /// Delete a group; its members keep what they have otherwise
    Delete(Named),
    /// List groups
    List,
    /// List who is in a group
    Members(Named),
    /// Add a principal to a group
    AddMember(member::Arguments),
    /// Remove a principal from a group
    RemoveMember(member::Arguments),
}

/// The group that a command is for.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name: 1 to 128 of letters, digits and +=,.@_-
    group: String,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let done = match command {
        Command::Create(named) => create::run(context, named).await,
        Command::Delete(named) => delete::run(context, named).await,
        Command::List => list::run(context).await,
        Command::Members(named) => members::run(context, named).await,
        Command::AddMember(arguments) => member::add(context, arguments).await,
        Command::RemoveMember(arguments) => member::remove(context, arguments).await,
    };
    done.map_err(|failure| {
        let hint = "`keystorectl group list` shows the groups there are, `keystorectl principal list` the principals";
        failure.hinted_where("NotFoundException", hint).hinted_where("AlreadyExistsException", hint)
    })
}

/// Something was done to a group.
#[derive(Serialize)]
struct Done {
    #[serde(skip)]
    text: String,
    group: String,
}

impl Report for Done {
    fn text(&self) -> String {
        self.text.clone()
    }
}
