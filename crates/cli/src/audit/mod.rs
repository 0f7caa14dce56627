//! `keystorectl audit …`: looks at an audit log's files, or asks the daemon where no directory is given. What is checked is
//! checked here, whoever it comes from.

mod archive;
mod check_proof;
mod follow;
mod head;
mod keys;
mod prove;
mod record;
mod show;
mod tail;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use audit::files::Place;
use audit::keys::{Believed, PublicKeys};
use audit::note::Checkpoint;
use clap::{Args, Subcommand};

use super::Context;
use super::failure::Failure;

/// What failures call an answer that is to be checked like a file.
const ANSWER: &str = "what the service has answered";
/// Longest file of keys, heads or proofs that is read.
const FILE_BYTES: u64 = 8 * 1_024 * 1_024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a log from its files and public keys alone; without its files, that it has only grown since a kept head
    Verify(verify::Arguments),
    /// Print a proof that a record is in the log: a file that is checked without the rest of the log
    #[command(allow_missing_positional = true)]
    Prove(prove::Arguments),
    /// Check such a proof, and print the record
    CheckProof(check_proof::Arguments),
    /// Print the newest signed head, to be kept elsewhere
    Head(Log),
    /// Show the last records, and follow new ones
    Tail(tail::Arguments),
    /// Show a record
    #[command(allow_missing_positional = true)]
    Show(show::Arguments),
    /// Print what a log is checked by: public keys, and who vouches for them
    Keys(Log),
    /// Move complete bundles of records elsewhere; tiles and heads stay
    Archive(archive::Arguments),
}

/// The log that a command is for.
#[derive(Debug, Args)]
pub(super) struct Log {
    /// The log's directory; without one the service is asked
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// A directory that complete bundles were moved to
    #[arg(long, value_name = "DIR", requires = "directory")]
    archive: Option<PathBuf>,
}

impl Log {
    /// Where its files are; absent where the service is to be asked.
    fn place(&self) -> Result<Option<Place>, Failure> {
        for directory in self.directory.iter().chain(&self.archive) {
            if !directory.is_dir() {
                return Err(Failure::local(format!("{} is no directory", directory.display())));
            }
        }
        let place = self.directory.as_deref().map(Place::new);
        Ok(place.map(|place| place.with_archive(self.archive.as_deref())))
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Verify(arguments) => verify::run(context, &arguments).await,
        Command::Prove(arguments) => prove::run(context, &arguments).await,
        Command::CheckProof(arguments) => check_proof::run(context, &arguments),
        Command::Head(log) => head::run(context, &log).await,
        Command::Tail(arguments) => tail::run(context, arguments).await,
        Command::Show(arguments) => show::run(context, &arguments).await,
        Command::Keys(log) => keys::run(context, &log).await,
        Command::Archive(arguments) => archive::run(context, &arguments),
    }
}

/// Reads a small file. What has no length, such as a pipe, is read up to the most that such a file has.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::local(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(Failure::local(format!("{} is longer than anything of its kind", path.display())));
    }
    Ok(bytes)
}

/// Reads the public keys, and checks who vouches for them.
fn read_keys(path: &Path) -> Result<(PublicKeys, Believed), Failure> {
    keys_of(&read(path)?, &path.display())
}

/// The same of what was read there.
fn keys_of(bytes: &[u8], from: &dyn Display) -> Result<(PublicKeys, Believed), Failure> {
    let failed = |error: audit::keys::KeysError| Failure::local(format!("{from}: {error}"));
    let keys = PublicKeys::from_json(bytes).map_err(failed)?;
    let believed = keys.check().map_err(failed)?;
    Ok((keys, believed))
}

/// Reads a signed head.
fn read_head(path: &Path) -> Result<Checkpoint, Failure> {
    Checkpoint::from_bytes(&read(path)?).map_err(|error| Failure::local(format!("{}: {error}", path.display())))
}
