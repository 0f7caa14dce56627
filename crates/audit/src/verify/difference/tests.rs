use proptest::prelude::*;

use super::*;

struct Given<'a>(std::slice::Iter<'a, u32>);

impl Row for Given<'_> {
    fn next(&mut self) -> Result<Option<Hash>, Unreadable> {
        Ok(self.0.next().map(|number| tlog_tiles::tlog::record_hash(&number.to_be_bytes())))
    }
}

fn given(numbers: &[u32]) -> Given<'_> {
    Given(numbers.iter())
}

fn found(recorded: &[u32], there: &[u32], open: bool) -> Vec<Finding> {
    let mut found = Findings::default();
    compare(100, given(recorded), given(there), open, &mut found).unwrap();
    found.found
}

#[test]
fn long_differences_are_found_to_their_ends() {
    let all: Vec<u32> = (0..60_000).collect();
    let without: Vec<u32> = all.iter().copied().filter(|number| !(500..20_000).contains(number)).collect();
    assert_eq!(found(&all, &without, false), [Finding::Missing { first: 600, count: 19_500 }]);
    assert_eq!(found(&without, &all, false), [Finding::Inserted { before: 600, count: 19_500 }]);
    let others: Vec<u32> = all.iter().map(|number| number + 1_000_000).collect();
    assert_eq!(found(&all, &others, false), [Finding::Altered { first: 100, count: 60_000 }]);
    assert_eq!(found(&all, &[], false), [Finding::Missing { first: 100, count: 60_000 }]);
}

#[test]
fn what_follows_the_last_record_is_no_difference_where_it_may_follow() {
    assert_eq!(found(&[1, 2, 3], &[1, 2, 3, 4, 5], true), []);
    assert_eq!(found(&[1, 2, 3], &[1, 2, 3, 4, 5], false), [Finding::Inserted { before: 103, count: 2 }]);
    assert_eq!(found(&[1, 2, 3], &[1, 3, 2, 4], true), [Finding::Moved { number: 101, at: 102 }]);
    assert_eq!(found(&[1, 2, 3], &[1, 9, 3, 4], true), [Finding::Altered { first: 101, count: 1 }]);
}

#[test]
fn a_record_put_twice_in_anothers_place_leaves_that_one_missing() {
    let twice = [Finding::Missing { first: 101, count: 1 }, Finding::Inserted { before: 103, count: 1 }];
    assert_eq!(found(&[1, 2, 3, 4], &[1, 3, 3, 4], false), twice);
}

proptest! {
    #[test]
    fn rows_that_differ_are_never_taken_for_the_same(
        recorded in proptest::collection::vec(0..40_u32, 0..60),
        there in proptest::collection::vec(0..40_u32, 0..60),
    ) {
        prop_assert_eq!(found(&recorded, &there, false).is_empty(), recorded == there);
    }
}
