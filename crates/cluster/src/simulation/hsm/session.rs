//! What a simulated worker's session does with its requests.

use super::*;

impl Simulation {
    pub(super) fn send(&mut self, hsm: usize, slot: usize, kind: Kind, work: Work) {
        let now = self.now();
        let Some(process) = &mut self.hsms[hsm].slots[slot].process else { return };
        let id = process.in_hand.push(now, kind, work);
        process.queue.push_back(id);
        if process.stuck {
            let number = process.number;
            self.after(LIMITS.crypto, SimEvent::Limit { hsm, slot, process: number });
        }
        self.take(hsm, slot, matches!(work, Work::WorkerAdmission(Step::Login | Step::ChangePin)));
    }

    /// A session takes the next request.
    fn take(&mut self, hsm: usize, slot: usize, login: bool) {
        let (mut crash, mut hang, mut took) = (0, 0, self.rng.micros(50, 500));
        if login {
            took = if self.rng.hits(5) { LIMITS.login / 2 } else { self.rng.micros(5_000, 30_000) };
        }
        for fault in &self.hsms[hsm].troubles {
            match self.faults.get(*fault).map(|fault| fault.trouble) {
                Some(Trouble::Crash(percent)) => crash = percent,
                Some(Trouble::Hang(percent)) => hang = percent,
                Some(Trouble::Slow(millis)) => took += Duration::from_millis(millis),
                _ => {}
            }
        }
        // Logins are few, and a few that are broken off are an officer's affair.
        let rare = if login { 3 } else { 1 };
        let (crashes, hangs) = (self.rng.hits(crash / rare), self.rng.hits(hang / rare));
        let now = self.now();
        let Some(process) = &mut self.hsms[hsm].slots[slot].process else { return };
        if process.busy.is_some() || process.stuck {
            return;
        }
        let Some(id) = process.queue.pop_front() else { return };
        process.busy = Some(id);
        process.login_since = login.then_some(now);
        process.stuck = hangs && !crashes;
        let number = process.number;
        if process.stuck || took > LIMITS.crypto {
            self.after(LIMITS.crypto, SimEvent::Limit { hsm, slot, process: number });
        }
        match (crashes, hangs) {
            (true, _) => self.after(took, SimEvent::Gone { hsm, slot, process: number }),
            (false, true) => {}
            (false, false) => self.after(took, SimEvent::Done { hsm, slot, process: number, id }),
        }
    }

    pub(in crate::simulation) fn limit(&mut self, hsm: usize, slot: usize, number: u64) {
        let now = self.now();
        let here = &mut self.hsms[hsm];
        let phase = here.slots[slot].life.state();
        let Some(process) = here.process(slot, number) else { return };
        match process.in_hand.overdue(now, &LIMITS) {
            Some(held) if matches!(phase, Phase::Ready { .. } | Phase::Entering { .. }) => {
                self.live(hsm, slot, Event::Overdue { kind: held.kind, limit: LIMITS.of(held.kind) });
            }
            _ => {
                let next = process.in_hand.earliest(&LIMITS).map(|limit| limit.max(now) + Duration::from_millis(1));
                next.into_iter().for_each(|next| self.when(next, SimEvent::Limit { hsm, slot, process: number }));
            }
        }
    }

    pub(in crate::simulation) fn probe(&mut self, hsm: usize, slot: usize, number: u64) {
        let serving = self.hsms[hsm].slots[slot].serving;
        let Some(process) = self.hsms[hsm].process(slot, number).filter(|process| serving && !process.probing) else {
            return;
        };
        process.probing = true;
        self.send(hsm, slot, Kind::Crypto, Work::Probe);
    }

    pub(in crate::simulation) fn doubt(&mut self, hsm: usize) {
        if self.hsms[hsm].standing.health != Health::Suspect {
            self.hsms[hsm].doubting = false;
            return;
        }
        let jitter = self.rng.below(256) as u8;
        self.after(self.hsms[hsm].standing.pause(jitter), SimEvent::Doubt { hsm });
        if let Some(slot) = self.least_busy(hsm, 4) {
            self.send(hsm, slot, Kind::Crypto, Work::Doubt);
        }
    }

    /// What a session's work came to.
    pub(in crate::simulation) fn done(&mut self, hsm: usize, slot: usize, number: u64, id: u64) {
        let now = self.now();
        let here = &mut self.hsms[hsm];
        let Some(process) = here.process(slot, number).filter(|process| !process.stuck) else { return };
        let Some(work) = process.in_hand.answer(now, id) else { panic!("{id} is answered twice") };
        process.busy = None;
        process.login_since = None;
        let leaving = process.leaving;
        here.answers += 1;
        let mut codes = here.troubles.iter().filter_map(|fault| match self.faults[*fault].trouble {
            Trouble::Code(class, percent) => Some((class, percent)),
            _ => None,
        });
        let code = codes.next_back().filter(|(_, percent)| self.rng.hits(*percent)).map(|(class, _)| class);
        let class = if self.hsms[hsm].token.there { code } else { Some(Class::Token) };
        let fault = class.map(|class| Fault::own(class, "simulated", "trouble"));
        match work {
            Work::Ask { call, ask } => {
                if class == Some(Class::Token) {
                    self.after(PROBE / 10, SimEvent::Probe { hsm, slot, process: number });
                }
                self.answered(call, ask, hsm, fault.map_or(Ok(()), Err));
            }
            Work::Probe => {
                if let Some(process) = self.hsms[hsm].process(slot, number) {
                    process.probing = false;
                }
                let pause = if fault.is_some() { PROBE / 10 } else { PROBE };
                self.after(pause, SimEvent::Probe { hsm, slot, process: number });
                self.live(hsm, slot, Event::Probed(fault.map_or(Ok(()), Err)));
            }
            Work::Doubt => match class {
                Some(class) if class.may_be_busy() => {}
                Some(_) => self.observe(hsm, Observation::FailedProbe),
                None => self.observe(hsm, Observation::Succeeded),
            },
            Work::WorkerAdmission(step) => self.gate_done(hsm, slot, step, fault),
        }
        if leaving {
            self.close(hsm, slot);
        } else {
            self.take(hsm, slot, false);
        }
        self.hand_out(hsm);
    }

    fn gate_done(&mut self, hsm: usize, slot: usize, step: Step, fault: Option<Fault>) {
        let here = &mut self.hsms[hsm];
        let Some(login) = here.slots[slot].process.as_mut().and_then(|process| process.way.as_mut()) else { return };
        let event = match (step, fault) {
            (Step::Login, Some(_)) => pin::Event::LoginNotJudged,
            (Step::Login, None) => {
                let right = login.pin.sealed(login.candidate) == Some(&here.token.pin);
                here.token.wrong = if right { 0 } else { here.token.wrong + 1 };
                assert!(here.token.wrong <= 2 * TRIES, "the token comes near its lock");
                here.broken_logins = if right { 0 } else { here.broken_logins + 1 };
                if right { pin::Event::LoggedIn } else { pin::Event::LoginRefused }
            }
            (Step::ChangePin, None) => {
                here.token.pin = login.pin.pending.clone().unwrap_or_default();
                pin::Event::Changed
            }
            (Step::Prove, None) => pin::Event::Proven,
            (_, None) => pin::Event::Worked,
            (_, Some(fault)) => {
                let refusal = AdmissionError::transient(Code::NetworkErrors, fault.to_string());
                return self.live(hsm, slot, Event::Refused(refusal));
            }
        };
        let next = login.next(event, 1);
        self.walk(hsm, slot, next);
    }
}
