//! A simulated HSM: a token, the worker processes in front of it, and what the daemon knows of them.

mod process;
mod session;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::schedule::{Tells, Trouble};
use super::{KEYS, Rng, SimEvent, Simulation};
use crate::Health;
use crate::health::{self, Observation, Standing};
use crate::kmsuser::pin::told::{self, Told};
use crate::kmsuser::pin::{self, Login, LoginRefusal, Next, Step};
use model::call_options::FlowId;
use model::key_store::ConnectionErrorCode as Code;
use model::pin::{Candidate, Pin};
use protocol::{Class, Fault, Kind, UserFlags};
use supervisor::decisions::{Action, Event, FairQueue, InFlight, Policy, State as Phase, StateMachine};
use supervisor::{AdmissionError, KillLimits, State};

const POLICY: Policy = Policy {
    restart: (Duration::from_millis(200), Duration::from_secs(5)),
    find: Duration::from_secs(3),
    enter: Duration::from_secs(4),
    leave: Duration::from_secs(1),
};
const LIMITS: KillLimits = KillLimits {
    crypto: Duration::from_millis(250),
    place: Duration::from_secs(1),
    generate: Duration::from_secs(2),
    login: Duration::from_secs(2),
};
const PROBE: Duration = Duration::from_secs(1);
/// Logins that may fail in a row.
const TRIES: u32 = 3;

#[derive(Debug)]
pub(super) struct Token {
    pub(super) there: bool,
    pub(super) objects: BTreeSet<u32>,
    pin: Bytes,
    /// Wrong PINs in a row; the token would lock at ten.
    wrong: u32,
}

pub(super) struct Slot {
    life: StateMachine,
    process: Option<Process>,
    serving: bool,
    serving_since: Instant,
}

struct Process {
    number: u64,
    in_hand: InFlight<Work>,
    /// Sent, and not begun.
    queue: VecDeque<u64>,
    busy: Option<u64>,
    /// It will not answer any more: stopped, or inside a module that does not return.
    stuck: bool,
    leaving: bool,
    login_since: Option<Instant>,
    way: Option<Login>,
    probing: bool,
}

/// What a worker is asked to do.
#[derive(Clone, Copy, Debug)]
enum Work {
    Ask { call: usize, ask: u64 },
    Probe,
    Doubt,
    WorkerAdmission(Step),
}

pub(super) struct Hsm {
    /// The control worker's, then the data workers'.
    pub(super) slots: Vec<Slot>,
    pub(super) token: Token,
    record: Pin,
    rotations: u32,
    turn: Option<usize>,
    refused: Option<AdmissionError>,
    pub(super) standing: Standing,
    queue: FairQueue<(usize, u64)>,
    state: State,
    /// Faults in force.
    troubles: Vec<usize>,
    /// The last moment at which something was wrong with all of it.
    unsound: Instant,
    /// It is being disconnected, to be connected again.
    stopping: bool,
    /// What the operator tells before that.
    tells: Tells,
    answers: u64,
    silence: Option<(u64, Instant, Instant)>,
    doubting: bool,
    broken_logins: u32,
    next_process: u64,
}

impl std::fmt::Debug for Hsm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {:?} refused: {:?}; ", self.standing, self.token, self.record, self.refused)?;
        let slots = self.slots.iter().map(|slot| (slot.life.state(), slot.life.trouble(), slot.serving));
        write!(f, "{:?} troubles {:?}", slots.collect::<Vec<_>>(), self.troubles)
    }
}

impl Hsm {
    pub(super) fn new(rng: &mut Rng, now: Instant) -> Self {
        let slot = || Slot { life: StateMachine::new(POLICY), process: None, serving: false, serving_since: now };
        let pin = Bytes::from_static(b"given");
        Self {
            slots: (0..=1 + rng.below(2)).map(|_| slot()).collect(),
            token: Token { there: true, objects: (0..KEYS).collect(), pin: pin.clone(), wrong: 0 },
            record: Pin { rotation_due: true, ..Pin::given(pin) },
            rotations: 0,
            turn: None,
            refused: None,
            standing: Standing::new(now),
            queue: FairQueue::default(),
            state: State::Starting,
            troubles: Vec::new(),
            unsound: now,
            stopping: false,
            tells: Tells::Nothing,
            answers: 0,
            silence: None,
            doubting: false,
            broken_logins: 0,
            next_process: 0,
        }
    }

