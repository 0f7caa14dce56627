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
    assert_eq!(login.pin, Pin { pending: Some(bytes("new")), current_refused: true, ..due("given") });
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
    assert_eq!((&login.pin.current, &login.pin.offered), (&bytes("right"), &Some(bytes("told"))));
    assert_eq!(login.pin.spent(), 1, "on record before it is tried");
    assert_eq!(login.next(Event::NotCurrent, 1), Next::Do(Step::RecordAttempt));
    assert_eq!((login.candidate, login.pin.failures), (Candidate::Current, 1));
    assert!(login.pin.offered_refused && login.pin.pending.is_none());
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
    assert_eq!(login.pin, due("given"));
}

/// A rotation was broken off: the PIN that it was about to set may be the token's, and is what a PIN is changed to.
#[test]
fn a_pending_pin_is_not_written_over() {
    let record = Pin { pending: Some(bytes("pending")), current_proven: true, ..due("current") };
    let mut login = expired(POLICY, record.clone());
    assert_eq!(login.next(Event::Expired, 1), Next::Do(Step::RecordPending));
    assert_eq!(login.next(Event::Made(bytes("new")), 1), Next::Do(Step::RecordPending));
    let attempted = Pin { attempt: Some(Candidate::Current), ..record.clone() };
    assert_eq!(login.pin, attempted, "no new one");
    assert_eq!(login.next(Event::Recorded, 1), Next::Do(Step::ChangePin));
    assert_eq!(login.old(), Some(&bytes("current")));
    // Where the token does not take it for that, it stays all the same.
    for (event, refused, failures) in [
        (Event::NotCurrent, true, 1),
        (Event::Unchanged, false, 0),
        (Event::LoginNotJudged, false, 0),
        (Event::LockedOut, true, 1),
    ] {
        let mut login = login.clone();
        login.next(event, 1);
        let expected = Pin { attempt: login.pin.attempt, current_refused: refused, failures, ..record.clone() };
        assert_eq!(login.pin, expected);
    }
    assert_eq!(login.next(Event::Changed, 1), Next::Do(Step::RecordRotated));
    login.next(Event::Recorded, 1);
    assert_eq!(login.candidate, Candidate::Pending);
    login.next(Event::Recorded, 1);
    login.next(Event::LoggedIn, 1);
    let rotated = Pin { rotated_at: Some(1), current_proven: true, ..Pin::given(bytes("pending")) };
    assert_eq!(login.pin, rotated);
}

/// A login that is about to change a PIN to one from before, which is not to the token's liking: that is tried by a login.
fn disliked(record: Pin) -> Login {
    let mut login = expired(POLICY, record);
    for event in [Event::Expired, Event::Made(bytes("unused")), Event::Recorded] {
        login.next(event, 1);
    }
    assert_eq!(login.next(Event::Unchanged, 1), Next::Do(Step::RecordAttempt));
    assert_eq!((login.candidate, login.pin.attempt), (Candidate::Pending, Some(Candidate::Pending)));
    login.next(Event::Recorded, 1);
    login
}

#[test]
fn a_pending_pin_that_the_token_does_not_like_and_refuses_makes_room_for_a_new_one() {
    let record =
        Pin { pending: Some(bytes("short")), offered: Some(bytes("told")), current_proven: true, ..due("current") };
    let mut login = disliked(record);
    assert_eq!(login.next(Event::LoginRefused, 1), Next::Do(Step::RecordAttempt));
    assert_eq!(login.candidate, Candidate::Current, "what has to be changed, before what may cost a try");
    assert_eq!((&login.pin.pending, login.pin.pending_refused), (&Some(bytes("short")), true));
    login.next(Event::Recorded, 1);
    assert_eq!(login.next(Event::Expired, 1), Next::Do(Step::RecordPending));
    login.next(Event::Made(bytes("new")), 1);
    assert_eq!((&login.pin.pending, login.pin.pending_refused), (&Some(bytes("new")), false));
    login.next(Event::Recorded, 1);
    let mut vain = login.clone();
    login.next(Event::Changed, 1);
    login.next(Event::Recorded, 1);
    assert_eq!(login.candidate, Candidate::Pending);
    login.next(Event::Recorded, 1);
    login.next(Event::LoggedIn, 1);
    assert_eq!(login.pin, Pin { rotated_at: Some(1), current_proven: true, ..Pin::given(bytes("new")) });
    // A token that likes no PIN is left.
    assert_eq!(vain.next(Event::Unchanged, 1), Next::Do(Step::RecordUnchanged));
    assert_eq!(vain.next(Event::Recorded, 1), Next::Stop(LoginRefusal::Expired));
    assert_eq!((&vain.pin.current, &vain.pin.pending, vain.pin.failures), (&bytes("current"), &None, 1));
}

