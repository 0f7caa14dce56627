//! `keystorectl audit prove`

use audit::prove;
use clap::Args;

use super::Log;
use crate::Context;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    log: Log,
    /// The record's number
    #[arg(value_name = "SEQ")]
    number: u64,
}

/// The proof is printed as it is, because its bytes are what is checked.
pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let proof = prove::prove_at(&arguments.log.place()?, arguments.number);
    context.printer.bytes(proof.map_err(|error| Failure::local(error.to_string()))?.as_bytes())
}
