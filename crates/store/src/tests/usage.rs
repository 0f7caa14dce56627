//! When keys were used last.

use super::*;
use crate::LastUse;

fn used(at: i64) -> LastUse {
    LastUse { at, operation: "Encrypt".to_owned(), request_id: format!("r-{at}") }
}

#[tokio::test]
async fn the_last_use_of_each_key_is_kept_and_none_of_keys_that_are_gone() {
    let bench = Bench::new().await;
    let mut keys = Vec::new();
    for _ in 0..150 {
        keys.push(bench.new_key().await.key);
    }
    // More than one statement takes, and in between keys that nobody has.
    let uses: Vec<_> =
        keys.iter().zip(100..).flat_map(|(key, at)| [(*key, used(at)), (KeyId::random(), used(at))]).collect();
    let before = bench.store.revision();
    bench.store.note_usage(&uses).await.unwrap();
    assert_eq!(bench.store.revision(), before, "the catalogue does not show it");
    let expected: std::collections::HashMap<_, _> = keys.iter().copied().zip((100..).map(used)).collect();
    assert_eq!(bench.store.usage().await.unwrap(), expected);
    bench.clock.advance(Duration::from_secs(1));
    // A later one takes its place, an earlier one does not; and none is none.
    bench.store.note_usage(&[(keys[0], used(500)), (keys[149], used(1))]).await.unwrap();
    bench.store.note_usage(&[]).await.unwrap();
    let known = bench.store.usage().await.unwrap();
    assert_eq!((known.len(), &known[&keys[0]], &known[&keys[149]]), (150, &used(500), &used(249)));
}

/// Else a key would seem to have been used in a time that has not come, for as long as that is.
#[tokio::test]
async fn what_was_noted_by_a_clock_that_was_ahead_gives_way() {
    let bench = Bench::new().await;
    let key = bench.new_key().await.key;
    bench.clock.advance(Duration::from_secs(3_600));
    bench.store.note_usage(&[(key, used(3_600_000))]).await.unwrap();
    bench.clock.set_back(Duration::from_secs(3_000));
    bench.store.note_usage(&[(key, used(600_000))]).await.unwrap();
    assert_eq!(bench.store.usage().await.unwrap()[&key], used(600_000));
    bench.store.note_usage(&[(key, used(500_000))]).await.unwrap();
    assert_eq!(bench.store.usage().await.unwrap()[&key], used(600_000));
}
