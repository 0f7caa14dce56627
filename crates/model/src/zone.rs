//! Where an HSM stands: in one zone, or in several where it replicates its keys by itself.
//!
//! One name for both, so that whatever shows a zone shows all of them, and what a token signs of its zone names them all.

use std::collections::BTreeSet;

use super::id::Zone;

/// Between the names of several zones. No zone has it in its name.
const JOINED_BY: char = '+';

impl Zone {
    /// Of an HSM that stands in all of these.
    #[must_use]
    pub fn over<'z>(names: impl IntoIterator<Item = &'z str>) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        Self::from(names.join(&JOINED_BY.to_string()).as_str())
    }

    /// The names of the zones, one by one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.as_str().split(JOINED_BY)
    }

    /// There are several.
    #[must_use]
    pub fn is_spread(&self) -> bool {
        self.as_str().contains(JOINED_BY)
    }

    /// What stands there stands in the other one too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.names().all(|name| self.names().any(|own| own == name))
    }

    /// Whether what befalls one HSM because of its zone need not befall the other one. Two in one zone share its fate; of
    /// two that are each in several, neither has one zone to share.
    #[must_use]
    pub fn is_apart_from(&self, other: &Self) -> bool {
        self != other || self.is_spread()
    }

    /// How many zones HSMs stand in that stand in these.
    pub fn count<'z>(of: impl IntoIterator<Item = &'z Self>) -> usize {
        of.into_iter().flat_map(Self::names).collect::<BTreeSet<_>>().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_zones_are_counted_and_shown_one_by_one() {
        let (a, b, c) = (Zone::from("a"), Zone::from("b"), Zone::from("c"));
        let both = Zone::over(["a", "b"]);
        assert_eq!((both.as_str(), both.names().collect::<Vec<_>>()), ("a+b", vec!["a", "b"]));
        assert!(both.is_spread() && !a.is_spread());
        assert_eq!(Zone::over(["a"]), a);
        assert_eq!(Zone::count([&both]), 2);
        assert_eq!(Zone::count([&both, &a, &c]), 3);
        assert_eq!(Zone::count([&a, &a]), 1);
        assert!(both.covers(&a) && both.covers(&b) && !both.covers(&c) && !a.covers(&both) && a.covers(&a));
    }

    #[test]
    fn two_in_one_zone_share_its_fate() {
        let (a, b, both) = (Zone::from("a"), Zone::from("b"), Zone::over(["a", "b"]));
        assert!(a.is_apart_from(&b) && a.is_apart_from(&both) && both.is_apart_from(&a));
        assert!(!a.is_apart_from(&Zone::from("a")));
        assert!(both.is_apart_from(&Zone::over(["a", "b"])), "two clusters over the same zones are two");
    }
}
