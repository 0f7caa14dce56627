//! `keystorectl principal delete`

use clap::Args;

use super::{Done, Named};
use crate::failure::{Exit, Failure};
use crate::{Context, terminal};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { named: Named { arn }, yes } = arguments;
    if !yes && !terminal::can_ask() {
        return Err(Failure::usage("nobody can be asked: standard input is no terminal").with_hint("give --yes"));
    }
    if !yes {
        let question = format!(
            "Delete the principal {arn}? Its certificates may do nothing then, and one of this name that is made later has \
             none of its grants."
        );
        if !terminal::confirm(question).await? {
            return Err(Failure::new(Exit::Interrupted, "not deleted"));
        }
    }
    context.connection.connect().await?.delete_principal(&arn).await?;
    context.printer.report(&Done { text: format!("Deleted {arn}"), arn })
}
