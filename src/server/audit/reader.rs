//! The audit log as callers read it over the network: its files, whether it is open or not, and no other log's.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::Audit;
use super::source::away;
use audit::files::Place;
use audit::keys::PublicKeys;
use audit::layout::KEYS;
use audit::look::{self, Bounds, Filter, Found, LookError, Way};
use audit::note::{Checkpoint, Signed, VerifierKey};
use audit::prove::{self, ProofError};
use audit::within::Directory;
use service::audit_reader::{AuditReader, NotRead};

/// Longest file of public keys that is read.
const KEYS_BYTES: usize = 16 << 20;

/// Reads the log's directory.
pub(super) struct Reader {
    place: Place,
    name: String,
    /// How many records there are at least.
    signed: watch::Receiver<u64>,
    known: Box<dyn Fn() -> Option<Known> + Send + Sync>,
}

/// Which log it is that is to be read.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) origin: String,
    /// Its key; absent while that was never unsealed. Nothing is read until then: by its name alone another log could pass for it.
    pub(super) verifier: Option<VerifierKey>,
    /// Where it is written to; absent while it is not open.
    pub(super) directory: Option<Directory>,
}

impl Known {
    /// What is known by now of a log that is not open. A key that cannot be unsealed any more is still its key.
    pub(super) fn now(before: Option<&Self>, origin: &str, verifier: Option<&VerifierKey>) -> Self {
        let kept = before.filter(|before| before.origin == origin).and_then(|before| before.verifier.as_ref());
        Self { origin: origin.to_owned(), verifier: verifier.or(kept).cloned(), directory: None }
    }
}

impl Audit {
    /// What callers read it by.
    pub(in crate::server) fn reader(&self) -> Arc<dyn AuditReader> {
        let (place, name) = (Place::new(self.directory()), self.0.config.origin.clone());
        // The service, which has this, is a part of what is behind it.
        let inner = Arc::downgrade(&self.0);
        let known = Box::new(move || Self(inner.upgrade()?).known());
        Arc::new(Reader { place, name, signed: self.0.signed.subscribe(), known })
    }

    fn known(&self) -> Option<Known> {
        let known = self.0.known.load_full()?;
        let directory = self.opened().map(|opened| opened.log.directory());
        Some(Known { directory, ..Known::clone(&known) })
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
        Ok(self.newest()?.map_or(0, |newest| newest.head().size))
    }

    fn keys(&self) -> Result<String, NotRead> {
        let (known, verifier) = self.known()?;
        let unread = |why: String| trouble(&format!("the file of public keys cannot be read: {why}"));
        // By the handle: keys that another directory has are another log's.
        let directory = match &known.directory {
            Some(directory) => directory.clone(),
            None => Directory::open(self.place.directory()).map_err(|error| unread(error.to_string()))?,
        };
        let bytes = directory.read(Path::new(KEYS), KEYS_BYTES).map_err(|error| unread(error.to_string()))?;
        let text = String::from_utf8(bytes.ok_or_else(|| unread("it is not there".to_owned()))?)
            .map_err(|_| unread("it is no text".to_owned()))?;
        // What cannot be checked is of no use to anybody.
        let keys = PublicKeys::from_json(text.as_bytes()).map_err(|error| unread(error.to_string()))?;
        if keys.origin != known.origin || keys.log != verifier.to_string() {
            return Err(unread("it is another log's".to_owned()));
        }
        Ok(text)
    }

    fn head(&self) -> Result<String, NotRead> {
        let newest = self.newest()?.ok_or_else(|| not_proven(&ProofError::NoCheckpoint))?;
        String::from_utf8(newest.to_bytes()).map_err(|_| not_proven(&ProofError::NoCheckpoint))
    }

    fn look(&self, filter: &Filter, way: Way, end: u64, bounds: Bounds) -> Result<Found, NotRead> {
        self.in_place(|place| {
            look::look(place, filter, way, end, bounds).map_err(|error| match error {
                LookError::Unreadable(error) => told(&error.to_string()),
                LookError::Missing(number) => moved_away(number),
            })
        })
    }

    fn proof(&self, number: u64) -> Result<String, NotRead> {
        self.in_place(|place| {
            prove::prove_at(place, number).map_err(|error| match error {
                ProofError::Missing("the record") => moved_away(number),
                error => not_proven(&error),
            })
        })
    }

