//! `keystorectl policy put`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Named, document};
use crate::Context;
use crate::failure::Failure;
use crate::parse;
use crate::printer::Report;
use proto::v1::PutPolicyRequest;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// File with the policy, JSON of AWS's language; - is standard input
    file: PathBuf,
    /// What the policy is for; one that is there keeps its description where none is given
    #[arg(long, value_name = "TEXT", value_parser = parse::description)]
    description: Option<String>,
}

#[derive(Serialize)]
struct Put {
    policy: String,
    warnings: Vec<String>,
}

impl Report for Put {
    fn text(&self) -> String {
        document::with_warnings(format!("Put the policy {}", self.policy), &self.warnings)
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { named: Named { policy }, file, description } = arguments;
    let document = document::read(context, &file).await?;
    let client = context.connection.connect().await?;
    let warnings = client.put_policy(PutPolicyRequest { name: policy.clone(), description, document }).await?;
    context.printer.report(&Put { policy, warnings })
}
