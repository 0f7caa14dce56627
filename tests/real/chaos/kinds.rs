//! Which HSM stands in a zone. Pure.
//!
//! Its token is as the ceremony left it: what it takes to get there is left to the tests of personalities.

use chaos_hsm::Control;

use super::rng::Rng;
use crate::harness::daemon::Site;
use crate::harness::habits::{Habits, LUNA, LUNA_FIPS, NSHIELD, SOFTHSM, UTIMACO, UTIMACO_FIPS};

/// SoftHSM more often: what it says when it fails is measured. None that calls AES-GCM by a number of its own: that stands in the
/// objects, which the ceremony has made in tokens that call it by the standard's.
pub(super) const KINDS: [&Habits; 9] =
    [&SOFTHSM, &SOFTHSM, &SOFTHSM, &LUNA, &LUNA_FIPS, &NSHIELD, &UTIMACO, &UTIMACO_FIPS, &NSHIELD];

/// Drawn apart from the rest, so that what happens to the zones of a seed is the same whatever stands in them.
const APART: u64 = 0x6b69_6e64;

/// One for each zone.
pub(super) fn draw(seed: u64, zones: usize) -> Vec<&'static Habits> {
    let mut rng = Rng::new(seed ^ APART);
    (0..zones).map(|_| rng.pick(&KINDS)).collect()
}

/// The controls of an HSM, which goes on being of its kind whatever rules are in force.
pub(super) struct Played {
    control: Control,
    kind: &'static Habits,
}

impl Played {
    /// Has each HSM of a site be of its kind.
    pub(super) fn all(site: &Site, kinds: &[&'static Habits]) -> Vec<Self> {
        let mut played = Vec::new();
        site.configure_hsms(|index, hsm| {
            let kind = kinds[index];
            played.push(Self { control: kind.play(hsm, &site.path().join(format!("chaos-{index}"))), kind });
        });
        played
    }

    /// Puts rules in force.
    pub(super) fn set(&self, rules: &str) {
        self.control.set(&format!("{}{rules}", self.kind.played)).unwrap();
    }

    /// The user has changed the PIN that an officer has set, where the HSM asks for that.
    pub(super) fn pin_was_changed(&self) {
        self.control.pin_was_changed();
    }

    /// No rules any more.
    pub(super) fn clear(&self) {
        self.set("");
    }

    /// See [`Control::calls`].
    pub(super) fn calls(&self, function: &str) -> u64 {
        self.control.calls(function)
    }

    /// See [`Control::injected`].
    pub(super) fn injected(&self, function: &str) -> u64 {
        self.control.injected(function)
    }

    /// See [`Control::injected_in_all`].
    pub(super) fn injected_in_all(&self) -> u64 {
        self.control.injected_in_all()
    }
}

#[test]
fn every_kind_is_drawn_and_unlike_ones_stand_beside_each_other() {
    let all: Vec<_> = (0..500).map(|seed| draw(seed, 2)).collect();
    for kind in KINDS {
        assert!(all.iter().any(|kinds| kinds.contains(&kind)), "{}", kind.name);
    }
    assert!(all.iter().filter(|kinds| kinds[0] != kinds[1]).count() > 300);
}
