//! The life of one worker as a state machine: what happened and when goes in, what to do comes out.
//!
//! ```text
//! Backoff → Queued → Starting → Entering → Ready → Dying → Backoff …
//!                                   └─ refused for good ─→ Dying → Refused
//! ```
//!
//! Invariants: a worker is never killed while it may be inside a login before the limit of logins, which is far above
//! the others; one that was refused for good is not started again; every process that was started is waited for before
//! the next.

mod probed;

use std::time::{Duration, Instant};

use super::admission::AdmissionError;
use model::key_store::ConnectionErrorCode as Code;
use protocol::{Class, Fault, Kind};

/// The limits that a worker's life goes by.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// First and longest pause before a worker is started again.
    pub restart: (Duration, Duration),
    /// A worker that has not found its token after this is killed.
    pub find: Duration,
    /// One that is not let in after this is sent away, and killed after as long again.
    pub enter: Duration,
    /// A worker that was told to leave and is still there after this is killed.
    pub leave: Duration,
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No process; one is started after a pause.
    Backoff {
        /// When it is over.
        until: Instant,
    },
    /// No process; waits until no other worker of this HSM is starting.
    Queued,
    /// The process is there, loads the module and looks for the token.
    Starting {
        /// It is killed then.
        until: Instant,
    },
    /// It has found its token and is in admission: logs in, proves itself.
    Entering {
        /// It is sent away then.
        until: Instant,
    },
    /// It takes requests.
    Ready {
        /// Since when.
        since: Instant,
        /// Probes in a row that were not answered well.
        misses: u8,
    },
    /// It no longer takes requests, and its process is not gone yet.
    Dying {
        /// It is killed then; absent once it was.
        until: Option<Instant>,
        /// It may be inside a login.
        login: bool,
    },
    /// No process; the HSM was refused for good.
    Refused,
    /// No process, and there will be none.
    Stopped,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The time of [`StateMachine::until`] has come.
    Due,
    /// No other worker of this HSM is starting.
    Turn,
    /// The process could not be made.
    Unspawned(String),
    /// The file with the HSM's certificate cannot be used, and no process was made.
    NoCertificate(String),
    /// The worker has found its token.
    Found,
    /// The worker was let in.
    Ready,
    /// The worker gave up starting.
    Failed(Fault),
    /// The worker was not let in; another worker of this HSM was refused for good; or one that serves may do so no more.
    Refused(AdmissionError),
    /// A probe was answered.
    Probed(Result<(), Fault>),
    /// A probe was answered with a word that there is too much to do.
    Busy {
        /// The word.
        fault: Fault,
        /// Something was done for callers since the last probe.
        served: bool,
    },
    /// A session thread is busy past its limit.
    Overdue {
        /// What it does.
        kind: Kind,
        /// The limit.
        limit: Duration,
    },
    /// The worker closed its socket.
    Closed,
    /// The worker sent what is no message.
    Garbled(String),
    /// The process has ended, in the system's words.
    Exited(String),
    /// Stop for good; outside login, kill what is still there at this time.
    Stop {
        /// What is left then is killed.
        kill_at: Instant,
    },
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the process.
    Spawn,
    /// Take it to admission.
    Enter,
    /// Hand it requests.
    Serve,
    /// Hand it nothing from now on.
    Withdraw,
    /// Close its socket, so that it logs out and leaves.
    Close,
    /// Kill it.
    Kill,
}

/// What is wrong with a worker.
#[derive(Clone, Debug)]
struct Trouble {
    code: Code,
    why: String,
    /// Any other worker of the HSM would have met it: admission refused it.
    of_hsm: bool,
}

impl Trouble {
    fn of_worker(code: Code, why: String) -> Self {
        Self { code, why, of_hsm: false }
    }
}

/// One worker's life.
#[derive(Debug)]
pub struct StateMachine {
    policy: Policy,
    state: State,
    deaths: u32,
    refused: bool,
    stop: bool,
    trouble: Option<Trouble>,
    /// The next pause is at least as long.
    after: Option<Duration>,
    /// Since when it says nothing else than that there is too much to do.
    busy_since: Option<Instant>,
}

