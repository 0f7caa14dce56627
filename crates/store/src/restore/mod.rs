//! Putting a copy of the database in the place of the one that is there.
//!
//! Both are copied into a directory beside them and opened there: nothing that is there is touched before it was
//! decided ([`files`]). What must not be undone is taken over into the copy ([`plan`]).

mod access;
mod facts;
mod files;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::access::{AccessPlan, UnknownAccessKeys};
pub use self::files::RestoreStep;
pub(super) use self::files::{discard, finish, is_decided, unsettled};
pub use self::plan::{Facts, MARGIN, Order, Plan, plan, stands};

use self::files::{FORMER, Folder, NEW};
use super::backup::{failed, same_file};
use super::engine::Fault;
use super::engine::sqlite::copy::{self, Contents};
use super::engine::sqlite::lineage::pages::{Main, Mark};
use super::engine::sqlite::lineage::record::look;
use super::engine::sqlite::lineage::verdict::{Seen, Standing, judge, together};
use super::engine::sqlite::lineage::{self, JOURNAL, LOG, RECORD, beside};
use super::{Catalogue, Error, Store, lock};
use model::clock::{Clock, utc};
use model::id::{HsmId, KeyStoreId};
use model::pin::{Pin, PinChange};
use telemetry::abort;

/// Where a restored database comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// When it was made, in milliseconds since the Unix epoch; absent where it was not made by `keystored backup`.
    pub made_at: Option<i64>,
    /// At which change it is.
    pub change: u32,
    instance: u32,
}

/// What is there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Present {
    /// There is no database.
    Missing,
    /// The file that is to be restored, in place.
    Itself,
    /// A database that can be read.
    Readable {
        /// At this change; 0 where changes were not numbered yet.
        change: u32,
        /// What is damaged in it besides.
        damage: Option<String>,
    },
    /// Something else, or something damaged; why it cannot be read.
    Unreadable(String),
}

/// A restore on its way. Nothing is changed before [`Restore::commit`]. Owns the database meanwhile.
pub struct Restore {
    file: PathBuf,
    clock: Clock,
    origin: Origin,
    present: Present,
    restored: Store,
    former: Option<Former>,
    folder: Folder,
    _lock: lock::Lock,
}

/// A copy of the database that is there.
struct Former {
    store: Store,
    instance: u32,
    change: u32,
    pins: Pins,
}

type Pins = BTreeMap<(KeyStoreId, HsmId), Pin>;

impl Restore {
    /// Finishes a restore that was decided and broken off, if there is one: what it set aside. Fails where a daemon
    /// uses the database.
    pub async fn finish(file: &Path, clock: &Clock) -> Result<Option<Vec<PathBuf>>, Error> {
        let lock = lock::Lock::take(file)?;
        let finished = finish(file).await?;
        drop(lock);
        if unsettled(file).is_some() {
            // Opening it takes over what came of the logins.
            Store::open(file, clock.clone()).await?.close().await;
        }
        Ok(finished)
    }

