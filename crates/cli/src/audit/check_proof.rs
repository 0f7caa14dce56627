//! `keystorectl audit check-proof`

use std::path::PathBuf;

use audit::prove;
use clap::Args;
use serde::Serialize;

use super::record::Shown;
use super::{read, read_keys};
use crate::Context;
use crate::failure::Failure;
use crate::printer::{Report, facts};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The proof, as `audit prove` prints it
    proof: PathBuf,
    /// The public keys, as `audit keys` prints them; from somebody you trust, or kept from before
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// The record, where the proof does not hold it
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

#[derive(Serialize)]
struct Proven {
    #[serde(flatten)]
    record: Shown,
    records: u64,
    signed_by: Vec<String>,
}

impl Report for Proven {
    fn text(&self) -> String {
        let mut lines = facts([
            ("Record", self.record.number.to_string()),
            ("Of", format!("{} records", self.records)),
            ("Signed by", self.signed_by.join(", ")),
        ]);
        lines += "\nIt is in that log:\n";
        lines + &self.record.text()
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let (_, keys) = read_keys(&arguments.keys)?;
    let record = arguments.record.as_deref().map(read).transpose()?;
    let proven = prove::check(&read(&arguments.proof)?, &keys, record.as_deref())
        .map_err(|error| Failure::local(format!("{}: {error}", arguments.proof.display())))?;
    let record = Shown::new(proven.number, &proven.record);
    context.printer.report(&Proven { record, records: proven.head.size, signed_by: proven.signers })
}
