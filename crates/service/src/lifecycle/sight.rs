//! What an HSM was seen to hold. One that is a single token shows what it has. Behind the slot of one whose module replicates its
//! keys by itself stand several, and a list is what one of them shows: not yet what is new, and still what is gone. So what
//! somebody has removed, or what is destroyed, is told from two lists, with the time between them that a change takes to be
//! everywhere.

use std::collections::BTreeSet;

use model::id::KeyVersionId;

/// What one list has shown, or two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// What some list shows, as often as one of them does, in order.
    listed: Vec<KeyVersionId>,
    /// What no list shows is not there.
    whole: bool,
}

impl Sight {
    /// Of one list of a single token.
    pub(super) fn of(mut listed: Vec<KeyVersionId>) -> Self {
        listed.sort_unstable();
        Self { listed, whole: true }
    }

    /// With a second list, which shows as much as the first, or something else; none where there should have been one.
    pub(super) fn and(self, second: Option<Vec<KeyVersionId>>) -> Self {
        let Some(second) = second else { return Self { whole: false, ..self } };
        let mut listed = self.listed;
        for version in BTreeSet::from_iter(second.iter().copied()) {
            let of = |list: &[KeyVersionId]| list.iter().filter(|listed| **listed == version).count();
            let more = of(&second).saturating_sub(of(&listed));
            listed.extend(std::iter::repeat_n(version, more));
        }
        Self { whole: self.whole, ..Self::of(listed) }
    }

    /// What it shows, each version as often as there are objects of it.
    pub(super) fn listed(&self) -> &[KeyVersionId] {
        &self.listed
    }

    /// What it shows.
    pub(super) fn seen(&self) -> BTreeSet<KeyVersionId> {
        self.listed.iter().copied().collect()
    }

    /// Whether what it does not show is known not to be there.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether a version is known not to be there.
    pub(super) fn lacks(&self, version: KeyVersionId) -> bool {
        self.whole && self.listed.binary_search(&version).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::KeyId;

    fn versions(numbers: &[u32]) -> Vec<KeyVersionId> {
        numbers.iter().map(|version| KeyVersionId { key: KeyId::from_bytes([7; 16]), version: *version }).collect()
    }

    fn lacking(sight: &Sight, numbers: &[u32]) -> Vec<u32> {
        let lacking = versions(numbers).into_iter().filter(|version| sight.lacks(*version));
        lacking.map(|version| version.version).collect()
    }

    #[test]
    fn one_token_shows_what_it_has() {
        let sight = Sight::of(versions(&[3, 1]));
        assert_eq!((lacking(&sight, &[1, 2, 3, 4]), sight.is_whole()), (vec![2, 4], true));
    }

    #[test]
    fn what_one_of_two_lists_shows_is_there() {
        let sight = Sight::of(versions(&[1, 2])).and(Some(versions(&[3, 2])));
        assert_eq!(lacking(&sight, &[1, 2, 3, 4]), [4]);
        assert_eq!(sight.listed(), versions(&[1, 2, 3]));
    }

    #[test]
    fn what_is_shown_twice_by_one_list_is_there_twice() {
        let twice = versions(&[1, 2, 2]);
        for (first, second) in [(&twice[..], &versions(&[2])[..]), (&versions(&[1, 2])[..], &twice[..])] {
            assert_eq!(Sight::of(first.to_vec()).and(Some(second.to_vec())).listed(), twice);
        }
        let once = Sight::of(versions(&[1, 2])).and(Some(versions(&[1, 2])));
        assert_eq!(once.listed(), versions(&[1, 2]), "two lists of one object");
    }

    #[test]
    fn without_the_second_list_nothing_is_known_not_to_be_there() {
        let sight = Sight::of(versions(&[1])).and(None);
        assert_eq!((lacking(&sight, &[1, 2]), sight.is_whole()), (vec![], false));
        assert_eq!(sight.seen(), BTreeSet::from_iter(versions(&[1])));
    }
}