impl StateMachine {
    /// About to start.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            state: State::Queued,
            deaths: 0,
            refused: false,
            stop: false,
            trouble: None,
            after: None,
            busy_since: None,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// What went wrong last, until it is ready again; what happened and what to do.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.why.as_str())
    }

    /// The same in AWS's terms.
    pub fn code(&self) -> Option<Code> {
        self.trouble.as_ref().map(|trouble| trouble.code)
    }

    /// Whether its trouble is the HSM's, whichever worker met it.
    pub fn is_trouble_of_hsm(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.of_hsm)
    }

    /// When [`Event::Due`] is to be told.
    pub fn until(&self) -> Option<Instant> {
        match self.state {
            State::Backoff { until } | State::Starting { until } | State::Entering { until } => Some(until),
            State::Dying { until, .. } => until,
            State::Queued | State::Ready { .. } | State::Refused | State::Stopped => None,
        }
    }

    /// It was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop
    }

    /// One step. `jitter` is any byte; it spreads restarts. What has no meaning in a state changes nothing: events of
    /// a process arrive in any order.
    pub fn next(&mut self, event: Event, now: Instant, jitter: u8) -> &'static [Action] {
        match (self.state, event) {
            (State::Stopped, _) => &[],
            (state, Event::Stop { kill_at }) => self.stop(state, now, kill_at),
            (_, Event::Exited(how)) => self.exited(&how, now, jitter),
            (State::Queued, Event::Turn) => {
                self.state = State::Starting { until: now + self.policy.find };
                &[Action::Spawn]
            }
            (State::Queued, Event::Refused(refusal)) => {
                self.refuse(refusal);
                self.state = if self.refused { State::Refused } else { self.pause(now, jitter) };
                &[]
            }
            (State::Backoff { .. }, Event::Due) => {
                self.state = State::Queued;
                &[]
            }
            (State::Starting { .. }, Event::Unspawned(error)) => {
                self.trouble = Some(Trouble::of_worker(Code::InternalError, error));
                self.state = self.pause(now, jitter);
                &[]
            }
            (State::Starting { .. }, Event::NoCertificate(why)) => {
                self.trouble = Some(Trouble { code: Code::InsufficientCloudHsmHsms, why, of_hsm: true });
                self.state = self.pause(now, jitter);
                &[]
            }
            (State::Starting { .. }, Event::Found) => {
                self.state = State::Entering { until: now + self.policy.enter };
                &[Action::Enter]
            }
            (State::Entering { .. }, Event::Ready) => {
                (self.trouble, self.busy_since) = (None, None);
                self.state = State::Ready { since: now, misses: 0 };
                &[Action::Serve]
            }
            (State::Starting { .. } | State::Entering { .. }, Event::Failed(fault)) => {
                self.fail(&fault);
                self.leave_early(now);
                &[Action::Close]
            }
            (State::Entering { .. }, Event::Refused(refusal)) => {
                self.refuse(refusal);
                self.leave_early(now);
                &[Action::Close]
            }
            (State::Starting { .. }, Event::Due) => {
                let why = format!(
                    "the worker had not found its token after {:?} and was killed; the module hangs while it starts: \
                     see to the HSM and its network",
                    self.policy.find
                );
                self.trouble = Some(Trouble::of_worker(Code::NetworkErrors, why));
                self.state = State::Dying { until: None, login: false };
                &[Action::Kill]
            }
            (State::Entering { .. }, Event::Due) => {
                let why = format!("the worker was not let in within {:?}", self.policy.enter);
                self.trouble = Some(Trouble::of_worker(Code::NetworkErrors, why));
                self.leave_early(now);
                &[Action::Close]
            }
            (State::Entering { .. }, Event::Overdue { kind, limit }) => {
                let why = format!(
                    "the module was busy with one {} for more than {limit:?} before the worker was ready, \
                     so it was killed; see to the HSM and its network",
                    name(kind)
                );
                self.trouble = Some(Trouble::of_worker(Code::NetworkErrors, why));
                self.state = State::Dying { until: None, login: false };
                &[Action::Kill]
            }
            (State::Starting { .. } | State::Entering { .. }, Event::Closed) => {
                self.leave_early(now);
                &[Action::Close]
            }
            (State::Starting { .. } | State::Entering { .. }, Event::Garbled(error)) => {
                self.trouble = Some(Trouble::of_worker(Code::InternalError, format!("the worker sent {error}")));
                self.leave_early(now);
                &[Action::Close]
            }
            (State::Ready { since, .. }, Event::Probed(Ok(()))) => {
                (self.trouble, self.busy_since) = (None, None);
                self.state = State::Ready { since, misses: 0 };
                &[]
            }
            (State::Ready { since, misses }, Event::Probed(Err(fault))) => self.missed(since, misses, &fault, now),
            (State::Ready { since, .. }, Event::Busy { fault, served }) => self.busy(since, &fault, served, now),
            (State::Ready { since, .. }, Event::Overdue { kind, limit }) => {
                let why = format!(
                    "the module was busy with one {} for more than {limit:?}, so the worker was killed; it is started \
                     again",
                    name(kind)
                );
                self.trouble = Some(Trouble::of_worker(Code::NetworkErrors, why));
                self.leave_ready(since, now, None);
                &[Action::Withdraw, Action::Kill]
            }
            (State::Ready { since, .. }, Event::Refused(refusal)) => {
                self.refuse(refusal);
                self.leave_ready(since, now, Some(now + self.policy.leave));
                &[Action::Withdraw, Action::Close]
            }
            (State::Ready { since, .. }, Event::Closed) => {
                self.leave_ready(since, now, Some(now + self.policy.leave));
                &[Action::Withdraw, Action::Close]
            }
            (State::Ready { since, .. }, Event::Garbled(error)) => {
                self.trouble = Some(Trouble::of_worker(Code::InternalError, format!("the worker sent {error}")));
                self.leave_ready(since, now, Some(now + self.policy.leave));
                &[Action::Withdraw, Action::Close]
            }
            (State::Dying { until: Some(_), .. }, Event::Due) => {
                self.state = State::Dying { until: None, login: false };
                &[Action::Kill]
            }
            (State::Dying { until: Some(until), login: true }, Event::Ready) => {
                // Told to leave while it was starting; the login is behind it now.
                let until = until.min(now + self.policy.leave);
                self.state = State::Dying { until: Some(until), login: false };
                &[]
            }
            (State::Dying { .. }, Event::Failed(fault)) => {
                self.fail(&fault);
                &[]
            }
            (State::Dying { .. }, Event::Refused(refusal)) if refusal.permanent => {
                self.refuse(refusal);
                &[]
            }
            _ => &[],
        }
    }

    /// It leaves before it was ready. One in admission may have begun a login this very moment, which has its whole
    /// limit from now on; before admission there is none.
    fn leave_early(&mut self, now: Instant) {
        self.state = match self.state {
            State::Starting { until } => State::Dying { until: Some(until), login: false },
            _ => State::Dying { until: Some(now + self.policy.enter), login: true },
        };
    }

    fn stop(&mut self, state: State, now: Instant, kill_at: Instant) -> &'static [Action] {
        self.stop = true;
        match state {
            State::Backoff { .. } | State::Queued | State::Refused | State::Stopped => {
                self.state = State::Stopped;
                &[]
            }
            State::Starting { until } => {
                self.state = State::Dying { until: Some(until.min(kill_at)), login: false };
                &[Action::Close]
            }
            State::Entering { .. } => {
                self.leave_early(now);
                &[Action::Close]
            }
            State::Ready { .. } => {
                self.state = State::Dying { until: Some(kill_at), login: false };
                &[Action::Withdraw, Action::Close]
            }
            State::Dying { until, login } => {
                let until = if login { until } else { until.map(|until| until.min(kill_at)) };
                self.state = State::Dying { until, login };
                &[]
            }
        }
    }

    fn exited(&mut self, how: &str, now: Instant, jitter: u8) -> &'static [Action] {
        if let State::Ready { since, .. } = self.state {
            self.leave_ready(since, now, None);
        }
        if self.trouble.is_none() && !self.stop {
            let why = format!("the worker ended by itself ({how}); it is started again");
            self.trouble = Some(Trouble::of_worker(Code::InternalError, why));
        }
        self.state = match (self.stop, self.refused) {
            (true, _) => State::Stopped,
            (false, true) => State::Refused,
            (false, false) => self.pause(now, jitter),
        };
        &[Action::Withdraw, Action::Close]
    }

    fn leave_ready(&mut self, since: Instant, now: Instant, until: Option<Instant>) {
        // A worker that had been well for long starts its back-off anew.
        if now.saturating_duration_since(since) >= self.policy.restart.1 {
            self.deaths = 0;
        }
        self.state = State::Dying { until, login: false };
    }

    fn fail(&mut self, fault: &Fault) {
        let code = match fault.class {
            // The module or its token is not there.
            Class::Token => Code::InsufficientCloudHsmHsms,
            _ => Code::InternalError,
        };
        self.trouble = Some(Trouble::of_worker(code, format!("the worker could not start: {fault}")));
    }

    fn refuse(&mut self, refusal: AdmissionError) {
        self.refused |= refusal.permanent;
        self.after = refusal.after;
        self.trouble = Some(Trouble { code: refusal.code, why: refusal.reason, of_hsm: true });
    }

    fn pause(&mut self, now: Instant, jitter: u8) -> State {
        let (first, longest) = self.policy.restart;
        let full = first.saturating_mul(2u32.saturating_pow(self.deaths)).min(longest);
        self.deaths = self.deaths.saturating_add(1);
        let full = full.max(self.after.take().unwrap_or_default());
        // Between half of the pause and all of it.
        State::Backoff { until: now + full / 2 + full * u32::from(jitter) / (2 * u32::from(u8::MAX)) }
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Crypto => "encryption, decryption or probe",
        Kind::Place => "placing, destruction or listing of keys",
        Kind::Generate => "key generation",
        Kind::Login => "login or PIN change",
    }
}

#[cfg(test)]
mod tests;
