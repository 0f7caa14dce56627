//! `keystorectl policy list`

use serde::Serialize;

use super::document;
use crate::Context;
use crate::failure::Failure;
use crate::printer::{Report, table};
use model::limits;
use proto::v1 as wire;

#[derive(Serialize)]
struct Policies {
    policies: Vec<Policy>,
}

/// An identity policy. By itself it is shown as its document, so that this can be changed and put again.
#[derive(Serialize)]
pub(super) struct Policy {
    name: String,
    arn: String,
    description: String,
    document: String,
    built_in: bool,
    update_date: Option<String>,
}

impl From<wire::Policy> for Policy {
    fn from(policy: wire::Policy) -> Self {
        Self {
            name: policy.name,
            arn: policy.arn,
            description: policy.description,
            document: policy.document,
            built_in: policy.built_in,
            update_date: policy.update_date.map(|date| date.to_string()),
        }
    }
}

impl Report for Policy {
    fn text(&self) -> String {
        document::shown(&self.document)
    }
}

impl Report for Policies {
    fn text(&self) -> String {
        let row = |one: &Policy| {
            let since = one.update_date.clone().unwrap_or_else(|| "part of the program".to_owned());
            vec![one.name.clone(), since, one.description.clone()]
        };
        table(&["policy", "since", "description"], self.policies.iter().map(row))
    }
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let (mut policies, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let request = wire::ListPoliciesRequest { limit: Some(limits::LIST_POLICIES), marker };
        let page = client.list_policies(request).await?;
        policies.extend(page.policies.into_iter().map(Policy::from));
        (more, marker) = (page.truncated, page.next_marker);
    }
    context.printer.report(&Policies { policies })
}
