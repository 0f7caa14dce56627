//! What one HSM is doing, put together from what its workers are doing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use super::running::Post;
use super::{State, Status};
use model::key_store::ConnectionErrorCode;
use protocol::{LoggedIn, Ready, Role};

/// Steps that are kept.
const STEPS: usize = 64;

/// What is known of each worker of an HSM.
pub(super) struct Board {
    seats: Vec<Seat>,
    /// Why no worker can be started yet.
    pub(super) hurdle: Option<(ConnectionErrorCode, String)>,
    /// What the newest worker found.
    pub(super) ready: Option<Arc<Ready>>,
    /// What the newest login found.
    logged_in: Option<Arc<LoggedIn>>,
    /// The token got its cluster's wrapping key since the HSM was started.
    placed: bool,
    /// The token has proven its identity.
    pub(super) proven: bool,
    /// Steps since the start, oldest first.
    steps: VecDeque<(SystemTime, Arc<str>)>,
    /// Workers started again after a death.
    pub(super) restarts: u64,
    /// Told to stop: that no worker serves is as it should be.
    pub(super) stopping: bool,
    state: State,
    since: SystemTime,
}

struct Seat {
    post: Post,
    view: View,
    /// It has been ready, or has failed: the beginning is over.
    tried: bool,
}

/// One worker, seen from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// It takes requests.
    pub(super) serving: bool,
    /// Its last trouble, while it is not over.
    pub(super) trouble: Option<String>,
    /// The same in AWS's terms.
    pub(super) code: Option<ConnectionErrorCode>,
    /// It is not started again.
    pub(super) refused: bool,
}

impl Board {
    /// Nothing has been started.
    pub(super) fn new(posts: impl Iterator<Item = Post>, now: SystemTime) -> Self {
        let seats = posts.map(|post| Seat { post, view: View::default(), tried: false }).collect();
        Self {
            seats,
            hurdle: None,
            ready: None,
            logged_in: None,
            placed: false,
            proven: false,
            steps: VecDeque::new(),
            restarts: 0,
            stopping: false,
            state: State::Starting,
            since: now,
        }
    }

    /// Notes what is being done.
    pub(super) fn step(&mut self, step: &str, now: SystemTime) {
        if self.steps.len() == STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back((now, step.into()));
    }

    /// Notes what a login found. One that looked before the wrapping key was placed may tell of it afterwards.
    pub(super) fn logs_in(&mut self, mut found: LoggedIn) {
        found.ceremony.wrapping |= self.placed;
        self.logged_in = Some(Arc::new(found));
    }

    /// Notes that the token holds its cluster's wrapping key since the newest login.
    pub(super) fn wraps(&mut self) {
        self.placed = true;
        let mut found = self.logged_in.as_deref().cloned().unwrap_or_default();
        found.ceremony.wrapping = true;
        self.logged_in = Some(Arc::new(found));
    }

    /// Notes how one worker is now.
    pub(super) fn put(&mut self, seat: usize, view: View) {
        if let Some(seat) = self.seats.get_mut(seat) {
            seat.tried |= view.serving || view.trouble.is_some();
            seat.view = view;
        }
    }

    /// The whole of it.
    pub(super) fn status(&mut self, now: SystemTime) -> Status {
        let serving = |role| self.seats.iter().filter(|seat| seat.post.role == role && seat.view.serving).count();
        let data_ready = u16::try_from(serving(Role::Data)).unwrap_or(u16::MAX);
        let state = if self.stopping && data_ready == 0 {
            State::Stopped
        } else if data_ready > 0 {
            State::Serving
        } else if self
            .seats
            .iter()
            .any(|seat| seat.tried && (seat.view.trouble.is_some() || seat.post.role == Role::Data))
        {
            State::Down
        } else {
            State::Starting
        };
        if state != self.state {
            self.state = state;
            self.since = now;
        }
        Status {
            state,
            reason: self.reason(),
            code: self.code(),
            refused: self.seats.iter().any(|seat| seat.view.refused),
            since: self.since,
            ready: self.ready.clone(),
            logged_in: self.logged_in.clone(),
            proven: self.proven,
            steps: self.steps.iter().cloned().collect(),
            data_ready,
            control_ready: serving(Role::Control) > 0,
            restarts: self.restarts,
        }
    }

    fn code(&self) -> Option<ConnectionErrorCode> {
        let hurdle = self.hurdle.as_ref().map(|(code, _)| *code);
        hurdle.or_else(|| {
            let mut seats = self.seats.iter().filter(|seat| !seat.view.serving);
            seats.find_map(|seat| seat.view.code)
        })
    }

    /// The first trouble of a worker that does not serve, else of one that does.
    fn reason(&self) -> Option<String> {
        let troubled = |serving: bool| {
            let mut seats = self.seats.iter().filter(move |seat| seat.view.serving == serving);
            seats.find_map(|seat| {
                let trouble = seat.view.trouble.as_ref()?;
                // What a gate says is about the HSM, whichever worker stood before it.
                Some(if trouble.starts_with("HSM ") { trouble.clone() } else { format!("{}: {trouble}", seat.post) })
            })
        };
        self.hurdle.as_ref().map(|(_, why)| why.clone()).or_else(|| troubled(false)).or_else(|| troubled(true))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn board() -> Board {
        let post = |role, index| Post { role, index };
        Board::new([post(Role::Control, 0), post(Role::Data, 0), post(Role::Data, 1)].into_iter(), NOW)
    }

    fn serving() -> View {
        View { serving: true, ..View::default() }
    }

    fn troubled(why: &str) -> View {
        View { trouble: Some(why.into()), ..View::default() }
    }

    #[test]
    fn it_starts_serves_and_is_down_by_its_data_workers() {
        let mut board = board();
        assert_eq!(board.status(NOW).state, State::Starting);
        board.put(0, serving());
        let status = board.status(NOW);
        assert_eq!((status.state, status.control_ready, status.data_ready), (State::Starting, true, 0));

        let later = NOW + Duration::from_secs(1);
        board.put(1, serving());
        assert_eq!(board.status(later).since, later);
        board.put(2, troubled("it was killed"));
        let status = board.status(later + Duration::from_secs(1));
        assert_eq!((status.state, status.data_ready, status.since), (State::Serving, 1, later));
        assert_eq!(status.reason.as_deref(), Some("data worker 1: it was killed"));

        board.put(1, View::default());
        assert_eq!(board.status(later).state, State::Down);
        board.stopping = true;
        assert_eq!(board.status(later).state, State::Stopped);
    }

    #[test]
    fn a_failed_beginning_is_down() {
        let mut board = board();
        board.put(0, troubled("no module"));
        let status = board.status(NOW);
        assert_eq!((status.state, status.reason.as_deref()), (State::Down, Some("control worker: no module")));
    }

    #[test]
    fn a_login_that_was_overtaken_does_not_take_the_wrapping_key_back() {
        let mut board = board();
        assert!(!board.status(NOW).holds_wrapping_key());
        board.logs_in(LoggedIn::default());
        assert!(!board.status(NOW).holds_wrapping_key());
        board.wraps();
        board.logs_in(LoggedIn::default());
        assert!(board.status(NOW).holds_wrapping_key());
    }

    #[test]
    fn waiting_for_the_lock_is_said() {
        let mut board = board();
        board.hurdle = Some((ConnectionErrorCode::NetworkErrors, "waits".into()));
        let status = board.status(NOW);
        assert_eq!((status.state, status.reason.as_deref()), (State::Starting, Some("waits")));
        assert_eq!(status.code, Some(ConnectionErrorCode::NetworkErrors));
    }
}
