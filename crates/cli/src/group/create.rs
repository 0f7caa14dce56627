//! `keystorectl group create`

use super::{Done, Named};
use crate::Context;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, Named { group }: Named) -> Result<(), Failure> {
    context.connection.connect().await?.create_group(&group).await?;
    context.printer.report(&Done { text: format!("Made the group {group}"), group })
}
