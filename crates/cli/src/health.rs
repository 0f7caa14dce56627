//! `keystorectl health`

use serde::Serialize;

use super::Context;
use super::failure::{Exit, Failure};
use super::printer::Report;

#[derive(Serialize)]
struct Health {
    serving: bool,
}

impl Report for Health {
    fn text(&self) -> String {
        "serving".to_owned()
    }
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    match client.health().await? {
        client::Health::Serving => context.printer.report(&Health { serving: true }),
        client::Health::NotServing => {
            Err(Failure::new(Exit::Retryable, "the service runs but takes no calls: it starts or drains")
                .with_hint("try again in a moment; the log of the service says what it waits for"))
        }
    }
}
