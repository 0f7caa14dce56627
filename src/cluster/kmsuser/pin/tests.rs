use proptest::prelude::*;

use super::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn user() -> UserFlags {
    UserFlags { initialised: true, ..UserFlags::default() }
}

const POLICY: Policy = Policy { tries: 3, rotates: true };

/// A token that counts wrong PINs and locks, and a record on a disk that survives crashes.
#[derive(Clone, Debug)]
struct World {
    token_pin: Bytes,
    wrong: u32,
    most_wrong: u32,
    record: Pin,
    made: u32,
}

/// Where a run is cut short: the daemon dies before or after an effect.
#[derive(Clone, Copy, Debug)]
struct Crash {
    step: usize,
    after: bool,
}

impl World {
    fn new(token: &str, record: Pin) -> Self {
        Self { token_pin: bytes(token), wrong: 0, most_wrong: 0, record, made: 0 }
    }

    /// One worker's way through the gate; `None` when it was cut short.
    fn run(&mut self, crash: Option<Crash>) -> Option<Next> {
        let mut login = Login::new(self.record.clone(), user(), POLICY);
        let mut next = login.begin();
        for number in 0.. {
            let Next::Do(step) = next else { return Some(next) };
            let dies = |after: bool| crash.is_some_and(|crash| crash.step == number && crash.after == after);
            if dies(false) {
                return None;
            }
            let event = match step {
                Step::RecordAttempt | Step::RecordOutcome | Step::RecordRotated | Step::RecordUnchanged => {
                    self.record = login.pin.clone();
                    Event::Recorded
                }
                Step::Login => {
                    let tried = match login.candidate {
                        Candidate::Current => Some(&login.pin.current),
                        Candidate::Pending => login.pin.pending.as_ref(),
                    };
                    if tried == Some(&self.token_pin) {
                        self.wrong = 0;
                        Event::LoggedIn
                    } else {
                        self.wrong += 1;
                        self.most_wrong = self.most_wrong.max(self.wrong);
                        Event::LoginRefused
                    }
                }
                Step::Prove => Event::Proven,
                Step::TryCanary => Event::Worked,
                Step::RecordPending => {
                    self.made += 1;
                    login.next(Event::Made(bytes(&format!("rotated {}", self.made))), 1);
                    self.record = login.pin.clone();
                    Event::Recorded
                }
                Step::ChangePin => {
                    self.token_pin = login.pin.pending.clone().unwrap();
                    Event::Changed
                }
            };
            if dies(true) {
                return None;
            }
            next = login.next(event, 1);
        }
        None
    }

    fn knows_the_pin(&self) -> bool {
        self.record.current == self.token_pin || self.record.pending.as_ref() == Some(&self.token_pin)
    }
}

fn due(pin: &str) -> Pin {
    Pin { rotation_due: true, ..Pin::given(bytes(pin)) }
}

#[test]
fn a_connect_rotates_and_a_restart_does_not() {
    let mut world = World::new("given", due("given"));
    assert_eq!(world.run(None), Some(Next::Done));
    assert_eq!(world.token_pin, "rotated 1");
    assert_eq!(world.record, Pin { rotated_at: Some(1), ..Pin::given(bytes("rotated 1")) });
    assert_eq!(world.run(None), Some(Next::Done));
    assert_eq!(world.token_pin, "rotated 1");
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let mut world = World::new("another", due("given"));
    assert_eq!(world.run(None), Some(Next::Stop(Why::Refused)));
    assert_eq!(world.wrong, 1);
    for _ in 0..5 {
        assert_eq!(world.run(None), Some(Next::Stop(Why::Refused)));
    }
    assert_eq!(world.wrong, 1, "neither by itself nor because it is told to connect");
}

#[test]
fn an_attempt_without_outcome_has_the_other_candidate_begin() {
    let record = Pin { pending: Some(bytes("pending")), attempt: Some(Candidate::Current), ..due("current") };
    let mut login = Login::new(record.clone(), user(), POLICY);
    assert_eq!(login.begin(), Next::Do(Step::RecordAttempt));
    assert_eq!((login.candidate, login.pin.failures), (Candidate::Pending, 1));
    let record = Pin { attempt: Some(Candidate::Pending), ..record };
    let mut login = Login::new(record, user(), POLICY);
    login.begin();
    assert_eq!(login.candidate, Candidate::Current);
}