    pub(super) fn unsound_since(&mut self, fault: usize) {
        self.troubles.push(fault);
    }

    pub(super) fn sound_again(&mut self, fault: usize) {
        self.troubles.retain(|known| *known != fault);
    }

    /// One of its workers has served since a time without any trouble.
    pub(super) fn sound_since(&self, since: Instant) -> bool {
        let well = |slot: &Slot| {
            let moves = slot.process.as_ref().is_some_and(|process| !process.stuck);
            slot.serving && slot.serving_since < since && moves
        };
        self.troubles.is_empty() && self.unsound < since && self.slots[1..].iter().any(well)
    }

    pub(super) fn serves_control(&self) -> bool {
        self.slots[0].serving
    }

    pub(super) fn serves(&self) -> bool {
        self.slots[1..].iter().any(|slot| slot.serving)
    }

    /// An officer has to help: too many logins in a row were broken off.
    pub(super) fn is_spent(&self) -> bool {
        self.refused.is_some() && pin::tries_left(&self.record, TRIES) == 0 && self.broken_logins >= TRIES
    }

    pub(super) fn is_well(&self) -> bool {
        let ready = self.slots.iter().all(|slot| matches!(slot.life.state(), Phase::Ready { .. }));
        self.troubles.is_empty() && (self.is_spent() || ready && self.standing.health == Health::Healthy)
    }

    pub(super) fn check_end(&self) {
        let known = Candidate::ALL.iter().any(|one| self.record.sealed(*one) == Some(&self.token.pin));
        assert!(known, "the PIN is lost: {self:?}");
        assert!(self.refused.is_none() || self.is_spent(), "refused without a reason: {self:?}");
    }

    /// `service::update_key_store`, between a disconnect and a connect.
    fn tell(&mut self) {
        let set = Told { sealed: Bytes::from(format!("set {}", self.next_process)), same: None };
        // What no token has taken, another takes the place of: an operator who knows that one tells it again.
        let taken = self.record.current_proven && self.record.offered.is_none();
        self.record = match std::mem::replace(&mut self.tells, Tells::Nothing) {
            Tells::Typo if taken => told::tell(self.record.clone(), set),
            Tells::Reset => {
                (self.token.pin, self.token.wrong) = (set.sealed.clone(), 0);
                self.broken_logins = 0;
                told::reset(self.record.clone(), Some(set), 1)
            }
            Tells::ResetElsewhere if taken => {
                self.broken_logins = 0;
                told::reset(self.record.clone(), Some(set), 1)
            }
            Tells::Typo | Tells::ResetElsewhere | Tells::Nothing => return,
        };
    }

    /// Calls whose requests still wait.
    pub(super) fn waiting(&mut self) -> Vec<usize> {
        self.queue.drain().map(|(call, _)| call).collect()
    }

    fn process(&mut self, slot: usize, number: u64) -> Option<&mut Process> {
        self.slots[slot].process.as_mut().filter(|process| process.number == number)
    }
}

impl Simulation {
    /// Gives the turn to start to a slot that waits for it.
    pub(super) fn turn(&mut self, hsm: usize, slot: usize) {
        let here = &mut self.hsms[hsm];
        if here.turn.is_some() || here.slots[slot].life.state() != Phase::Queued {
            return;
        }
        here.turn = Some(slot);
        let event = here.refused.clone().map_or(Event::Turn, Event::Refused);
        self.live(hsm, slot, event);
    }

    pub(super) fn due(&mut self, hsm: usize, slot: usize) {
        if self.hsms[hsm].slots[slot].life.until().is_some_and(|until| until <= self.now()) {
            self.live(hsm, slot, Event::Due);
        }
    }

