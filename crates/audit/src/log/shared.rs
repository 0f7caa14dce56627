//! What the threads of a log and its callers share.
//!
//! Locks are taken in this order: pen, queue, recent, segments; health and figures inside of any. None is held while something
//! waits for the disk, except the pen while its holder writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use super::append::By;
use super::disk::Disk;
use super::growth::Growth;
use super::journal::Segment;
use super::leaves::{Class, Leaves, NotAccepted, Position};
use super::locked;
use super::settings::{Settings, Sizes};
use super::state::{Groups, Reason, Trouble};
use super::waiting::{Timekeeper, Waiter};
use crate::note::Head;

/// All of it.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) sizes: Sizes,
    pub(crate) disk: Disk,
    pub(crate) pen: Mutex<Pen>,
    pub(crate) queue: Mutex<Queue>,
    /// How many are in the queue, to be asked without its lock.
    pub(crate) queued: AtomicUsize,
    pub(crate) recent: Mutex<Recent>,
    /// The journal's files, the last one being written to.
    pub(crate) segments: Mutex<Vec<Arc<Segment>>>,
    pub(crate) health: Mutex<Health>,
    /// Something is the matter, to be asked without the lock.
    pub(crate) ill: AtomicBool,
    pub(crate) figures: Mutex<Figures>,
    pub(crate) times: Timekeeper,
    /// Writes are slow: callers leave them to the sync thread.
    pub(crate) slow: AtomicBool,
    /// There are records that the disk may not have.
    pub(crate) dirty: AtomicBool,
    pub(crate) sync_bell: Bell,
    pub(crate) tiles_bell: Bell,
    pub(crate) compress_bell: Bell,
    /// What was written to bundles and tiles since the newest head may lie elsewhere.
    pub(crate) tiles_astray: AtomicBool,
    /// Who passes records on waits for this; gone when the log is closed.
    pub(crate) synced: Mutex<Option<watch::Sender<u64>>>,
}

/// Who has it writes.
pub(crate) struct Pen {
    pub(crate) segment: Arc<Segment>,
    /// Where in the segment the next record goes.
    pub(crate) offset: u64,
    /// The number that it gets.
    pub(crate) next: u64,
    /// Why the journal is not to be written to.
    pub(crate) stopped: Option<Reason>,
    /// Why there is no more room for the journal.
    pub(crate) full: Option<Reason>,
    pub(crate) closed: bool,
    /// When a write was slow last, while callers leave writing to the sync thread.
    pub(crate) slow_at: Option<Instant>,
}

/// An append that was not written yet.
pub(crate) struct Turn {
    pub(crate) leaves: Leaves,
    pub(crate) class: Class,
    pub(crate) waiter: Arc<Waiter>,
}

/// Those who found somebody else writing.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) turns: VecDeque<Turn>,
    pub(crate) bytes: usize,
    /// Nobody looks at it any more.
    pub(crate) closed: bool,
}

/// The newest records, in memory: what the disk may not have, and what closed bundles do not have yet.
pub(crate) struct Recent {
    pub(crate) entries: VecDeque<(u64, Arc<Leaves>)>,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// The number behind the last record that was written.
    pub(crate) end: u64,
    /// Where in which segment that is.
    pub(crate) end_at: (Arc<Segment>, u64),
    /// The number behind the last record that is synced.
    pub(crate) synced: u64,
    pub(crate) synced_at: (Arc<Segment>, u64),
    /// Bytes of records that are not synced.
    pub(crate) unsynced_bytes: usize,
    pub(crate) groups: Groups,
    /// Segments before the last one that are not synced to their ends.
    pub(crate) unfinished: Vec<Arc<Segment>>,
    /// A sync failed: what the kernel says of what is not synced is not believed.
    pub(crate) distrusted: bool,
    /// A segment's name may not be on the disk.
    pub(crate) unnamed: bool,
    /// Who waits for the disk to have all records before this number.
    pub(crate) waiting: VecDeque<(u64, Position, Arc<Waiter>)>,
    /// Records before this number are in closed bundles that the newest head covers.
    pub(crate) floor: u64,
}

impl Recent {
    /// The number of the first record that is kept in memory.
    pub(crate) fn first(&self) -> u64 {
        self.entries.front().map_or(self.end, |(first, _)| *first)
    }

    /// Lets go of what nobody needs from here: what closed bundles have, and what is synced where that is too much. It is given
    /// to the caller to be dropped when the lock is free: thousands at once, for which nobody who writes is to wait.
    #[must_use]
    pub(crate) fn forget(&mut self, most_bytes: usize) -> Vec<(u64, Arc<Leaves>)> {
        let mut count = 0;
        for (first, leaves) in &self.entries {
            let end = first + u64::from(leaves.count());
            if end > self.floor && (self.bytes <= most_bytes || end > self.synced) {
                break;
            }
            self.bytes = self.bytes.saturating_sub(leaves.framed().len());
            count += 1;
        }
        self.entries.drain(..count).collect()
    }
}

/// What is the matter.
#[derive(Default)]
pub(crate) struct Health {
    /// With the journal: nothing can be written.
    pub(crate) journal: Option<Trouble>,
    /// No more than the reserve is left.
    pub(crate) full: Option<Trouble>,
    /// With what is made of the journal.
    pub(crate) tiles: Option<Trouble>,
}

