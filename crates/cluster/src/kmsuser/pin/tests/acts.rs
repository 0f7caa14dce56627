//! What operators tell and officers do, in any order, between logins that may be broken off.

use super::*;

/// What happens in a simulation, one after the other.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// A worker is to be admitted, and perhaps dies meanwhile.
    Enter { crash: Option<Crash>, connect: bool },
    /// The operator tells one of a few PINs, which is wrong or was the token's.
    Tell(u8),
    /// The officer sets a PIN, and the operator tells it, or says it too.
    OfficerSets { number: u8, says: bool },
    /// The officer sets a PIN, and the operator says it and mistypes what was set.
    OfficerSetsAndTypo { number: u8 },
    /// The officer sets a PIN, and nobody tells.
    OfficerSetsInSilence { number: u8 },
    /// The officer unlocks the user, and the operator says it.
    OfficerUnlocks,
}

fn act() -> impl Strategy<Value = Act> {
    let crash = (0..10_usize, any::<bool>()).prop_map(|(step, after)| Crash { step, after });
    prop_oneof![
        4 => (prop::option::of(crash), any::<bool>()).prop_map(|(crash, connect)| Act::Enter { crash, connect }),
        2 => (0..4_u8).prop_map(Act::Tell),
        1 => (0..3_u8, any::<bool>()).prop_map(|(number, says)| Act::OfficerSets { number, says }),
        1 => (0..3_u8).prop_map(|number| Act::OfficerSetsAndTypo { number }),
        1 => (0..3_u8).prop_map(|number| Act::OfficerSetsInSilence { number }),
        1 => Just(Act::OfficerUnlocks),
    ]
}

impl Simulation {
    fn act(&mut self, act: Act) {
        let set = |number: u8| format!("set {number}");
        match act {
            Act::Enter { crash, connect } => {
                self.record.rotation_due |= connect;
                self.run(crash);
            }
            Act::Tell(0) => self.tell("given"),
            Act::Tell(number) => self.tell(&format!("typo {number}")),
            Act::OfficerSets { number, says } => {
                self.officer_sets(&set(number));
                match says {
                    true => self.tell_reset(Some(&set(number))),
                    false => self.tell(&set(number)),
                }
            }
            Act::OfficerSetsAndTypo { number } => {
                self.officer_sets(&set(number));
                self.tell_reset(Some("typo"));
            }
            Act::OfficerSetsInSilence { number } => self.officer_sets(&set(number)),
            Act::OfficerUnlocks => {
                self.wrong = 0;
                self.tell_reset(None);
            }
        }
    }
}

proptest! {
    /// Whatever operators tell and officers do, and wherever the daemon dies meanwhile: a PIN that nobody else knows is
    /// on record, none on record is tried again after it was refused, no more wrong ones reach the token than there are
    /// tries, and the officer's way leads out of it.
    #[test]
    fn telling_loses_no_pin_and_spends_no_try_too_many(
        acts in prop::collection::vec(act(), 0..40),
        mute in any::<bool>(),
    ) {
        let mut simulation = Simulation { mute, ..Simulation::new("given", due("given")) };
        for act in acts {
            // Of a token with one word for everything nobody learns that its PIN is another one.
            if mute && matches!(act, Act::OfficerSetsInSilence { .. }) {
                continue;
            }
            simulation.act(act);
            let only_here = simulation.token_pin.starts_with(b"rotated");
            prop_assert!(!only_here || simulation.knows_the_pin(), "lost: {simulation:?} after {act:?}");
            prop_assert!(simulation.most_wrong <= POLICY.tries, "{simulation:?} after {act:?}");
            prop_assert!(simulation.wrong <= simulation.record.spent(), "the record counts less than the token: {simulation:?}");
        }
        simulation.officer_sets("at last");
        simulation.tell_reset(Some("at last"));
        prop_assert_eq!(simulation.run(None), Some(Next::Done));
        prop_assert_eq!(simulation.wrong, 0);
        prop_assert!(simulation.knows_the_pin());
    }
}
