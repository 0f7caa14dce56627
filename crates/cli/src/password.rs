//! kmsuser's PIN, which AWS calls the key store password: from a file, standard input or the terminal, never from an
//! argument.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use super::{interruption, payload, terminal};
use model::limits;
use model::secret::Secret;
use model::text;

/// Where a password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file; `-` is standard input.
    File(PathBuf),
    /// The person at the terminal.
    Terminal,
}

impl From<Option<PathBuf>> for Source {
    fn from(file: Option<PathBuf>) -> Self {
        file.map_or(Self::Terminal, Self::File)
    }
}

/// Reads a password. `whose` says in a prompt and in errors what it is for.
pub(super) async fn read(source: Source, whose: &str) -> Result<Secret, Failure> {
    let from_standard_input = source == Source::File("-".into());
    match source {
        // Typed where it would be shown otherwise.
        Source::File(_) if from_standard_input && terminal::can_ask() => ask(whose).await,
        Source::File(path) => from_file(path).await,
        Source::Terminal if terminal::can_ask() => ask(whose).await,
        Source::Terminal => Err(Failure::usage(format!("{whose} is missing, and standard input is no terminal"))
            .with_hint("give --password-file FILE, or --password-file - for standard input")),
    }
}

async fn ask(whose: &str) -> Result<Secret, Failure> {
    // Twice: a typing error would cost a login in each HSM, and a few of these lock the user.
    let [first, second] = terminal::ask_hidden([format!("{whose}: "), format!("{whose}, once more: ")]).await?;
    if first != second {
        return Err(Failure::usage("the two are not the same; nothing was done"));
    }
    checked(first, "what was typed")
}

async fn from_file(path: PathBuf) -> Result<Secret, Failure> {
    // On panic: the command fails.
    let reading = tokio::task::spawn_blocking(move || {
        if path == Path::new("-") {
            return whole(&mut io::stdin().lock(), "standard input");
        }
        let shown = path.display().to_string();
        let failed = |error: io::Error| Failure::local(format!("cannot read {shown}: {error}"));
        let mut file = File::open(&path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(Failure::local(format!(
                "everybody may read or write the password in {shown} (mode {mode:03o})"
            ))
            .with_hint(format!("chmod 0400 {shown}; change the password too if others may have seen it")));
        }
        whole(&mut file, &shown)
    });
    tokio::select! {
        read = reading => read.unwrap_or_else(|_| Err(Failure::local("reading failed"))),
        () = interruption() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}

/// All that there is, without one newline at the end.
fn whole(input: &mut impl io::Read, shown: &str) -> Result<Secret, Failure> {
    let (_, most) = limits::PIN_BYTES;
    // Room for everything at once: growing would leave copies behind. A newline, and one byte that is too much.
    let mut buffer = Zeroizing::new(vec![0; most + 2]);
    let length =
        payload::fill(input, &mut buffer).map_err(|error| Failure::local(format!("cannot read {shown}: {error}")))?;
    let read = &buffer[..length];
    checked(Secret::new(read.strip_suffix(b"\n").unwrap_or(read).to_vec()), shown)
}

/// The service would refuse anything else; here it is known where it came from.
fn checked(password: Secret, shown: &str) -> Result<Secret, Failure> {
    match text::pin(password.expose()) {
        Ok(()) => Ok(password),
        Err(wrong) => Err(Failure::local(format!("{shown} holds no password: {wrong}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    async fn read_file(content: &[u8], mode: u32) -> Result<Secret, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        write(&path, content).unwrap();
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        read(Source::File(path), "password").await
    }

    #[tokio::test]
    async fn one_newline_is_no_part_of_it() {
        for content in [&b"pass word"[..], b"pass word\n"] {
            assert_eq!(read_file(content, 0o600).await.unwrap().expose(), b"pass word");
        }
        assert_eq!(read_file(&[b'1'; 255], 0o400).await.unwrap().len(), 255);
    }

    #[tokio::test]
    async fn what_cannot_be_a_password_is_refused_without_being_shown() {
        let longer = [b'1'; 256];
        for content in [&b""[..], b"\n", b"abc\n", b"abcd\n\n", b"abcd\r\n", b"\xff\xff\xff\xff", &longer] {
            let failure = read_file(content, 0o600).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Local);
            assert!(failure.message.contains("4 to 255") && !failure.message.contains("abc"), "{}", failure.message);
        }
    }

    #[tokio::test]
    async fn a_file_that_everybody_may_read_is_refused() {
        for mode in [0o644, 0o604, 0o602] {
            let failure = read_file(b"1234\n", mode).await.unwrap_err();
            assert!(failure.message.contains(&format!("mode {mode:03o}")), "{}", failure.message);
            assert!(failure.hint.unwrap().contains("chmod 0400"));
        }
        assert!(read_file(b"1234\n", 0o640).await.is_ok());
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let failure = read(Source::File("/nowhere/pin".into()), "password").await.unwrap_err();
        assert!(failure.message.contains("/nowhere/pin"), "{}", failure.message);
    }
}