    fn growth(&self, since: u64) -> Result<String, NotRead> {
        self.in_place(|place| {
            prove::prove_growth(place, since).map_err(|error| match error {
                ProofError::NotVouched(size) => NotRead::None(format!("the newest signed head is of {size} records")),
                error => not_proven(&error),
            })
        })
    }
}

impl Reader {
    fn known(&self) -> Result<(Known, VerifierKey), NotRead> {
        let known =
            (self.known)().ok_or_else(|| trouble("it could not be opened yet, and which one it is is not known"))?;
        match known.verifier.clone() {
            Some(verifier) => Ok((known, verifier)),
            None => Err(trouble(
                "its key could not be opened yet, and without that nobody can tell whether it is the right one",
            )),
        }
    }

    /// The newest head of the log, if it is the log that is where it should be. A log that is away for a while is not one without
    /// records, and another one is not read in its place.
    fn newest(&self) -> Result<Option<Checkpoint>, NotRead> {
        let (known, verifier) = self.known()?;
        // Before the head is read: it is of so many records, or of more.
        let least = *self.signed.borrow();
        let path = self.place.directory();
        if let Some(directory) = &known.directory {
            match directory.is_at(path) {
                Ok(true) => {}
                Ok(false) => return Err(trouble(&away(path))),
                Err(error) => return Err(told(&error.to_string())),
            }
        }
        match prove::checkpoint(&self.place) {
            Ok(newest) => {
                if newest.origin() != known.origin || newest.signed_by(&verifier) != Signed::Well {
                    return Err(trouble("another log is where it was"));
                }
                if newest.head().size < least {
                    return Err(trouble(&format!("it has fewer records than the {least} that were signed")));
                }
                Ok(Some(newest))
            }
            Err(ProofError::NoCheckpoint) if known.directory.is_some() && least == 0 => Ok(None),
            Err(ProofError::NoCheckpoint) if !path.is_dir() => Err(trouble(&away(path))),
            Err(ProofError::NoCheckpoint) => Err(trouble("its newest head is gone, or cannot be read")),
            Err(error) => Err(told(&error.to_string())),
        }
    }

    /// Reads, and gives out what that came to if the log was in its place before and is behind.
    fn in_place<T>(&self, read: impl FnOnce(&Place) -> Result<T, NotRead>) -> Result<T, NotRead> {
        self.newest()?;
        let read = read(&self.place);
        self.newest()?;
        read
    }
}

/// What is the matter, also for callers: it says nothing of where files are.
fn trouble(why: &str) -> NotRead {
    tracing::warn!(why, "the audit log cannot be read for a caller");
    NotRead::Trouble(format!("the audit log cannot be read at the moment: {why}"))
}

