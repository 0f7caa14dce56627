//! Which ciphertexts have to be encrypted anew: those that are not under the current version of their key, or of the one
//! that they are to be under. Which version that is the service's own answers tell, and nothing is asked beside.

use std::collections::HashMap;

use model::id::{KeyId, KeyVersionId};

/// How many ciphertexts there were of which kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) rewrapped: u64,
    pub(super) current: u64,
}

/// What is known of current versions.
#[derive(Debug)]
pub(super) struct Plan {
    /// All are to be under one key, whichever they name.
    one: bool,
    destination: Option<KeyVersionId>,
    versions: HashMap<KeyId, u32>,
}

/// What is to be done with a ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is under the current version already.
    Keep,
    /// It is encrypted anew.
    Rewrap,
    /// The same, if what comes of another one does not show before that it need not be.
    Wait,
}

impl Plan {
    pub(super) fn new(one: bool) -> Self {
        Self { one, destination: None, versions: HashMap::new() }
    }

    /// Takes note of the version that something was encrypted under.
    pub(super) fn learn(&mut self, made: KeyVersionId) {
        match self.one {
            true => self.destination = Some(made),
            false => drop(self.versions.insert(made.key, made.version)),
        }
    }

    /// What is to be done with ciphertexts, of these versions in this order: of those that are alike, and of whose key
    /// nothing is known, one goes before the others.
    pub(super) fn steps(&self, versions: &[KeyVersionId]) -> Vec<Step> {
        let mut asked = Vec::new();
        let mut step = |version: &KeyVersionId| match self.current(*version) {
            Some(true) => Step::Keep,
            Some(false) => Step::Rewrap,
            None if asked.contains(&self.question(*version)) => Step::Wait,
            None => {
                asked.push(self.question(*version));
                Step::Rewrap
            }
        };
        versions.iter().map(&mut step).collect()
    }

    fn current(&self, version: KeyVersionId) -> Option<bool> {
        match self.one {
            true => self.destination.map(|destination| destination == version),
            false => self.versions.get(&version.key).map(|current| *current == version.version),
        }
    }

    /// Whose current version has to be known.
    fn question(&self, version: KeyVersionId) -> Option<KeyId> {
        (!self.one).then_some(version.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_key_goes_first_and_tells_of_the_others() {
        let (a, b) = (KeyId::random(), KeyId::random());
        let of = |key, version| KeyVersionId { key, version };
        let all = [of(a, 1), of(a, 2), of(b, 1), of(a, 1), of(b, 1)];
        let mut plan = Plan::new(false);
        use Step::{Keep, Rewrap, Wait};
        assert_eq!(plan.steps(&all), [Rewrap, Wait, Rewrap, Wait, Wait]);
        plan.learn(of(a, 2));
        plan.learn(of(b, 1));
        assert_eq!(plan.steps(&all), [Rewrap, Keep, Keep, Rewrap, Keep]);
        // The key is rotated meanwhile.
        plan.learn(of(a, 3));
        assert_eq!(plan.steps(&all)[1], Rewrap);
    }

    #[test]
    fn under_another_key_only_what_is_under_it_already_is_kept() {
        let (a, b) = (KeyId::random(), KeyId::random());
        let of = |key, version| KeyVersionId { key, version };
        let all = [of(a, 1), of(b, 1), of(b, 2)];
        let mut plan = Plan::new(true);
        use Step::{Keep, Rewrap, Wait};
        assert_eq!(plan.steps(&all), [Rewrap, Wait, Wait]);
        plan.learn(of(b, 2));
        assert_eq!(plan.steps(&all), [Rewrap, Rewrap, Keep]);
    }
}
