mod acts;
mod first_login;
mod unclear;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::told::Told;
use super::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn user() -> UserFlags {
    UserFlags { initialised: true, ..UserFlags::default() }
}

const POLICY: Policy = Policy { tries: 3, rotates: true, changes_first: true, proven_here: true };

/// A token that counts wrong PINs and locks, a record on a disk that survives crashes, and an operator.
#[derive(Clone, Debug)]
struct Simulation {
    token_pin: Bytes,
    /// Wrong PINs since one was right or the officer has set one.
    wrong: u32,
    /// Wrong PINs since one was right or the service was told that the officer has set one.
    wrong_since_told: u32,
    most_wrong: u32,
    /// Those that are on record as refused.
    refused: BTreeSet<Bytes>,
    record: Pin,
    made: u32,
    /// The token lets nobody in before the PIN is changed.
    expired: bool,
    /// It says so of wrong PINs, too, at which it does not look.
    blind: bool,
    /// Its rules do not let this one be set.
    disliked: Option<Bytes>,
    /// It has one word for wrong PINs and for all else.
    mute: bool,
    /// It says that word of every PIN, and looks at none.
    troubled: bool,
}

/// Where a run is cut short: the daemon dies before or after an effect.
#[derive(Clone, Copy, Debug)]
struct Crash {
    step: usize,
    after: bool,
}

impl Simulation {
    fn new(token: &str, record: Pin) -> Self {
        let refused = BTreeSet::new();
        Self {
            token_pin: bytes(token),
            wrong: 0,
            wrong_since_told: 0,
            most_wrong: 0,
            refused,
            record,
            made: 0,
            expired: false,
            blind: false,
            disliked: None,
            mute: false,
            troubled: false,
        }
    }

    /// One worker's admission; `None` when it was cut short.
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
                    let flags = [login.pin.current_refused, login.pin.pending_refused, login.pin.offered_refused];
                    let flagged = Candidate::ALL.into_iter().zip(flags).filter(|(_, refused)| *refused);
                    self.refused.extend(flagged.filter_map(|(candidate, _)| login.pin.sealed(candidate).cloned()));
                    Event::Recorded
                }
                Step::Login => {
                    let tried = login.pin.sealed(login.candidate).unwrap().clone();
                    assert!(!self.refused.contains(&tried), "{tried:?} is tried again: {self:?}");
                    if self.troubled {
                        Event::Unclear
                    } else if self.expired && (self.blind || tried == self.token_pin) {
                        Event::Expired
                    } else if tried == self.token_pin {
                        (self.wrong, self.wrong_since_told) = (0, 0);
                        self.refused.clear();
                        Event::LoggedIn
                    } else {
                        self.count();
                        if self.mute { Event::Unclear } else { Event::LoginRefused }
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
                    let old = login.old().unwrap().clone();
                    assert!(!self.refused.contains(&old), "{old:?} is tried again: {self:?}");
                    if self.disliked.is_some() && login.pin.pending == self.disliked {
                        Event::Unchanged
                    } else if old == self.token_pin {
                        self.token_pin = login.pin.pending.clone().unwrap();
                        (self.expired, self.wrong, self.wrong_since_told) = (false, 0, 0);
                        Event::Changed
                    } else {
                        assert!(self.blind, "another PIN than the token's is changed: {self:?}");
                        self.count();
                        if self.mute { Event::Unclear } else { Event::NotCurrent }
                    }
                }
            };
            if dies(true) {
                return None;
            }
            next = login.next(event, 1);
        }
        None
    }

    fn count(&mut self) {
        self.wrong += 1;
        self.wrong_since_told += 1;
        self.most_wrong = self.most_wrong.max(self.wrong_since_told);
    }

    fn knows_the_pin(&self) -> bool {
        Candidate::ALL.iter().any(|candidate| self.record.sealed(*candidate) == Some(&self.token_pin))
    }

    fn told(&self, pin: &str) -> Told {
        let sealed = bytes(pin);
        let same = Candidate::ALL.into_iter().find(|candidate| self.record.sealed(*candidate) == Some(&sealed));
        Told { sealed, same }
    }

    /// The operator tells a PIN, and no more.
    fn tell(&mut self, pin: &str) {
        let told = self.told(pin);
        if told.same.is_none() {
            self.refused.remove(&told.sealed);
        }
        self.record = told::tell(self.record.clone(), told);
    }

    /// The operator tells that the officer has cleared the token's count, with this PIN or by unlocking the user.
    fn tell_reset(&mut self, pin: Option<&str>) {
        let told = pin.map(|pin| self.told(pin));
        match &told {
            Some(told) => drop(self.refused.remove(&told.sealed)),
            None => self.refused.clear(),
        }
        self.wrong_since_told = 0;
        self.record = told::reset(self.record.clone(), told, 7);
    }

    fn officer_sets(&mut self, pin: &str) {
        (self.token_pin, self.wrong) = (bytes(pin), 0);
    }

    /// The same in a token that wants that changed.
    fn officer_sets_for_once(&mut self, pin: &str) {
        self.officer_sets(pin);
        self.expired = true;
    }

    /// A simulation after a connect, whose PIN nobody knows but the record.
    fn rotated() -> Self {
        let mut simulation = Self::new("given", due("given"));
        assert_eq!(simulation.run(None), Some(Next::Done));
        simulation
    }
}

