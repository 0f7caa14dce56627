//! The files of a restore, and how they take each other's place so that a crash at any point is finished by whoever
//! comes next.
//!
//! Everything is prepared in a directory of its own. Its renaming is the decision: before it nothing has happened, and
//! after it everything will, by this process, by the next `keystored restore` or by the next start of the daemon. What
//! is there is set aside first, with all that belongs to it; then the new database takes its place, then the record of
//! it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::backup::{PRIVATE, failed, rename_new};
use crate::engine::sqlite::lineage::{INDEX, JOURNAL, LOG, RECORD, beside};
use model::step::steps;
use telemetry::abort;

/// Beside the database: a restore that is being prepared, and one that was decided.
const PREPARING: &str = ".restore-new";
const DECIDED: &str = ".restore";

/// In either: the database that is to come, the copy of the one that is there, under which name the latter is set
/// aside, and a mark that a login was begun whose outcome may be in that copy alone.
pub(super) const NEW: &str = "new.db";
pub(super) const FORMER: &str = "former.db";
const ASIDE: &str = "aside";
/// What a database consists of, by what is behind its name.
const BELONGING: [&str; 5] = ["", LOG, INDEX, JOURNAL, RECORD];
const LOOKING: &str = "looking";

steps! {
    /// Steps of a restore.
    pub enum RestoreStep in "restore" {
        /// Copies of both databases are made and looked through.
        Prepare = "prepare",
        /// What must not be undone is taken over into the copy.
        TakeOver = "take-over",
        /// From here on it will be done.
        Decide = "decide",
        /// The database that is there gets another name.
        SetAsideMain = "set-aside-main",
        /// Its write-ahead log gets another name.
        SetAsideLog = "set-aside-log",
        /// The log's index gets another name.
        SetAsideIndex = "set-aside-index",
        /// A journal gets another name.
        SetAsideJournal = "set-aside-journal",
        /// The record of what the database must be gets another name.
        SetAsideRecord = "set-aside-record",
        /// The restored database takes its place.
        Place = "place",
        /// And its record.
        PlaceRecord = "place-record",
        /// The copies go.
        Clear = "clear",
    }
}

/// A restore that is being prepared.
pub(super) struct Folder {
    database: PathBuf,
    path: PathBuf,
}

