//! `keystorectl audit archive`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::printer::Report;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The log's directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Where to: a directory on any file system
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// So many of the newest records stay in any case
    #[arg(long, value_name = "RECORDS", default_value_t = 0)]
    keep: u64,
}

#[derive(Serialize)]
struct Moved {
    bundles: u64,
    bytes: u64,
    first_record_left: u64,
}

impl Report for Moved {
    fn text(&self) -> String {
        let Self { bundles, bytes, first_record_left } = self;
        format!(
            "{bundles} bundles moved, {bytes} bytes. Records from {first_record_left} on are still in the log's directory."
        )
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { directory, to, keep } = arguments;
    let moved = audit::log::archive(directory, to, *keep)
        .map_err(|error| Failure::local(format!("{} to {}: {error}", directory.display(), to.display())))?;
    let audit::log::Archived { bundles, bytes, first_left } = moved;
    context.printer.report(&Moved { bundles, bytes, first_record_left: first_left })
}
