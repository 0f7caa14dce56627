//! `keystorectl key last-usage`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::Named;
use crate::printer::Report;
use proto::v1 as wire;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: Named,
}

#[derive(Serialize)]
pub(super) struct LastUsage {
    key_id: String,
    operation: Option<String>,
    timestamp: Option<String>,
    kms_request_id: Option<String>,
    key_creation_date: Option<String>,
}

impl From<wire::GetKeyLastUsageResponse> for LastUsage {
    fn from(usage: wire::GetKeyLastUsageResponse) -> Self {
        let last = usage.key_last_usage;
        Self {
            key_id: usage.key_id,
            timestamp: last.as_ref().and_then(|last| last.timestamp).map(|at| at.to_string()),
            kms_request_id: last.as_ref().map(|last| last.kms_request_id.clone()),
            operation: last.map(|last| last.operation),
            key_creation_date: usage.key_creation_date.map(|date| date.to_string()),
        }
    }
}

impl Report for LastUsage {
    fn text(&self) -> String {
        match (&self.operation, &self.timestamp, &self.kms_request_id) {
            (Some(operation), Some(timestamp), Some(request)) => {
                format!("{} was last used by {operation} at {timestamp} (request id {request})", self.key_id)
            }
            _ => format!("{} was not used so far", self.key_id),
        }
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_id = arguments.key.id(&client).await?;
    context.printer.report(&LastUsage::from(client.get_key_last_usage(&key_id).await?))
}
