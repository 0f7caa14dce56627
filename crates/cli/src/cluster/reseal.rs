//! `keystorectl cluster reseal`

use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::printer::Report;

#[derive(Serialize)]
struct Resealed {
    resealed: u64,
}

impl Report for Resealed {
    fn text(&self) -> String {
        match self.resealed {
            1 => "1 PIN was sealed anew".to_owned(),
            count => format!("{count} PINs were sealed anew"),
        }
    }
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    context.printer.report(&Resealed { resealed: client.reseal_pins().await? })
}
