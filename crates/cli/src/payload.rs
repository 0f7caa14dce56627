//! Bytes that come in from files or standard input and go out as base64 or as they are.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use zeroize::Zeroizing;

use super::failure::Failure;
use super::printer::Printer;
use super::{Context, parse};
use client::seal;
use client::seal::target::{Permission, Target};
use model::secret::Secret;

/// The encryption context, pair by pair.
#[derive(Clone, Debug, Args)]
pub(super) struct EncryptionContext {
    /// A pair that is bound to the ciphertext and needed again to decrypt; not secret. May be given several times
    #[arg(long = "context", value_name = "NAME=VALUE", value_parser = parse::pair)]
    pairs: Vec<(String, String)>,
}

impl EncryptionContext {
    pub(super) fn into_map(self) -> Result<BTreeMap<String, String>, Failure> {
        map_of("--context", self.pairs)
    }
}

/// The pairs of an encryption context that came by this flag.
pub(super) fn map_of(flag: &str, pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if map.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!("{flag} {name} is given twice")));
        }
    }
    Ok(map)
}

/// Where the result goes.
#[derive(Clone, Debug, Args)]
pub(super) struct Output {
    /// Write the bytes as they are instead of base64
    #[arg(long)]
    raw: bool,
    /// Write to this file, readable by you alone, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file of --out when it exists
    #[arg(long, requires = "out")]
    force: bool,
}

impl Output {
    /// JSON goes to standard output and holds base64: the flags would contradict it.
    pub(super) fn check(&self, printer: &Printer) -> Result<(), Failure> {
        match self {
            Self { raw: true, .. } if printer.json() => Err(Failure::usage("--raw and --json exclude each other")),
            Self { out: Some(_), .. } if printer.json() => Err(Failure::usage("--out and --json exclude each other")),
            _ => Ok(()),
        }
    }

    /// Writes the bytes to where the user wants them.
    pub(super) fn write(&self, printer: &Printer, bytes: &[u8]) -> Result<(), Failure> {
        let text;
        let bytes = if self.raw {
            bytes
        } else {
            text = Zeroizing::new(format!("{}\n", *base64(bytes)));
            text.as_bytes()
        };
        let Some(path) = &self.out else { return printer.bytes(bytes) };
        // A pipe or a device has nothing that could be replaced, and no name to be had at the end.
        if self.force && fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(bytes));
            return written.map_err(|error| Failure::local(format!("cannot write {}: {error}", path.display())));
        }
        // A link is followed: what it leads to is replaced.
        let path = match self.force {
            true => fs::canonicalize(path).unwrap_or_else(|_| path.clone()),
            false if fs::symlink_metadata(path).is_ok() => return Err(seal::Error::Exists(path.clone()).into()),
            false => path.clone(),
        };
        // Whole or not at all: half of a ciphertext is worth nothing, and the file that it replaces may be.
        let mut target = Target::create(&path, Permission { overwrite: self.force, mode: 0o600 })?;
        target.file().write_all(bytes).map_err(|cause| seal::Error::Output { path: path.clone(), cause })?;
        Ok(target.finish()?)
    }
}

/// Base64 of bytes that may be secret.
pub(super) fn base64(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

/// Reads a file, or standard input for `-`. More than `most` bytes are refused, because the service would refuse them;
/// `hint` says what takes more, where something does.
pub(super) async fn read(
    context: &Context,
    path: &Path,
    most: usize,
    what: &str,
    hint: &'static str,
) -> Result<Secret, Failure> {
    if path == Path::new("-") && io::stdin().is_terminal() {
        context.printer.note(format!("reading the {what} from the terminal; end it with Ctrl-D on a new line"));
    }
    let (owned, what) = (path.to_owned(), what.to_owned());
    // On panic: the command fails.
    let reading = tokio::task::spawn_blocking(move || {
        let failed = |error: io::Error| Failure::local(format!("cannot read {}: {error}", shown(&owned)));
        // Room for everything at once: growing would leave copies behind.
        let mut buffer = Zeroizing::new(vec![0; most + 1]);
        let length = if owned == Path::new("-") {
            fill(&mut io::stdin().lock(), &mut buffer).map_err(failed)?
        } else {
            fill(&mut std::fs::File::open(&owned).map_err(failed)?, &mut buffer).map_err(failed)?
        };
        if length > most {
            let message = format!("the {what} in {} is longer than {most} bytes", shown(&owned));
            let failure = Failure::local(message);
            return Err(if hint.is_empty() { failure } else { failure.with_hint(hint) });
        }
        Ok(Secret::new(buffer[..length].to_vec()))
    });
    tokio::select! {
        read = reading => read.unwrap_or_else(|_| Err(Failure::local("reading failed"))),
        () = super::interruption() => Err(Failure::new(super::Exit::Interrupted, "interrupted")),
    }
}

/// Ciphertext as it is or in base64. The two cannot be mixed up: a ciphertext begins with its format's number, which is
/// no character.
pub(super) fn ciphertext(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    if bytes.first().is_none_or(|&first| first < b'\t') {
        return Ok(bytes.to_vec());
    }
    let compact: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).map_err(|_| {
        Failure::local("the ciphertext is neither base64 nor the bytes that `encrypt --raw` gives")
            .with_hint("give exactly what `encrypt` printed, or the field ciphertext_blob of its JSON")
    })
}

/// Reads until the end or until the buffer is full.
pub(super) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphertext_is_recognised_in_both_forms() {
        let raw = [1, 2, 3, 250];
        assert_eq!(ciphertext(&raw).unwrap(), raw);
        assert_eq!(ciphertext(b"AQID\n+g==\n").unwrap(), raw);
        assert_eq!(ciphertext(b"").unwrap(), b"");
        assert!(ciphertext(b"no base64!").is_err());
    }

    #[test]
    fn a_pair_of_the_context_is_given_once() {
        let twice = EncryptionContext { pairs: vec![("a".into(), "1".into()), ("a".into(), "2".into())] };
        assert!(twice.into_map().unwrap_err().message.contains("--context a is given twice"));
    }

    #[test]
    fn an_output_is_private_and_replaced_only_by_force() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let printer = Printer::new(false);
        let output = Output { raw: true, out: Some(path.clone()), force: false };
        output.write(&printer, b"one").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(output.write(&printer, b"two").unwrap_err().hint.unwrap().contains("--force"));
        let forced = Output { raw: false, force: true, ..output };
        forced.write(&printer, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"dHdv\n");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Output { raw: true, out: Some(link.clone()), force: true }.write(&printer, b"three").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three", "a link is followed");
        Output { raw: true, out: Some("/dev/null".into()), force: true }.write(&printer, b"gone").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }
}
