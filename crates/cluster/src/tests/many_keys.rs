//! Many keys in use: each has a member that meets it first, and nothing else about a call changes by that.

use std::sync::Arc;

use super::NO_HEDGE;
use crate::fake::{Act, Bench, Fake, key};
use crate::{KeyRef, Verify};
use model::profile::VerifyWraps;
use supervisor::CallError;

fn bench(members: [Fake; 2]) -> Bench {
    Bench::of(members.into(), None, NO_HEDGE, Verify { wraps: VerifyWraps::None, unwraps: false })
}

/// So many that it is known afterwards that many keys are in use.
async fn keys_in_use(bench: &Bench) -> Vec<Arc<KeyRef>> {
    let keys: Vec<_> = (0..512).map(|_| key(0b11)).collect();
    for key in &keys {
        assert!(bench.encrypt(&[Arc::clone(key)], 20_000).await[0].is_ok());
    }
    keys
}

/// The member that the beginning of a key's id says.
fn usual(key: &KeyRef) -> usize {
    usize::from(key.version.key.as_bytes()[0] >= 128)
}

#[tokio::test]
async fn each_of_many_keys_is_met_by_one_member_and_by_another_one_when_that_is_busy_or_fails() {
    let bench = bench(["a", "b"].map(|name| Fake::keeping_copies(name, &format!("zone-{name}"))));
    let keys = keys_in_use(&bench).await;
    for key in keys.iter().take(100) {
        let before = bench.members[usual(key)].calls();
        assert!(bench.encrypt(&[Arc::clone(key)], 20_000).await[0].is_ok());
        assert_eq!(bench.members[usual(key)].calls(), before + 1);
    }
    let of_first = keys.iter().find(|key| usual(key) == 0).unwrap();
    bench.members[0].set_load(100);
    let before = bench.members[0].calls();
    assert!(bench.encrypt(&[Arc::clone(of_first)], 20_000).await[0].is_ok());
    assert_eq!(bench.members[0].calls(), before, "the other one has much less to do");
    bench.members[0].set_load(0);
    bench.members[0].script(|_| Act::Fail(CallError::WorkerLost));
    for key in keys.iter().take(20) {
        assert!(bench.encrypt(&[Arc::clone(key)], 20_000).await[0].is_ok(), "callers do not notice");
    }
}

#[tokio::test]
async fn where_no_copies_are_kept_or_few_keys_are_in_use_members_take_turns() {
    let bench = bench(["a", "b"].map(|name| Fake::new(name, &format!("zone-{name}"))));
    let keys = keys_in_use(&bench).await;
    let took_turns = async |bench: &Bench, key: &Arc<KeyRef>| {
        let before = [0, 1].map(|member| bench.members[member].calls());
        for _ in 0..600 {
            assert!(bench.encrypt(&[Arc::clone(key)], 20_000).await[0].is_ok());
        }
        [0, 1].map(|member| bench.members[member].calls() - before[member])
    };
    let shares = took_turns(&bench, &keys[0]).await;
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    let copies = self::bench(["a", "b"].map(|name| Fake::keeping_copies(name, &format!("zone-{name}"))));
    let shares = took_turns(&copies, &key(0b11)).await;
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
}

#[tokio::test]
async fn one_member_without_copies_does_not_end_it_for_the_others() {
    let bench = bench([Fake::keeping_copies("a", "zone-a"), Fake::new("b", "zone-b")]);
    let keys = keys_in_use(&bench).await;
    for key in keys.iter().take(100) {
        let before = bench.members[usual(key)].calls();
        assert!(bench.encrypt(&[Arc::clone(key)], 20_000).await[0].is_ok());
        assert_eq!(bench.members[usual(key)].calls(), before + 1);
    }
}
