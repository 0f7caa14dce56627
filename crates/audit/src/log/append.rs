//! How records get into the journal.
//!
//! Who finds the pen free writes, by one call of the kernel, what waits in the queue and then its own; who does not puts its
//! record into the queue. Whoever lets go of the pen looks at the queue once more, so nothing stays there: either the holder
//! saw it, or its owner found the pen free. Nobody awaits anything while holding the pen, so no future that is dropped takes
//! it along. What can't be written yet (no room allocated, the disk behind, the journal being made anew) is left to the sync
//! thread.
//!
//! Where many come at once, each puts its record into the queue without looking for the pen, lets others do so, and then asks
//! for all of them to be written ([`Shared::gather`]).

use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, TryLockError};
use std::time::Duration;

use super::Sync;
use super::leaves::{Class, Leaves, NotAccepted, Position};
use super::locked;
use super::shared::{Pen, Queue, Shared, Turn};
use super::state::Reason;
use super::waiting::{Appending, Waiter};

/// Most appends that one write takes, and about how many bytes: whoever writes has a call of its own to answer.
const GROUP: (usize, usize) = (256, 2 << 20);
/// How often one caller writes for others before the sync thread takes over.
const ROUNDS: usize = 4;

/// How long after a slow write, and without another one, callers write themselves again.
const CALM: Duration = Duration::from_secs(1);

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A caller, in its own thread: never while writes are slow, or each would be kept for as long as one takes.
    Caller,
    /// The sync thread.
    Thread,
}

/// What there is to say when the pen has been put down.
#[derive(Default)]
struct Written {
    own: Option<Result<Position, NotAccepted>>,
    settled: Vec<(Arc<Waiter>, Result<Position, NotAccepted>)>,
    /// What is left in the queue can't be written by us.
    stuck: bool,
}

/// Whether a record can be written now.
enum Judged {
    Write,
    Later,
    Refuse(NotAccepted),
}

impl Shared {
    /// Appends the records of one event.
    pub(crate) fn append(&self, leaves: Leaves, class: Class) -> Appending {
        if leaves.count() == 0 {
            return Appending::ready(Err(NotAccepted::Empty));
        }
        if let Some(refused) = self.refuses(class) {
            return Appending::ready(Err(refused));
        }
        let mut leaves = Some(leaves);
        if !self.waits_for_disk(class)
            && !self.slow.load(Ordering::Relaxed)
            && let Some(pen) = self.try_pen()
            && let Some(outcome) = self.write_and_put_down(pen, &mut leaves, class)
        {
            return Appending::ready(outcome);
        }
        match leaves {
            Some(leaves) => self.enqueue(leaves, class),
            // Not reached: what was taken was answered.
            None => Appending::ready(Err(NotAccepted::Closed)),
        }
    }

    /// Whether a record of this class is on the disk before it is accepted.
    fn waits_for_disk(&self, class: Class) -> bool {
        class != Class::Data || self.settings.sync == Sync::Always
    }

