//! `keystorectl approval list`

use clap::Args;
use serde::Serialize;

use super::view::Approval;
use crate::Context;
use crate::failure::Failure;
use crate::printer::{Report, table};
use proto::v1::ListApprovalsRequest;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Those that are over as well, as long as the service remembers them
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Approvals {
    approvals: Vec<Approval>,
}

impl Report for Approvals {
    fn text(&self) -> String {
        if self.approvals.is_empty() {
            return "No call waits for approval.".to_owned();
        }
        let row = |one: &Approval| {
            vec![
                one.approval_id.clone(),
                one.state.to_owned(),
                format!("{} of {}", one.given, one.needed),
                one.requester.clone(),
                one.operation.clone(),
                one.resource.clone(),
                one.expiration_date.clone().unwrap_or_default(),
            ]
        };
        let heads = ["approval", "state", "approved", "asked for by", "operation", "about", "until"];
        table(&heads, self.approvals.iter().map(row))
    }
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let (mut approvals, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let request = ListApprovalsRequest { all: arguments.all, limit: None, marker };
        let page = client.list_approvals(request).await?;
        approvals.extend(page.approvals.into_iter().map(Approval::from));
        (more, marker) = (page.truncated, page.next_marker);
    }
    context.printer.report(&Approvals { approvals })
}