    /// Looks through a copy, and at what is there.
    pub async fn prepare(file: &Path, source: &Path, clock: &Clock) -> Result<Self, Error> {
        let lock = lock::Lock::take(file)?;
        // Of a restore that was not decided.
        finish(file).await?;
        let folder = Folder::make(file)?;
        let prepared = async {
            let origin = take_source(file, source, &folder).await?;
            let restored = Store::open(&folder.file(NEW), clock.clone()).await;
            let restored = restored.map_err(|error| of_source(source, error))?;
            let (present, former) = take_present(file, source, &folder, clock).await?;
            Ok((origin, restored, present, former))
        };
        match abort::around(RestoreStep::Prepare.name(), prepared).await {
            Ok((origin, restored, present, former)) => {
                let (file, clock) = (file.to_owned(), clock.clone());
                Ok(Self { file, clock, origin, present, restored, former, folder, _lock: lock })
            }
            Err(error) => {
                folder.discard()?;
                Err(error)
            }
        }
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What is there before.
    #[must_use]
    pub fn present(&self) -> &Present {
        &self.present
    }

    /// The database that will be there.
    #[must_use]
    pub fn restored(&self) -> Arc<Catalogue> {
        self.restored.catalogue()
    }

    /// kmsuser's PINs in it.
    pub async fn restored_pins(&self) -> Result<Vec<(KeyStoreId, HsmId, Pin)>, Error> {
        let pins = self.restored.facts().await?.pins;
        Ok(pins.into_iter().map(|((key_store, hsm), pin)| (key_store, hsm, pin)).collect())
    }

    /// The copy of the one that is there, and whether it is the one that knows kmsuser's PINs.
    #[must_use]
    pub fn former(&self) -> Option<(&Store, Order)> {
        self.former.as_ref().map(|former| (&former.store, self.order(former)))
    }

    /// From now on logins are tried, with what [`Restore::former`] has on record, and recorded there.
    pub fn begin_looking(&self) -> Result<(), Error> {
        self.folder.looking()
    }

    /// No more are tried. What came of them that must be remembered is, whatever comes of the restore.
    pub async fn end_looking(&self) -> Result<(), Error> {
        let Some(former) = &self.former else { return self.folder.looked() };
        if former.store.facts().await?.pins == former.pins { self.folder.looked() } else { Ok(()) }
    }

    /// Takes over what must not be undone, into the copy.
    pub async fn take_over(&mut self, unknown: UnknownAccessKeys) -> Result<Plan, Error> {
        let backup = self.restored.facts().await?;
        let (former, order) = match &self.former {
            Some(former) => (Some(former.store.facts().await?), self.order(former)),
            None => (None, Order::Unrelated),
        };
        let mut plan = plan(&backup, former.as_ref(), order);
        if unknown == UnknownAccessKeys::Keep {
            plan.access.keep_unknown();
        }
        abort::around(RestoreStep::TakeOver.name(), async {
            self.restored.take_over(&plan).await?;
            self.restored.close().await;
            self.restored = Store::open(&self.folder.file(NEW), self.clock.clone()).await?;
            Ok(plan)
        })
        .await
    }

    /// Does it: under which names everything that was there is found now.
    pub async fn commit(self) -> Result<Vec<PathBuf>, Error> {
        self.restored.close().await;
        if let Some(former) = &self.former {
            former.store.close().await;
        }
        let log = beside(&self.folder.file(NEW), LOG);
        if std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(failed(&log, "the copy could not be written to its end; see whether the disk is full"));
        }
        self.folder.decide(&utc(self.clock.unix_millis()).replace(':', "-")).await
    }

    /// Leaves everything as it is, but for what came of logins that has to be remembered; whether there was any.
    pub async fn abandon(self) -> Result<bool, Error> {
        let Self { file, clock, restored, former, folder, _lock, .. } = self;
        restored.close().await;
        if let Some(former) = former {
            former.store.close().await;
        }
        if unsettled(&file).is_none() {
            folder.discard()?;
            return Ok(false);
        }
        drop(_lock);
        Store::open(&file, clock).await?.close().await;
        Ok(true)
    }

    fn order(&self, former: &Former) -> Order {
        match (former.instance, self.origin.instance) {
            (former, origin) if former != origin || former == 0 => Order::Unrelated,
            _ if lineage::verdict::reaches(former.change, self.origin.change) => Order::FormerIsNewer,
            _ => Order::BackupIsNewer,
        }
    }
}

