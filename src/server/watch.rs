//! RoundRobin the watchdog, and tells systemd for as long as nothing stands still.
//!
//! It is woken by a thread outside the runtime. A task that keeps one of the runtime's threads for ever may leave all
//! others asleep, with nobody who would look at sockets and timers; whoever is woken from outside does that again. So
//! one such task does not take the others with it, and is found.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use tokio::sync::Notify;

use super::Error;
use super::systemd::Systemd;
use model::clock::Clock;
use telemetry::fault;
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

/// Tells for ever when the watchdog's next turn is due.
pub(super) fn ticks(watchdog: &Watchdog) -> Result<Arc<Notify>, Error> {
    let (ticks, watchdog) = (Arc::new(Notify::new()), watchdog.clone());
    let tick = Arc::clone(&ticks);
    let beat = move || {
        loop {
            thread::sleep(Watchdog::every());
            fault::hit(Task::Metronome, "");
            tick.notify_one();
        }
    };
    // On panic: the process ends (vital).
    let beating =
        thread::Builder::new().name("metronome".to_owned()).spawn(move || watchdog.vital_thread(Task::Metronome, beat));
    beating
        .map_err(|error| Error::Passing(format!("no thread can be started ({error}); raise the limit (TasksMax)")))?;
    Ok(ticks)
}

/// One turn for each tick, for ever.
pub(super) async fn run(watchdog: Watchdog, ticks: Arc<Notify>, systemd: Systemd, clock: Clock, heartbeat: Heartbeat) {
    let mut told: Option<Instant> = None;
    loop {
        heartbeat.turn().await;
        watchdog.turn();
        let now = clock.now();
        let due = |every| told.is_none_or(|told| now.saturating_duration_since(told) >= every / 2);
        if systemd.watchdog().is_some_and(due) && watchdog.stuck().is_empty() {
            systemd.alive();
            told = Some(now);
        }
        ticks.notified().await;
    }
}