fn due(pin: &str) -> Pin {
    Pin { rotation_due: true, ..Pin::given(bytes(pin)) }
}

#[test]
fn a_connect_rotates_and_a_restart_does_not() {
    let mut simulation = Simulation::new("given", due("given"));
    assert_eq!(simulation.run(None), Some(Next::Done));
    assert_eq!(simulation.token_pin, "rotated 1");
    assert_eq!(simulation.record, Pin { rotated_at: Some(1), current_proven: true, ..Pin::given(bytes("rotated 1")) });
    assert_eq!(simulation.run(None), Some(Next::Done));
    assert_eq!(simulation.token_pin, "rotated 1");
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let mut simulation = Simulation::new("another", due("given"));
    assert_eq!(simulation.run(None), Some(Next::Stop(LoginRefusal::Refused)));
    assert_eq!(simulation.wrong, 1);
    for _ in 0..5 {
        assert_eq!(simulation.run(None), Some(Next::Stop(LoginRefusal::Refused)));
    }
    assert_eq!(simulation.wrong, 1, "neither by itself nor because it is told to connect");
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
    let mut simulation = Simulation::new("given", due("given"));
    for _ in 0..3 {
        assert_eq!(simulation.run(Some(Crash { step: 1, after: false })), None);
    }
    for _ in 0..10 {
        assert_eq!(simulation.run(None), Some(Next::Stop(LoginRefusal::Spent)));
    }
    assert_eq!(tries_left(&simulation.record, POLICY.tries), 0);
    // Telling gives no try back; that the officer has cleared the token's count does.
    simulation.tell("given");
    assert_eq!(simulation.run(None), Some(Next::Stop(LoginRefusal::Spent)));
    simulation.tell_reset(None);
    assert_eq!(tries_left(&simulation.record, POLICY.tries), POLICY.tries);
    assert_eq!(simulation.run(None), Some(Next::Done));
}

#[test]
fn a_mistyped_pin_costs_no_try_and_loses_nothing() {
    let mut simulation = Simulation::rotated();
    for typo in 0..10 {
        simulation.tell(&format!("typo {typo}"));
        assert_eq!(simulation.run(None), Some(Next::Done));
        assert_eq!((simulation.most_wrong, &simulation.record.offered), (0, &None), "{simulation:?}");
    }
}

#[test]
fn what_the_officer_has_set_is_tried_first_where_it_is_said_and_last_where_not() {
    for (says, wrong) in [(true, 0), (false, 1)] {
        let mut simulation = Simulation::rotated();
        simulation.officer_sets("set");
        match says {
            true => simulation.tell_reset(Some("set")),
            false => simulation.tell("set"),
        }
        assert_eq!(simulation.run(None), Some(Next::Done));
        assert_eq!(simulation.most_wrong, wrong);
        assert_eq!(simulation.record.rotated_at, None, "the officer knows it");
        assert!(simulation.knows_the_pin() && simulation.record.current_proven);
    }
}

/// The operator errs about which token the officer has seen to, or mistypes what was set.
#[test]
fn what_is_said_wrongly_of_a_reset_costs_one_try() {
    let mut simulation = Simulation::rotated();
    simulation.tell_reset(Some("set in another token"));
    assert_eq!(simulation.run(None), Some(Next::Done));
    assert_eq!(simulation.most_wrong, 1);
    simulation.officer_sets("set");
    simulation.tell_reset(Some("typo"));
    assert_eq!(simulation.run(None), Some(Next::Stop(LoginRefusal::Refused)));
    assert_eq!(simulation.most_wrong, 2, "it is not the one from before either");
    simulation.tell("set");
    assert_eq!(simulation.run(None), Some(Next::Done));
}

