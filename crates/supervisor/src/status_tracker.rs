//! What one HSM is doing, put together from what its workers are doing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use super::worker_id::WorkerId;
use super::{State, Status};
use model::key_store::ConnectionErrorCode;
use model::profile::judgement::Judgement;
use protocol::{LoggedIn, Ready, Role};

/// Steps that are kept.
const STEPS: usize = 64;

/// What is known of each worker of an HSM.
pub(super) struct StatusTracker {
    slots: Vec<Slot>,
    /// Why no worker can be started yet.
    pub(super) start_blocker: Option<(ConnectionErrorCode, String)>,
    /// What the newest worker found.
    pub(super) ready: Option<Arc<Ready>>,
    /// What the newest login found.
    logged_in: Option<Arc<LoggedIn>>,
    /// The token got its cluster's wrapping key since the HSM was started.
    placed: bool,
    /// The token has proven its identity.
    pub(super) proven: bool,
    /// What the newest examination of the token found.
    examined: Option<Arc<Judgement>>,
    /// Steps since the start, oldest first.
    steps: VecDeque<(SystemTime, Arc<str>)>,
    /// Workers started again after a death.
    pub(super) restarts: u64,
    /// Told to stop: that no worker serves is as it should be.
    pub(super) stopping: bool,
    state: State,
    since: SystemTime,
}

struct Slot {
    id: WorkerId,
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
    /// It is the HSM's, whichever worker met it.
    pub(super) of_hsm: bool,
    /// The same in AWS's terms.
    pub(super) code: Option<ConnectionErrorCode>,
    /// It is not started again.
    pub(super) refused: bool,
}

impl StatusTracker {
    /// Nothing has been started.
    pub(super) fn new(ids: impl Iterator<Item = WorkerId>, now: SystemTime) -> Self {
        let slots = ids.map(|id| Slot { id, view: View::default(), tried: false }).collect();
        Self {
            slots,
            start_blocker: None,
            ready: None,
            logged_in: None,
            placed: false,
            proven: false,
            examined: None,
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

    /// Notes what an examination of the token found.
    pub(super) fn examined(&mut self, judgement: Judgement) {
        self.examined = Some(Arc::new(judgement));
    }

    /// Notes how one worker is now.
    pub(super) fn put(&mut self, slot: usize, view: View) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.tried |= view.serving || view.trouble.is_some();
            slot.view = view;
        }
    }

    /// The whole of it.
    pub(super) fn status(&mut self, now: SystemTime) -> Status {
        let serving = |role| self.slots.iter().filter(|slot| slot.id.role == role && slot.view.serving).count();
        let data_ready = u16::try_from(serving(Role::Data)).unwrap_or(u16::MAX);
        let state = if self.stopping && data_ready == 0 {
            State::Stopped
        } else if data_ready > 0 {
            State::Serving
        } else if self
            .slots
            .iter()
            .any(|slot| slot.tried && (slot.view.trouble.is_some() || slot.id.role == Role::Data))
        {
            State::Down
        } else {
            State::Starting
        };
        if state != self.state {
            self.state = state;
            self.since = now;
        }
        let (reason, names_hsm) = self.reason().unzip();
        Status {
            state,
            reason,
            names_hsm: names_hsm.unwrap_or(false),
            code: self.code(),
            refused: self.slots.iter().any(|slot| slot.view.refused),
            since: self.since,
            ready: self.ready.clone(),
            logged_in: self.logged_in.clone(),
            proven: self.proven,
            examined: self.examined.clone(),
            steps: self.steps.iter().cloned().collect(),
            data_ready,
            control_ready: serving(Role::Control) > 0,
            control_failed: self.control_failed(),
            restarts: self.restarts,
        }
    }

    fn code(&self) -> Option<ConnectionErrorCode> {
        let start_blocker = self.start_blocker.as_ref().map(|(code, _)| *code);
        start_blocker.or_else(|| {
            let mut slots = self.slots.iter().filter(|slot| !slot.view.serving);
            slots.find_map(|slot| slot.view.code)
        })
    }

    /// Its slot comes first, so that where it has any trouble and nothing keeps all of them from starting, that is what is told.
    fn control_failed(&self) -> bool {
        let mut control = self.slots.iter().take(1).filter(|slot| slot.id.role == Role::Control);
        self.start_blocker.is_none() && control.any(|slot| !slot.view.serving && slot.view.trouble.is_some())
    }

