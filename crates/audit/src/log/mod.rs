//! The writer of a log.
//!
//! A record goes into the journal first, by one write of whoever finds the pen free ([`append`]); who does not leaves it to
//! the one who has it. A thread has the disk sync what the kernel has and looks after the journal's files ([`sync`]); another
//! makes bundles, tiles and signed heads of what is synced ([`tiles`]); a third compresses closed bundles when nothing else
//! wants the processor ([`compress`]). A fourth touches no file, and ends the waiting of those for whom it all takes too long.
//!
//! **Invariants.** A record is accepted when the kernel has it, or the disk, as its class says. The number of a record that was
//! accepted never changes. A head is signed over synced records alone, when the bundles and tiles below it are synced too. The
//! journal keeps each record until a closed bundle that the newest head covers has it, so that it and the directory below the
//! newest head make all that may be missing. What fails is tried again by the thread whose task it is; until then nothing is accepted.

mod append;
mod archive;
mod bundles;
mod compress;
mod cosign;
mod disk;
mod earlier;
mod error;
mod growth;
mod heads;
mod heal;
mod journal;
mod leaves;
mod recover;
mod settings;
mod shared;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod tiles;
mod tree;
mod waiting;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use self::cosign::{Asked, Cosigning};
use self::disk::{Acts, Disk};
use self::heads::HeadFile;
use self::settings::Sizes;
use self::shared::{Figures, Pen, Recent, Shared};
use self::tiles::Tiles;

pub use self::archive::{Archived, archive};
pub use self::error::OpenError;
pub use self::leaves::{Class, EVENT_BYTES, Leaves, NoLeaf, NotAccepted, Position};
pub use self::settings::{Settings, Sync};
pub use self::state::{Groups, Reason, State, Trouble};
pub use self::waiting::Appending;
use crate::layout::FULL;
use crate::note::{Checkpoint, Cosigner, Head, LogKey};
use crate::within::Directory;

/// A log that is written to. One process has it open at a time. Dropping it closes it.
pub struct Log {
    shared: Arc<Shared>,
    synced: watch::Receiver<u64>,
    threads: Mutex<Threads>,
}

