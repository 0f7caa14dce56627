//! The load itself: tasks that make one call after the other, or keep a stream full.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::messages::{self, Messages, batch_results, stream_result};
use super::pace::Pace;
use super::statistics::Statistics;
use super::{Mode, Operation};
use client::{Client, Error, Fault, raw};
use model::clock::Clock;

/// A service that is gone must not be asked in a tight loop.
const AFTER_A_LOST_CONNECTION: Duration = Duration::from_millis(10);

/// What is put on the service.
pub(super) struct Load {
    pub(super) client: Client,
    pub(super) mode: Mode,
    pub(super) operation: Operation,
    pub(super) in_flight: usize,
    pub(super) messages: Messages,
    pub(super) clock: Clock,
}

impl Load {
    /// Runs until the pace ends and every answer is there.
    pub(super) async fn run(&self, pace: &Arc<Pace>) -> Statistics {
        let mut tasks = JoinSet::new();
        let connections = self.client.connections();
        match self.mode {
            Mode::Unary | Mode::Batch => {
                for number in 0..self.in_flight {
                    let method = messages::method(self.mode, self.operation);
                    // On panic: what it had done so far is not counted.
                    tasks.spawn(self.task(number, pace).calls(method));
                }
            }
            Mode::Stream => {
                for number in 0..connections.min(self.in_flight) {
                    // The windows of all streams add up to what is wanted in flight.
                    let window = (self.in_flight + connections - 1 - number) / connections;
                    // On panic: as above.
                    tasks.spawn(self.task(number, pace).streams(window.max(1)));
                }
            }
        }
        let mut sum = Statistics::new();
        while let Some(task) = tasks.join_next().await {
            // A task ends otherwise only by a panic, which has been reported by then.
            if let Ok(statistics) = task {
                sum.add(statistics);
            }
        }
        sum
    }

    /// Task number `number`, on the connection whose turn it is.
    fn task(&self, number: usize, pace: &Arc<Pace>) -> Task {
        Task {
            caller: self.client.raw(number),
            messages: self.messages.of_task(number),
            pace: Arc::clone(pace),
            clock: self.clock.clone(),
            statistics: Statistics::new(),
        }
    }
}

struct Task {
    caller: raw::Caller,
    messages: Messages,
    pace: Arc<Pace>,
    clock: Clock,
    statistics: Statistics,
}

impl Task {
    async fn calls(mut self, method: raw::Method) -> Statistics {
        while let Some(begun) = self.pace.next().await {
            let answer = self.caller.call(method, self.messages.next()).await;
            let after = self.clock.now().saturating_duration_since(begun);
            let statistics = &mut self.statistics;
            match answer {
                Ok(_) if !method.is_batch() => {
                    statistics.answered(after);
                    statistics.items += 1;
                }
                Ok(answer) => {
                    statistics.answered(after);
                    let read = batch_results(&answer, |result| match result {
                        Ok(()) => statistics.items += 1,
                        Err(error) => statistics.error(error),
                    });
                    if let Err(error) = read {
                        statistics.error(error);
                    }
                }
                Err(error) => {
                    let lost = error.fault() == Fault::Connection;
                    statistics.failed(after, error);
                    if lost {
                        tokio::time::sleep(AFTER_A_LOST_CONNECTION).await;
                    }
                }
            }
        }
        self.statistics
    }

    /// Opens a stream, and another one when it breaks.
    async fn streams(mut self, window: usize) -> Statistics {
        let starts = Starts::new(window, self.clock.now());
        while !self.pace.over() {
            if let Err(error) = self.stream(window, &starts).await {
                self.statistics.error(error);
                tokio::time::sleep(AFTER_A_LOST_CONNECTION).await;
            }
        }
        self.statistics
    }

    /// Keeps one stream full until the pace ends or the stream breaks. Requests are numbered by slots, of which there
    /// are as many as may be in flight.
    async fn stream(&mut self, window: usize, starts: &Starts) -> Result<(), Error> {
        let (requests, mut answers) = self.caller.stream(window).await?;
        let (give_back, mut free) = mpsc::channel(window);
        for slot in 0..window as u64 {
            // There is room for each.
            let _ = give_back.try_send(slot);
        }
        let Self { messages, pace, clock, statistics, .. } = self;
        let sending = async move {
            while let Some(slot) = free.recv().await {
                let Some(begun) = pace.next().await else { break };
                starts.set(slot, begun);
                let message = raw::Numbered { number: slot, rest: messages.next() };
                if requests.send(message).await.is_err() {
                    break;
                }
            }
            // Dropping the sender here tells the service that nothing follows.
        };
        let receiving = async move {
            while let Some(answer) = answers.next().await? {
                let (slot, result) = stream_result(&answer)?;
                statistics.answered(clock.now().saturating_duration_since(starts.of(slot)));
                match result {
                    Ok(()) => statistics.items += 1,
                    Err(error) => statistics.error(error),
                }
                let _ = give_back.try_send(slot);
            }
            Ok(())
        };
        let ((), received) = join(sending, receiving).await;
        received
    }
}

/// When the request in each slot began, shared by the sending and the receiving half.
struct Starts {
    origin: Instant,
    nanos: Vec<AtomicU64>,
}

impl Starts {
    fn new(slots: usize, origin: Instant) -> Self {
        Self { origin, nanos: (0..slots).map(|_| AtomicU64::new(0)).collect() }
    }

    fn set(&self, slot: u64, begun: Instant) {
        if let Some(nanos) = self.nanos.get(slot as usize) {
            let since = begun.saturating_duration_since(self.origin).as_nanos();
            nanos.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    fn of(&self, slot: u64) -> Instant {
        let nanos = self.nanos.get(slot as usize).map_or(0, |nanos| nanos.load(Ordering::Relaxed));
        self.origin + Duration::from_nanos(nanos)
    }
}