    fn try_pen(&self) -> Option<MutexGuard<'_, Pen>> {
        match self.pen.try_lock() {
            Ok(pen) => Some(pen),
            Err(TryLockError::Poisoned(pen)) => Some(pen.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Takes the records of one event, to be written with those of others that come meanwhile: by whoever writes next, which
    /// is who calls [`Self::write_queued`], and at the latest the sync thread. What waits for the disk is written at once.
    pub(crate) fn gather(&self, leaves: Leaves, class: Class) -> Appending {
        if self.waits_for_disk(class) || leaves.count() == 0 {
            return self.append(leaves, class);
        }
        match self.refuses(class).map_or_else(|| self.put(leaves, class), Err) {
            Ok(waiter) => Appending::waiting(waiter),
            Err(refused) => Appending::ready(Err(refused)),
        }
    }

    fn enqueue(&self, leaves: Leaves, class: Class) -> Appending {
        match self.put(leaves, class) {
            Ok(waiter) => {
                self.write_queued(By::Caller, 0);
                Appending::waiting(waiter)
            }
            Err(refused) => Appending::ready(Err(refused)),
        }
    }

    /// Puts them into the queue.
    fn put(&self, leaves: Leaves, class: Class) -> Result<Arc<Waiter>, NotAccepted> {
        let waiter = Arc::new(Waiter::default());
        {
            let mut queue = locked(&self.queue);
            // Nobody would take it from there any more.
            if queue.closed {
                return Err(NotAccepted::Closed);
            }
            let bytes = queue.bytes + leaves.framed().len();
            if queue.turns.len() >= self.sizes.queue.0 || bytes > self.sizes.queue.1 {
                return Err(NotAccepted::Busy);
            }
            queue.bytes = bytes;
            queue.turns.push_back(Turn { leaves, class, waiter: Arc::clone(&waiter) });
            self.queued.store(queue.turns.len(), Ordering::SeqCst);
        }
        self.times.keep(self.settings.clock.now() + self.sizes.wait, &waiter);
        Ok(waiter)
    }

    /// Writes what is in the queue, if nobody else has the pen: who has it does it then.
    pub(crate) fn write_queued(&self, by: By, rounds_before: usize) {
        for round in rounds_before.. {
            // Either this sees what was put into the queue, or who put it there sees the pen free.
            std::sync::atomic::fence(Ordering::SeqCst);
            if self.queued.load(Ordering::SeqCst) == 0 {
                return;
            }
            if round == ROUNDS || (by == By::Caller && self.slow.load(Ordering::Relaxed)) {
                return self.sync_bell.ring();
            }
            let Some(mut pen) = self.try_pen() else { return };
            let written = self.write(&mut pen, &mut None, Class::Data);
            drop(pen);
            let stuck = written.stuck;
            settle(written.settled);
            if stuck {
                return self.sync_bell.ring();
            }
        }
    }

    /// Writes what is in the queue and one's own behind it. `None`: it could not be written yet.
    fn write_and_put_down(
        &self,
        mut pen: MutexGuard<'_, Pen>,
        leaves: &mut Option<Leaves>,
        class: Class,
    ) -> Option<Result<Position, NotAccepted>> {
        let written = self.write(&mut pen, leaves, class);
        drop(pen);
        settle(written.settled);
        if written.stuck {
            self.sync_bell.ring();
        } else {
            self.write_queued(By::Caller, 1);
        }
        written.own
    }

    fn write(&self, pen: &mut Pen, own: &mut Option<Leaves>, class: Class) -> Written {
        let mut written = Written::default();
        let (mut group, mut bytes) = (Vec::new(), 0);
        if self.queued.load(Ordering::SeqCst) > 0 {
            self.take_queued(pen, &mut group, &mut bytes, &mut written);
        }
        // Behind all that came before it, or not at all.
        let own_is_next = !written.stuck && self.queued.load(Ordering::SeqCst) == 0;
        if let Some(leaves) = own.as_ref().filter(|_| own_is_next) {
            match self.judge(pen, class, bytes, leaves.framed().len()) {
                Judged::Write => {}
                Judged::Later => written.stuck = true,
                Judged::Refuse(why) => written.own = Some(Err(why)),
            }
        }
        let mine = own.take_if(|_| own_is_next && !written.stuck && written.own.is_none());
        if group.is_empty() && mine.is_none() {
            return written;
        }
        match self.write_group(pen, &group, mine.as_ref()) {
            Ok(()) => self.accept(pen, group, mine, &mut written),
            Err(reason) => {
                self.stop_with(pen, reason.clone());
                if mine.is_some() {
                    written.own = Some(Err(NotAccepted::Trouble(reason.clone())));
                }
                self.fail(group, &reason, &mut written);
                written.stuck = true;
            }
        }
        written
    }

    /// Takes from the queue what can be written now.
    fn take_queued(&self, pen: &Pen, group: &mut Vec<Turn>, bytes: &mut usize, written: &mut Written) {
        let mut queue = locked(&self.queue);
        while group.len() < GROUP.0 && *bytes < GROUP.1 {
            let Some(turn) = queue.turns.front() else { break };
            let length = turn.leaves.framed().len();
            let judged = if turn.waiter.is_settled() {
                // Gave up before it was written: so it never is.
                Judged::Refuse(NotAccepted::TimedOut)
            } else {
                self.judge(pen, turn.class, *bytes, length)
            };
            if matches!(judged, Judged::Later) {
                written.stuck = true;
                break;
            }
            let Some(turn) = pop(&mut queue) else { break };
            match judged {
                Judged::Refuse(why) => written.settled.push((turn.waiter, Err(why))),
                _ => {
                    *bytes += length;
                    group.push(turn);
                }
            }
        }
        self.queued.store(queue.turns.len(), Ordering::SeqCst);
    }

    fn judge(&self, pen: &Pen, class: Class, gathered: usize, length: usize) -> Judged {
        if pen.closed {
            return Judged::Refuse(NotAccepted::Closed);
        }
        if let Some(reason) = &pen.stopped {
            return match class {
                Class::Data => Judged::Refuse(NotAccepted::Trouble(reason.clone())),
                Class::Control | Class::Restricting => Judged::Later,
            };
        }
        let kept = if class == Class::Restricting { 0 } else { self.settings.reserve_bytes };
        let needed = (gathered as u64 + length as u64).saturating_add(kept);
        if pen.segment.allocated().saturating_sub(pen.offset) < needed {
            let Some(reason) = &pen.full else { return Judged::Later };
            self.trouble(|health| &mut health.full, Some(reason.clone()));
            return Judged::Refuse(NotAccepted::Trouble(reason.clone()));
        }
        let recent = locked(&self.recent);
        let behind = recent.unsynced_bytes.saturating_add(gathered) > self.sizes.unsynced_bytes
            || recent.waiting.len() >= self.sizes.unsynced;
        if behind { Judged::Later } else { Judged::Write }
    }

    fn write_group(&self, pen: &mut Pen, group: &[Turn], mine: Option<&Leaves>) -> Result<(), Reason> {
        let begun = self.settings.clock.now();
        let written = self.hand_over(pen, group, mine);
        let now = self.settings.clock.now();
        if now.saturating_duration_since(begun) > self.sizes.slow_write {
            pen.slow_at = Some(now);
            self.slow.store(true, Ordering::Relaxed);
        } else if pen.slow_at.is_some_and(|slow| now.saturating_duration_since(slow) > CALM) {
            pen.slow_at = None;
            self.slow.store(false, Ordering::Relaxed);
        }
        written
    }

    /// Gives them to the kernel.
    fn hand_over(&self, pen: &Pen, group: &[Turn], mine: Option<&Leaves>) -> Result<(), Reason> {
        let all = group.iter().map(|turn| &turn.leaves).chain(mine);
        let mut slices: Vec<IoSlice<'_>> = all.map(|leaves| IoSlice::new(leaves.framed())).collect();
        let segment = &pen.segment;
        self.disk
            .write(&segment.file, &segment.path, &mut slices, pen.offset)
            .map_err(|error| Reason::write(&error))?;
        // The cheap half of what the sync thread looks at.
        match self.disk.names_of(&segment.file) {
            Ok(0) => Err(Reason::JournalGone),
            Ok(_) => Ok(()),
            Err(error) => Err(Reason::write(&error)),
        }
    }

    /// The kernel has them.
    fn accept(&self, pen: &mut Pen, group: Vec<Turn>, mine: Option<Leaves>, written: &mut Written) {
        let mut recent = locked(&self.recent);
        let mut wait = false;
        let turns = group.into_iter().map(|turn| (turn.leaves, Some((turn.class, turn.waiter))));
        for (leaves, who) in turns.chain(mine.map(|leaves| (leaves, None))) {
            let position = Position { first: pen.next, count: leaves.count() };
            let length = leaves.framed().len();
            pen.next += u64::from(position.count);
            pen.offset += length as u64;
            recent.bytes += length;
            recent.unsynced_bytes += length;
            recent.entries.push_back((position.first, Arc::new(leaves)));
            match who {
                None => written.own = Some(Ok(position)),
                Some((class, waiter)) if self.waits_for_disk(class) => {
                    wait = true;
                    waiter.written();
                    recent.waiting.push_back((pen.next, position, waiter));
                }
                Some((_, waiter)) => written.settled.push((waiter, Ok(position))),
            }
        }
        recent.end = pen.next;
        recent.end_at = (Arc::clone(&pen.segment), pen.offset);
        drop(recent);
        let was_dirty = self.dirty.swap(true, Ordering::SeqCst);
        if wait {
            self.sync_bell.ring();
        } else if !was_dirty {
            self.sync_bell.nudge();
        }
    }

    /// They were not written. Whoever may wait for that to be healed goes back to where it was.
    fn fail(&self, group: Vec<Turn>, reason: &Reason, written: &mut Written) {
        let mut queue = locked(&self.queue);
        for turn in group.into_iter().rev() {
            if turn.class == Class::Data {
                written.settled.push((turn.waiter, Err(NotAccepted::Trouble(reason.clone()))));
            } else {
                queue.bytes += turn.leaves.framed().len();
                queue.turns.push_front(turn);
            }
        }
        self.queued.store(queue.turns.len(), Ordering::SeqCst);
    }

    /// Refuses all who are in the queue, at the end, and who come to it from then on.
    pub(crate) fn close_queue(&self) {
        let turns = {
            let mut queue = locked(&self.queue);
            self.queued.store(0, Ordering::SeqCst);
            std::mem::replace(&mut *queue, Queue { closed: true, ..Queue::default() }).turns
        };
        turns.into_iter().for_each(|turn| turn.waiter.settle(Err(NotAccepted::Closed)));
    }
}

fn pop(queue: &mut Queue) -> Option<Turn> {
    let turn = queue.turns.pop_front()?;
    queue.bytes = queue.bytes.saturating_sub(turn.leaves.framed().len());
    Some(turn)
}

fn settle(settled: Vec<(Arc<Waiter>, Result<Position, NotAccepted>)>) {
    settled.into_iter().for_each(|(waiter, outcome)| waiter.settle(outcome));
}