    /// The first trouble of a worker that does not serve, else of one that does, and whether it names the HSM.
    fn reason(&self) -> Option<(String, bool)> {
        let troubled = |serving: bool| {
            let mut slots = self.slots.iter().filter(move |slot| slot.view.serving == serving);
            slots.find_map(|slot| {
                let trouble = slot.view.trouble.as_ref()?;
                let of_hsm = slot.view.of_hsm;
                Some((if of_hsm { trouble.clone() } else { format!("{}: {trouble}", slot.id) }, of_hsm))
            })
        };
        let blocked = self.start_blocker.as_ref().map(|(_, why)| (why.clone(), false));
        blocked.or_else(|| troubled(false)).or_else(|| troubled(true))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn tracker() -> StatusTracker {
        let id = |role, index| WorkerId { role, index };
        StatusTracker::new([id(Role::Control, 0), id(Role::Data, 0), id(Role::Data, 1)].into_iter(), NOW)
    }

    fn serving() -> View {
        View { serving: true, ..View::default() }
    }

    fn troubled(why: &str) -> View {
        View { trouble: Some(why.into()), ..View::default() }
    }

    #[test]
    fn it_starts_serves_and_is_down_by_its_data_workers() {
        let mut tracker = tracker();
        assert_eq!(tracker.status(NOW).state, State::Starting);
        tracker.put(0, serving());
        let status = tracker.status(NOW);
        assert_eq!((status.state, status.control_ready, status.data_ready), (State::Starting, true, 0));

        let later = NOW + Duration::from_secs(1);
        tracker.put(1, serving());
        assert_eq!(tracker.status(later).since, later);
        tracker.put(2, troubled("it was killed"));
        let status = tracker.status(later + Duration::from_secs(1));
        assert_eq!((status.state, status.data_ready, status.since), (State::Serving, 1, later));
        assert_eq!(status.reason.as_deref(), Some("data worker 1: it was killed"));

        tracker.put(1, View::default());
        assert_eq!(tracker.status(later).state, State::Down);
        tracker.stopping = true;
        assert_eq!(tracker.status(later).state, State::Stopped);
    }

    #[test]
    fn a_failed_beginning_is_down() {
        let mut tracker = tracker();
        tracker.put(0, troubled("no module"));
        let status = tracker.status(NOW);
        assert_eq!((status.state, status.reason.as_deref()), (State::Down, Some("control worker: no module")));
    }

    #[test]
    fn the_control_workers_trouble_is_told_before_others_and_known_for_its() {
        let mut tracker = tracker();
        tracker.put(1, serving());
        tracker.put(2, troubled("it was killed"));
        assert!(!tracker.status(NOW).control_failed, "it is starting");
        tracker.put(0, troubled("it is not let in"));
        let status = tracker.status(NOW);
        assert!(status.control_failed && !status.control_ready);
        assert_eq!(status.reason.as_deref(), Some("control worker: it is not let in"));
        tracker.put(0, View { serving: true, ..troubled("a probe failed") });
        assert!(!tracker.status(NOW).control_failed);
    }

    /// Decided by what admission said, not by how its sentence begins.
    #[test]
    fn a_refusal_is_the_hsms_and_names_no_worker() {
        let mut tracker = tracker();
        tracker.put(1, View { of_hsm: true, ..troubled("its token refuses the PIN") });
        assert_eq!(tracker.status(NOW).reason.as_deref(), Some("its token refuses the PIN"));
        tracker.put(1, troubled("HSM is what this sentence begins with"));
        let reason = tracker.status(NOW).reason;
        assert_eq!(reason.as_deref(), Some("data worker 0: HSM is what this sentence begins with"));
    }

    #[test]
    fn a_login_that_was_overtaken_does_not_take_the_wrapping_key_back() {
        let mut tracker = tracker();
        assert!(!tracker.status(NOW).holds_wrapping_key());
        tracker.logs_in(LoggedIn::default());
        assert!(!tracker.status(NOW).holds_wrapping_key());
        tracker.wraps();
        tracker.logs_in(LoggedIn::default());
        assert!(tracker.status(NOW).holds_wrapping_key());
    }

    #[test]
    fn waiting_for_the_lock_is_said() {
        let mut tracker = tracker();
        tracker.start_blocker = Some((ConnectionErrorCode::NetworkErrors, "waits".into()));
        let status = tracker.status(NOW);
        assert_eq!((status.state, status.reason.as_deref()), (State::Starting, Some("waits")));
        assert_eq!(status.code, Some(ConnectionErrorCode::NetworkErrors));
    }
}
