//! `keystorectl alias …`

mod create;
mod delete;
mod list;
mod update;

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::printer::Report;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Give a key another name to be used by
    Create(create::Arguments),
    /// Move an alias to another key, in one step; what the former key encrypted still decrypts
    Update(update::Arguments),
    /// Remove an alias; its key stays as it is
    Delete(delete::Arguments),
    /// List aliases: all of them, or those of one key
    List(list::Arguments),
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create::run(context, arguments).await,
        Command::Update(arguments) => update::run(context, arguments).await,
        Command::Delete(arguments) => delete::run(context, arguments).await,
        Command::List(arguments) => list::run(context, arguments).await,
    }
}

/// Whose an alias is now.
#[derive(Serialize)]
struct Given {
    alias_name: String,
    target_key_id: String,
}

impl Report for Given {
    fn text(&self) -> String {
        format!("{} is {}", self.alias_name, self.target_key_id)
    }
}
