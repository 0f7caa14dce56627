//! Open streams: bounded in all, and shared by principal as connections are ([`FairShare`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::entry::fair_share::{FairShare, Id, Joined, Line};
use crate::entry::open_call::OpenCall;
use auth::peer::Principal;
use model::clock::Clock;
use model::lock::MutexExt as _;

/// Streams beyond the bound that make room for others and have not gone yet.
const MAKING_ROOM: usize = 64;
/// What a stream gets that makes room, so that what it has asked is answered. One whose client does not read is cut off
/// then.
const FAREWELL: Duration = Duration::from_secs(5);

/// The places for open streams, shared by principal. Cheap to clone.
#[derive(Clone)]
pub(super) struct StreamSlots {
    fair_share: Arc<Mutex<FairShare<Use>>>,
    clock: Clock,
}

/// A slot; dropping it gives it back.
pub(super) struct StreamSlot {
    stream_slots: StreamSlots,
    id: Id,
    /// What the others see of its stream.
    pub(super) stream: Arc<Use>,
}

/// Whether a stream is in use, and whether it is to leave.
pub(super) struct Use {
    clock: Clock,
    opened: Instant,
    in_work: AtomicBool,
    /// When it was answered last, in nanoseconds from `opened`.
    used: AtomicU64,
    leaves: CancellationToken,
    open: Option<Arc<OpenCall>>,
}

impl StreamSlots {
    pub(super) fn new(most: usize, clock: Clock) -> Self {
        Self { fair_share: Arc::new(Mutex::new(FairShare::new(most, MAKING_ROOM))), clock }
    }

    /// Takes a slot, and has another stream make room where there is none; absent where none may be had.
    pub(super) fn take(&self, principal: &Principal, open: Option<&Arc<OpenCall>>) -> Option<StreamSlot> {
        let stream = Use::new(self.clock.clone(), open.cloned());
        let joined = self.fair_share.lock_anyway().join(principal, Arc::clone(&stream), self.clock.now());
        let Joined::In { id, leaves, ends } = joined else { return None };
        if let Some((_, other)) = leaves {
            other.leaves.cancel();
            if let Some(open) = &other.open {
                open.leaves_within(FAREWELL);
            }
        }
        if let Some(open) = ends.and_then(|other| other.open.clone()) {
            open.cut();
        }
        Some(StreamSlot { stream_slots: self.clone(), id, stream })
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.stream_slots.fair_share.lock_anyway().leave(&self.id);
    }
}

impl Use {
    pub(super) fn new(clock: Clock, open: Option<Arc<OpenCall>>) -> Arc<Self> {
        let opened = clock.now();
        let (in_work, used) = (AtomicBool::new(false), AtomicU64::new(0));
        Arc::new(Self { clock, opened, in_work, used, leaves: CancellationToken::new(), open })
    }

    /// Something of it is in work, or is not any more.
    pub(super) fn is_in_work(&self, in_work: bool) {
        if self.in_work.swap(in_work, Ordering::Relaxed) && !in_work {
            let used = self.clock.now().saturating_duration_since(self.opened).as_nanos();
            self.used.store(u64::try_from(used).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Resolves when it is to leave.
    pub(super) fn leaves(&self) -> impl Future<Output = ()> + Send + use<> {
        self.leaves.clone().cancelled_owned()
    }
}

impl Line for Use {
    fn idle_since(&self) -> Option<Instant> {
        let idle = !self.in_work.load(Ordering::Relaxed);
        idle.then(|| self.opened + Duration::from_nanos(self.used.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::entry::fair_share::UNUSED;

    #[test]
    fn an_idle_stream_makes_room_for_another_principal_and_is_told() {
        let clock = Clock::manual();
        let stream_slots = StreamSlots::new(2, clock.clone());
        let (a, b) = (Principal::new("cn:a"), Principal::new("cn:b"));
        let (first, second) = (stream_slots.take(&a, None).unwrap(), stream_slots.take(&a, None).unwrap());
        first.stream.is_in_work(true);
        let guest = stream_slots.take(&b, None).unwrap();
        assert!(first.stream.leaves().now_or_never().is_none(), "it is in use");
        assert!(second.stream.leaves().now_or_never().is_some());
        assert!(stream_slots.take(&b, None).is_none(), "as many as the other one has");
        // One of one's own goes when nobody has used it for a while.
        clock.advance(UNUSED);
        let another = stream_slots.take(&b, None).unwrap();
        assert!(guest.stream.leaves().now_or_never().is_some());
        drop((first, another));
        assert!(stream_slots.take(&a, None).is_some());
    }
}