/// In the order in which they end.
#[derive(Default)]
struct Threads {
    sync: Option<JoinHandle<()>>,
    tiles: Option<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Log {
    /// Opens the log, makes it where there is none, and puts in order what a crash has left. `known` is the newest head that
    /// is known from elsewhere (the database): a log that is behind it, or contradicts it, is not written to.
    ///
    /// Blocks while it reads the journal; a head over all that was found is signed before long.
    pub fn open(
        settings: Settings,
        key: LogKey,
        cosigner: Arc<dyn Cosigner>,
        known: Option<Head>,
    ) -> Result<Self, OpenError> {
        Self::open_with(settings, Sizes::default(), Arc::new(()), key, cosigner, known)
    }

    fn open_with(
        settings: Settings,
        sizes: Sizes,
        acts: Arc<dyn Acts>,
        key: LogKey,
        cosigner: Arc<dyn Cosigner>,
        known: Option<Head>,
    ) -> Result<Self, OpenError> {
        let asked = Arc::new(Asked::default());
        let (log, tiles) = Self::prepare(settings, sizes, acts, key, &asked, known)?;
        log.start(tiles, asked, cosigner)?;
        Ok(log)
    }

    /// All but the threads.
    fn prepare(
        settings: Settings,
        sizes: Sizes,
        acts: Arc<dyn Acts>,
        key: LogKey,
        asked: &Arc<Asked>,
        known: Option<Head>,
    ) -> Result<(Self, Tiles), OpenError> {
        Checkpoint::text_of(&settings.origin, &Head::EMPTY).map_err(|error| OpenError::Start(error.to_string()))?;
        let disk = Disk::open(&settings.directory, acts).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::InUse(settings.directory.clone()),
            _ => OpenError::Failed { done: "opened", path: settings.directory.clone(), cause },
        })?;
        let found = recover::recover(&disk, key.verifier(), known, sizes.recent_bytes)?;
        let Some(segment) = found.segments.last().cloned() else {
            return Err(OpenError::Missing(settings.directory));
        };
        let end_at = (Arc::clone(&segment), found.offset);
        let (sender, receiver) = watch::channel(found.end);
        let head = found.newest.as_ref().map_or(Head::EMPTY, Checkpoint::head);
        let shared = Arc::new(Shared {
            sizes,
            disk,
            pen: Mutex::new(Pen {
                segment,
                offset: found.offset,
                next: found.end,
                stopped: None,
                full: None,
                closed: false,
                slow_at: None,
            }),
            slow: false.into(),
            queue: Mutex::default(),
            queued: 0.into(),
            recent: Mutex::new(Recent {
                bytes: found.recent.iter().map(|(_, leaves)| leaves.framed().len()).sum(),
                entries: found.recent,
                end: found.end,
                end_at: end_at.clone(),
                synced: found.end,
                synced_at: end_at,
                unsynced_bytes: 0,
                groups: Groups::default(),
                unfinished: Vec::new(),
                distrusted: false,
                unnamed: false,
                waiting: std::collections::VecDeque::new(),
                floor: head.size / FULL * FULL,
            }),
            segments: Mutex::new(found.segments),
            health: Mutex::default(),
            ill: false.into(),
            figures: Mutex::new(Figures {
                head,
                note: found.newest.as_ref().map(Checkpoint::to_bytes).unwrap_or_default(),
                signed_at: None,
                signatures: found.newest.as_ref().map_or(0, |newest| newest.lines().len()),
                stored: found.heads.0,
                growth: growth::Growth::default(),
                free: None,
                uncompressed: 0,
            }),
            times: waiting::Timekeeper::default(),
            dirty: false.into(),
            sync_bell: shared::Bell::default(),
            tiles_bell: shared::Bell::default(),
            compress_bell: shared::Bell::default(),
            tiles_astray: false.into(),
            synced: Mutex::new(Some(sender)),
            settings,
        });
        // Room for what comes first, before anybody is told that it is taken.
        if let Err(reason) = sync::provide(&shared) {
            shared.stop(reason);
        }
        let cosigning = Cosigning::new(Arc::clone(asked));
        let heads = HeadFile::new(found.heads.0, found.heads.1, sizes.heads_apart);
        let tiles = Tiles::new(Arc::clone(&shared), key, cosigning, heads, (found.edge, found.bundle, found.newest));
        Ok((Self { shared, synced: receiver, threads: Mutex::default() }, tiles))
    }

    fn start(&self, tiles: Tiles, asked: Arc<Asked>, cosigner: Arc<dyn Cosigner>) -> Result<(), OpenError> {
        let mut threads = locked(&self.threads);
        let shared = Arc::clone(&self.shared);
        // On panic: as said beside `spawn`, for each of these.
        threads.others.push(spawn("audit-waits", move || shared.times.run(&shared.settings.clock))?);
        let shared = Arc::clone(&self.shared);
        threads.others.push(spawn("audit-compress", move || compress::run(&shared))?);
        let shared = Arc::clone(&self.shared);
        threads.others.push(spawn("audit-cosign", move || cosign::run(&asked, &*cosigner, &shared))?);
        // On panic: likewise.
        threads.tiles = Some(spawn("audit-tiles", move || tiles.run())?);
        let shared = Arc::clone(&self.shared);
        threads.sync = Some(spawn("audit-sync", move || sync::run(&shared))?);
        Ok(())
    }

    /// Appends the records of one event. They are written by this very call where nobody else is writing, so what this returns
    /// is then ready at once; otherwise it ends when they were accepted, or after ten seconds at the latest.
    pub fn append(&self, leaves: Leaves, class: Class) -> Appending {
        self.shared.append(leaves, class)
    }

    /// As [`Self::append`], for who comes with many others: its records are written with theirs, by one call of the kernel, when
    /// one of them calls [`Self::write_gathered`]. Where none does, the log's own thread writes them before long.
    pub fn gather(&self, leaves: Leaves, class: Class) -> Appending {
        self.shared.gather(leaves, class)
    }

    /// Writes what was gathered and is not written yet, unless somebody else is writing, who does it then.
    pub fn write_gathered(&self) {
        self.shared.write_queued(append::By::Caller, 0);
    }

    /// How the log is. Touches no file.
    #[must_use]
    pub fn state(&self) -> State {
        let shared = &self.shared;
        let trouble = shared.troubled();
        let (size, synced, offset, segment, groups) = {
            let recent = locked(&shared.recent);
            (recent.end, recent.synced, recent.end_at.1, Arc::clone(&recent.end_at.0), recent.groups)
        };
        let journal = shared.journal_bytes(offset);
        let figures = locked(&shared.figures);
        State {
            trouble,
            size,
            synced,
            head: figures.head,
            signed_at: figures.signed_at,
            signatures: figures.signatures,
            bytes: figures.stored + journal,
            bytes_per_second: figures.growth.rate(),
            free_bytes: figures.free,
            full_in: figures.free.and_then(|free| figures.growth.lasts(free)),
            reserve_bytes: segment.allocated().saturating_sub(offset).min(shared.settings.reserve_bytes),
            uncompressed: figures.uncompressed,
            groups,
        }
    }

    /// The newest head that was signed: what to keep elsewhere.
    #[must_use]
    pub fn head(&self) -> Head {
        locked(&self.shared.figures).head
    }

    /// The directory that the log is written to, wherever it is now. What is kept beside the log is written by it, so that nothing
    /// gets into a directory that was put in its place.
    #[must_use]
    pub fn directory(&self) -> Directory {
        self.shared.disk.directory_now()
    }

    /// How many records are synced, as that grows: what those follow who pass records on.
    #[must_use]
    pub fn synced(&self) -> watch::Receiver<u64> {
        self.synced.clone()
    }

    /// Waits until the record of this number is synced, and says how many are. `None`: the log was closed before.
    pub async fn wait_beyond(&self, number: u64) -> Option<u64> {
        let mut synced = self.synced.clone();
        synced.wait_for(|size| *size > number).await.ok().map(|size| *size)
    }

    /// Whether one of its threads has ended by a fault of this program. What waits for that one waits in vain until the log is
    /// closed, dropped and opened anew.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        // Who closes it has them, until they have ended.
        let Ok(threads) = self.threads.try_lock() else { return false };
        threads.others.iter().chain(&threads.sync).chain(&threads.tiles).any(JoinHandle::is_finished)
    }

    /// Takes no more records, signs a last head over all that were accepted, and ends the threads. Blocks, for some seconds
    /// where HSMs are slow to sign.
    pub fn close(&self) {
        let shared = &self.shared;
        locked(&shared.pen).closed = true;
        let mut threads = locked(&self.threads);
        shared.sync_bell.close();
        join(threads.sync.take());
        shared.tiles_bell.close();
        join(threads.tiles.take());
        shared.compress_bell.close();
        shared.times.close();
        threads.others.drain(..).for_each(|thread| join(Some(thread)));
        shared.close_queue();
        locked(&shared.synced).take();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

/// On panic: the others go on. What waits for it is refused when its time is up, so nothing is given out that depends on it,
/// until whoever has the log sees that it has failed and opens it anew.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| OpenError::Start(error.to_string()))
}

fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("a thread of the audit log has failed");
    }
}

/// Whoever panicked held nothing that is half done: each lock is over whole steps.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
