//! The audit log as callers read it over the network: its files, whether it is open or not.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::Audit;
use audit::files::Place;
use audit::keys::PublicKeys;
use audit::layout::KEYS;
use audit::look::{self, Bounds, Filter, Found, LookError, Way};
use audit::prove::{self, ProofError};
use audit::within;
use service::audit_reader::{AuditReader, NotRead};

/// Longest file of public keys that is read.
const KEYS_BYTES: usize = 16 << 20;

/// Reads the log's directory.
pub(super) struct Reader {
    place: Place,
    name: String,
    signed: watch::Receiver<u64>,
}

impl Audit {
    /// What callers read it by.
    pub(in crate::server) fn reader(&self) -> Arc<dyn AuditReader> {
        let (place, name) = (Place::new(self.directory()), self.0.config.origin.clone());
        Arc::new(Reader { place, name, signed: self.0.signed.subscribe() })
    }
}

impl AuditReader for Reader {
    fn name(&self) -> &str {
        &self.name
    }

    fn signed(&self) -> watch::Receiver<u64> {
        self.signed.clone()
    }

    fn size(&self) -> Result<u64, NotRead> {
        self.is_there()?;
        match prove::checkpoint(&self.place) {
            Ok(checkpoint) => Ok(checkpoint.head().size),
            Err(ProofError::NoCheckpoint) => Ok(0),
            Err(error) => Err(not_proven(&error)),
        }
    }

    fn keys(&self) -> Result<String, NotRead> {
        keys(self.place.directory())
    }

    fn head(&self) -> Result<String, NotRead> {
        self.is_there()?;
        let head = prove::checkpoint(&self.place).map_err(|error| not_proven(&error))?;
        String::from_utf8(head.to_bytes()).map_err(|_| not_proven(&ProofError::NoCheckpoint))
    }

    fn look(&self, filter: &Filter, way: Way, end: u64, bounds: Bounds) -> Result<Found, NotRead> {
        look::look(&self.place, filter, way, end, bounds).map_err(|error| match error {
            LookError::Unreadable(_) => NotRead::Trouble(told(&error.to_string())),
            LookError::Missing(number) => self.moved_away(number),
        })
    }

    fn proof(&self, number: u64) -> Result<String, NotRead> {
        self.is_there()?;
        prove::prove(self.place.directory(), number).map_err(|error| match error {
            ProofError::Missing("the record") => self.moved_away(number),
            error => not_proven(&error),
        })
    }

    fn growth(&self, since: u64) -> Result<String, NotRead> {
        self.is_there()?;
        prove::prove_growth(&self.place, since).map_err(|error| match error {
            ProofError::NotVouched(size) => NotRead::None(format!("the newest signed head is of {size} records")),
            error => not_proven(&error),
        })
    }
}

impl Reader {
    /// Whether the log's directory is where it was: one that is away for a while is not one without records.
    fn is_there(&self) -> Result<(), NotRead> {
        let is_signed = *self.signed.borrow() > 0;
        if is_signed && matches!(prove::checkpoint(&self.place), Err(ProofError::NoCheckpoint)) {
            return Err(NotRead::Trouble(told("its directory, or its newest head, is gone")));
        }
        Ok(())
    }

    /// What is not there although the log is.
    fn moved_away(&self, number: u64) -> NotRead {
        self.is_there().err().unwrap_or_else(|| moved_away(number))
    }
}

fn keys(directory: &Path) -> Result<String, NotRead> {
    let unread = |why: String| NotRead::Trouble(told(&format!("the file of public keys cannot be read: {why}")));
    let bytes = within::read(directory, Path::new(KEYS), KEYS_BYTES).map_err(|error| unread(error.to_string()))?;
    let text = String::from_utf8(bytes.ok_or_else(|| unread("it is not there".to_owned()))?)
        .map_err(|_| unread("it is no text".to_owned()))?;
    // What cannot be checked is of no use to anybody.
    PublicKeys::from_json(text.as_bytes()).map_err(|error| unread(error.to_string()))?;
    Ok(text)
}

/// In the daemon's log, with its place; callers are told what happened and not where the files are.
fn told(why: &str) -> String {
    tracing::warn!(why, "the audit log cannot be read for a caller");
    "the audit log cannot be read at the moment; the daemon's log says why".to_owned()
}

fn moved_away(number: u64) -> NotRead {
    NotRead::None(format!(
        "record {number} is not on the daemon's host any more: it was moved away (keystorectl audit archive), or is lost; \
         look for it where bundles are moved to"
    ))
}

fn not_proven(error: &ProofError) -> NotRead {
    match error {
        ProofError::NotVouched(_) => NotRead::None(error.to_string()),
        ProofError::NoCheckpoint => NotRead::None("the log has no signed head yet".to_owned()),
        error => NotRead::Trouble(told(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audit::layout;

    const ALL: Bounds = Bounds { records: 9, bytes: usize::MAX, looked_at: usize::MAX, read: usize::MAX };

    /// A log without anything in it.
    fn reader(directory: &Path, size: u64) -> Reader {
        let (_, signed) = watch::channel(size);
        Reader { place: Place::new(directory), name: "a-log".to_owned(), signed }
    }

    #[test]
    fn what_is_not_there_is_said_without_where_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let reader = reader(folder.path(), 0);
        let looked = reader.look(&Filter::default(), Way::On(3), 5, ALL).unwrap_err();
        assert!(matches!(&looked, NotRead::None(why) if why.contains("record 0 ") && why.contains("audit archive")));
        for error in [reader.head().unwrap_err(), reader.proof(1).unwrap_err()] {
            assert!(matches!(&error, NotRead::None(why) if why.contains("no signed head")), "{error:?}");
        }
        assert_eq!(reader.look(&Filter::default(), Way::back(0), 0, ALL).unwrap(), Found::default());

        std::fs::write(folder.path().join(KEYS), "no keys").unwrap();
        std::fs::create_dir_all(folder.path().join(layout::bundle(0, 256))).unwrap();
        let looked = reader.look(&Filter::default(), Way::On(0), 5, ALL).unwrap_err();
        for error in [reader.keys().unwrap_err(), looked] {
            let path = folder.path().to_str().unwrap();
            assert!(matches!(&error, NotRead::Trouble(why) if !why.contains(path)), "{error:?}");
        }
    }

    #[test]
    fn a_directory_that_is_away_is_not_a_log_without_records() {
        let folder = tempfile::tempdir().unwrap();
        let reader = reader(&folder.path().join("away"), 5);
        let looked = reader.look(&Filter::default(), Way::On(3), 5, ALL).map(drop);
        let asked = [
            reader.size().map(drop),
            reader.head().map(drop),
            reader.proof(1).map(drop),
            reader.growth(1).map(drop),
            looked,
        ];
        for answer in asked {
            assert!(matches!(&answer, Err(NotRead::Trouble(why)) if !why.contains("away")), "{answer:?}");
        }
    }
}