/// A token in trouble is not asked for the pending PIN, however often it is: each login would be a try, and the change may
/// still go through.
#[test]
fn trouble_while_a_pin_is_changed_costs_no_try_however_often() {
    let mut record = Pin { pending: Some(bytes("pending")), current_proven: true, ..due("current") };
    for _ in 0..2 * POLICY.tries {
        let mut login = expired(POLICY, record.clone());
        for event in [Event::Expired, Event::Made(bytes("unused")), Event::Recorded] {
            login.next(event, 1);
        }
        assert_eq!(login.next(Event::LoginNotJudged, 1), Next::Do(Step::RecordOutcome));
        assert_eq!(login.next(Event::Recorded, 1), Next::Stop(LoginRefusal::NotJudged));
        assert_eq!((&login.pin.pending, login.pin.failures), (&record.pending, 0));
        record = login.pin;
    }
}

/// The rotation went through before it was broken off, or nobody can tell: the pending PIN may be the token's.
#[test]
fn a_pending_pin_that_the_token_does_not_like_stays_unless_a_login_with_it_is_refused() {
    let record = Pin { pending: Some(bytes("pending")), current_proven: true, ..due("current") };
    let mut login = disliked(record.clone());
    login.next(Event::LoggedIn, 1);
    assert_eq!((&login.pin.current, &login.pin.pending), (&bytes("pending"), &None));
    for (event, why) in [
        (Event::Expired, LoginRefusal::Expired),
        (Event::LockedOut, LoginRefusal::Locked),
        (Event::LoginNotJudged, LoginRefusal::NotJudged),
    ] {
        let mut login = disliked(record.clone());
        assert_eq!(login.next(event, 1), Next::Do(Step::RecordOutcome));
        assert_eq!(login.next(Event::Recorded, 1), Next::Stop(why));
        assert_eq!((&login.pin.current, &login.pin.pending), (&record.current, &record.pending), "{why:?}");
    }
    // On record as refused, perhaps by a lock, and not tried again: nothing takes its place.
    let refused = Pin { pending_refused: true, ..record };
    let mut login = expired(POLICY, refused.clone());
    for event in [Event::Expired, Event::Made(bytes("new")), Event::Recorded] {
        login.next(event, 1);
    }
    assert_eq!(login.next(Event::Unchanged, 1), Next::Do(Step::RecordUnchanged));
    assert_eq!(login.pin, refused);
}

/// The pending one itself has to be changed: the others are tried before its place is needed.
#[test]
fn a_pending_pin_is_changed_when_the_others_are_refused() {
    let record = Pin {
        pending: Some(bytes("pending")),
        offered: Some(bytes("told")),
        attempt: Some(Candidate::Current),
        current_proven: true,
        ..due("current")
    };
    let mut login = expired(Policy { tries: 4, ..POLICY }, record);
    assert_eq!(login.candidate, Candidate::Pending);
    assert_eq!(login.next(Event::Expired, 1), Next::Do(Step::RecordAttempt));
    for other in [Candidate::Offered, Candidate::Current] {
        assert_eq!(login.candidate, other);
        login.next(Event::Recorded, 1);
        assert_eq!(login.next(Event::LoginRefused, 1), Next::Do(Step::RecordAttempt));
    }
    // One attempt was without an outcome.
    assert_eq!((login.candidate, login.pin.failures), (Candidate::Pending, 3));
    login.next(Event::Recorded, 1);
    assert_eq!(login.next(Event::Expired, 1), Next::Do(Step::RecordPending));
    login.next(Event::Made(bytes("new")), 1);
    assert_eq!((&login.pin.current, &login.pin.pending), (&bytes("pending"), &Some(bytes("new"))));
    assert_eq!(login.old(), Some(&bytes("pending")));
    assert_eq!(login.pin.attempt, Some(Candidate::Current));
    for pin in [login.pin.clone(), Pin { attempt: None, ..login.pin }] {
        let after = told::tell(pin, Told { sealed: bytes("told meanwhile"), same: None });
        assert_eq!(
            (&after.current, &after.pending),
            (&bytes("pending"), &Some(bytes("new"))),
            "telling does not reach it"
        );
    }
}

