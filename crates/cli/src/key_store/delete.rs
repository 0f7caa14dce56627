//! `keystorectl key-store delete`

use clap::Args;

use super::Done;
use super::which::Which;
use crate::failure::{Exit, Failure};
use crate::{Context, terminal};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    if !arguments.yes && !terminal::can_ask() {
        return Err(Failure::usage("nobody can be asked: standard input is no terminal").with_hint("give --yes"));
    }
    let client = context.connection.connect().await?;
    let id = if arguments.yes {
        arguments.which.id(&client).await?
    } else {
        let store = arguments.which.find(&client).await?;
        let (name, id, cluster) = (store.key_store_name, store.key_store_id, store.cluster_id);
        let question = format!("Delete the key store {name} ({id}) over {cluster}? Its HSMs are not touched.");
        if !terminal::confirm(question).await? {
            return Err(Failure::new(Exit::Interrupted, "not deleted"));
        }
        id
    };
    client.delete_key_store(&id).await?;
    context.printer.report(&Done { text: format!("Deleted {id}"), key_store_id: id })
}