    /// Has a worker's life take its step, and does what it says: `supervisor::worker_driver`.
    fn live(&mut self, hsm: usize, slot: usize, event: Event) {
        self.tell(|| format!("HSM {hsm} worker {slot}: {event:?}"));
        if let Event::Refused(refusal) = &event
            && refusal.permanent
        {
            self.hsms[hsm].refused = Some(refusal.clone());
        }
        let (jitter, now) = (self.rng.below(256) as u8, self.now());
        let before = self.hsms[hsm].slots[slot].life.until();
        for action in self.hsms[hsm].slots[slot].life.next(event, now, jitter) {
            match action {
                Action::Spawn => self.spawn(hsm, slot),
                Action::Enter => self.enter(hsm, slot),
                Action::Serve => self.serve(hsm, slot),
                Action::Withdraw => self.hsms[hsm].slots[slot].serving = false,
                Action::Close => self.close(hsm, slot),
                Action::Kill => self.kill(hsm, slot),
            }
        }
        let here = &mut self.hsms[hsm];
        let life = &here.slots[slot].life;
        let (until, phase) = (life.until(), life.state());
        if (matches!(phase, Phase::Ready { .. }) || here.slots[slot].process.is_none()) && here.turn == Some(slot) {
            here.turn = None;
        }
        if let Some(until) = until.filter(|until| before != Some(*until)) {
            self.when(until, SimEvent::Due { hsm, slot });
        }
        if self.hsms[hsm].stopping && self.hsms[hsm].slots.iter().all(|slot| slot.life.state() == Phase::Stopped) {
            self.connect(hsm);
        }
        self.show(hsm);
        self.hand_out(hsm);
        for slot in 0..self.hsms[hsm].slots.len() {
            self.turn(hsm, slot);
        }
    }

    /// Disconnects; what is left of it is killed after a while, outside logins.
    pub(super) fn disconnect(&mut self, hsm: usize, tells: Tells) {
        self.hsms[hsm].stopping = true;
        self.hsms[hsm].tells = tells;
        self.hsms[hsm].record.rotation_due = true;
        let kill_at = self.now() + Duration::from_millis(500);
        for slot in 0..self.hsms[hsm].slots.len() {
            self.live(hsm, slot, Event::Stop { kill_at });
        }
    }

    /// Connects it again: everything is as at first, but the token and what is on record.
    fn connect(&mut self, hsm: usize) {
        let here = &mut self.hsms[hsm];
        here.stopping = false;
        here.tell();
        here.turn = None;
        here.refused = None;
        here.state = State::Starting;
        for slot in &mut here.slots {
            assert!(slot.process.is_none(), "a stopped worker is still there");
            slot.life = StateMachine::new(POLICY);
        }
        self.observe(hsm, Observation::Supervisor(State::Starting));
    }

    /// What the status tracker makes of it.
    fn show(&mut self, hsm: usize) {
        let here = &mut self.hsms[hsm];
        let state = match () {
            () if here.serves() => State::Serving,
            () if here.state == State::Starting && here.slots.iter().all(|slot| slot.life.trouble().is_none()) => {
                State::Starting
            }
            () => State::Down,
        };
        if state != here.state {
            here.state = state;
            self.observe(hsm, Observation::Supervisor(state));
        }
    }

    pub(super) fn observe(&mut self, hsm: usize, observation: Observation) {
        let now = self.now();
        let here = &mut self.hsms[hsm];
        let before = here.standing.health;
        here.standing = health::next(here.standing, observation, now);
        let after = here.standing.health;
        if before != after {
            self.tell(|| format!("HSM {hsm}: {before:?} to {after:?} by {observation:?}"));
        }
        if after == Health::Suspect && !std::mem::replace(&mut self.hsms[hsm].doubting, true) {
            self.after(Duration::ZERO, SimEvent::Doubt { hsm });
        }
    }

    /// `cluster::admission`.
    fn enter(&mut self, hsm: usize, slot: usize) {
        let here = &mut self.hsms[hsm];
        let user = UserFlags { initialised: true, final_try: here.token.wrong >= 9, ..UserFlags::default() };
        let policy = pin::Policy { tries: TRIES, rotates: slot == 0, changes_first: false, proven_here: true };
        let mut login = Login::new(here.record.clone(), user, policy);
        let next = login.begin();
        if let Some(process) = &mut here.slots[slot].process {
            process.way = Some(login);
        }
        self.walk(hsm, slot, next);
    }

