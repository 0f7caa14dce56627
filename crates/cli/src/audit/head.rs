//! `keystorectl audit head`

use audit::prove;

use super::Log;
use crate::Context;
use crate::failure::Failure;

/// It is printed as it is, because its bytes are what was signed.
pub(super) fn run(context: &Context, log: &Log) -> Result<(), Failure> {
    let head = prove::checkpoint(&log.place()?).map_err(|error| Failure::local(error.to_string()))?;
    context.printer.bytes(&head.to_bytes())
}
