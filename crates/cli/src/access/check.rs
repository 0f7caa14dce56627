//! `keystorectl access check`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::{Exit, Failure};
use crate::names::key_id;
use crate::policy::document;
use crate::printer::{Report, table};
use proto::v1 as wire;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// File with the policy; - is standard input
    file: PathBuf,
    /// It is to be a key's policy, and not one that is attached to principals and groups
    #[arg(long)]
    key_policy: bool,
    /// The key whose policy it is to be (key id, key ARN, alias or alias ARN), so that what can only be another key is
    /// found
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

#[derive(Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    error: bool,
    line: u32,
    place: String,
    problem: String,
}

impl From<wire::PolicyFinding> for Finding {
    fn from(wire::PolicyFinding { error, place, line, problem }: wire::PolicyFinding) -> Self {
        Self { error, line, place, problem }
    }
}

impl Report for Findings {
    fn text(&self) -> String {
        if self.findings.is_empty() {
            return "Nothing is wrong with it.".to_owned();
        }
        let row = |one: &Finding| {
            let kind = if one.error { "error" } else { "warning" };
            vec![one.line.to_string(), kind.to_owned(), one.place.clone(), one.problem.clone()]
        };
        table(&["line", "kind", "place", "problem"], self.findings.iter().map(row))
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { file, key_policy, key } = arguments;
    let document = document::read(context, &file).await?;
    let client = context.connection.connect().await?;
    let key_id = match &key {
        Some(key) => key_id(&client, key).await?,
        None => String::new(),
    };
    let found = client.check_policy(wire::CheckPolicyRequest { document, key_policy, key_id }).await?.findings;
    let findings = Findings { findings: found.into_iter().map(Finding::from).collect() };
    context.printer.report(&findings)?;
    match findings.findings.iter().filter(|one| one.error).count() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Refused, "it cannot be put because of an error")),
        errors => Err(Failure::new(Exit::Refused, format!("it cannot be put because of {errors} errors"))),
    }
}
