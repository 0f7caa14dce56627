//! `keystorectl principal list`

use serde::Serialize;

use super::Principal;
use crate::Context;
use crate::failure::Failure;
use crate::printer::{Report, table};
use model::limits;
use proto::v1::ListPrincipalsRequest;

#[derive(Serialize)]
struct Principals {
    principals: Vec<Principal>,
}

impl Report for Principals {
    fn text(&self) -> String {
        if self.principals.is_empty() {
            return "There are no principals; `keystorectl principal create` makes one.".to_owned();
        }
        let row = |one: &Principal| {
            vec![one.arn.clone(), one.identities.join(", "), one.groups.join(", "), one.policies.join(", ")]
        };
        table(&["principal", "known as", "groups", "policies"], self.principals.iter().map(row))
    }
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let (mut principals, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let page = client.list_principals(ListPrincipalsRequest { limit: Some(limits::LIST_LIMIT), marker }).await?;
        principals.extend(page.principals.into_iter().map(Principal::from));
        (more, marker) = (page.truncated, page.next_marker);
    }
    context.printer.report(&Principals { principals })
}
