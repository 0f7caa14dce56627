//! Certificates of tokens that hold none: kept in the folder, and the identity's where the daemon of this host reads it.
//!
//! The one in the folder is the one that counts. What the daemon reads is a copy, which each run puts right.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::folder::Folder;
use super::{Error, Progress};
use model::id::HsmId;
use protocol::Pair;

/// A certificate is public, and read by the user that the daemon runs as, whoever carries the ceremony out.
const MODE: u32 = 0o644;

/// Puts a copy of the HSM's identity certificate where the daemon reads it, unless it is there, and says so.
pub(super) fn hand_over(hsm: &HsmId, file: &Path, folder: &Folder, progress: &mut Progress<'_>) -> Result<(), Error> {
    let kept = folder.certificate_file(hsm, Pair::Identity)?;
    let failed = |error: io::Error| {
        let reason = format!(
            "{} cannot be written ({error}); copy {} there and run the ceremony again, or name another file by `certificate`",
            file.display(),
            kept.display()
        );
        Error::at(hsm, "putting its certificate where the daemon reads it", reason)
    };
    let pem = fs::read(&kept).map_err(|error| folder.failed(&kept, &error))?;
    match fs::read(file) {
        Ok(there) if there == pem => {}
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        Ok(_) | Err(_) => replace(file, &pem).map_err(failed)?,
    }
    progress(&format!(
        "HSM {hsm}: its identity certificate is in {}, where the daemon of this host reads it; any other host whose daemon \
         uses this HSM needs a copy of {} in the place that its own configuration names",
        file.display(),
        kept.display()
    ));
    Ok(())
}

/// As a whole or not at all.
fn replace(file: &Path, contents: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let written = write_new(&new, contents).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn write_new(new: &Path, contents: &[u8]) -> io::Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(new)?;
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_copy_is_put_right_and_everybody_may_read_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(&parent.path().join("ceremony")).unwrap();
        let hsm = HsmId::from("hsm-a");
        folder.keep_certificate(&hsm, Pair::Identity, "PEM").unwrap();
        let file = parent.path().join("hsm-a.crt");
        let mut said = Vec::new();
        for before in [None, Some("PEM"), Some("another")] {
            if let Some(before) = before {
                fs::write(&file, before).unwrap();
            }
            hand_over(&hsm, &file, &folder, &mut |words| said.push(words.to_owned())).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), "PEM", "{before:?}");
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2, "nothing is left over");
        for words in ["HSM hsm-a", "ceremony/hsm-a.identity.crt", "/hsm-a.crt"] {
            assert!(said.len() == 3 && said.iter().all(|said| said.contains(words)), "{words}: {said:?}");
        }
    }

    #[test]
    fn where_it_cannot_be_written_both_files_are_named() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(&parent.path().join("ceremony")).unwrap();
        let hsm = HsmId::from("hsm-a");
        folder.keep_certificate(&hsm, Pair::Identity, "PEM").unwrap();
        for file in ["/dev/null/hsm-a.crt".into(), parent.path().join("no such/hsm-a.crt")] {
            let error = hand_over(&hsm, &file, &folder, &mut |_| ()).unwrap_err().to_string();
            assert!(error.contains(&file.display().to_string()) && error.contains("hsm-a.identity.crt"), "{error}");
        }
    }
}