impl Folder {
    /// Makes the directory, empty.
    pub(super) fn make(database: &Path) -> Result<Self, Error> {
        let path = beside(database, PREPARING);
        let made = || -> io::Result<()> {
            remove(&path)?;
            fs::DirBuilder::new().mode(0o700).create(&path)
        };
        made().map_err(|error| failed(&path, error))?;
        Ok(Self { database: database.to_owned(), path })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Copies a file into it, for the daemon's user alone.
    pub(super) fn take(&self, from: &Path, name: &str) -> Result<(), Error> {
        let copied = || -> io::Result<()> {
            let mut from = File::open(from)?;
            let mut to = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(self.file(name))?;
            io::copy(&mut from, &mut to)?;
            to.sync_all()
        };
        copied().map_err(|error| failed(from, error))
    }

    /// Notes that logins are tried from now on; durable when it returns.
    pub(super) fn looking(&self) -> Result<(), Error> {
        let noted = || -> io::Result<()> {
            File::create(self.file(LOOKING))?.sync_all()?;
            sync(&self.path)?;
            sync(parent(&self.path))
        };
        noted().map_err(|error| failed(&self.path, error))
    }

    /// Every login has an outcome, and none that anybody has to remember.
    pub(super) fn looked(&self) -> Result<(), Error> {
        fs::remove_file(self.file(LOOKING)).map_err(|error| failed(&self.path, error))
    }

    /// Leaves what is there as it is.
    pub(super) fn discard(self) -> Result<(), Error> {
        discard(&self.database).map_err(|error| failed(&self.path, error))
    }

    /// Decides, and carries it out. `time` becomes part of the names under which things are set aside.
    pub(super) async fn decide(self, time: &str) -> Result<Vec<PathBuf>, Error> {
        let aside = free_name(&self.database, time);
        abort::around(RestoreStep::Decide.name(), async {
            let mut plan = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(self.file(ASIDE))?;
            plan.write_all(aside.as_os_str().as_encoded_bytes())?;
            plan.sync_all()?;
            for name in [NEW.to_owned(), format!("{NEW}{RECORD}")] {
                File::open(self.file(&name))?.sync_all()?;
            }
            sync(&self.path)?;
            fs::rename(&self.path, beside(&self.database, DECIDED))?;
            sync(parent(&self.path))
        })
        .await
        .map_err(|error: io::Error| failed(&self.path, error))?;
        Ok(finish(&self.database).await?.unwrap_or_default())
    }
}

/// Under which nothing was set aside yet: two restores may fall into one second, and what was decided has to come to its end.
fn free_name(database: &Path, time: &str) -> PathBuf {
    let is_free = |aside: &PathBuf| BELONGING.iter().all(|what| !beside(aside, what).exists());
    let first = beside(database, format!(".before-{time}"));
    let further = (2..=u16::MAX).map(|number| beside(database, format!(".before-{time}-{number}")));
    std::iter::once(first.clone()).chain(further).find(is_free).unwrap_or(first)
}

/// Finishes what was decided, if something was: the names under which everything was set aside. What was only being
/// prepared goes, unless [`unsettled`] has a use for it. Whoever calls this owns the database.
pub(crate) async fn finish(database: &Path) -> Result<Option<Vec<PathBuf>>, Error> {
    let decided = beside(database, DECIDED);
    if !decided.exists() {
        if unsettled(database).is_none() {
            discard(database).map_err(|error| failed(&beside(database, PREPARING), error))?;
        }
        return Ok(None);
    }
    put_in_place(database, &decided).await.map(Some).map_err(|error| {
        let why = format!("a restore that was decided cannot be finished ({error}); mend that, and start again");
        failed(&decided, why)
    })
}

async fn put_in_place(database: &Path, decided: &Path) -> io::Result<Vec<PathBuf>> {
    let (new, record) = (decided.join(NEW), decided.join(format!("{NEW}{RECORD}")));
    let aside = text_path(fs::read(decided.join(ASIDE))?);
    let mut names = Vec::new();
    let place = parent(database);
    for (step, what) in [
        (RestoreStep::SetAsideMain, ""),
        (RestoreStep::SetAsideLog, LOG),
        (RestoreStep::SetAsideIndex, INDEX),
        (RestoreStep::SetAsideJournal, JOURNAL),
        (RestoreStep::SetAsideRecord, RECORD),
    ] {
        let (from, to) = (beside(database, what), beside(&aside, what));
        abort::around(step.name(), async {
            // Once the new database is in its place, what lies there is the new one's.
            if new.exists() && from.exists() {
                rename_new(&from, &to)?;
                sync(place)?;
            }
            io::Result::Ok(())
        })
        .await?;
        names.extend(to.exists().then_some(to));
    }
    for (step, from, to) in
        [(RestoreStep::Place, &new, database.to_owned()), (RestoreStep::PlaceRecord, &record, beside(database, RECORD))]
    {
        abort::around(step.name(), async {
            if from.exists() {
                rename_new(from, &to)?;
                sync(place)?;
            }
            io::Result::Ok(())
        })
        .await?;
    }
    abort::around(RestoreStep::Clear.name(), async {
        remove(decided)?;
        sync(place)
    })
    .await?;
    Ok(names)
}

/// Whether a restore was decided and is not finished.
pub(crate) fn is_decided(database: &Path) -> bool {
    beside(database, DECIDED).exists()
}

/// The copy of the database in which a restore that was broken off has recorded what came of its logins.
pub(crate) fn unsettled(database: &Path) -> Option<PathBuf> {
    let folder = beside(database, PREPARING);
    folder.join(LOOKING).exists().then(|| folder.join(FORMER))
}

/// Forgets a restore that was being prepared.
pub(crate) fn discard(database: &Path) -> io::Result<()> {
    remove(&beside(database, PREPARING))
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn text_path(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    std::ffi::OsString::from_vec(bytes).into()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