/// What is left of the others cannot be opened: it may be the token's, so that there is no room for a new one.
#[test]
fn a_pending_pin_is_not_changed_beside_one_that_cannot_be_tried() {
    let record = Pin { pending: Some(bytes("pending")), current_proven: true, ..due("sealed") };
    let mut login = expired(POLICY, record.clone());
    assert_eq!(login.next(Event::Sealed, 1), Next::Do(Step::RecordAttempt));
    for _ in 0..2 {
        assert_eq!(login.candidate, Candidate::Pending);
        login.next(Event::Recorded, 1);
        login.next(Event::Expired, 1);
    }
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(LoginRefusal::Expired));
    assert_eq!(login.pin, record);
}

/// Before the first login and after it: no other candidate is tried, and a new PIN that the token has not taken is nobody's.
#[test]
fn a_token_that_locks_the_user_at_a_change_is_asked_no_more() {
    let record = Pin { offered: Some(bytes("told")), current_proven: true, ..due("current") };
    let mut login = expired(POLICY, record.clone());
    for event in [Event::Expired, Event::Made(bytes("new")), Event::Recorded] {
        login.next(event, 1);
    }
    assert_eq!(login.next(Event::LockedOut, 1), Next::Do(Step::RecordOutcome));
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(LoginRefusal::Locked));
    assert_eq!(login.pin, Pin { current_refused: true, failures: 1, ..record.clone() });

    let mut login = expired(POLICY, record);
    for event in [Event::LoggedIn, Event::Recorded, Event::Proven, Event::Made(bytes("new")), Event::Recorded] {
        login.next(event, 1);
    }
    assert_eq!(login.next(Event::LockedOut, 1), Next::Do(Step::RecordOutcome));
    assert_eq!(login.next(Event::Recorded, 1), Next::Stop(LoginRefusal::Locked));
    assert_eq!(login.pin, Pin { failures: 1, current_proven: true, ..due("current") }, "it has let somebody in");
}

/// A change that was not tried, or of which nobody knows what came, costs no try and takes nothing from the record.
#[test]
fn a_change_that_fails_otherwise_costs_no_try() {
    let mut login = expired(POLICY, due("given"));
    for event in [Event::Expired, Event::Made(bytes("new")), Event::Recorded] {
        login.next(event, 1);
    }
    for (event, why) in [(Event::LoginNotJudged, LoginRefusal::NotJudged), (Event::Sealed, LoginRefusal::Sealed)] {
        let mut login = login.clone();
        assert_eq!(login.next(event, 1), Next::Do(Step::RecordOutcome));
        assert_eq!(login.next(Event::Recorded, 1), Next::Stop(why));
        assert_eq!(login.pin, Pin { pending: Some(bytes("new")), ..due("given") });
    }
}

/// An operator tells a PIN while one is being changed: none that may be the token's leaves the record for it.
#[test]
fn what_is_told_during_a_change_takes_no_place_of_what_may_be_the_tokens() {
    let told = |pin: &Pin| told::tell(pin.clone(), Told { sealed: bytes("told"), same: None });
    for (record, offered) in [
        (due("current"), None),
        (Pin { current_proven: true, ..due("current") }, None),
        (Pin { offered: Some(bytes("set")), offered_first: true, current_proven: true, ..due("current") }, Some("set")),
    ] {
        let mut login = expired(POLICY, record);
        for event in [Event::Expired, Event::Made(bytes("new"))] {
            login.next(event, 1);
        }
        let before = told(&login.pin);
        assert_eq!((&before.current, &before.pending), (&bytes("current"), &Some(bytes("new"))));
        login.next(Event::Recorded, 1);
        login.next(Event::Changed, 1);
        // Between the change and the first login the new one is the token's, and the proven one stays beside it.
        let after = told(&login.pin);
        assert_eq!((&after.pending, after.pending_refused), (&Some(bytes("new")), false));
        assert_eq!(after.current == "current", login.pin.current_proven, "known to those who told it, or kept");
        assert_eq!(login.pin.offered, offered.map(bytes));
        // Whoever works on it goes on from what was told.
        login.pin = after;
        login.next(Event::Recorded, 1);
        login.next(Event::Recorded, 1);
        if login.candidate == Candidate::Pending {
            login.next(Event::LoggedIn, 1);
            assert_eq!(login.pin.current, "new");
        }
    }
}

