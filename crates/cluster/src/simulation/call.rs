//! A simulated caller: the way of `cluster::dispatch` and `cluster::hedge` around the decisions.

use std::time::{Duration, Instant};

use super::{KEYS, SimEvent, Simulation};
use crate::failover::{AttemptLog, Step, judge};
use crate::health::Observation;
use crate::route::{self, Gauge, bit, bits};
use crate::{Error, Health};
use model::key::Placement;
use protocol::{Class, Fault};
use supervisor::CallError;

const HEDGE: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(2);

pub(super) struct Call {
    key: u32,
    decrypts: bool,
    /// The ciphertext is a bad one.
    bad: bool,
    began: Instant,
    placed: u64,
    attempts: AttemptLog,
    absent: u64,
    refused: u64,
    refusal: bool,
    /// Who was asked and has not answered; the first may be followed by a hedge.
    asked: Vec<Asked>,
    asks: u64,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy)]
struct Asked {
    hsm: usize,
    ask: u64,
    at: Instant,
    answers: u64,
}

#[derive(Debug)]
enum Outcome {
    Answered,
    Refused,
    Failed(Error),
}

impl Call {
    pub(super) fn is_over(&self) -> bool {
        self.outcome.is_some()
    }
}

impl Simulation {
    pub(super) fn begin_call(&mut self) {
        let key = u32::try_from(self.rng.below(KEYS.into())).unwrap_or_default();
        let decrypts = self.rng.hits(50);
        let bad = decrypts && self.rng.hits(20);
        let placed = (0..self.hsms.len()).filter(|hsm| self.placements[&(*hsm, key)] == Placement::Present);
        let call = Call {
            key,
            decrypts,
            bad,
            began: self.now(),
            placed: placed.fold(0, |mask, hsm| mask | bit(hsm)),
            attempts: AttemptLog::default(),
            absent: 0,
            refused: 0,
            refusal: false,
            asked: Vec::new(),
            asks: 0,
            outcome: None,
        };
        self.calls.push(call);
        let call = self.calls.len() - 1;
        self.after(DEADLINE, SimEvent::Deadline { call });
        self.go_on(call);
    }

    fn usable(&self, call: usize) -> u64 {
        let Call { placed, key, .. } = self.calls[call];
        bits(placed).filter(|hsm| !self.excluded.contains_key(&(*hsm, key))).fold(0, |mask, hsm| mask | bit(hsm))
    }

    fn first(&mut self, mask: u64) -> Option<usize> {
        let turn = usize::try_from(self.rng.below(64)).unwrap_or_default();
        let gauge = |hsm: usize| Gauge {
            health: self.hsms[hsm].standing.health,
            own: hsm == 0,
            load: 0,
            capacity: 1,
            throttled: false,
        };
        route::order(mask, turn, gauge).first()
    }

    /// Asks the next one, until somebody has the request in hand or nobody is left.
    fn go_on(&mut self, call: usize) {
        loop {
            let open = self.calls[call].attempts.open(self.usable(call));
            let Some(hsm) = self.first(open) else { return self.end(call) };
            if self.put_to(call, hsm) {
                return;
            }
        }
    }

    fn put_to(&mut self, call: usize, hsm: usize) -> bool {
        let asked = Asked { hsm, ask: self.calls[call].asks, at: self.now(), answers: self.answers(hsm) };
        let this = &mut self.calls[call];
        this.asks += 1;
        this.attempts.ask(hsm);
        this.asked.push(asked);
        if self.ask(hsm, call, asked.ask) {
            self.after(HEDGE, SimEvent::Hedge { call, ask: asked.ask });
            return true;
        }
        let this = &mut self.calls[call];
        this.asked.retain(|known| known.ask != asked.ask);
        this.attempts.unanswered(hsm, &CallError::NotReady);
        false
    }

    pub(super) fn hedge(&mut self, call: usize, ask: u64) {
        let this = &self.calls[call];
        let Some(late) = this.asked.iter().find(|asked| asked.ask == ask).copied() else { return };
        if this.is_over() || this.asked.len() > 1 {
            return;
        }
        self.late(late.hsm, late.answers, late.at, HEDGE);
        let fresh = self.calls[call].attempts.fresh(self.usable(call));
        if self.calls[call].attempts.hedged || fresh == 0 {
            return;
        }
        let serving = |health| matches!(health, Health::Healthy | Health::Suspect);
        if let Some(other) = self.first(fresh).filter(|other| serving(self.hsms[*other].standing.health)) {
            self.calls[call].attempts.hedged = true;
            self.put_to(call, other);
        }
    }

    pub(super) fn deadline(&mut self, call: usize) {
        if !self.calls[call].is_over() {
            self.calls[call].attempts.late = true;
            self.end(call);
        }
    }

    /// The worker that had the request died.
    pub(super) fn lost(&mut self, call: usize, ask: u64, hsm: usize) {
        self.observe(hsm, Observation::Failed);
        let this = &mut self.calls[call];
        let known = this.asked.iter().any(|asked| asked.ask == ask);
        this.asked.retain(|asked| asked.ask != ask);
        if !known || this.is_over() {
            return;
        }
        this.attempts.unanswered(hsm, &CallError::WorkerLost);
        if this.asked.is_empty() {
            self.go_on(call);
        }
    }

