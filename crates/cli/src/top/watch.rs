//! The loop of the view: looks come in, keys come in, the view is drawn.

use std::time::Duration;

use futures_util::future::poll_immediate;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Source;
use super::figures::{Cluster, Look, compare};
use super::screen::{Screen, Wish, wishes};
use super::view::Shown;
use crate::failure::{Exit, Failure};
use crate::interruption;
use crate::status::age;
use model::clock::Clock;

/// An answer that is later than this, past the time between two looks, is worth a word.
const LATE: Duration = Duration::from_secs(2);
/// The view is drawn at least so often, because the age of what it shows is part of it.
const REDRAW: Duration = Duration::from_secs(1);

/// Shows what the source tells until the user has seen enough. A service that does not answer is asked again.
pub(super) async fn run(source: Source, first: Look, every: Duration) -> Result<(), Failure> {
    let mut picture = Picture::new(first, every, source.clock.clone());
    let (sender, mut looks) = mpsc::channel(1);
    // Ends with this function, in whatever it does. On panic: the view ends and says so.
    let mut asking = JoinSet::new();
    asking.spawn(ask(source, every, sender));
    // Signals are caught before the terminal is taken: one that ends the process by itself would leave it as it is.
    let mut interrupted = std::pin::pin!(interruption());
    if poll_immediate(&mut interrupted).await.is_some() {
        return Err(ended());
    }
    let mut screen = Screen::take()?;
    let mut wishes = wishes();
    let mut ticks = interval(REDRAW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let most = screen.draw(&picture.shown())?;
        tokio::select! {
            wish = wishes.recv() => match wish.transpose()? {
                None | Some(Wish::Quit) => return Ok(()),
                Some(Wish::Scroll(by)) => picture.scroll = picture.scroll.min(most).saturating_add_signed(by).min(most),
                Some(Wish::Redraw) => {}
            },
            look = looks.recv() => match look {
                Some(look) => picture.take(look),
                // It ends before the view only by a panic, which has given the terminal back.
                None => return Err(Failure::local("the view has ended by an error in keystorectl")),
            },
            () = &mut interrupted => return Err(ended()),
            _ = ticks.tick() => {}
        }
    }
}

fn ended() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted")
}

/// Looks until nobody wants to see it any more. Each look has its bound.
async fn ask(source: Source, every: Duration, looks: mpsc::Sender<Result<Look, Failure>>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once, and was had before.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if looks.send(source.look().await).await.is_err() {
            return;
        }
    }
}

/// What is known and shown.
struct Picture {
    /// The newest answer.
    last: Look,
    clusters: Vec<Cluster>,
    /// Why there has been none since.
    failure: Option<String>,
    every: Duration,
    scroll: usize,
    clock: Clock,
}

impl Picture {
    fn new(first: Look, every: Duration, clock: Clock) -> Self {
        let clusters = compare(None, &first);
        Self { last: first, clusters, failure: None, every, scroll: 0, clock }
    }

    fn take(&mut self, look: Result<Look, Failure>) {
        match look {
            Ok(look) => {
                self.clusters = compare(Some(&self.last), &look);
                (self.last, self.failure) = (look, None);
            }
            Err(failure) => self.failure = Some(words(&failure)),
        }
    }

    fn shown(&self) -> Shown<'_> {
        let old = self.clock.now().saturating_duration_since(self.last.at);
        let since = || format!("no answer for {}", age(old.as_secs()));
        let trouble = match &self.failure {
            Some(why) => Some(format!("{}: {why}; trying on", since())),
            None => (old > self.every + LATE).then(since),
        };
        Shown { clusters: &self.clusters, trouble, every: self.every, scroll: self.scroll }
    }
}

fn words(failure: &Failure) -> String {
    match (&failure.exception, failure.message.is_empty()) {
        (Some(exception), true) => exception.clone(),
        (Some(exception), false) => format!("{exception}: {}", failure.message),
        (None, true) => failure.code.map_or("no reason given", client::Code::name).to_owned(),
        (None, false) => failure.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Counts, hsm, look};
    use super::*;

    #[test]
    fn a_service_that_goes_away_and_comes_back_is_told_of() {
        let clock = Clock::manual();
        let counts = |items| Counts { items, failures: 0, latency: [items, 0, 0, 0] };
        let look = |items| Look { at: clock.now(), ..look(vec![hsm("hsm-a", counts(items))]) };
        let mut picture = Picture::new(look(10), Duration::from_secs(1), clock.clone());
        assert_eq!(picture.clusters[0].hsms[0].operations_per_second, None, "there is nothing to compare yet");
        assert_eq!(picture.shown().trouble, None);
        clock.advance(Duration::from_secs(3));
        assert_eq!(picture.shown().trouble, None, "not late yet");
        clock.advance(Duration::from_secs(1));
        assert_eq!(picture.shown().trouble.unwrap(), "no answer for 4s");
        picture.take(Err(Failure::new(Exit::Unreachable, "nothing listens there")));
        clock.advance(Duration::from_secs(6));
        assert_eq!(picture.shown().trouble.unwrap(), "no answer for 10s: nothing listens there; trying on");
        assert_eq!(picture.clusters[0].hsms[0].operations, 10, "what was known stays to be seen");
        picture.take(Ok(look(30)));
        assert_eq!(picture.shown().trouble, None);
        assert_eq!(picture.clusters[0].hsms[0].operations_per_second, Some(2.0));
    }
}
