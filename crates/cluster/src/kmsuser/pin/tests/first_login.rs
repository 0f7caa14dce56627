//! Tokens that let nobody in before the PIN is changed that somebody else has set.

use super::*;

#[test]
fn a_pin_that_has_to_be_changed_first_is_changed_once_and_tried_anew() {
    for rotation_due in [true, false] {
        let mut simulation = Simulation::new("given", Pin { rotation_due, ..due("given") });
        simulation.expired = true;
        assert_eq!(simulation.run(None), Some(Next::Done));
        let rotated = Pin { rotated_at: Some(1), current_proven: true, ..Pin::given(bytes("rotated 1")) };
        assert_eq!((&simulation.record, simulation.most_wrong), (&rotated, 0));
        assert_eq!(simulation.token_pin, "rotated 1", "one change is the rotation too");
    }
    // What the officer sets later is treated alike, and the PIN from before is forgotten when the new one has worked.
    let mut simulation = Simulation::rotated();
    simulation.officer_sets_for_once("set");
    simulation.tell_reset(Some("set"));
    assert_eq!(simulation.run(None), Some(Next::Done));
    assert_eq!((&simulation.token_pin, simulation.most_wrong), (&bytes("rotated 2"), 0));
    assert_eq!(simulation.record.offered, None);
}

fn expired(policy: Policy, record: Pin) -> Login {
    let mut login = Login::new(record, user(), policy);
    login.begin();
    login.next(Event::Recorded, 1);
    login
}

#[test]
fn who_may_not_change_it_stops_and_loses_nothing() {
    for (policy, why) in [
        (Policy { rotates: false, ..POLICY }, LoginRefusal::NotYetChanged),
        (Policy { changes_first: false, ..POLICY }, LoginRefusal::Expired),
        (Policy { changes_first: false, rotates: false, ..POLICY }, LoginRefusal::Expired),
    ] {
        let mut login = expired(policy, due("given"));
        assert_eq!(login.next(Event::Expired, 1), Next::Do(Step::RecordOutcome));
        assert_eq!(login.next(Event::Recorded, 1), Next::Stop(why));
        assert_eq!(login.pin, due("given"));
    }
}

#[test]
fn a_token_that_wants_the_new_one_changed_too_is_left() {
    let mut login = expired(POLICY, due("given"));
    let events = [Event::Expired, Event::Made(bytes("new")), Event::Recorded, Event::Changed, Event::Recorded];
    for event in events {
        let _ = login.next(event, 1);
    }
    assert_eq!(login.next(Event::Recorded, 1), Next::Do(Step::Login));
    assert_eq!(login.next(Event::Expired, 1), Next::Do(Step::RecordOutcome));
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(LoginRefusal::Expired));
    assert_eq!(login.pin.current, "new");
}

/// The token said of a PIN that it has to be changed, and then that it is none: what was on record is tried, and counted.
#[test]
fn a_token_that_says_so_of_a_wrong_pin_loses_no_right_one() {
    let record = Pin { offered: Some(bytes("told")), offered_first: true, current_proven: true, ..due("right") };
    let mut login = expired(POLICY, record);
    assert_eq!(login.candidate, Candidate::Offered);
    let events = [Event::Expired, Event::Made(bytes("new")), Event::Recorded];
    for event in events {
        let _ = login.next(event, 1);
    }
    assert_eq!((&login.pin.current, &login.pin.offered), (&bytes("told"), &Some(bytes("right"))));
    assert_eq!(login.next(Event::NotCurrent, 1), Next::Do(Step::RecordAttempt));
    assert_eq!((login.candidate, login.pin.failures), (Candidate::Offered, 1));
    assert!(login.pin.current_refused && login.pin.pending.is_none());
    login.next(Event::Recorded, 1);
    login.next(Event::LoggedIn, 1);
    assert_eq!((&login.pin.current, &login.pin.offered), (&bytes("right"), &None));
}

/// The new PIN is not to the token's liking.
#[test]
fn a_change_that_is_refused_leaves_the_pin_as_it_was() {
    let mut login = expired(POLICY, due("given"));
    let events = [Event::Expired, Event::Made(bytes("new")), Event::Recorded];
    for event in events {
        let _ = login.next(event, 1);
    }
    assert_eq!(login.next(Event::Unchanged, 1), Next::Do(Step::RecordUnchanged));
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(LoginRefusal::Expired));
    assert_eq!(login.pin, Pin { current_proven: true, ..due("given") });
}

proptest! {
    /// Whatever crashes happen in a token whose PIN has to be changed, told as the officer's or not: it is on record.
    #[test]
    fn no_crash_loses_a_pin_that_has_to_be_changed(
        officer in any::<bool>(),
        crashes in prop::collection::vec((0..12_usize, any::<bool>()), 0..6),
    ) {
        let mut simulation = Simulation::rotated();
        simulation.officer_sets_for_once("set");
        match officer {
            true => simulation.tell_reset(Some("set")),
            false => simulation.tell("set"),
        }
        for (step, after) in crashes {
            simulation.run(Some(Crash { step, after }));
            prop_assert!(simulation.knows_the_pin(), "{simulation:?}");
            prop_assert!(simulation.most_wrong <= POLICY.tries, "{simulation:?}");
        }
        let outcome = simulation.run(None);
        prop_assert!(matches!(outcome, Some(Next::Done | Next::Stop(LoginRefusal::Spent))), "{outcome:?}");
        prop_assert!(simulation.knows_the_pin());
    }
}
