//! `keystorectl group list`

use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::printer::{Report, table};
use model::limits;
use proto::v1 as wire;

#[derive(Serialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    name: String,
    arn: String,
    creation_date: Option<String>,
    policies: Vec<String>,
}

impl From<wire::Group> for Group {
    fn from(group: wire::Group) -> Self {
        let creation_date = group.creation_date.map(|date| date.to_string());
        Self { name: group.name, arn: group.arn, creation_date, policies: group.policies }
    }
}

impl Report for Groups {
    fn text(&self) -> String {
        if self.groups.is_empty() {
            return "There are no groups; `keystorectl group create` makes one.".to_owned();
        }
        let row = |one: &Group| {
            vec![one.name.clone(), one.policies.join(", "), one.creation_date.clone().unwrap_or_default()]
        };
        table(&["group", "policies", "since"], self.groups.iter().map(row))
    }
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let (mut groups, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let page = client.list_groups(wire::ListGroupsRequest { limit: Some(limits::LIST_LIMIT), marker }).await?;
        groups.extend(page.groups.into_iter().map(Group::from));
        (more, marker) = (page.truncated, page.next_marker);
    }
    context.printer.report(&Groups { groups })
}
