//! `keystorectl cluster reseal`

use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::printer::Report;
use proto::v1 as wire;

#[derive(Serialize)]
struct Resealed {
    resealed: u64,
    resealed_access_keys: u64,
}

impl Report for Resealed {
    fn text(&self) -> String {
        let pins = match self.resealed {
            1 => "1 PIN was sealed anew".to_owned(),
            count => format!("{count} PINs were sealed anew"),
        };
        match self.resealed_access_keys {
            0 => pins,
            1 => format!("{pins}, and the secret of 1 access key"),
            count => format!("{pins}, and the secrets of {count} access keys"),
        }
    }
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let wire::ResealPinsResponse { resealed, resealed_access_keys } = client.reseal_pins().await?;
    context.printer.report(&Resealed { resealed, resealed_access_keys })
}
