//! `keystorectl audit head`

use audit::note::Checkpoint;
use audit::prove;

use super::{ANSWER, Log};
use crate::Context;
use crate::failure::Failure;

/// It is printed as it is, because its bytes are what was signed.
pub(super) async fn run(context: &Context, log: &Log) -> Result<(), Failure> {
    let head = match log.place()? {
        Some(place) => prove::checkpoint(&place).map_err(|error| Failure::local(error.to_string()))?,
        None => {
            let head = context.connection.connect().await?.get_audit_head().await?;
            Checkpoint::from_bytes(head.as_bytes()).map_err(|error| Failure::local(format!("{ANSWER}: {error}")))?
        }
    };
    context.printer.bytes(&head.to_bytes())
}
