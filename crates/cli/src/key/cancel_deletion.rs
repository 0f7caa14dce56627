//! `keystorectl key cancel-deletion`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::Named;
use crate::printer::Report;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: Named,
}

#[derive(Serialize)]
struct Kept {
    key_arn: String,
}

impl Report for Kept {
    fn text(&self) -> String {
        format!("{} is kept, and disabled; `keystorectl key enable` makes it usable", self.key_arn)
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_arn = client.cancel_key_deletion(&arguments.key.id(&client).await?).await?;
    context.printer.report(&Kept { key_arn })
}
