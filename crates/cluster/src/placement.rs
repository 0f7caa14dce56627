//! What a token should hold against what it was seen to hold: a pure comparison.

use std::collections::{BTreeMap, BTreeSet};

use model::id::KeyVersionId;
use model::key::Placement;

/// What the metadata say of one version in one HSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It is being made: the procedure that makes it sees to it.
    Unfinished,
    /// It was destroyed and belongs nowhere.
    Destroyed,
    /// It belongs there; none where nothing was tried so far.
    Placed(Option<Placement>),
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// To be placed from escrow, or proven where it lies already.
    pub to_fill: Vec<KeyVersionId>,
    /// Proven there once and not there now: somebody removed it.
    pub gone: Vec<KeyVersionId>,
    /// There, and destroyed long ago: a token that was away or was restored has brought it back.
    pub to_destroy: Vec<KeyVersionId>,
    /// There, and no key of this cluster. Never destroyed by itself: it may be somebody's.
    pub orphans: Vec<KeyVersionId>,
}

/// Compares. `seen` is absent where the token could not be asked.
#[must_use]
pub fn compare(wanted: &BTreeMap<KeyVersionId, Wanted>, seen: Option<&BTreeSet<KeyVersionId>>) -> Findings {
    let mut findings = Findings::default();
    for (version, wanted) in wanted {
        match wanted {
            Wanted::Placed(None | Some(Placement::Pending)) => findings.to_fill.push(*version),
            Wanted::Placed(Some(Placement::Present)) if seen.is_some_and(|seen| !seen.contains(version)) => {
                findings.gone.push(*version);
            }
            Wanted::Destroyed if seen.is_some_and(|seen| seen.contains(version)) => findings.to_destroy.push(*version),
            // What somebody removed stays away until an operator says otherwise, also when a restored token shows it.
            Wanted::Placed(Some(Placement::Present | Placement::Removed)) | Wanted::Unfinished | Wanted::Destroyed => {}
        }
    }
    findings.orphans = seen.into_iter().flatten().filter(|version| !wanted.contains_key(version)).copied().collect();
    findings
}

/// Versions that belong there and of which a list shows several objects.
#[must_use]
pub fn doubled(wanted: &BTreeMap<KeyVersionId, Wanted>, listed: &[KeyVersionId]) -> BTreeSet<KeyVersionId> {
    let mut once = BTreeSet::new();
    let placed = |wanted: &Wanted| matches!(wanted, Wanted::Placed(Some(Placement::Present | Placement::Pending)));
    let again = listed.iter().filter(|version| !once.insert(**version));
    again.filter(|version| wanted.get(version).is_some_and(placed)).copied().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use model::id::KeyId;

    fn version(number: u32) -> KeyVersionId {
        KeyVersionId { key: KeyId::from_bytes([7; 16]), version: number }
    }

    fn wanted(number: u32) -> Wanted {
        match number % 6 {
            0 => Wanted::Unfinished,
            1 => Wanted::Placed(None),
            2 => Wanted::Placed(Some(Placement::Pending)),
            3 => Wanted::Placed(Some(Placement::Present)),
            5 => Wanted::Destroyed,
            _ => Wanted::Placed(Some(Placement::Removed)),
        }
    }

    #[test]
    fn each_case() {
        let all: BTreeMap<_, _> = (0..6).map(|number| (version(number), wanted(number))).collect();
        let nothing = compare(&all, Some(&BTreeSet::new()));
        assert_eq!(nothing.to_fill, [version(1), version(2)]);
        assert_eq!((nothing.gone, nothing.orphans, nothing.to_destroy), (vec![version(3)], vec![], vec![]));
        let everything = (0..8).map(version).collect();
        let everything = compare(&all, Some(&everything));
        assert_eq!((everything.gone, everything.orphans), (vec![], vec![version(6), version(7)]));
        assert_eq!(everything.to_destroy, [version(5)]);
        assert_eq!(everything.to_fill, [version(1), version(2)], "what is there is still to be proven");
    }

    /// What is being made has a procedure that sees to it, and what was destroyed is destroyed with all of its objects. What is to
    /// be proven there could not be while a worker has the choice between several.
    #[test]
    fn several_objects_of_what_belongs_there() {
        let all: BTreeMap<_, _> = (0..6).map(|number| (version(number), wanted(number))).collect();
        let once: Vec<_> = (0..8).map(version).collect();
        assert_eq!(doubled(&all, &once), BTreeSet::new());
        assert_eq!(
            doubled(&all, &[&once[..], &once[..], &once[..]].concat()),
            BTreeSet::from([version(2), version(3)])
        );
    }

    proptest! {
        #[test]
        fn what_could_not_be_looked_at_is_neither_gone_nor_an_orphan(numbers in prop::collection::vec(0..40_u32, 0..40)) {
            let all = numbers.iter().map(|number| (version(*number), wanted(*number))).collect();
            let findings = compare(&all, None);
            prop_assert!(findings.gone.is_empty() && findings.orphans.is_empty() && findings.to_destroy.is_empty());
        }

        #[test]
        fn nothing_is_in_two_lists(
            numbers in prop::collection::vec(0..40_u32, 0..40),
            seen in prop::collection::btree_set(0..40_u32, 0..40),
        ) {
            let all: BTreeMap<_, _> = numbers.iter().map(|number| (version(*number), wanted(*number))).collect();
            let seen = seen.into_iter().map(version).collect();
            let Findings { to_fill, gone, to_destroy, orphans } = compare(&all, Some(&seen));
            let every: Vec<_> = to_fill.iter().chain(&gone).chain(&to_destroy).chain(&orphans).collect();
            prop_assert_eq!(every.iter().collect::<BTreeSet<_>>().len(), every.len());
            prop_assert!(orphans.iter().all(|orphan| !all.contains_key(orphan) && seen.contains(orphan)));
            prop_assert!(gone.iter().all(|gone| !seen.contains(gone)));
            prop_assert!(to_destroy.iter().all(|again| seen.contains(again) && all[again] == Wanted::Destroyed));
        }
    }
}