/// Every candidate is wrong, over and over: the tries are those of the token.
#[test]
fn telling_spends_no_more_tries_than_there_are() {
    let mut simulation = Simulation::rotated();
    simulation.officer_sets("unknown");
    for typo in 0..20 {
        simulation.tell(&format!("typo {typo}"));
        simulation.run(None);
    }
    assert_eq!((simulation.wrong, tries_left(&simulation.record, POLICY.tries)), (3, 0));
    simulation.tell("unknown");
    assert_eq!(simulation.run(None), Some(Next::Stop(LoginRefusal::Spent)), "also the right one");
    simulation.tell_reset(Some("unknown"));
    assert_eq!(simulation.run(None), Some(Next::Done));
    assert_eq!(simulation.wrong, 0);
}

#[test]
fn candidates_take_turns_after_crashes() {
    let record = Pin {
        pending: Some(bytes("pending")),
        offered: Some(bytes("offered")),
        current_proven: true,
        ..due("current")
    };
    let begins_with = |record: &Pin| {
        let mut login = Login::new(record.clone(), user(), POLICY);
        login.begin();
        login.candidate
    };
    let [current, pending, offered] = Candidate::ALL;
    for (last, next) in [(None, current), (Some(current), pending), (Some(pending), offered), (Some(offered), current)]
    {
        assert_eq!(begins_with(&Pin { attempt: last, ..record.clone() }), next, "after {last:?}");
    }
    let first = Pin { offered_first: true, ..record };
    for (last, next) in [(None, offered), (Some(offered), current), (Some(current), pending), (Some(pending), offered)]
    {
        assert_eq!(begins_with(&Pin { attempt: last, ..first.clone() }), next, "after {last:?}");
    }
}

#[test]
fn a_token_that_says_that_it_has_locked_the_user_is_asked_no_more() {
    let record = Pin { offered: Some(bytes("told")), current_proven: true, ..due("current") };
    let mut login = Login::new(record.clone(), user(), POLICY);
    login.begin();
    login.next(Event::Recorded, 1);
    assert_eq!(login.next(Event::LockedOut, 1), Next::Do(Step::RecordOutcome));
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(LoginRefusal::Locked));
    assert_eq!(login.pin, Pin { current_refused: true, failures: 1, ..record });
}

/// The seal key is lost: what was sealed under it is passed over, and costs nothing.
#[test]
fn a_pin_that_cannot_be_opened_is_passed_over() {
    let record = Pin { current_proven: true, ..due("lost") };
    let mut login = Login::new(record.clone(), user(), POLICY);
    login.begin();
    login.next(Event::Recorded, 1);
    assert_eq!(login.next(Event::Sealed, 1), Next::Do(Step::RecordOutcome));
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(LoginRefusal::Sealed));
    assert_eq!(login.pin, record);
    let told = Pin { offered: Some(bytes("told")), ..record };
    let mut login = Login::new(told, user(), POLICY);
    login.begin();
    login.next(Event::Recorded, 1);
    assert_eq!(login.next(Event::Sealed, 1), Next::Do(Step::RecordAttempt));
    assert_eq!((login.candidate, login.pin.failures), (Candidate::Offered, 0));
}

#[test]
fn the_token_s_own_flags_are_heeded() {
    for (flags, why) in [
        (UserFlags::default(), LoginRefusal::NoUser),
        (UserFlags { locked: true, ..user() }, LoginRefusal::Locked),
        (UserFlags { final_try: true, ..user() }, LoginRefusal::LastTry),
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
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(LoginRefusal::NotJudged));
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
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(LoginRefusal::Unchangeable));
    assert_eq!(login.pin, Pin { current_proven: true, ..due("given") });
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
        let mut simulation = Simulation::new("given", due("given"));
        for (step, after, connect) in crashes {
            if connect {
                simulation.record.rotation_due = true;
            }
            let outcome = simulation.run(Some(Crash { step, after }));
            prop_assert!(simulation.knows_the_pin(), "{simulation:?} after {outcome:?}");
            prop_assert!(simulation.most_wrong <= POLICY.tries, "{simulation:?}");
            prop_assert_ne!(outcome, Some(Next::Stop(LoginRefusal::Refused)));
        }
        // With the budget spent an officer has to help; the PIN is known all the same.
        let outcome = simulation.run(None);
        prop_assert!(matches!(outcome, Some(Next::Done | Next::Stop(LoginRefusal::Spent))), "{outcome:?}");
        prop_assert!(simulation.knows_the_pin());
    }

    /// One crash anywhere, then a restart: it is let in by itself.
    #[test]
    fn one_crash_needs_no_officer(step in 0..8_usize, after in any::<bool>()) {
        let mut simulation = Simulation::new("given", due("given"));
        simulation.run(Some(Crash { step, after }));
        prop_assert_eq!(simulation.run(None), Some(Next::Done));
        prop_assert!(simulation.knows_the_pin() && simulation.record.pending.is_none() && !simulation.record.rotation_due);
    }
}