/// Another PIN than the one that has to be changed is on record under its name by now: it is tried by a login first.
#[test]
fn what_was_told_instead_is_not_changed_untried() {
    let record = Pin { offered: Some(bytes("set")), offered_first: true, current_proven: true, ..due("current") };
    let mut login = expired(POLICY, record);
    for event in [Event::Expired, Event::Made(bytes("new"))] {
        login.next(event, 1);
    }
    login.pin.offered = Some(bytes("told"));
    assert_eq!(login.next(Event::Recorded, 1), Next::Do(Step::RecordAttempt));
    assert_eq!(login.pin.pending, Some(bytes("new")));
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

    /// The same of one that says so of every PIN, after a rotation that was broken off, whether the officer has set what is
    /// told or not: the token's PIN stays on record, and the record counts no less than the token.
    #[test]
    fn a_token_that_says_so_of_every_pin_loses_none_and_is_not_locked(
        officer in any::<bool>(),
        says in any::<bool>(),
        broken_off in (0..10_usize, any::<bool>()),
        crashes in prop::collection::vec((0..14_usize, any::<bool>()), 0..6),
    ) {
        let mut simulation = Simulation::rotated();
        simulation.record.rotation_due = true;
        simulation.run(Some(Crash { step: broken_off.0, after: broken_off.1 }));
        match officer {
            true => simulation.officer_sets_for_once("set"),
            false => simulation.expired = true,
        }
        simulation.blind = true;
        match says {
            true => simulation.tell_reset(Some("set")),
            false => simulation.tell("set"),
        }
        for (step, after) in crashes {
            simulation.run(Some(Crash { step, after }));
            prop_assert!(simulation.knows_the_pin(), "{simulation:?}");
            prop_assert!(simulation.most_wrong <= POLICY.tries, "{simulation:?}");
            prop_assert!(simulation.wrong <= simulation.record.spent(), "{simulation:?}");
        }
        let outcome = simulation.run(None);
        prop_assert!(matches!(outcome, Some(Next::Done | Next::Stop(LoginRefusal::Spent))), "{outcome:?} {simulation:?}");
        prop_assert!(simulation.knows_the_pin());
    }

    /// A PIN of a rotation that was broken off is not to the token's liking, and wherever the daemon dies meanwhile: what
    /// is the token's stays on record, and without a crash it is let in.
    #[test]
    fn no_crash_loses_a_pin_beside_one_that_the_token_does_not_like(
        blind in any::<bool>(),
        taken in any::<bool>(),
        crashes in prop::collection::vec((0..16_usize, any::<bool>()), 0..5),
    ) {
        let mut simulation = Simulation::rotated();
        simulation.record.pending = Some(bytes("short"));
        simulation.disliked = Some(bytes("short"));
        (simulation.expired, simulation.blind) = (true, blind);
        if taken {
            simulation.token_pin = bytes("short");
        }
        let whole = crashes.is_empty();
        for (step, after) in crashes {
            simulation.run(Some(Crash { step, after }));
            prop_assert!(simulation.knows_the_pin(), "{simulation:?}");
            prop_assert!(simulation.most_wrong <= POLICY.tries, "{simulation:?}");
        }
        let outcome = simulation.run(None);
        prop_assert!(simulation.knows_the_pin(), "{simulation:?}");
        prop_assert!(!whole || blind || outcome == Some(Next::Done), "{outcome:?} {simulation:?}");
    }
}
