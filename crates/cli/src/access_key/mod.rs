//! `keystorectl access-key …`

mod create;
mod list;
mod switch;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::printer::Report;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Give a principal an access key; prints its id and its secret, which is not shown again
    Create(create::Arguments),
    /// List the access keys of a principal, and when each was used last
    List(list::Arguments),
    /// Refuse calls that are signed with an access key, from now on
    Disable(switch::Arguments),
    /// Accept calls that are signed with an access key again
    Enable(switch::Arguments),
    /// Delete an access key for good
    Delete(switch::Arguments),
}

/// The principal whose access keys a command is for.
#[derive(Debug, Args)]
struct Of {
    /// Its ARN, such as arn:aws:iam::123456789012:user/app
    #[arg(value_name = "PRINCIPAL")]
    arn: String,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let done = match command {
        Command::Create(arguments) => create::run(context, arguments).await,
        Command::List(arguments) => list::run(context, arguments).await,
        Command::Disable(arguments) => switch::disable(context, arguments).await,
        Command::Enable(arguments) => switch::enable(context, arguments).await,
        Command::Delete(arguments) => switch::delete(context, arguments).await,
    };
    done.map_err(|failure| {
        failure
            .hinted_where(
                "NotFoundException",
                "`keystorectl access-key list PRINCIPAL` shows the access keys of a principal, `keystorectl principal list` \
                 the principals there are",
            )
            .hinted_where(
                "LimitExceededException",
                "a principal has at most two: have the clients use the newer one, then `keystorectl access-key delete` the \
                 older one",
            )
    })
}

/// Something was done to an access key.
#[derive(Serialize)]
struct Done {
    #[serde(skip)]
    text: String,
    access_key_id: String,
}

impl Report for Done {
    fn text(&self) -> String {
        self.text.clone()
    }
}
