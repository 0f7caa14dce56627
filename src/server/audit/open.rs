//! Opening the log: its key from the database, made there where this is the first start; and what is in the way.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::cosign::Zones;
use super::reader::Known;
use super::{AGAIN, Audit, Opened};
use audit::layout;
use audit::log::{Log, OpenError, Settings, Sync};
use audit::note::{Head, LogKey, VerifierKey};
use config::AuditSync;
use model::lock::MutexExt as _;
use model::secret::Secret;
use pki::seal::SealKeys;
use service::audit_key;
use store::Store;
use store::audit::{AuditLog, NewAuditLog};

/// How a new log is begun in the place of one that cannot be written on.
pub(super) const NEW_LOG: &str = "`keystored audit new-log --config FILE`, with the daemon stopped";

impl Audit {
    /// Tries to open it, unless it was tried a moment ago.
    pub(super) async fn try_to_open(&self) {
        let now = self.0.clock.now();
        {
            let mut closed = self.0.closed.lock_anyway();
            if closed.ending || closed.tried.is_some_and(|tried| now.saturating_duration_since(tried) < AGAIN) {
                return;
            }
            closed.tried = Some(now);
        }
        let outcome = self.open().await;
        let mut closed = self.0.closed.lock_anyway();
        match outcome {
            // It is closed with what holds it, which waits for the disk.
            // On panic: as after a crash.
            Ok(opened) if closed.ending => drop(tokio::task::spawn_blocking(move || drop(opened))),
            Ok(opened) => {
                tracing::info!(
                    origin = opened.origin,
                    directory = %self.directory().display(),
                    records = opened.log.state().size,
                    "the audit log is open"
                );
                self.0.opened.store(Some(Arc::new(opened)));
                closed.why = None;
            }
            Err(why) => {
                if closed.why.as_ref() != Some(&why) {
                    tracing::error!(why, "the audit log cannot be opened; nothing is given out until it is");
                }
                closed.why = Some(why);
            }
        }
    }

    async fn open(&self) -> Result<Opened, String> {
        let directory = self.directory().to_owned();
        let known = self.0.store.audit_log().await.map_err(|error| format!("its key cannot be read: {error}"))?;
        let log = match known {
            Some(log) => log,
            None => self.first(&directory).await?,
        };
        let AuditLog { number, origin, sealed, head, .. } = log;
        let key = opened_key(&self.0.seals.load(), &origin, sealed.as_deref());
        // Whoever reads it knows from here on that there is a log, whose it is, and of how many records at least.
        self.is_known(&origin, key.as_ref().ok().map(LogKey::verifier), head.map_or(0, |head| head.size));
        let key = key?;
        let there = directory.try_exists().map_err(|error| not_looked_at(&directory, &error))?;
        if head.is_some() && !there {
            return Err(format!(
                "the directory {} of the audit log {origin} is gone; put it back, or begin a new log ({NEW_LOG})",
                directory.display()
            ));
        }
        make(&directory).map_err(|error| format!("{} cannot be made ({error})", directory.display()))?;
        let verifier = key.verifier().clone();
        let settings = Settings {
            sync: match self.0.config.sync {
                AuditSync::Interval(interval) => Sync::Interval(interval),
                AuditSync::Always => Sync::Always,
            },
            ..Settings::new(directory, origin.clone(), self.0.clock.clone())
        };
        let zones = Arc::new(Zones::new(self));
        let known = head.map(|head| Head { size: head.size, root: head.root });
        // On panic: it is not open, and tried again.
        let opening = tokio::task::spawn_blocking(move || Log::open(settings, key, zones, known));
        let log = opening.await.map_err(|error| error.to_string())?.map_err(|error| sentence(&error))?;
        let noted = Mutex::new((head.map(|head| head.size), None));
        Ok(Opened { log, number, origin, verifier, noted, keys: Mutex::default() })
    }