/// Has an opened database know what came of the logins of a restore that was broken off.
pub(super) async fn settle(store: &Store, former: &Path) -> Result<(), Error> {
    let lost = |error: Error| {
        failed(
            former,
            format!(
                "it holds what came of logins that a restore has tried, and cannot be read ({error}); remove its \
                     directory if kmsuser's PINs are in order"
            ),
        )
    };
    let copy = Box::pin(Store::open(former, store.inner.clock.clone())).await.map_err(lost)?;
    let (tried, known) = (copy.facts().await?.pins, store.facts().await?.pins);
    copy.close().await;
    for ((key_store, hsm), pin) in tried {
        match known.get(&(key_store.clone(), hsm.clone())) {
            Some(before) if *before != pin => {
                tracing::warn!(%key_store, %hsm, "a restore has tried to log in; what came of it is on record now");
                let change = PinChange { hsm, before: Some(before.clone()), after: pin };
                store.replace_pin(&key_store, change).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Copies the database that is to be restored, looks through it and takes its marks away.
async fn take_source(file: &Path, source: &Path, folder: &Folder) -> Result<Origin, Error> {
    let meta = std::fs::metadata(source).map_err(|error| failed(source, error))?;
    if !meta.is_file() {
        return Err(failed(source, "it is no file; name a backup"));
    }
    let here = same_file(source, file);
    let has = |what: &str| std::fs::metadata(beside(source, what)).is_ok_and(|beside| beside.len() > 0);
    if has(JOURNAL) {
        return Err(failed(
            source,
            "a rollback journal (-journal) lies beside it: it is in use, or was left by a crash, and is no finished \
             backup",
        ));
    }
    let log = has(LOG);
    folder.take(source, NEW)?;
    if log {
        folder.take(&beside(source, LOG), &format!("{NEW}{LOG}"))?;
    }
    let copy = std::fs::File::open(folder.file(NEW)).map_err(|error| failed(source, error))?;
    let seen = lineage::look(&folder.file(NEW), Some(&copy)).map_err(|error| failed(source, error))?;
    drop(copy);
    let mark = match seen.main {
        Main::Database(mark) => mark,
        Main::Absent => return Err(failed(source, "it is empty")),
        Main::Other => return Err(failed(source, "it is no SQLite database")),
    };
    if log && !belongs(source, here, mark, &seen) {
        return Err(failed(
            source,
            "a write-ahead log (-wal) lies beside it: it is a database that is in use or was left by a crash, or the two \
             are not of one moment, and no finished backup. Take one by `keystored backup`; or, if you know that both are \
             of one moment, put copies of them into a directory of their own and have SQLite join them there (sqlite3 \
             COPY 'PRAGMA wal_checkpoint(TRUNCATE)')",
        ));
    }
    let contents = copy::take_marks(&folder.file(NEW), source).await;
    let Contents { made_at, change } = contents.map_err(|error| of_source(source, error))?;
    Ok(Origin { path: source.to_owned(), made_at, change, instance: mark.instance })
}

/// What SQLite says of a copy is said of the file that it was made of.
fn of_source(source: &Path, error: Error) -> Error {
    match error {
        Error::Database(why) | Error::Engine(Fault { message: why, .. }) => {
            failed(source, format!("it is damaged, or no database of keystored ({why})"))
        }
        other => other,
    }
}

/// Whether a log beside the file that is to be restored is its own, for certain: both lie where the daemon left them,
/// or were set aside together with the record of them.
fn belongs(source: &Path, here: bool, mark: Mark, seen: &Seen) -> bool {
    match look(&beside(source, RECORD)) {
        // Copied or not: the numbers tell, and times do not matter.
        Ok(Some(record)) => judge(&Seen { boot: String::new(), ..seen.clone() }, Some(&record)).is_ok(),
        _ => here && !mark.backup && together(mark, &seen.log).is_ok(),
    }
}

/// Copies what is there, if it is what keystored left, and opens the copy.
async fn take_present(
    file: &Path,
    source: &Path,
    folder: &Folder,
    clock: &Clock,
) -> Result<(Present, Option<Former>), Error> {
    if same_file(source, file) {
        return Ok((Present::Itself, None));
    }
    let main = match std::fs::File::open(file) {
        Ok(main) => Some(main),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(file, error)),
    };
    let record = look(&beside(file, RECORD)).map_err(|error| failed(file, error))?;
    let seen = lineage::look(file, main.as_ref()).map_err(|error| failed(file, error))?;
    drop(main);
    let standing = match judge(&seen, record.as_ref()) {
        Ok(Standing::New) => return Ok((Present::Missing, None)),
        Ok(standing) => standing,
        Err(why) => return Ok((Present::Unreadable(why.to_string()), None)),
    };
    let read = async {
        let copy = folder.file(FORMER);
        folder.take(file, FORMER)?;
        if beside(file, LOG).exists() {
            folder.take(&beside(file, LOG), &format!("{FORMER}{LOG}"))?;
        }
        let damage = copy::take_damaged(&copy, file).await?;
        let store = Store::open(&copy, clock.clone()).await?;
        let pins = store.facts().await?.pins;
        let (instance, change) = match standing {
            Standing::Ours(mark) => (mark.instance, mark.change),
            Standing::New | Standing::Unnumbered => (0, 0),
        };
        Ok::<_, Error>((Former { store, instance, change, pins }, damage))
    };
    match read.await {
        Ok((former, damage)) => Ok((Present::Readable { change: former.change, damage }, Some(former))),
        Err(error) => Ok((Present::Unreadable(error.to_string()), None)),
    }
}