    fn walk(&mut self, hsm: usize, slot: usize, mut next: Next) {
        loop {
            let here = &mut self.hsms[hsm];
            let Some(login) = here.slots[slot].process.as_mut().and_then(|process| process.way.as_mut()) else {
                return;
            };
            next = match next {
                Next::Do(step @ (Step::Login | Step::ChangePin)) => {
                    return self.send(hsm, slot, Kind::Login, Work::WorkerAdmission(step));
                }
                Next::Do(step @ (Step::Prove | Step::TryCanary)) => {
                    return self.send(hsm, slot, Kind::Crypto, Work::WorkerAdmission(step));
                }
                Next::Do(step) => {
                    if step == Step::RecordPending {
                        here.rotations += 1;
                        login.next(pin::Event::Made(Bytes::from(format!("rotated {}", here.rotations))), 1);
                    }
                    here.record = login.pin.clone();
                    login.next(pin::Event::Recorded, 1)
                }
                Next::Done => return self.live(hsm, slot, Event::Ready),
                Next::Stop(why) => {
                    let permanent = why != LoginRefusal::NotJudged;
                    let (code, reason) = (Code::InvalidCredentials, format!("{why:?}"));
                    let refusal = AdmissionError { code, permanent, reason, after: None };
                    return self.live(hsm, slot, Event::Refused(refusal));
                }
            };
        }
    }

    fn serve(&mut self, hsm: usize, slot: usize) {
        self.hsms[hsm].slots[slot].serving = true;
        self.hsms[hsm].slots[slot].serving_since = self.now();
        if let Some(process) = self.hsms[hsm].slots[slot].process.as_ref().map(|process| process.number) {
            self.after(PROBE, SimEvent::Probe { hsm, slot, process });
        }
    }

    /// Hands a call's request over; false when nobody is there to take it.
    pub(super) fn ask(&mut self, hsm: usize, call: usize, ask: u64) -> bool {
        if !self.hsms[hsm].serves() {
            return false;
        }
        self.hsms[hsm].queue.push(FlowId::of(&(call % 3).to_string()), 1_usize, (call, ask));
        self.hand_out(hsm);
        true
    }

    /// `supervisor::work_queue`.
    fn hand_out(&mut self, hsm: usize) {
        if !self.hsms[hsm].serves() {
            let given_up: Vec<_> = self.hsms[hsm].queue.drain().collect();
            return given_up.into_iter().for_each(|(call, ask)| self.lost(call, ask, hsm));
        }
        while let Some(slot) = self.least_busy(hsm, 2) {
            let Some((call, ask)) = self.hsms[hsm].queue.pop() else { return };
            if !self.calls[call].is_over() {
                self.send(hsm, slot, Kind::Crypto, Work::Ask { call, ask });
            }
        }
    }

    fn least_busy(&self, hsm: usize, most: usize) -> Option<usize> {
        let load = |process: &Process| process.queue.len() + usize::from(process.busy.is_some());
        let slots = self.hsms[hsm].slots.iter().enumerate().skip(1).filter(|(_, slot)| slot.serving);
        let loads = slots.filter_map(|(at, slot)| slot.process.as_ref().map(|process| (load(process), at)));
        loads.min().filter(|(load, _)| *load < most).map(|(_, at)| at)
    }

    /// `Member::late`: one who asked at a time, when there had been so many answers, waits for long.
    pub(super) fn late(&mut self, hsm: usize, answers: u64, asked: Instant, hedge: Duration) {
        let now = self.now();
        let here = &mut self.hsms[hsm];
        if here.answers != answers {
            return;
        }
        let since = match here.silence {
            Some((known, since, noted)) if known == answers && asked <= noted + hedge => since,
            _ => asked,
        };
        here.silence = Some((answers, since, now));
        if now - since >= hedge * 3 {
            self.observe(hsm, Observation::Failed);
        }
    }

    pub(super) fn answers(&self, hsm: usize) -> u64 {
        self.hsms[hsm].answers
    }
}
