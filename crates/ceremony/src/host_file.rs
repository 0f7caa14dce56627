//! Certificates of tokens that hold none: kept in the folder, and the identity's where the daemon of this host reads it.
//!
//! The one in the folder is the one that counts. What the daemon reads is a copy, which each run puts right.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::folder::Folder;
use super::{Error, Progress};
use model::id::HsmId;
use pki::identity::der_of;
use protocol::Pair;

/// A certificate is public, and read by the user that the daemon runs as, whoever carries the ceremony out.
const MODE: u32 = 0o644;
/// Of [`MODE`], what lets everybody read.
const READABLE: u32 = 0o444;
/// No certificate of a ceremony comes near it.
const MOST_BYTES: u64 = 16 << 10;

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
    // What else is in the folder are certificates, too.
    let directory = |of: &Path| of.parent().and_then(|directory| directory.canonicalize().ok());
    if file.file_name() != kept.file_name() && directory(file).is_some_and(|of| Some(of) == directory(&kept)) {
        let why = "the ceremony folder is for what the ceremony keeps itself";
        return Err(failed(io::Error::new(ErrorKind::InvalidInput, why)));
    }
    put(file, &pem).map_err(failed)?;
    progress(&format!(
        "HSM {hsm}: its identity certificate is in {}, where the daemon of this host reads it; any other host whose daemon \
         uses this HSM needs a copy of {} in the place that its own configuration names",
        file.display(),
        kept.display()
    ));
    Ok(())
}

/// Puts it where nothing is or another certificate. Whatever else is there belongs to somebody, who named the wrong file.
fn put(file: &Path, pem: &[u8]) -> io::Result<()> {
    // Not blocking: a pipe that nobody writes to would be waited for.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let there = match OpenOptions::new().read(true).custom_flags(nonblocking).open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return replace(file, pem),
        opened => opened?,
    };
    let kind = there.metadata()?;
    if !kind.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "what is there is no regular file"));
    }
    let mut contents = Vec::new();
    (&there).take(MOST_BYTES + 1).read_to_end(&mut contents)?;
    if contents == pem {
        if kind.permissions().mode() & READABLE != READABLE {
            // Somebody else's file may be kept from others on purpose, and the daemon says where it cannot read it.
            let _ = there.set_permissions(Permissions::from_mode(MODE));
        }
        return Ok(());
    }
    let certificate = contents.len() as u64 <= MOST_BYTES
        && std::str::from_utf8(&contents).is_ok_and(|contents| der_of(contents).is_ok());
    if !certificate {
        let why = "what is there is not one certificate in PEM, and is not written over";
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    replace(file, pem)
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
    // The umask may have taken from it.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::identity::pem_of;

    #[test]
    fn the_copy_is_put_right_and_everybody_may_read_it() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(&parent.path().join("ceremony")).unwrap();
        let hsm = HsmId::from("hsm-a");
        let pem = pem_of(b"der");
        folder.keep_certificate(&hsm, Pair::Identity, &pem).unwrap();
        let file = parent.path().join("hsm-a.crt");
        let mut said = Vec::new();
        for before in [None, Some(pem.clone()), Some(pem_of(b"another"))] {
            if let Some(before) = &before {
                fs::write(&file, before).unwrap();
                // As a strict umask leaves it.
                fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            }
            hand_over(&hsm, &file, &folder, &mut |words| said.push(words.to_owned())).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), pem, "{before:?}");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644, "{before:?}");
        }
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
    /// The file is somebody else's: a configuration, a key, or a bundle with more in it.
    #[test]
    fn nothing_but_a_certificate_is_written_over() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(&parent.path().join("ceremony")).unwrap();
        let hsm = HsmId::from("hsm-a");
        folder.keep_certificate(&hsm, Pair::Identity, &pem_of(b"der")).unwrap();
        let file = parent.path().join("another.file");
        let refused = || {
            let error = hand_over(&hsm, &file, &folder, &mut |_| ()).unwrap_err().to_string();
            for words in ["another.file", "hsm-a.identity.crt", "what is there is no"] {
                assert!(error.contains(words), "{words}: {error}");
            }
        };
        for before in [
            String::new(),
            "[grpc]".to_owned(),
            pem_of(b"key").replace("CERTIFICATE", "PRIVATE KEY"),
            format!("{}{}", pem_of(b"one"), pem_of(b"two")),
            format!("{}{}", pem_of(b"one"), " ".repeat(17 << 10)),
        ] {
            fs::write(&file, &before).unwrap();
            refused();
            assert_eq!(fs::read_to_string(&file).unwrap(), before);
        }
        fs::remove_file(&file).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &file, pipe, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
        refused();
    }
    /// Such as the authority's own certificate.
    #[test]
    fn nothing_in_the_ceremony_folder_is_written_over() {
        let parent = tempfile::tempdir().unwrap();
        let at = parent.path().join("ceremony");
        let folder = Folder::open(&at).unwrap();
        let hsm = HsmId::from("hsm-a");
        folder.keep_certificate(&hsm, Pair::Identity, &pem_of(b"der")).unwrap();
        let authority = at.join("customerCA.crt");
        fs::write(&authority, pem_of(b"authority")).unwrap();
        let error = hand_over(&hsm, &authority, &folder, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("customerCA.crt") && error.contains("hsm-a.identity.crt"), "{error}");
        assert_eq!(fs::read_to_string(&authority).unwrap(), pem_of(b"authority"));
        let kept = folder.certificate_file(&hsm, Pair::Identity).unwrap();
        hand_over(&hsm, &kept, &folder, &mut |_| ()).unwrap();
    }
}
