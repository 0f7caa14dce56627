//! When calls are due, and when there are no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use model::clock::Clock;

/// Calls that are due in the last moment may still be sent after the end.
const GRACE: Duration = Duration::from_millis(50);
/// The pacer looks at least this often whether it should stop.
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// How long a run is. One of both is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) duration: Option<Duration>,
    pub(super) calls: Option<u64>,
}

/// Hands out the right to make a call. Shared by all tasks of a run.
pub(super) struct Pace {
    clock: Clock,
    begin: Instant,
    end: Option<Instant>,
    most: u64,
    issued: AtomicU64,
    stopped: AtomicBool,
    open_loop: Option<OpenLoop>,
}

struct OpenLoop {
    rate: f64,
    /// One permit for each call that is due and not taken.
    due: Semaphore,
    takers: usize,
}

impl Pace {
    /// Begins now. With a rate, a thread of its own releases calls when they are due: timers of the async runtime have
    /// a resolution of a millisecond, which would show in the latencies.
    pub(super) fn start(clock: &Clock, extent: Extent, rate: Option<u32>, takers: usize) -> Arc<Self> {
        let begin = clock.now();
        let most = match (extent.calls, extent.duration, rate) {
            (Some(calls), _, _) => calls,
            (None, Some(duration), Some(rate)) => (duration.as_secs_f64() * f64::from(rate)) as u64,
            _ => u64::MAX,
        };
        let pace = Arc::new(Self {
            clock: clock.clone(),
            begin,
            end: extent.duration.map(|duration| begin + duration),
            most,
            issued: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            open_loop: rate.map(|rate| OpenLoop { rate: f64::from(rate), due: Semaphore::new(0), takers }),
        });
        if pace.open_loop.is_some() {
            let pacer = Arc::clone(&pace);
            // On panic: no further call is due; the callers wait until somebody ends the command.
            std::thread::spawn(move || pacer.release());
        }
        pace
    }

    /// When the next call counts as begun: now, or when it was due. None when there are no more calls.
    pub(super) async fn next(&self) -> Option<Instant> {
        let Some(open) = &self.open_loop else {
            if self.stopped.load(Ordering::Relaxed) {
                return None;
            }
            let now = self.clock.now();
            let over = self.end.is_some_and(|end| now >= end)
                || (self.most != u64::MAX && self.issued.fetch_add(1, Ordering::Relaxed) >= self.most);
            return (!over).then_some(now);
        };
        open.due.acquire().await.ok()?.forget();
        if self.stopped.load(Ordering::Relaxed) || self.end.is_some_and(|end| self.clock.now() >= end + GRACE) {
            return None;
        }
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        (number < self.most).then(|| self.begin + Duration::from_secs_f64(number as f64 / open.rate))
    }

    /// Ends the run early.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// True when no further call begins.
    pub(super) fn over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
            || self.end.is_some_and(|end| self.clock.now() >= end)
            || self.issued.load(Ordering::Relaxed) >= self.most
    }

    /// Since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.begin)
    }

    /// Calls of the open loop that were due and never taken.
    pub(super) fn unstarted(&self) -> u64 {
        match &self.open_loop {
            Some(open) => {
                let due = (self.elapsed().as_secs_f64() * open.rate) as u64;
                due.min(self.most).saturating_sub(self.issued.load(Ordering::Relaxed))
            }
            None => 0,
        }
    }

    fn release(&self) {
        let Some(open) = &self.open_loop else { return };
        let mut released = 0;
        while released < self.most && !self.stopped.load(Ordering::Relaxed) {
            let due = ((self.elapsed().as_secs_f64() * open.rate) as u64 + 1).min(self.most);
            open.due.add_permits(usize::try_from(due - released).unwrap_or(0));
            released = due;
            let next = self.begin + Duration::from_secs_f64(released as f64 / open.rate);
            std::thread::sleep(next.saturating_duration_since(self.clock.now()).min(LONGEST_NAP));
        }
        // Wakes whoever waits for a call that does not come.
        open.due.add_permits(open.takers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_loop_ends_with_its_calls_or_its_time() {
        let clock = Clock::manual();
        let pace = Pace::start(&clock, Extent { duration: None, calls: Some(2) }, None, 1);
        assert!(pace.next().await.is_some() && pace.next().await.is_some());
        assert!(pace.next().await.is_none() && pace.over());

        let pace = Pace::start(&clock, Extent { duration: Some(Duration::from_secs(5)), calls: None }, None, 1);
        clock.advance(Duration::from_millis(4_999));
        assert_eq!(pace.next().await, Some(clock.now()));
        clock.advance(Duration::from_millis(1));
        assert!(pace.next().await.is_none() && pace.over());
    }

    #[tokio::test]
    async fn an_open_loop_counts_from_when_a_call_was_due() {
        let clock = Clock::manual();
        let begin = clock.now();
        let pace = Pace::start(&clock, Extent { duration: Some(Duration::from_secs(1)), calls: None }, Some(10), 1);
        assert_eq!(pace.next().await, Some(begin));
        // The service stalls: five calls become due meanwhile.
        clock.advance(Duration::from_millis(500));
        for number in 1..=5 {
            assert_eq!(pace.next().await, Some(begin + Duration::from_millis(100 * number)));
        }
        // It stalls for good.
        clock.advance(Duration::from_secs(2));
        assert_eq!(pace.next().await, None);
        assert_eq!(pace.unstarted(), 4);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_call_is_woken_when_it_is_over() {
        let clock = Clock::manual();
        let pace = Pace::start(&clock, Extent { duration: None, calls: Some(1) }, Some(1_000), 2);
        let (first, second) = tokio::join!(pace.next(), pace.next());
        assert_eq!([first, second].iter().flatten().count(), 1);
    }
}