/// In the daemon's log, with its place; callers are told what happened and not where the files are.
fn told(why: &str) -> NotRead {
    tracing::warn!(why, "the audit log cannot be read for a caller");
    NotRead::Trouble("the audit log cannot be read at the moment; the daemon's log says why".to_owned())
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
        error => told(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audit::layout;
    use audit::log::{Class, Leaves, Log, Settings};
    use audit::note::LogKey;
    use model::clock::Clock;

    const ALL: Bounds = Bounds { records: 9, bytes: usize::MAX, looked_at: usize::MAX, read: usize::MAX };

    fn key(origin: &str) -> LogKey {
        LogKey::from_seed(origin, &[7; 32]).unwrap()
    }

    /// Of the log `o`, which is open where its directory is given, or not.
    fn reader(path: &Path, size: u64, directory: Option<Directory>) -> Reader {
        let (_, signed) = watch::channel(size);
        let known = Known { origin: "o".to_owned(), verifier: Some(key("o").verifier().clone()), directory };
        let known = Box::new(move || Some(known.clone()));
        Reader { place: Place::new(path), name: "o".to_owned(), signed, known }
    }

    /// Writes a log of five records.
    fn write(directory: &Path, key: LogKey) {
        let settings = Settings::new(directory.to_owned(), key.verifier().name().to_owned(), Clock::system());
        let log = Log::open(settings, key, Arc::new(()), None).unwrap();
        for number in 0..5 {
            let leaves = Leaves::one(format!("{{\"number\":{number}}}").as_bytes()).unwrap();
            log.append(leaves, Class::Data).wait().unwrap();
        }
        log.close();
    }

    /// Everything that is asked of a log but its keys.
    fn asked(reader: &Reader) -> [Result<(), NotRead>; 5] {
        [
            reader.size().map(drop),
            reader.head().map(drop),
            reader.proof(1).map(drop),
            reader.growth(1).map(drop),
            reader.look(&Filter::default(), Way::On(3), 5, ALL).map(drop),
        ]
    }

    #[track_caller]
    fn is_trouble(reader: &Reader, why: &str) {
        for answer in asked(reader) {
            let path = reader.place.directory().to_str().unwrap();
            assert!(
                matches!(&answer, Err(NotRead::Trouble(said)) if said.contains(why) && !said.contains(path)),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_said_without_where_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let reader = reader(folder.path(), 0, Some(Directory::open(folder.path()).unwrap()));
        assert_eq!(reader.size(), Ok(0), "it has no head yet");
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
        let path = folder.path().join("log");
        // After a start, whatever is known of the number of its records.
        for size in [0, 5] {
            is_trouble(&reader(&path, size, None), "the directory of the audit log is gone");
        }
        // While it is open.
        std::fs::create_dir(&path).unwrap();
        write(&path, key("o"));
        let open = reader(&path, 5, Some(Directory::open(&path).unwrap()));
        assert_eq!(open.size(), Ok(5));
        std::fs::rename(&path, folder.path().join("away")).unwrap();
        is_trouble(&open, "the directory of the audit log is gone");
        // Another one with the same in it is not the one that is written to.
        std::fs::create_dir(&path).unwrap();
        write(&path, key("o"));
        is_trouble(&open, "another directory is where the audit log was");
        std::fs::remove_dir_all(&path).unwrap();
        std::fs::rename(folder.path().join("away"), &path).unwrap();
        assert!(asked(&open).iter().all(Result::is_ok), "it goes on");
        // Nothing is known at all.
        let nothing = Reader { known: Box::new(|| None), ..reader(&path, 0, None) };
        is_trouble(&nothing, "which one it is is not known");
    }

    #[test]
    fn another_log_is_not_read_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let keys = |key: LogKey| PublicKeys::new(key.verifier(), Vec::new(), Vec::new()).to_json().unwrap();
        let written = |name: &str, of: LogKey| {
            let path = folder.path().join(name);
            write(&path, of);
            path
        };
        let another = written("another", key("another"));
        std::fs::write(another.join(KEYS), keys(key("another"))).unwrap();
        // Its name alone is not enough.
        let forged = written("forged", LogKey::from_seed("o", &[8; 32]).unwrap());
        std::fs::write(forged.join(KEYS), keys(LogKey::from_seed("o", &[8; 32]).unwrap())).unwrap();
        for path in [another, forged] {
            let reader = reader(&path, 5, None);
            is_trouble(&reader, "another log is where it was");
            assert!(matches!(reader.keys(), Err(NotRead::Trouble(why)) if why.contains("another log's")));
        }
        let path = written("log", key("o"));
        std::fs::write(path.join(KEYS), keys(key("o"))).unwrap();
        // Without its key nobody can tell which one it is.
        let known = Known::now(None, "o", None);
        let without = Reader { known: Box::new(move || Some(known.clone())), ..reader(&path, 5, None) };
        is_trouble(&without, "its key could not be opened yet");
        assert!(
            matches!(without.keys(), Err(NotRead::Trouble(why)) if why.contains("its key could not be opened yet"))
        );
        is_trouble(&reader(&path, 6, None), "fewer records than the 6 that were signed");
        let reader = reader(&path, 5, None);
        assert!(asked(&reader).iter().all(Result::is_ok) && reader.keys().is_ok(), "it is read while it is not open");
        std::fs::remove_file(path.join("checkpoint")).unwrap();
        is_trouble(&reader, "its newest head is gone");
    }

    #[test]
    fn a_key_stays_known_and_is_never_another_log_s() {
        let (one, other) = (key("o"), LogKey::from_seed("o", &[8; 32]).unwrap());
        let first = Known::now(None, "o", Some(one.verifier()));
        let is = |known: &Known, of: Option<&LogKey>| {
            known.verifier.as_ref().map(ToString::to_string) == of.map(|key| key.verifier().to_string())
        };
        assert!(is(&Known::now(Some(&first), "o", None), Some(&one)));
        assert!(is(&Known::now(Some(&first), "o", Some(other.verifier())), Some(&other)));
        assert!(is(&Known::now(Some(&first), "p", None), None));
    }
}
