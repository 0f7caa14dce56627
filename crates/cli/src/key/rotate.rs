//! `keystorectl key rotate`

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
struct Rotated {
    key_arn: String,
    current_version: u32,
    current_key_material_id: String,
}

impl Report for Rotated {
    fn text(&self) -> String {
        format!("Rotated {}: version {} encrypts from now on", self.key_arn, self.current_version)
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_arn = client.rotate_key_on_demand(&arguments.key.id(&client).await?).await?;
    let key = client.describe_key(&key_arn).await?;
    let (current_version, current_key_material_id) = (key.current_version, key.current_key_material_id);
    context.printer.report(&Rotated { key_arn, current_version, current_key_material_id })
}