#[test]
fn a_crash_loop_does_not_burn_the_budget() {
    let mut world = World::new("given", due("given"));
    for _ in 0..3 {
        assert_eq!(world.run(Some(Crash { step: 1, after: false })), None);
    }
    for _ in 0..10 {
        assert_eq!(world.run(None), Some(Next::Stop(Why::Spent)));
    }
    assert_eq!(tries_left(&world.record, POLICY.tries), 0);
    // What an operator tells counts as new.
    world.record = due("given");
    assert_eq!(world.run(None), Some(Next::Done));
}

#[test]
fn the_token_s_own_flags_are_heeded() {
    for (flags, why) in [
        (UserFlags::default(), Why::NoUser),
        (UserFlags { locked: true, ..user() }, Why::Locked),
        (UserFlags { final_try: true, ..user() }, Why::LastTry),
    ] {
        let mut login = Login::new(due("given"), flags, POLICY);
        assert_eq!(login.begin(), Next::Stop(why));
        assert_eq!(login.pin, due("given"));
    }
}

#[test]
fn a_login_that_fails_otherwise_costs_no_try() {
    let mut login = Login::new(due("given"), user(), POLICY);
    login.begin();
    login.next(Event::Recorded, 1);
    assert_eq!(login.next(Event::LoginNotJudged, 1), Next::Do(Step::RecordOutcome));
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(Why::NotJudged));
    assert_eq!(login.pin, due("given"));
}

#[test]
fn a_token_that_keeps_its_pin_is_believed() {
    let mut login = Login::new(due("given"), user(), POLICY);
    login.begin();
    for event in [Event::Recorded, Event::LoggedIn, Event::Recorded, Event::Proven, Event::Made(bytes("new"))] {
        login.next(event, 1);
    }
    assert_eq!(login.next(Event::Recorded, 1), Next::Do(Step::ChangePin));
    assert_eq!(login.next(Event::Unchanged, 1), Next::Do(Step::RecordUnchanged));
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(Why::Unchangeable));
    assert_eq!(login.pin, due("given"));
}

#[test]
fn only_the_worker_that_may_rotates() {
    let mut login = Login::new(due("given"), user(), Policy { rotates: false, ..POLICY });
    login.begin();
    for event in [Event::Recorded, Event::LoggedIn, Event::Recorded] {
        login.next(event, 1);
    }
    assert_eq!(login.next(Event::Proven, 1), Next::Do(Step::TryCanary), "not RecordPending");
    assert_eq!(login.next(Event::Worked, 1), Next::Done);
    assert!(login.pin.rotation_due, "left to the worker that may");
}

proptest! {
    /// Whatever single crashes happen, in whatever order: the PIN is on record, and the token never came near its lock.
    #[test]
    fn no_crash_loses_the_pin(crashes in prop::collection::vec((0..8_usize, any::<bool>(), any::<bool>()), 0..12)) {
        let mut world = World::new("given", due("given"));
        for (step, after, connect) in crashes {
            if connect {
                world.record.rotation_due = true;
            }
            let outcome = world.run(Some(Crash { step, after }));
            prop_assert!(world.knows_the_pin(), "{world:?} after {outcome:?}");
            prop_assert!(world.most_wrong <= POLICY.tries, "{world:?}");
            prop_assert_ne!(outcome, Some(Next::Stop(Why::Refused)));
        }
        // With the budget spent an officer has to help; the PIN is known all the same.
        let outcome = world.run(None);
        prop_assert!(matches!(outcome, Some(Next::Done | Next::Stop(Why::Spent))), "{outcome:?}");
        prop_assert!(world.knows_the_pin());
    }

    /// One crash anywhere, then a restart: it is let in by itself.
    #[test]
    fn one_crash_needs_no_officer(step in 0..8_usize, after in any::<bool>()) {
        let mut world = World::new("given", due("given"));
        world.run(Some(Crash { step, after }));
        prop_assert_eq!(world.run(None), Some(Next::Done));
        prop_assert!(world.knows_the_pin() && world.record.pending.is_none() && !world.record.rotation_due);
    }
}
