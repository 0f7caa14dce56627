//! PEM files of a listener: read as a whole, and what is wrong with them said in a sentence.
//!
//! The private key's file is for its owner, as the seal key's is.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::Error;
use model::secret::{Secret, exposed};
use pki::Facts;

/// A PEM file that is longer is none.
const FILE_BYTES: u64 = 1 << 20;

/// All certificates in a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let contents = contents(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents.expose()).collect();
    let certificates = read.map_err(|error| unusable(path, &error))?;
    if certificates.is_empty() {
        return Err(unusable(path, &"no certificate in it; PEM begins with -----BEGIN CERTIFICATE-----"));
    }
    Ok(certificates)
}

/// What rustls can use and another parser cannot read goes without warnings, not out of service.
pub(super) fn facts(path: &Path, certificates: &[CertificateDer<'_>]) -> Vec<Facts> {
    let read = |der: &CertificateDer<'_>| match Facts::of(der) {
        Ok(facts) => Some(facts),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "a certificate cannot be read to warn of its end");
            None
        }
    };
    certificates.iter().filter_map(read).collect()
}

fn contents(path: &Path) -> Result<Secret, Error> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    read_whole(file, path)
}

/// A private key's file, which is for its owner, as the seal key is.
pub(super) fn private(path: &Path) -> Result<Secret, Error> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mode = file.metadata().map_err(|error| unusable(path, &error))?.mode();
    match exposed(mode, "it") {
        None => read_whole(file, path),
        Some(why) => Err(unusable(
            path,
            &format!("{why}; chmod 0400 it, then replace the key and have its certificate issued anew"),
        )),
    }
}

fn read_whole(file: File, path: &Path) -> Result<Secret, Error> {
    use std::io::Read as _;
    // Reserved at once, since growing a buffer leaves an unwiped copy of a key behind.
    let length = file.metadata().map_or(0, |metadata| metadata.len().min(FILE_BYTES));
    let mut bytes = Vec::with_capacity(length as usize + 1);
    let read = file.take(FILE_BYTES).read_to_end(&mut bytes);
    let contents = Secret::new(bytes);
    read.map(|_| contents).map_err(|error| unreadable(path, &error))
}

pub(super) fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Wrong(format!("{}: {why}", path.display()))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::of(error, format!("{}: {error}", path.display()))
}