    /// A worker says how its item went, apart from what is wrong with the item itself.
    pub(super) fn answered(&mut self, call: usize, ask: u64, hsm: usize, mut said: Result<(), Fault>) {
        let this = &mut self.calls[call];
        let known = this.asked.iter().any(|asked| asked.ask == ask);
        this.asked.retain(|asked| asked.ask != ask);
        let key = this.key;
        if said.is_ok() && !self.hsms[hsm].token.objects.contains(&key) {
            said = Err(Fault::own(Class::KeyAbsent, "find key", "no object"));
        } else if said.is_ok() && this.bad {
            said = Err(Fault::own(Class::Ambiguous, "C_Decrypt", "general error"));
        }
        if !known || this.is_over() {
            return;
        }
        let rival = !this.asked.is_empty();
        let Err(fault) = said else {
            self.observe(hsm, Observation::Succeeded);
            if rival {
                self.calls[call].attempts.second_chance(hsm);
            }
            return self.finish(call, Outcome::Answered);
        };
        if rival && !matches!(fault.class, Class::Ambiguous | Class::AmbiguousOrBusy) {
            // The other one is waited for.
            return self.blame(call, hsm, &fault);
        }
        match judge(fault.class, self.calls[call].decrypts) {
            Step::Refuse => self.refuse(call, hsm),
            Step::Absent => {
                self.calls[call].absent |= bit(hsm);
                self.excluded.insert((hsm, key), ());
            }
            Step::Broken => {
                self.observe(hsm, Observation::Broken);
                self.excluded.insert((hsm, key), ());
            }
            // The proof opens where the token is not in trouble; one in trouble may say anything.
            Step::Prove if self.hsms[hsm].sound_since(self.calls[call].began) || self.rng.hits(50) => {
                self.refuse(call, hsm);
            }
            Step::Prove => {
                let attempts = &mut self.calls[call].attempts;
                attempts.unsettled |= if fault.class == Class::AmbiguousOrBusy { bit(hsm) } else { 0 };
                attempts.blame(hsm, fault.to_string());
            }
            Step::Later | Step::Elsewhere => self.blame(call, hsm, &fault),
        }
        if !self.calls[call].is_over() && self.calls[call].asked.is_empty() {
            self.go_on(call);
        }
    }

    fn blame(&mut self, call: usize, hsm: usize, fault: &Fault) {
        if !fault.class.may_be_busy() {
            self.observe(hsm, Observation::Failed);
        }
        let attempts = &mut self.calls[call].attempts;
        attempts.busy |= fault.class.may_be_busy();
        if matches!(fault.class, Class::Token | Class::Session) {
            attempts.second_chance(hsm);
        }
        attempts.blame(hsm, fault.to_string());
    }

    /// One says it is the caller's fault: so it is when another one says it too, or none is there.
    fn refuse(&mut self, call: usize, hsm: usize) {
        let usable = self.usable(call);
        let serving = |other: usize| matches!(self.hsms[other].standing.health, Health::Healthy | Health::Suspect);
        let this = &self.calls[call];
        let others = bits(usable & !bit(hsm) & !this.absent).any(serving);
        let sure = this.refused & !bit(hsm) != 0 || !others;
        let this = &mut self.calls[call];
        this.refused |= bit(hsm);
        this.refusal = true;
        if sure {
            self.finish(call, Outcome::Refused);
        }
    }

    fn end(&mut self, call: usize) {
        let this = &self.calls[call];
        if this.refusal && !this.attempts.late {
            return self.finish(call, Outcome::Refused);
        }
        let error = this.attempts.verdict(this.placed, this.absent, |_| false, |hsm| format!("HSM {hsm}"));
        self.finish(call, Outcome::Failed(error));
    }

    fn finish(&mut self, call: usize, outcome: Outcome) {
        let this = &self.calls[call];
        let (key, began) = (this.key, this.began);
        self.tell(|| format!("call {call} for key {key}: {outcome:?} after {:?}", self.now() - began));
        let sound = bits(this.placed).find(|hsm| {
            let here = &self.hsms[*hsm];
            here.sound_since(began) && here.token.objects.contains(&key) && !self.excluded.contains_key(&(*hsm, key))
        });
        match (&outcome, sound) {
            (Outcome::Answered, _) => assert!(!this.bad, "a bad ciphertext was opened"),
            (Outcome::Refused, sound) => {
                assert!(this.bad || sound.is_none(), "a good item was refused while HSM {sound:?} was sound");
            }
            (Outcome::Failed(error), Some(sound)) => panic!("call {call} failed while HSM {sound} was sound: {error}"),
            (Outcome::Failed(_), None) => {}
        }
        self.ended[match outcome {
            Outcome::Answered => 0,
            Outcome::Refused => 1,
            Outcome::Failed(_) => 2,
        }] += 1;
        self.calls[call].outcome = Some(outcome);
    }
}
