//! `keystorectl grant …`

mod create;
mod list;
mod retire;
mod revoke;
mod token;

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::printer::Report;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Allow a principal something with a key beside what policies say; prints the grant's id and its token
    Create(create::Arguments),
    /// List the grants of a key
    List(list::OfKey),
    /// List the grants, of whatever key, that a principal may retire
    ListRetirable(list::Retirable),
    /// Retire a grant, as one whom it concerns: by its token, or by its key and its id
    Retire(retire::Arguments),
    /// Revoke a grant, as the owner of the key
    Revoke(revoke::Arguments),
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let done = match command {
        Command::Create(arguments) => create::run(context, arguments).await,
        Command::List(arguments) => list::of_key(context, arguments).await,
        Command::ListRetirable(arguments) => list::retirable(context, arguments).await,
        Command::Retire(arguments) => retire::run(context, arguments).await,
        Command::Revoke(arguments) => revoke::run(context, arguments).await,
    };
    done.map_err(|failure| {
        let hint = "`keystorectl grant list KEY` shows the grants of a key, `keystorectl key list` the keys, `keystorectl \
                    principal list` the principals";
        failure.hinted_where("NotFoundException", hint)
    })
}

/// A grant has ended.
#[derive(Serialize)]
struct Ended {
    #[serde(skip)]
    text: String,
    /// Absent where it was named by its token.
    grant_id: Option<String>,
}

impl Report for Ended {
    fn text(&self) -> String {
        self.text.clone()
    }
}
