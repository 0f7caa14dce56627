//! `keystorectl rewrap`

mod anew;
mod lines;
mod plan;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::payload::{self, EncryptionContext};
use super::printer::Report;
use super::{Context, interruption};
use anew::Anew;
use client::seal::header::MAGIC;
use client::seal::rewrap::{Place, rewrap};
use client::seal::target::{Permission, Target};
use client::{Client, seal};
use lines::Lines;
use model::ciphertext::FORMAT;
use model::limits;
use plan::Counts;

/// Ciphertexts that are brought to a key's current version: those of a file with one ciphertext in base64 on each line,
/// one ciphertext as `encrypt --raw` gives it, or a file that `file seal` has made. Which of them it is the first byte
/// tells. Nothing is written unless all of it was done.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// File with one ciphertext in base64 on each line, with one ciphertext as it is, or a sealed file
    file: PathBuf,
    /// Encrypt under this key instead of the one that each ciphertext names: key id, key ARN, alias or alias ARN
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    context: EncryptionContext,
    /// Write to this file instead of replacing the other
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file of --out when it exists
    #[arg(long, requires = "out")]
    force: bool,
}

/// What was done.
#[derive(Serialize)]
struct Rewrapped {
    /// Where the result is.
    output: String,
    /// Ciphertexts that were encrypted anew ...
    rewrapped: u64,
    /// ... and those that were under the current version already.
    current: u64,
    #[serde(skip)]
    written: bool,
}

impl Report for Rewrapped {
    fn text(&self) -> String {
        let Self { output, rewrapped, current, written } = self;
        let done = format!("{rewrapped} encrypted anew, {current} current already");
        if *written { format!("{output}: {done}") } else { format!("{output}: {done}; nothing was written") }
    }
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sealed,
    Raw,
    Lines,
}

impl Kind {
    /// By a file's first bytes: neither format number nor magic is text.
    fn of(head: &[u8]) -> Self {
        match head.first() {
            Some(&FORMAT) => Self::Raw,
            Some(first) if *first == MAGIC[0] => Self::Sealed,
            _ => Self::Lines,
        }
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { file: path, key, context: pairs, out, force } = arguments;
    let pairs = pairs.into_map()?;
    let unreadable = |error| Failure::local(format!("cannot read {}: {error}", path.display()));
    let mut file = File::open(&path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(Failure::local(format!("{} is not a regular file", path.display())));
    }
    let mut head = [0; 1];
    let read = file.read(&mut head).map_err(unreadable)?;
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let kind = Kind::of(&head[..read]);
    if kind == Kind::Sealed && !pairs.is_empty() {
        return Err(Failure::usage("a sealed file has its own encryption context; leave --context out"));
    }
    let client = context.connection.connect().await?;
    let output = out.as_ref().unwrap_or(&path).display().to_string();
    let counts = if kind == Kind::Sealed {
        sealed(context, &client, key.as_deref(), &path, out.clone(), force).await?
    } else {
        let target = target(&file, &path, out.as_deref(), force)?;
        let anew = Anew::new(&client, key.unwrap_or_default(), pairs);
        tokio::select! {
            counts = ciphertexts(kind, file, anew, target, out.is_some()) => counts?,
            () = interruption() => return Err(Failure::new(Exit::Interrupted, "interrupted; nothing was written")),
        }
    };
    let written = counts.rewrapped > 0 || (out.is_some() && kind != Kind::Sealed);
    let Counts { rewrapped, current } = counts;
    context.printer.report(&Rewrapped { output, rewrapped, current, written })
}

fn target(file: &File, path: &Path, out: Option<&Path>, force: bool) -> Result<Target, Failure> {
    Ok(match out {
        None => Target::in_place_of(file, path)?,
        Some(out) => {
            Target::check(file, out, force)?;
            Target::create(out, Permission { overwrite: force, mode: 0o600 })?
        }
    })
}

/// A file of ciphertexts. One that has become no other is left alone, unless it is to go elsewhere.
async fn ciphertexts(
    kind: Kind,
    mut file: File,
    mut anew: Anew<'_>,
    mut target: Target,
    elsewhere: bool,
) -> Result<Counts, Failure> {
    match kind {
        Kind::Raw => raw(&mut file, &mut anew, target.file()).await?,
        Kind::Sealed | Kind::Lines => Lines::new(BufReader::new(file)).rewrap(&mut anew, target.file()).await?,
    }
    let counts = anew.counts();
    if counts.rewrapped > 0 || elsewhere {
        target.finish()?;
    }
    Ok(counts)
}

/// A file that is one ciphertext.
async fn raw(file: &mut File, anew: &mut Anew<'_>, output: &mut File) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    let longest = limits::CIPHERTEXT_BYTES as u64 + 1;
    file.take(longest).read_to_end(&mut bytes).map_err(|error| Failure::local(format!("reading failed: {error}")))?;
    let mut ciphertexts = vec![bytes];
    anew.done(&mut ciphertexts, |_| "the ciphertext".to_owned()).await?;
    write(output, &ciphertexts[0])
}

async fn sealed(
    context: &Context,
    client: &Client,
    key: Option<&str>,
    path: &Path,
    out: Option<PathBuf>,
    force: bool,
) -> Result<Counts, Failure> {
    let bar = context.printer.progress(seal::file::length(path)?);
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, progress) = (Arc::clone(&stop), bar.clone());
    let heard = move |done| {
        progress.set_position(done);
        if flag.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let place = out.map_or(Place::Same, |path| Place::Other { path, overwrite: force });
    let mut work = std::pin::pin!(rewrap(client, key, path, place, heard));
    let done = tokio::select! {
        done = &mut work => done,
        () = interruption() => {
            // The temporary file goes away with the work.
            stop.store(true, Ordering::Relaxed);
            work.await
        }
    };
    bar.finish_and_clear();
    Ok(match done? {
        Some(_) => Counts { rewrapped: 1, current: 0 },
        None => Counts { rewrapped: 0, current: 1 },
    })
}

fn write(output: &mut File, bytes: &[u8]) -> Result<(), Failure> {
    output.write_all(bytes).map_err(|error| seal::Error::Write(error).into())
}

/// A ciphertext in base64.
fn base64(bytes: &[u8]) -> String {
    payload::base64(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_what_a_file_holds() {
        assert_eq!(Kind::of(&[1, 2]), Kind::Raw);
        assert_eq!(Kind::of(&MAGIC), Kind::Sealed);
        for text in [&b"AQID"[..], b"", b"\n", b"# a comment"] {
            assert_eq!(Kind::of(text), Kind::Lines);
        }
    }
}
