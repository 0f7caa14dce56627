//! Values of a policy that have an order. A policy has room for thousands of them and a request for hundreds, so that the one
//! that decides is found without a look at the others.

use super::operator::Comparison;

/// Values, each once, the least first.
#[derive(Clone, Debug)]
pub(super) struct Ordered<T>(Box<[T]>);

impl<T: Ord> Ordered<T> {
    pub(super) fn of(all: impl Into<Vec<T>>) -> Self {
        let mut all = all.into();
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }

    /// Whether a value stands so to one of them.
    pub(super) fn has(&self, how: Comparison, given: &T) -> bool {
        let decides = match how {
            Comparison::Equal => return self.0.binary_search(given).is_ok(),
            Comparison::Less | Comparison::LessOrEqual => self.0.last(),
            Comparison::Greater | Comparison::GreaterOrEqual => self.0.first(),
        };
        decides.is_some_and(|one| how.holds(given, one))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    const ALL: [Comparison; 5] =
        [Comparison::Equal, Comparison::Less, Comparison::LessOrEqual, Comparison::Greater, Comparison::GreaterOrEqual];

    /// A number that counts how often it is compared.
    #[derive(Clone)]
    struct Counted<'c>(u32, &'c Cell<usize>);

    impl PartialEq for Counted<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other) == Ordering::Equal
        }
    }

    impl Eq for Counted<'_> {}

    impl PartialOrd for Counted<'_> {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for Counted<'_> {
        fn cmp(&self, other: &Self) -> Ordering {
            self.1.set(self.1.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    #[test]
    fn as_many_values_as_a_policy_has_room_for_cost_no_more_than_a_few() {
        let count = Cell::new(0);
        let all: Vec<_> = (0..16_000).map(|number| Counted(number, &count)).collect();
        let all = Ordered::of(all);
        for how in ALL {
            count.set(0);
            all.has(how, &Counted(20_000, &count));
            assert!(count.get() <= 20, "{how:?}: {}", count.get());
        }
    }

    proptest! {
        #[test]
        fn it_is_what_one_after_the_other_would_say(
            all in proptest::collection::vec(-3_i64..4, 0..6), given in -4_i64..5,
        ) {
            let ordered = Ordered::of(all.clone());
            for how in ALL {
                prop_assert_eq!(ordered.has(how, &given), all.iter().any(|one| how.holds(&given, one)), "{:?}", how);
            }
        }
    }
}
