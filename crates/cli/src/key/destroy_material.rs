//! `keystorectl key destroy-material`

use clap::Args;
use serde::Serialize;

use super::metadata::Destruction;
use crate::Context;
use crate::failure::Failure;
use crate::names::Named;
use crate::printer::{Report, table};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: Named,
    /// The key's ARN once more, as `keystorectl key describe` shows it: there is no way back
    #[arg(long, value_name = "ARN")]
    confirm: String,
}

#[derive(Serialize)]
struct Destroyed {
    key_arn: String,
    deletion_date: String,
    destructions: Vec<Destruction>,
}

impl Report for Destroyed {
    fn text(&self) -> String {
        let left = self.destructions.iter().filter(|one| one.is_undone()).count();
        let sum = match left {
            0 => format!("The material of {} is destroyed in every HSM", self.key_arn),
            left => format!(
                "The material of {} is given up; {left} of its HSMs have not been seen to have destroyed it, and it is done \
                 there as soon as it can be",
                self.key_arn
            ),
        };
        let rows = self.destructions.iter().map(Destruction::row);
        format!("{sum}\n\n{}", table(&Destruction::HEAD, rows))
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let destroyed = client.destroy_key_material(&arguments.key.id(&client).await?, &arguments.confirm).await?;
    context.printer.report(&Destroyed {
        key_arn: destroyed.key_id,
        deletion_date: destroyed.deletion_date.map(|date| date.to_string()).unwrap_or_default(),
        destructions: destroyed.destructions.into_iter().map(Destruction::from).collect(),
    })
}
