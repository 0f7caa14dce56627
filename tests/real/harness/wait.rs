//! Waiting for a condition, with a deadline. The only place in the tests that pauses.

use std::time::Duration;

use model::clock::Clock;

/// Two cores may be shared with a build and with other tests; nothing that is waited for takes this long unless it is broken.
pub(crate) const LONG: Duration = Duration::from_secs(120);

const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something to see.
#[track_caller]
pub(crate) fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    let deadline = clock.now() + within;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(clock.now() < deadline, "waited {within:?} in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Likewise, where looking is itself a call.
pub(crate) async fn until_async<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let clock = Clock::system();
    let deadline = clock.now() + within;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(clock.now() < deadline, "waited {within:?} in vain: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lets a drawn time pass, for which trouble is meant to last: there is no condition that could end it.
pub(crate) async fn pass(drawn: Duration) {
    tokio::time::sleep(drawn).await;
}

/// Tells how much of something that comes at a rate is due.
pub(crate) struct Pace {
    a_second: usize,
    tick: tokio::time::Interval,
    clock: Clock,
    begun: std::time::Instant,
    had: usize,
}

impl Pace {
    pub(crate) fn of(a_second: usize) -> Self {
        let clock = Clock::system();
        Self { a_second, tick: tokio::time::interval(PAUSE), begun: clock.now(), clock, had: 0 }
    }

    /// Waits for a moment; how many are due since the last time.
    pub(crate) async fn due(&mut self) -> usize {
        self.tick.tick().await;
        let all = (self.clock.now() - self.begun).as_secs_f64() * self.a_second as f64;
        let due = all as usize - self.had;
        self.had += due;
        due
    }
}
