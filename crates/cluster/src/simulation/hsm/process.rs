//! The processes of a simulated HSM: begun, told to leave, killed, ended.

use super::*;

impl Simulation {
    pub(super) fn spawn(&mut self, hsm: usize, slot: usize) {
        let pause = self.rng.micros(1_000, 20_000);
        let here = &mut self.hsms[hsm];
        assert!(here.slots[slot].process.is_none(), "a worker is started before the last one was waited for");
        here.next_process += 1;
        let number = here.next_process;
        here.slots[slot].process = Some(Process {
            number,
            in_hand: InFlight::new(1),
            queue: VecDeque::new(),
            busy: None,
            stuck: false,
            leaving: false,
            login_since: None,
            way: None,
            probing: false,
        });
        self.after(pause, SimEvent::Loaded { hsm, slot, process: number });
    }

    pub(in crate::simulation) fn loaded(&mut self, hsm: usize, slot: usize, process: u64) {
        let there = self.hsms[hsm].token.there;
        if self.hsms[hsm].process(slot, process).is_some_and(|process| !process.leaving) {
            let absent = || Event::Failed(Fault::own(Class::Token, "find token", "it is not there"));
            self.live(hsm, slot, if there { Event::Found } else { absent() });
        }
    }

    pub(super) fn close(&mut self, hsm: usize, slot: usize) {
        let pause = self.rng.micros(100, 10_000);
        let Some(process) = &mut self.hsms[hsm].slots[slot].process else { return };
        process.leaving = true;
        if process.busy.is_none() && !process.stuck {
            let number = process.number;
            self.after(pause, SimEvent::Gone { hsm, slot, process: number });
        }
    }

    pub(super) fn kill(&mut self, hsm: usize, slot: usize) {
        let now = self.now();
        let Some(process) = &self.hsms[hsm].slots[slot].process else { return };
        if let Some(since) = process.login_since {
            assert!(now - since >= LIMITS.login, "killed {:?} into a login", now - since);
        }
        let number = process.number;
        self.after(Duration::ZERO, SimEvent::Gone { hsm, slot, process: number });
    }

    /// Something was wrong with all of it until now.
    pub(in crate::simulation) fn unsound_now(&mut self, hsm: usize) {
        self.hsms[hsm].unsound = self.now();
    }

    /// Signals from outside, which spare those who may be inside a login.
    fn ready_processes(&self, hsm: usize, all: bool) -> Vec<(usize, u64)> {
        let ready = |(at, slot): (usize, &Slot)| Some((at, slot.process.as_ref().filter(|_| slot.serving)?.number));
        let mut found: Vec<_> = self.hsms[hsm].slots.iter().enumerate().filter_map(ready).collect();
        if !all {
            found.reverse();
            found.truncate(1);
        }
        found
    }

    pub(in crate::simulation) fn kill_workers(&mut self, hsm: usize, all: bool) {
        for (slot, process) in self.ready_processes(hsm, all) {
            self.gone(hsm, slot, process, "signal: 9");
        }
    }

    pub(in crate::simulation) fn freeze_workers(&mut self, hsm: usize, all: bool) {
        for (slot, number) in self.ready_processes(hsm, all) {
            self.hsms[hsm].process(slot, number).into_iter().for_each(|process| process.stuck = true);
            self.after(LIMITS.crypto, SimEvent::Limit { hsm, slot, process: number });
        }
    }

    /// The end of a process: whoever waits for it learns that.
    pub(in crate::simulation) fn gone(&mut self, hsm: usize, slot: usize, number: u64, how: &str) {
        let lands = self.rng.hits(50);
        if self.hsms[hsm].process(slot, number).is_none() {
            return;
        }
        let here = &mut self.hsms[hsm];
        here.slots[slot].serving = false;
        let Some(mut process) = here.slots[slot].process.take() else { return };
        let lost: Vec<Work> = process.in_hand.drain().collect();
        if process.login_since.is_some() {
            here.broken_logins += 1;
            let pending = process.way.as_ref().and_then(|way| way.pin.pending.clone());
            let changing = lost.iter().any(|work| matches!(work, Work::WorkerAdmission(Step::ChangePin)));
            if let Some(pending) = pending.filter(|_| changing && lands) {
                here.token.pin = pending;
            }
        }
        self.live(hsm, slot, Event::Exited(how.to_owned()));
        for work in lost {
            match work {
                Work::Ask { call, ask } => self.lost(call, ask, hsm),
                Work::Doubt => self.observe(hsm, Observation::FailedProbe),
                Work::Probe | Work::WorkerAdmission(_) => {}
            }
        }
    }
}
