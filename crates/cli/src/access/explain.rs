//! `keystorectl access explain`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::payload::EncryptionContext;
use crate::printer::{Report, facts};
use proto::v1::{ExplainAccessRequest, ExplainAccessResponse};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// ARN of a principal
    principal: String,
    /// A permission, such as kms:Decrypt or keystored:DisconnectKeyStore
    permission: String,
    /// Key id, key ARN, alias or alias ARN of the key that it is about
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    key: String,
    /// ARN of what else it is about: a key store, a cluster, a principal
    #[arg(long, value_name = "ARN", default_value = "", hide_default_value = true, conflicts_with = "key")]
    resource: String,
    #[command(flatten)]
    context: EncryptionContext,
}

#[derive(Serialize)]
struct Explained {
    allowed: bool,
    reason: String,
    change: String,
}

impl From<ExplainAccessResponse> for Explained {
    fn from(ExplainAccessResponse { allowed, reason, change }: ExplainAccessResponse) -> Self {
        Self { allowed, reason, change }
    }
}

impl Report for Explained {
    fn text(&self) -> String {
        let verdict = if self.allowed { "allowed" } else { "denied" };
        facts([
            ("Verdict", verdict.to_owned()),
            ("Because", self.reason.clone()),
            ("Otherwise, if", self.change.clone()),
        ])
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let request = ExplainAccessRequest {
        principal: arguments.principal,
        action: arguments.permission,
        key_id: arguments.key,
        resource: arguments.resource,
        encryption_context: arguments.context.into_map()?.into_iter().collect(),
    };
    let client = context.connection.connect().await?;
    context.printer.report(&Explained::from(client.explain_access(request).await?))
}
