//! `keystorectl approval refuse`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::printer::Report;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Approval id
    id: String,
}

#[derive(Serialize)]
struct Refused {
    approval_id: String,
}

impl Report for Refused {
    fn text(&self) -> String {
        format!("{} is refused; its call cannot be made by it any more", self.approval_id)
    }
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    client.refuse_approval(&arguments.id).await?;
    context.printer.report(&Refused { approval_id: arguments.id.clone() })
}
