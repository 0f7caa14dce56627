//! Tokens that have one word for wrong PINs and for all else that goes wrong.

use super::*;

/// What the last of so many logins has come to.
fn runs(simulation: &mut Simulation, times: u32) -> Option<Next> {
    (1..times).for_each(|_| drop(simulation.run(None)));
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
