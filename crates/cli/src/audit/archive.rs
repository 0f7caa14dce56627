//! `keystorectl audit archive`

use std::path::PathBuf;

use clap::Args;

use crate::Context;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The log's directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Where to
    #[arg(value_name = "TO")]
    to: PathBuf,
}
