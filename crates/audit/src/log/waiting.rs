//! Who waits for a record to be accepted, and for how long.
//!
//! An append that was not accepted at once has a [`Waiter`], which is settled once: by whoever writes or syncs its records, or
//! by the timekeeper when its time is up. That thread touches no file, so no disk keeps anybody waiting longer. What happens
//! to a record does not depend on whether anybody still waits for it: futures are dropped.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::locked;
use super::{NotAccepted, Position};

/// An append that goes on. The record is made whether this is polled or not, and also when it is dropped.
#[must_use = "what depends on the record is given out when this has said that it was accepted"]
#[derive(Debug)]
pub struct Appending(Inner);

#[derive(Debug)]
enum Inner {
    /// Ended at once: what there is to say is said once.
    Ready(Option<Result<Position, NotAccepted>>),
    /// Not yet.
    Waiting(Arc<Waiter>),
}

impl Appending {
    pub(crate) const fn ready(outcome: Result<Position, NotAccepted>) -> Self {
        Self(Inner::Ready(Some(outcome)))
    }

    pub(crate) const fn waiting(waiter: Arc<Waiter>) -> Self {
        Self(Inner::Waiting(waiter))
    }

    /// Whether it was accepted at once.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        matches!(self.0, Inner::Ready(Some(Ok(_))))
    }

    /// Blocks until it has ended: for threads outside of a runtime.
    pub fn wait(self) -> Result<Position, NotAccepted> {
        match self.0 {
            Inner::Ready(outcome) => outcome.unwrap_or(Err(NotAccepted::Closed)),
            Inner::Waiting(waiter) => {
                let mut inside = locked(&waiter.inside);
                inside.blocks = true;
                while inside.outcome.is_none() {
                    inside = waiter.settled.wait(inside).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
                inside.outcome.clone().unwrap_or(Err(NotAccepted::Closed))
            }
        }
    }
}

impl Future for Appending {
    type Output = Result<Position, NotAccepted>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inner::Ready(outcome) => Poll::Ready(outcome.take().unwrap_or(Err(NotAccepted::Closed))),
            Inner::Waiting(waiter) => waiter.poll(context),
        }
    }
}

/// One append that waits.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    inside: Mutex<Inside>,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    outcome: Option<Result<Position, NotAccepted>>,
    waker: Option<Waker>,
    /// The kernel has it.
    written: bool,
    /// A thread is blocked until it has ended. Waking one asks the kernel, also where there is none.
    blocks: bool,
}

impl Waiter {
    /// Says how it ended. Only the first word counts.
    pub(crate) fn settle(&self, outcome: Result<Position, NotAccepted>) {
        let (waker, blocks) = {
            let mut inside = locked(&self.inside);
            if inside.outcome.is_some() {
                return;
            }
            inside.outcome = Some(outcome);
            (inside.waker.take(), inside.blocks)
        };
        if blocks {
            self.settled.notify_all();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The kernel has it, and the disk is waited for.
    pub(crate) fn written(&self) {
        locked(&self.inside).written = true;
    }

    /// Its time is up.
    pub(crate) fn expire(&self) {
        let written = locked(&self.inside).written;
        self.settle(Err(if written { NotAccepted::Unsynced } else { NotAccepted::TimedOut }));
    }

    /// Whether it has ended, which for one that was not written yet means that it gave up.
    pub(crate) fn is_settled(&self) -> bool {
        locked(&self.inside).outcome.is_some()
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<Position, NotAccepted>> {
        let mut inside = locked(&self.inside);
        if let Some(outcome) = &inside.outcome {
            return Poll::Ready(outcome.clone());
        }
        if !inside.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            inside.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

/// Those who wait, in the order of their ends: all wait equally long.
#[derive(Debug, Default)]
pub(crate) struct Timekeeper {
    inside: Mutex<Times>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Times {
    waiting: VecDeque<(Instant, Weak<Waiter>)>,
    closed: bool,
}

impl Timekeeper {
    /// Settles this one at that time.
    pub(crate) fn keep(&self, until: Instant, waiter: &Arc<Waiter>) {
        let mut times = locked(&self.inside);
        let idle = times.waiting.is_empty();
        // What has ended goes as new ones come, so that there are never many more than do wait.
        while times.waiting.front().is_some_and(|(_, waiter)| ended(waiter)) {
            times.waiting.pop_front();
        }
        times.waiting.push_back((until, Arc::downgrade(waiter)));
        drop(times);
        if idle {
            self.changed.notify_one();
        }
    }

    /// Settles those whose time is up. Says when the next one's is.
    pub(crate) fn expire(&self, now: Instant) -> Option<Instant> {
        loop {
            let expired = {
                let mut times = locked(&self.inside);
                match times.waiting.front() {
                    None => return None,
                    Some((until, waiter)) if *until > now && !ended(waiter) => return Some(*until),
                    Some(_) => times.waiting.pop_front(),
                }
            };
            if let Some(waiter) = expired.and_then(|(until, waiter)| (until <= now).then(|| waiter.upgrade())?) {
                waiter.expire();
            }
        }
    }

    /// The thread's work, until [`Self::close`].
    pub(crate) fn run(&self, clock: &model::clock::Clock) {
        loop {
            let next = self.expire(clock.now());
            let times = locked(&self.inside);
            if times.closed {
                return;
            }
            let pause = match next {
                Some(next) => next.saturating_duration_since(clock.now()).max(Duration::from_millis(1)),
                None if times.waiting.is_empty() => Duration::from_secs(60),
                None => continue,
            };
            // A manual clock moves without telling: looked at again before long.
            let pause = pause.min(Duration::from_secs(1));
            drop(self.changed.wait_timeout(times, pause));
        }
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        locked(&self.inside).closed = true;
        self.changed.notify_all();
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        locked(&self.inside).waiting.len()
    }
}

fn ended(waiter: &Weak<Waiter>) -> bool {
    waiter.upgrade().is_none_or(|waiter| waiter.is_settled())
}
