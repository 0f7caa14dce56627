//! `keystorectl group delete`

use super::{Done, Named};
use crate::Context;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, Named { group }: Named) -> Result<(), Failure> {
    context.connection.connect().await?.delete_group(&group).await?;
    context.printer.report(&Done { text: format!("Deleted the group {group}"), group })
}
