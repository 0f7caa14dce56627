//! `keystorectl group members`

use serde::Serialize;

use super::Named;
use crate::Context;
use crate::failure::Failure;
use crate::printer::Report;
use model::limits;
use proto::v1::ListGroupMembersRequest;

#[derive(Serialize)]
struct Members {
    group: String,
    principals: Vec<String>,
}

impl Report for Members {
    fn text(&self) -> String {
        if self.principals.is_empty() {
            return format!("Nobody is in {}; `keystorectl group add-member` takes a principal into it.", self.group);
        }
        self.principals.join("\n")
    }
}

pub(super) async fn run(context: &Context, Named { group }: Named) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let (mut principals, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let request = ListGroupMembersRequest { group: group.clone(), limit: Some(limits::LIST_LIMIT), marker };
        let page = client.list_group_members(request).await?;
        principals.extend(page.principals);
        (more, marker) = (page.truncated, page.next_marker);
    }
    context.printer.report(&Members { group, principals })
}
