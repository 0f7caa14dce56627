//! What is decided before results are given out: by the state of things at that moment, and without keeping anybody waiting
//! who changes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::bench::{Bench, plain};
use crate::core::access::Named;
use crate::core::recorder::{Ending, Phase};
use crate::core::release::{Looked, TOGETHER};
use crate::{Error, RequestContext};
use model::clock::Clock;
use model::exception::Exception;
use model::limits;
use model::operation::Operation;

fn ending<'a>(bench: &Bench, call: &'a RequestContext) -> Ending<'a> {
    Ending::new(call, Operation::Encrypt, bench.clock.now())
}

/// Withholds what is there still.
fn withheld(results: &mut [Result<(), Error>], error: &Error) -> Looked {
    let there = results.iter_mut().filter(|result| result.is_ok());
    let withheld = there.map(|result| *result = Err(error.clone())).count();
    Looked { results: results.len(), withheld }
}

fn nothing(results: &[Result<(), Error>]) -> Looked {
    Looked { results: results.len(), withheld: 0 }
}

/// Were the lock held during the look, the change in it would wait for its end, and it for the change.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_is_answered_while_results_are_looked_at_and_nothing_is_given_out_by_what_was_before() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    for by_policy in [false, true] {
        bench.recorder.taken();
        let (core, call) = (&bench.service.core, bench.call());
        let named = Named::key(key.id, key.arn.as_str());
        let (mut looks, mut results) = (0, [Ok(())]);
        core.conclude(ending(&bench, &call), &mut results, |_, results| {
            assert!(!core.is_release_held());
            let found = named.is_open(core, &call, Operation::Encrypt);
            looks += 1;
            match (looks, by_policy) {
                (1, true) => bench.may_nothing(),
                (1, false) => tokio::task::block_in_place(|| {
                    let runtime = tokio::runtime::Handle::current();
                    runtime.block_on(bench.service.disable_key(&bench.call(), &key.arn)).unwrap();
                }),
                _ => {}
            }
            match found {
                Ok(()) => nothing(results),
                Err(error) => withheld(results, &error),
            }
        })
        .await;
        let [result] = results;
        let expected = if by_policy { Exception::AccessDenied } else { Exception::Disabled };
        assert_eq!(result.unwrap_err().exception, expected);
        assert_eq!(looks, 3, "by the old state, by the new one, and once more when that is on record");
        let records = bench.recorder.taken();
        let told: Vec<_> =
            records.iter().filter(|record| record.operation == Some(Operation::Encrypt)).map(|of| of.phase).collect();
        assert_eq!(told, [Phase::Ended, Phase::Withheld]);
        bench.may_everything();
        bench.service.enable_key(&bench.call(), &key.arn).await.unwrap();
    }
}

#[tokio::test]
async fn somebody_who_makes_changes_all_the_time_holds_back_no_result() {
    let bench = Bench::new().await;
    let (core, call) = (&bench.service.core, bench.call());
    let (mut held, mut results) = (Vec::new(), [Ok(())]);
    core.conclude(ending(&bench, &call), &mut results, |_, results| {
        held.push(core.is_release_held());
        if !core.is_release_held() {
            bench.may_everything();
        }
        nothing(results)
    })
    .await;
    assert!(results[0].is_ok());
    let (last, before) = held.split_last().unwrap();
    assert!(*last && !before.is_empty() && before.iter().all(|held| !held), "{held:?}");
}

/// Whoever changes something would wait for it, and everybody else behind that.
#[tokio::test]
async fn many_results_that_take_long_to_look_at_are_withheld_rather_than_looked_at_under_the_lock() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let (core, call) = (&bench.service.core, bench.call());
    for (each, given) in [(Duration::from_millis(1), true), (Duration::from_millis(3), false)] {
        bench.recorder.taken();
        let mut held = false;
        let mut results: Vec<Result<(), Error>> = (0..3).map(|_| Ok(())).collect();
        core.conclude(ending(&bench, &call), &mut results, |_, results| {
            held |= core.is_release_held();
            if results.iter().any(Result::is_ok) {
                bench.clock.advance(each * u32::try_from(results.len()).unwrap());
            }
            if !core.is_release_held() {
                bench.may_everything();
            }
            nothing(results)
        })
        .await;
        let phases: Vec<_> = bench.recorder.taken().iter().map(|record| record.phase).collect();
        if given {
            assert!(held && results.iter().all(Result::is_ok));
            assert_eq!(phases, [Phase::Ended]);
            continue;
        }
        let refused = |result: Result<(), Error>| {
            let error = result.unwrap_err();
            (error.exception, error.retryable)
        };
        assert!(results.into_iter().all(|result| refused(result) == (Exception::KmsInternal, true)));
        assert_eq!(phases, [Phase::Ended, Phase::Withheld], "and that is on record");
    }
}

#[tokio::test]
async fn others_have_their_turn_while_many_results_are_looked_at() {
    let bench = Bench::new().await;
    let (core, call) = (&bench.service.core, bench.call());
    let mut results: Vec<Result<(), Error>> = (0..1_000).map(|_| Ok(())).collect();
    let ran = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let ran = Arc::clone(&ran);
        async move { ran.store(true, Ordering::Relaxed) }
    });
    let (mut next, mut turns) = (0, Vec::new());
    core.conclude(ending(&bench, &call), &mut results, |from, some| {
        assert_eq!(from, next, "each once, in their order");
        // It stops where it has taken long enough.
        let looked = nothing(&some[..some.len().min(10)]);
        next += looked.results;
        turns.push(ran.load(Ordering::Relaxed));
        looked
    })
    .await;
    other.await.unwrap();
    assert_eq!((next, turns.first(), turns.last()), (1_000, Some(&false), Some(&true)));
}

/// How often another task has its turn while a batch is in hand that is refused, so that it waits for nothing.
async fn turns(bench: &Bench, items: usize) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let other = tokio::spawn({
        let count = Arc::clone(&count);
        async move {
            loop {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let items = (0..items).map(|_| plain("nonsense", b"x")).collect();
    let results = bench.service.encrypt(&bench.call(), items).await.unwrap();
    assert!(results.iter().all(Result::is_err));
    other.abort();
    count.load(Ordering::Relaxed)
}

#[tokio::test]
async fn others_have_their_turn_while_a_large_batch_is_decided() {
    let bench = Bench::new().await;
    turns(&bench, 1).await;
    let (one, most) = (turns(&bench, 1).await, turns(&bench, limits::BATCH_ITEMS).await);
    let each = limits::BATCH_ITEMS / TOGETHER;
    assert!(most >= one + 2 * each, "when it begins and when it ends: {most} against {one}");
}
