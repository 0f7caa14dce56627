//! Tokens that have one word for wrong PINs and for all else that goes wrong.

use super::*;

/// What the last of so many logins has come to.
fn runs(simulation: &mut Simulation, times: u32) -> Option<Next> {
    for _ in 1..times {
        simulation.run(None);
    }
    simulation.run(None)
}

#[test]
fn a_pin_that_no_token_has_taken_costs_the_tries_that_there_are() {
    for blind in [false, true] {
        let mut simulation = Simulation::new("another", due("given"));
        // Where it is blind, it says so of the change that it wants first.
        (simulation.mute, simulation.blind, simulation.expired) = (true, blind, blind);
        assert_eq!(simulation.run(None), Some(Next::Stop(LoginRefusal::NotJudged)), "it may be of a moment");
        assert_eq!(tries_left(&simulation.record, POLICY.tries), POLICY.tries - 1);
        assert_eq!(runs(&mut simulation, 10), Some(Next::Stop(LoginRefusal::Spent)));
        assert_eq!((simulation.wrong, tries_left(&simulation.record, POLICY.tries)), (POLICY.tries, 0));
        simulation.officer_sets("set");
        simulation.tell_reset(Some("set"));
        assert_eq!(simulation.run(None), Some(Next::Done));
    }
}

#[test]
fn what_is_told_wrongly_costs_one_and_the_pin_on_record_has_its_turn() {
    let mut simulation = Simulation::rotated();
    simulation.mute = true;
    simulation.tell_reset(Some("set in another token"));
    assert_eq!(simulation.run(None), Some(Next::Stop(LoginRefusal::NotJudged)));
    assert_eq!(simulation.run(None), Some(Next::Done));
    assert_eq!((simulation.most_wrong, &simulation.record.offered), (1, &None));
    assert_eq!(tries_left(&simulation.record, POLICY.tries), POLICY.tries);
}

/// Trouble passes without anybody: a PIN that the token has taken before is tried until it is over.
#[test]
fn a_pin_that_the_token_has_taken_is_not_blamed() {
    let mut simulation = Simulation::rotated();
    simulation.troubled = true;
    assert_eq!(runs(&mut simulation, 20), Some(Next::Stop(LoginRefusal::NotJudged)));
    assert_eq!(tries_left(&simulation.record, POLICY.tries), POLICY.tries);
    simulation.troubled = false;
    assert_eq!(simulation.run(None), Some(Next::Done));
}

/// The daemon has died before it knew that the PIN was changed, so the one on record is the wrong one.
#[test]
fn a_rotation_without_an_answer_is_found_out() {
    let mut simulation = Simulation::rotated();
    (simulation.mute, simulation.record.rotation_due) = (true, true);
    let change = (0..).find(|step| {
        let mut tried = simulation.clone();
        tried.run(Some(Crash { step: *step, after: true }));
        tried.token_pin != simulation.token_pin
    });
    assert_eq!(simulation.run(change.map(|step| Crash { step, after: true })), None);
    assert_ne!(simulation.token_pin, simulation.record.current);
    assert_eq!(simulation.run(None), Some(Next::Stop(LoginRefusal::NotJudged)));
    assert_eq!(simulation.run(None), Some(Next::Done));
    assert!(simulation.most_wrong <= 1 && simulation.knows_the_pin(), "{simulation:?}");
}

/// The vendor's tool has changed it while the key store was disconnected, and the new one is told as the document has it.
#[test]
fn what_is_told_has_its_turn_after_the_one_that_the_token_had() {
    let mut simulation = Simulation::rotated();
    simulation.mute = true;
    simulation.officer_sets("set by the vendor's tool");
    simulation.tell("set by the vendor's tool");
    assert_eq!(simulation.run(None), Some(Next::Stop(LoginRefusal::NotJudged)));
    assert_eq!(simulation.run(None), Some(Next::Done));
    assert_eq!((simulation.most_wrong, &simulation.record.offered), (1, &None));
}

#[test]
fn what_was_mistyped_after_a_reset_spends_no_more_tries_than_there_are() {
    let mut simulation = Simulation::rotated();
    simulation.mute = true;
    simulation.officer_sets("set");
    simulation.tell_reset(Some("typo"));
    assert_eq!(runs(&mut simulation, 20), Some(Next::Stop(LoginRefusal::Spent)));
    assert_eq!((simulation.most_wrong, simulation.wrong), (POLICY.tries, POLICY.tries));
}

/// The pending PIN of a change before the first login makes room for another one: no token has taken it by that.
#[test]
fn one_that_took_another_s_place_is_not_taken_for_the_token_s() {
    let mut record = Pin { pending: Some(bytes("pending")), current_refused: true, failures: 1, ..due("given") };
    record.attempt = None;
    let mut login = Login::new(record, user(), POLICY);
    assert_eq!(login.begin(), Next::Do(Step::RecordAttempt));
    login.next(Event::Recorded, 1);
    assert_eq!(login.next(Event::Expired, 1), Next::Do(Step::RecordPending));
    assert_eq!((&login.pin.current, login.pin.current_proven), (&bytes("pending"), false));
    // It may be the token's all the same, and what is told takes another place.
    for typo in ["typo", "another"] {
        let told = told::tell(login.pin.clone(), Told { sealed: bytes(typo), same: None });
        assert_eq!((&told.current, &told.offered), (&bytes("pending"), &Some(bytes(typo))));
        login.pin = told;
    }
}

/// With one record for several tokens, another one may have taken it.
#[test]
fn a_pin_that_another_token_has_taken_costs_a_try() {
    let policy = Policy { proven_here: false, ..POLICY };
    let mut login = Login::new(Pin { current_proven: true, ..Pin::given(bytes("given")) }, user(), policy);
    login.begin();
    login.next(Event::Recorded, 1);
    assert_eq!(login.next(Event::Unclear, 1), Next::Do(Step::RecordOutcome));
    assert!(login.is_unclear());
    assert_eq!(tries_left(&login.pin, POLICY.tries), POLICY.tries - 1);
}

proptest! {
    /// Whatever crashes happen, in whatever order: by a word that says nothing no token comes near its lock.
    #[test]
    fn no_crash_locks_a_token_of_one_word(
        crashes in prop::collection::vec((0..8_usize, any::<bool>(), any::<bool>()), 0..12),
    ) {
        let mut simulation = Simulation { mute: true, ..Simulation::new("given", due("given")) };
        for (step, after, connect) in crashes {
            simulation.record.rotation_due |= connect;
            simulation.run(Some(Crash { step, after }));
            prop_assert!(simulation.knows_the_pin(), "{simulation:?}");
            prop_assert!(simulation.most_wrong <= POLICY.tries, "{simulation:?}");
        }
    }
}