/// What is told of the log and changes with each head, or more seldom.
pub(crate) struct Figures {
    pub(crate) head: Head,
    /// The head's note as it lies in its file.
    pub(crate) note: Vec<u8>,
    pub(crate) signed_at: Option<SystemTime>,
    pub(crate) signatures: usize,
    /// Bytes of bundles, tiles and heads.
    pub(crate) stored: u64,
    pub(crate) growth: Growth,
    pub(crate) free: Option<u64>,
    pub(crate) uncompressed: u64,
}

impl Shared {
    /// Takes note of trouble: one that goes on keeps its beginning.
    pub(crate) fn trouble(&self, of: impl FnOnce(&mut Health) -> &mut Option<Trouble>, reason: Option<Reason>) {
        let mut health = locked(&self.health);
        let place = of(&mut health);
        match (place.as_mut(), reason) {
            (Some(trouble), Some(reason)) if trouble.reason == reason => {}
            (Some(trouble), Some(reason)) => {
                tracing::warn!(reason = %reason, "the audit log is in trouble");
                trouble.reason = reason;
            }
            (None, Some(reason)) => {
                tracing::warn!(reason = %reason, "the audit log is in trouble");
                *place = Some(Trouble { reason, since: self.settings.clock.calendar() });
            }
            (Some(trouble), None) => {
                tracing::info!(reason = %trouble.reason, "the audit log's trouble has passed");
                *place = None;
            }
            (None, None) => {}
        }
        let Health { journal, full, tiles } = &*health;
        self.ill.store([journal, full, tiles].into_iter().any(Option::is_some), Ordering::Release);
    }

    /// What is the matter, the worst first.
    pub(crate) fn troubled(&self) -> Option<Trouble> {
        let health = locked(&self.health);
        health.journal.as_ref().or(health.full.as_ref()).or(health.tiles.as_ref()).cloned()
    }

    /// Why a record of this class need not even try, without any lock that somebody holds while writing.
    pub(crate) fn refuses(&self, class: Class) -> Option<NotAccepted> {
        if !self.ill.load(Ordering::Acquire) {
            return None;
        }
        let health = locked(&self.health);
        let trouble = match class {
            Class::Data => health.journal.as_ref().or(health.tiles.as_ref()),
            Class::Control => health.tiles.as_ref(),
            Class::Restricting => None,
        };
        trouble.map(|trouble| NotAccepted::Trouble(trouble.reason.clone()))
    }

    /// What the journal's files hold, the last of them so many bytes.
    pub(crate) fn journal_bytes(&self, offset: u64) -> u64 {
        let segments = locked(&self.segments);
        let before = segments.split_last().map_or(&[][..], |(_, before)| before);
        before.iter().map(|segment| segment.length.load(Ordering::Acquire)).sum::<u64>().saturating_add(offset)
    }

    /// So many are synced.
    pub(crate) fn announce(&self, synced: u64) {
        if let Some(sender) = locked(&self.synced).as_ref() {
            sender.send_replace(synced);
        }
    }

    /// Lets nothing be written until it is healed.
    pub(crate) fn stop(&self, reason: Reason) {
        self.with_pen(|pen| self.stop_with(pen, reason));
    }

    /// Holds the pen for other than writing. Who came meanwhile is not left alone. For the sync thread.
    pub(crate) fn with_pen<T>(&self, act: impl FnOnce(&mut Pen) -> T) -> T {
        let done = act(&mut locked(&self.pen));
        self.write_queued(By::Thread, 0);
        done
    }

    /// As [`Self::stop`], for who has the pen.
    pub(crate) fn stop_with(&self, pen: &mut Pen, reason: Reason) {
        pen.stopped = Some(reason.clone());
        self.trouble(|health| &mut health.journal, Some(reason));
        self.sync_bell.ring();
    }
}

/// Wakes a thread.
#[derive(Default)]
pub(crate) struct Bell {
    inside: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Rung {
    rung: bool,
    nudged: bool,
    closing: bool,
}

impl Bell {
    /// Has the thread look at once.
    pub(crate) fn ring(&self) {
        locked(&self.inside).rung = true;
        self.changed.notify_one();
    }

    /// Has the thread know that there is something for it, which has time.
    pub(crate) fn nudge(&self) {
        locked(&self.inside).nudged = true;
        self.changed.notify_one();
    }

    /// Has the thread finish.
    pub(crate) fn close(&self) {
        locked(&self.inside).closing = true;
        self.changed.notify_one();
    }

    /// Waits until somebody rings or the time is up. `true`: the thread is to finish.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let inside = locked(&self.inside);
        let waited = self.changed.wait_timeout_while(inside, most, |rung| !rung.rung && !rung.closing);
        let mut inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        inside.rung = false;
        inside.closing
    }

    /// As [`Self::wait`], but rings do not end it: for who waits before trying once more what just failed.
    pub(crate) fn wait_calmly(&self, most: Duration) -> bool {
        let inside = locked(&self.inside);
        let waited = self.changed.wait_timeout_while(inside, most, |rung| !rung.closing);
        let mut inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        inside.rung = false;
        inside.closing
    }

    /// As [`Self::wait`], but a nudge is enough. It is not taken for a ring by the next [`Self::wait`].
    pub(crate) fn wait_for_nudge(&self, most: Duration) {
        let inside = locked(&self.inside);
        let waited = self.changed.wait_timeout_while(inside, most, |rung| !rung.rung && !rung.closing && !rung.nudged);
        waited.unwrap_or_else(PoisonError::into_inner).0.nudged = false;
    }
}
