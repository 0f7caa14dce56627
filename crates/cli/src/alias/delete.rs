//! `keystorectl alias delete`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::alias_name;
use crate::printer::Report;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The alias, with alias/ before it or not
    #[arg(value_parser = alias_name)]
    alias: String,
}

#[derive(Serialize)]
struct Deleted {
    alias_name: String,
}

impl Report for Deleted {
    fn text(&self) -> String {
        format!("Deleted {}", self.alias_name)
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    client.delete_alias(&arguments.alias).await?;
    context.printer.report(&Deleted { alias_name: arguments.alias })
}
