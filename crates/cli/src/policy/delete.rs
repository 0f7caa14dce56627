//! `keystorectl policy delete`

use super::{Done, Named};
use crate::Context;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, Named { policy }: Named) -> Result<(), Failure> {
    context.connection.connect().await?.delete_policy(&policy).await?;
    context.printer.report(&Done { text: format!("Deleted the policy {policy}"), policy })
}
