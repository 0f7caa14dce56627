//! `keystorectl key policy …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::Named;
use crate::policy::document;
use crate::printer::Report;
use proto::v1::PutKeyPolicyRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replace a key's policy
    Put(Put),
    /// Print a key's policy
    Get(Named),
    /// Restore the default policy, which leaves everything to the account's identity policies
    Reset(Reset),
}

#[derive(Debug, Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    key: Named,
    #[command(flatten)]
    lockout: Lockout,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    #[command(flatten)]
    key: Named,
    /// File with the policy, JSON of AWS's language; - is standard input
    file: PathBuf,
    #[command(flatten)]
    lockout: Lockout,
}

/// What is asked of a key policy beside being one.
#[derive(Debug, Args)]
pub(super) struct Lockout {
    /// Also a policy by which you could not put another one afterwards; only the configuration's administrators may be
    /// able to then
    #[arg(long)]
    bypass_lockout_check: bool,
}

impl Lockout {
    pub(super) fn bypassed(&self) -> bool {
        self.bypass_lockout_check
    }
}

#[derive(Serialize)]
struct Done {
    key_id: String,
    warnings: Vec<String>,
}

impl Report for Done {
    fn text(&self) -> String {
        document::with_warnings(format!("Put the policy of {}", self.key_id), &self.warnings)
    }
}

/// Shown as the document alone, so that this can be changed and put again.
#[derive(Serialize)]
struct Policy {
    key_id: String,
    policy: String,
}

impl Report for Policy {
    fn text(&self) -> String {
        document::shown(&self.policy)
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Put(Put { key, file, lockout }) => {
            let policy = document::read(context, &file).await?;
            let client = context.connection.connect().await?;
            let key_id = key.id(&client).await?;
            let request = PutKeyPolicyRequest {
                key_id: key_id.clone(),
                policy,
                bypass_policy_lockout_safety_check: lockout.bypassed(),
                ..PutKeyPolicyRequest::default()
            };
            let warnings = client.put_key_policy(request).await?;
            context.printer.report(&Done { key_id, warnings })
        }
        Command::Reset(Reset { key, lockout }) => {
            let client = context.connection.connect().await?;
            let key_id = key.id(&client).await?;
            let request = PutKeyPolicyRequest {
                key_id: key_id.clone(),
                default_policy: true,
                bypass_policy_lockout_safety_check: lockout.bypassed(),
                ..PutKeyPolicyRequest::default()
            };
            let warnings = client.put_key_policy(request).await?;
            context.printer.report(&Done { key_id, warnings })
        }
        Command::Get(key) => {
            let client = context.connection.connect().await?;
            let key_id = key.id(&client).await?;
            let policy = client.get_key_policy(&key_id).await?;
            context.printer.report(&Policy { key_id, policy })
        }
    }
}
