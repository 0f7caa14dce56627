//! `keystorectl audit prove`

use audit::prove::{self, Proof};
use clap::Args;

use super::{ANSWER, Log};
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
pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let proof = match arguments.log.place()? {
        Some(place) => prove::prove_at(&place, arguments.number).map_err(|error| Failure::local(error.to_string()))?,
        None => {
            let proof = context.connection.connect().await?.get_audit_proof(arguments.number).await?;
            // Whether it holds is said by whoever has the keys.
            let read = Proof::parse(proof.as_bytes());
            read.map_err(|error| Failure::local(format!("{ANSWER}: {error}")))?;
            proof
        }
    };
    context.printer.bytes(proof.as_bytes())
}
