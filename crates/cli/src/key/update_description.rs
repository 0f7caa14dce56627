//! `keystorectl key update-description`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::Named;
use crate::parse;
use crate::printer::Report;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: Named,
    /// What the key is for; may be empty
    #[arg(value_name = "TEXT", value_parser = parse::description)]
    description: String,
}

#[derive(Serialize)]
struct Described {
    key_id: String,
    description: String,
}

impl Report for Described {
    fn text(&self) -> String {
        format!("{}: {}", self.key_id, self.description)
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_id = arguments.key.id(&client).await?;
    client.update_key_description(&key_id, &arguments.description).await?;
    context.printer.report(&Described { key_id, description: arguments.description })
}
