//! `keystorectl access explain`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::parse;
use crate::payload::EncryptionContext;
use crate::printer::{Report, facts};
use proto::v1::{CallParameters, CreateGrantRequest, ExplainAccessRequest, ExplainAccessResponse};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// ARN of a principal, or the name of a certificate, such as cn:app
    principal: String,
    /// A permission, such as kms:Decrypt or kms:DisconnectCustomKeyStore
    permission: String,
    /// Key id, key ARN, alias or alias ARN of the key that it is about
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    key: String,
    /// ARN of what else it is about: a key store, a cluster, a principal
    #[arg(long, value_name = "ARN", default_value = "", hide_default_value = true, conflicts_with = "key")]
    resource: String,
    #[command(flatten)]
    context: EncryptionContext,
    #[command(flatten)]
    parameters: Parameters,
}

/// What else the operation would be called with; what it does not have is not looked at.
#[derive(Debug, Args)]
#[command(next_help_heading = "What the operation would be called with")]
struct Parameters {
    /// Tag that would be given; may be given several times
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = parse::pair)]
    tags: Vec<(String, String)>,
    /// Name of a tag that would be taken away; may be given several times
    #[arg(long = "tag-key", value_name = "NAME")]
    tag_keys: Vec<String>,
    /// Waiting period before a deletion
    #[arg(long, value_name = "DAYS")]
    pending_window_days: Option<u32>,
    /// Period of a rotation
    #[arg(long, value_name = "DAYS")]
    rotation_period_days: Option<u32>,
    /// A key policy would be put without the lock-out check
    #[arg(long)]
    bypass_lockout_check: bool,
    /// Both keys of a ReEncrypt are one
    #[arg(long)]
    same_key: bool,
    /// ARN of whom a grant would be made for
    #[arg(long, value_name = "ARN", requires = "grant_operations")]
    grantee: Option<String>,
    /// ARN of who might retire it
    #[arg(long, value_name = "ARN", default_value = "", hide_default_value = true, requires = "grantee")]
    retiring: String,
    /// What it would allow, such as Decrypt; may be given several times
    #[arg(long = "grant-operation", value_name = "OPERATION", requires = "grantee")]
    grant_operations: Vec<String>,
    /// Id of a grant that would be retired or revoked
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    grant_id: String,
}

impl From<Parameters> for CallParameters {
    fn from(parameters: Parameters) -> Self {
        let grant = parameters.grantee.map(|grantee_principal| CreateGrantRequest {
            grantee_principal,
            retiring_principal: parameters.retiring,
            operations: parameters.grant_operations,
            ..CreateGrantRequest::default()
        });
        Self {
            tags: parameters.tags.into_iter().collect(),
            tag_keys: parameters.tag_keys,
            pending_window_in_days: parameters.pending_window_days,
            rotation_period_in_days: parameters.rotation_period_days,
            bypass_policy_lockout_safety_check: parameters.bypass_lockout_check,
            re_encrypt_on_same_key: parameters.same_key,
            grant,
            grant_id: parameters.grant_id,
        }
    }
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
        parameters: Some(arguments.parameters.into()),
    };
    let client = context.connection.connect().await?;
    context.printer.report(&Explained::from(client.explain_access(request).await?))
}
