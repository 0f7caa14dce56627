//! `keystorectl key schedule-deletion`

use clap::Args;
use serde::Serialize;

use super::last_usage::LastUsage;
use crate::failure::{Exit, Failure};
use crate::names::Named;
use crate::printer::Report;
use crate::{Context, terminal};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: Named,
    /// Waiting period, 7 to 30 days [default: 30]
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Scheduled {
    key_arn: String,
    deletion_date: String,
    pending_window_in_days: u32,
}

impl Report for Scheduled {
    fn text(&self) -> String {
        format!(
            "{} cannot be used any more, and will be deleted after {}; `keystorectl key cancel-deletion` keeps it until \
             then",
            self.key_arn, self.deletion_date
        )
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    if !arguments.yes && !terminal::can_ask() {
        return Err(Failure::usage("nobody can be asked: standard input is no terminal").with_hint("give --yes"));
    }
    let client = context.connection.connect().await?;
    let key_id = arguments.key.id(&client).await?;
    if !arguments.yes {
        let usage = LastUsage::from(client.get_key_last_usage(&key_id).await?);
        let question = format!("{}. Have {} deleted?", usage.text(), arguments.key.shown());
        if !terminal::confirm(question).await? {
            return Err(Failure::new(Exit::Interrupted, "not scheduled"));
        }
    }
    let scheduled = client.schedule_key_deletion(&key_id, arguments.days).await?;
    context.printer.report(&Scheduled {
        key_arn: scheduled.key_id,
        deletion_date: scheduled.deletion_date.map(|date| date.to_string()).unwrap_or_default(),
        pending_window_in_days: scheduled.pending_window_in_days,
    })
}
