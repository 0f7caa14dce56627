//! `keystorectl principal …`

mod create;
mod delete;
mod describe;
mod identity;
mod list;
mod tags;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::names::tags_text;
use super::printer::{Report, facts};
use proto::v1 as wire;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a principal: somebody who calls, known by names of certificates
    Create(create::Arguments),
    /// Delete a principal; from then on its certificates may do nothing
    Delete(delete::Arguments),
    /// Show a principal
    Describe(describe::Arguments),
    /// List principals
    List,
    /// Add a certificate's name to those that a principal is known by
    AddIdentity(identity::Arguments),
    /// Remove a certificate's name from those that a principal is known by
    RemoveIdentity(identity::Arguments),
    /// Tag a principal; conditions of policies can ask for its tags (aws:PrincipalTag/NAME)
    Tag(tags::Set),
    /// Remove tags from a principal
    Untag(tags::Remove),
}

/// The principal that a command is for.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its ARN, such as arn:aws:iam::123456789012:user/app
    #[arg(value_name = "PRINCIPAL")]
    arn: String,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let done = match command {
        Command::Create(arguments) => create::run(context, arguments).await,
        Command::Delete(arguments) => delete::run(context, arguments).await,
        Command::Describe(arguments) => describe::run(context, arguments).await,
        Command::List => list::run(context).await,
        Command::AddIdentity(arguments) => identity::add(context, arguments).await,
        Command::RemoveIdentity(arguments) => identity::remove(context, arguments).await,
        Command::Tag(arguments) => tags::set(context, arguments).await,
        Command::Untag(arguments) => tags::remove(context, arguments).await,
    };
    done.map_err(|failure| {
        failure
            .hinted_where("NotFoundException", "`keystorectl principal list` shows the principals there are")
            .hinted_where(
                "AlreadyExistsException",
                "`keystorectl principal list` shows who has this ARN or this identity; an identity is one principal's",
            )
    })
}

/// A principal as it is shown.
#[derive(Serialize)]
pub(super) struct Principal {
    arn: String,
    principal_id: String,
    description: String,
    creation_date: Option<String>,
    identities: Vec<String>,
    tags: BTreeMap<String, String>,
    groups: Vec<String>,
    policies: Vec<String>,
}

impl From<wire::Principal> for Principal {
    fn from(principal: wire::Principal) -> Self {
        Self {
            arn: principal.arn,
            principal_id: principal.principal_id,
            description: principal.description,
            creation_date: principal.creation_date.map(|date| date.to_string()),
            identities: principal.identities.into_iter().map(|one| one.identity).collect(),
            tags: principal.tags.into_iter().collect(),
            groups: principal.groups,
            policies: principal.policies,
        }
    }
}

impl Report for Principal {
    fn text(&self) -> String {
        facts([
            ("Principal", self.arn.clone()),
            ("Id", self.principal_id.clone()),
            ("Description", self.description.clone()),
            ("Since", self.creation_date.clone().unwrap_or_default()),
            ("Known as", self.identities.join(", ")),
            ("Tags", tags_text(&self.tags)),
            ("Groups", self.groups.join(", ")),
            ("Policies", self.policies.join(", ")),
        ])
    }
}

/// Something was done to a principal.
#[derive(Serialize)]
struct Done {
    #[serde(skip)]
    text: String,
    arn: String,
}

impl Report for Done {
    fn text(&self) -> String {
        self.text.clone()
    }
}