    fn is_known(&self, origin: &str, verifier: Option<&VerifierKey>, size: u64) {
        let known = Known::now(self.0.known.load_full().as_deref(), origin, verifier);
        self.0.known.store(Some(Arc::new(known)));
        self.is_signed(size);
    }

    /// The first log of this database.
    async fn first(&self, directory: &Path) -> Result<AuditLog, String> {
        if holds_a_log(directory).map_err(|error| not_looked_at(directory, &error))? {
            return Err(format!(
                "{} holds an audit log that this database knows nothing of; restore the database that belongs to it, or \
                 begin a new log ({NEW_LOG})",
                directory.display()
            ));
        }
        let seals = self.0.seals.load_full();
        begin(&self.0.store, &seals, &self.0.config.origin, None).await?;
        let made = self.0.store.audit_log().await.map_err(|error| error.to_string())?;
        made.ok_or_else(|| "it was begun, and is not in the database".to_owned())
    }
}

/// Makes the key of a new log and puts it on record.
pub(super) async fn begin(store: &Store, seals: &SealKeys, origin: &str, after: Option<u32>) -> Result<(), String> {
    let key = LogKey::generate(origin).map_err(|error| format!("a key cannot be made: {error}"))?;
    let seed = Secret::new(key.seed().to_vec());
    let sealed = audit_key::seal(seals, origin, &seed).map_err(|error| error.to_string())?;
    let new = NewAuditLog { origin: origin.to_owned(), sealed, after };
    store.begin_audit_log(new).await.map_err(|error| format!("its key cannot be put on record: {error}"))
}

fn opened_key(seals: &SealKeys, origin: &str, sealed: Option<&[u8]>) -> Result<LogKey, String> {
    let sealed = sealed.ok_or_else(|| format!("the key of the audit log {origin} is not in the database"))?;
    let seed = audit_key::open(seals, origin, sealed).map_err(|error| {
        format!("the key of the audit log {origin}: {error}; if that is lost, begin a new log ({NEW_LOG})")
    })?;
    let seed = seed.expose().try_into().map_err(|_| format!("the key of the audit log {origin} is none"))?;
    LogKey::from_seed(origin, seed).map_err(|error| format!("the key of the audit log {origin}: {error}"))
}

/// For the daemon's user alone: what is in it says who does what.
fn make(directory: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Whether somebody's records are in it. What cannot be looked at may hold some.
pub(super) fn holds_a_log(directory: &Path) -> io::Result<bool> {
    for name in [layout::CHECKPOINT, layout::HEADS] {
        if there(std::fs::symlink_metadata(directory.join(name)))?.is_some() {
            return Ok(true);
        }
    }
    for folder in ["tile", layout::JOURNAL] {
        if let Some(mut found) = there(std::fs::read_dir(directory.join(folder)))?
            && found.next().transpose()?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `None` where nothing is.
fn there<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What cannot be looked at is not gone.
fn not_looked_at(directory: &Path, error: &io::Error) -> String {
    format!("the directory {} of the audit log cannot be looked at ({error})", directory.display())
}

fn sentence(error: &OpenError) -> String {
    match error {
        OpenError::Behind { .. }
        | OpenError::Contradicts { .. }
        | OpenError::Foreign { .. }
        | OpenError::Missing(_) => {
            format!("{error}; a new log is begun by {NEW_LOG}")
        }
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_may_hold_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("log");
        assert!(!holds_a_log(&directory).unwrap(), "nothing is there");
        std::fs::create_dir_all(directory.join("journal")).unwrap();
        assert!(!holds_a_log(&directory).unwrap());
        std::fs::create_dir_all(directory.join("tile/0")).unwrap();
        assert!(holds_a_log(&directory).unwrap());
        // A link to itself is neither there nor not: root may look at everything else.
        let odd = folder.path().join("odd");
        std::os::unix::fs::symlink(&odd, &odd).unwrap();
        assert!(holds_a_log(&odd).is_err());
        assert!(odd.try_exists().is_err());
    }
}
