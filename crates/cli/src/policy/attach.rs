//! `keystorectl policy attach` and `detach`

use clap::Args;

use super::{Done, Named};
use crate::Context;
use crate::failure::Failure;
use proto::v1::attach_policy_request::To;
use proto::v1::detach_policy_request::From;
use proto::v1::{AttachPolicyRequest, DetachPolicyRequest};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    holder: Holder,
}

/// Whose the policy is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Holder {
    /// ARN of a principal
    #[arg(long, value_name = "ARN")]
    principal: Option<String>,
    /// Name of a group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
}

impl Holder {
    fn shown(&self) -> String {
        self.principal.clone().or_else(|| self.group.clone()).unwrap_or_default()
    }
}

pub(super) async fn attach(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { named: Named { policy }, holder } = arguments;
    let text = format!("{policy} is attached to {}", holder.shown());
    let to = holder.principal.map(To::Principal).or(holder.group.map(To::Group));
    let client = context.connection.connect().await?;
    client.attach_policy(AttachPolicyRequest { policy: policy.clone(), to }).await?;
    context.printer.report(&Done { text, policy })
}

pub(super) async fn detach(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { named: Named { policy }, holder } = arguments;
    let text = format!("{policy} is no longer attached to {}", holder.shown());
    let from = holder.principal.map(From::Principal).or(holder.group.map(From::Group));
    let client = context.connection.connect().await?;
    client.detach_policy(DetachPolicyRequest { policy: policy.clone(), from }).await?;
    context.printer.report(&Done { text, policy })
}
