//! Files that the module's environment names and that it may not open, so that an operator can allow them knowingly.
//!
//! The kernel tells a process nothing of what another one was denied. What can be known is what the variables name, and
//! what the configuration files name that they name: each is opened before the process is confined, and again
//! afterwards.

use std::collections::BTreeSet;
use std::env;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Paths that are looked at.
const MOST: usize = 64;
/// A configuration file is no longer than that.
const TEXT: u64 = 64 << 10;
/// The daemon's own variables.
const OURS: &str = "KEYSTORED_";

/// What could be opened before the process was confined, and who names it.
pub(super) struct Named(Vec<(PathBuf, String)>);

impl Named {
    /// Looks at what the environment names.
    pub(super) fn look() -> Self {
        let mut named = Vec::new();
        let mut seen = BTreeSet::new();
        let mut add = |path: PathBuf, by: String| {
            if named.len() < MOST && seen.insert(path.clone()) && open(&path).is_ok() {
                named.push((path, by));
            }
        };
        for (name, value) in env::vars().filter(|(name, _)| !name.starts_with(OURS)) {
            for path in value.split(':').filter(|part| part.starts_with('/')).map(PathBuf::from) {
                let within = text(&path).unwrap_or_default();
                paths(&within).into_iter().for_each(|found| add(found, path.display().to_string()));
                add(path, format!("the variable {name}"));
            }
        }
        Self(named)
    }

    /// What of that can be opened no more, in sentences.
    pub(super) fn denied(self) -> Vec<String> {
        let denied = |path: &Path| open(path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        let denied = self.0.into_iter().filter(|(path, _)| denied(path));
        let sentence = |(path, by): (PathBuf, String)| {
            format!(
                "The module may not open {}, which {by} names; if it needs that, write it into `sandbox`.",
                path.display()
            )
        };
        denied.map(sentence).collect()
    }
}

/// Opens a file or a directory, for nothing; never waits for the other end of a pipe.
fn open(path: &Path) -> std::io::Result<(File, Metadata)> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() && !meta.is_dir() {
        return Err(ErrorKind::Unsupported.into());
    }
    File::options().read(true).custom_flags(flags).open(path).map(|file| (file, meta))
}

fn text(path: &Path) -> Option<String> {
    let (file, meta) = open(path).ok().filter(|(_, meta)| meta.is_file() && meta.len() <= TEXT)?;
    let mut text = String::new();
    file.take(meta.len()).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Absolute paths in a configuration, whatever its syntax is.
fn paths(text: &str) -> Vec<PathBuf> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let ends = |c: char| c.is_whitespace() || "\"'=;,<>(){}[]".contains(c);
    let words = lines.flat_map(|line| line.split(ends)).filter(|word| word.starts_with('/') && word.len() > 1);
    words.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_any_syntax() {
        let text = "Chrystoki2 = { LibUNIX64=/usr/safenet/lib.so; }\n# /not/this\ndirectories.tokendir = /var/tokens/\n\
                    {\"ca\": \"/opt/ca.crt\", \"ratio\": \"a/b\"} <a>/x</a> /\n";
        let found = paths(text);
        let wanted = ["/usr/safenet/lib.so", "/var/tokens/", "/opt/ca.crt", "/x", "/a"];
        assert_eq!(found, wanted.map(PathBuf::from));
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        assert!(open(Path::new("/dev/null")).is_err());
        assert!(open(Path::new("/")).is_ok());
    }
}
