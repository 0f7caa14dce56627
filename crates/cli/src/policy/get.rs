//! `keystorectl policy get`

use super::Named;
use super::list::Policy;
use crate::Context;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, Named { policy }: Named) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    context.printer.report(&Policy::from(client.get_policy(&policy).await?))
}
