//! `keystorectl access explain`

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::parse;
use crate::payload::EncryptionContext;
use crate::printer::{Report, facts, wrapped_table};
use proto::v1::{CallParameters, CreateGrantRequest, ExplainAccessRequest, ExplainAccessResponse, NearStatement};

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
    #[arg(long, value_name = "ARN", value_parser = NonEmptyStringValueParser::new(), requires = "grantee")]
    retiring: Option<String>,
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
            retiring_principal: parameters.retiring.unwrap_or_default(),
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
    /// Statements that would allow it but for one of their elements.
    nearest: Vec<Near>,
}

#[derive(Serialize)]
struct Near {
    key_policy: bool,
    policy: String,
    statement: u32,
    sid: String,
    element: String,
    why: String,
}

impl From<NearStatement> for Near {
    fn from(NearStatement { key_policy, policy, statement, sid, element, why }: NearStatement) -> Self {
        Self { key_policy, policy, statement, sid, element, why }
    }
}

impl From<ExplainAccessResponse> for Explained {
    fn from(ExplainAccessResponse { allowed, reason, change, nearest }: ExplainAccessResponse) -> Self {
        Self { allowed, reason, change, nearest: nearest.into_iter().map(Near::from).collect() }
    }
}

impl Near {
    fn row(&self) -> Vec<String> {
        let kind = if self.key_policy { "key policy" } else { "identity policy" };
        let sid = if self.sid.is_empty() { String::new() } else { format!(" ({})", self.sid) };
        vec![
            format!("{kind} {}, statement {}{sid}", self.policy, self.statement),
            self.element.clone(),
            self.why.clone(),
        ]
    }
}

impl Report for Explained {
    fn text(&self) -> String {
        let verdict = if self.allowed { "allowed" } else { "denied" };
        let facts = facts([
            ("Verdict", verdict.to_owned()),
            ("Because", self.reason.clone()),
            ("Otherwise, if", self.change.clone()),
        ]);
        if self.nearest.is_empty() {
            return facts;
        }
        let rows = self.nearest.iter().map(Near::row);
        format!("{facts}\n\n{}", wrapped_table(&["would allow it", "but for its", "because"], rows))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nearly_allows_it_is_shown() {
        let near = NearStatement {
            policy: "Own".into(),
            statement: 2,
            sid: "Invoices".into(),
            element: "Condition".into(),
            why: "StringEquals of aws:username is not met: the request does not have it".into(),
            ..NearStatement::default()
        };
        let told = ExplainAccessResponse { nearest: vec![near], ..ExplainAccessResponse::default() };
        let told = Explained::from(told);
        let text = told.text();
        assert!(text.contains("identity policy Own, statement 2 (Invoices)  Condition"), "{text}");
        let json = serde_json::to_value(&told).unwrap();
        assert_eq!(
            (&json["nearest"][0]["statement"], &json["nearest"][0]["element"]),
            (&2.into(), &"Condition".into())
        );
        let none = Explained { nearest: Vec::new(), ..told };
        assert!(!none.text().to_lowercase().contains("would allow"), "{}", none.text());
    }
}
