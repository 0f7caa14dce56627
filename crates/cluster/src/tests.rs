//! The cluster over scripted members: what callers get when members fail in every way they can.

mod alone;
mod busy;
mod creation;
mod errors;
mod many_keys;
mod re_encrypt;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::fake::{Act, Bench, key, refuse_all, well};
use super::item::{Batch, Served};
use super::member_operation::{Random, Task};
use super::{Cluster, Error, Failed, Health};
use model::secret::Secret;
use protocol::{Class, Fault, Op, Reply};
use supervisor::{CallError, State};

const NO_HEDGE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(10);

/// Handlers of a server need futures that can change threads.
#[allow(dead_code)]
fn futures_are_send(cluster: &Cluster, batch: Batch, options: model::call_options::CallOptions) {
    fn is_send(_: impl Send) {}
    is_send(cluster.carry_out(batch, options));
    is_send(cluster.random(1, options));
    is_send(cluster.make_key(options.deadline));
}

#[tokio::test]
async fn the_own_zone_is_asked_and_only_it() {
    let bench = Bench::new(2, Some("zone-b"), NO_HEDGE);
    for _ in 0..50 {
        assert!(bench.encrypt(&[key(0b11)], 20_000).await[0].is_ok());
    }
    assert_eq!((bench.members[0].calls(), bench.members[1].calls()), (0, 50));
}

#[tokio::test]
async fn without_an_own_zone_both_are_asked_and_the_busy_one_is_not() {
    let bench = Bench::new(2, None, NO_HEDGE);
    for _ in 0..200 {
        assert!(bench.encrypt(&[key(0b11)], 20_000).await[0].is_ok());
    }
    assert!(bench.members.iter().all(|member| member.calls() > 0));
    bench.members[0].set_load(100);
    let before = bench.members[0].calls();
    bench.encrypt(&[key(0b11)], 1_000).await;
    assert_eq!(bench.members[0].calls(), before);
}

#[tokio::test]
async fn callers_do_not_notice_a_member_that_fails() {
    let failures: [fn(&Op) -> Act; 6] = [
        |_| Act::Fail(CallError::WorkerLost),
        |_| Act::Fail(CallError::NotReady),
        |_| Act::Fail(CallError::Busy),
        |_| Act::Say(Reply::Failed(Fault::own(Class::Login, "C_Login", "refused"))),
        |_| Act::Say(Reply::Done),
        |op| refuse_all(op, Class::Token),
    ];
    for failure in failures {
        let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
        bench.members[0].script(failure);
        let answers = bench.encrypt(&vec![key(0b11); 300], 20_000).await;
        assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|answer| answer.is_err()));
        for (at, answer) in answers.iter().enumerate() {
            assert_eq!(answer.as_ref().unwrap().sealed[..], at.to_le_bytes(), "answers stay with their items");
        }
    }
}

#[tokio::test]
async fn two_failures_in_a_row_make_a_suspect_and_probes_clear_it() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    bench.members[0].script(|op| match op {
        Op::Probe => Act::Fail(CallError::WorkerLost),
        op => refuse_all(op, Class::Session),
    });
    for _ in 0..2 {
        assert!(bench.encrypt(&[key(0b11)], 20_000).await[0].is_ok());
    }
    assert_eq!(bench.healths(), [Health::Suspect, Health::Healthy]);
    let before = bench.members[1].calls();
    bench.encrypt(&[key(0b11)], 1_000).await;
    assert_eq!(bench.members[1].calls(), before + 1, "the suspect is not asked first any more");
    bench.members[0].script(|_| Act::Well);
    bench.until("health", || bench.healths() == [Health::Healthy; 2]).await;
}

#[tokio::test]
async fn the_supervisors_word_is_followed() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    bench.members[0].set_state(State::Down, Some("the module is missing"));
    bench.until("down", || bench.healths()[0] == Health::Down).await;
    let before = bench.members[0].calls();
    assert!(bench.encrypt(&[key(0b11)], 20_000).await[0].is_ok());
    assert_eq!(bench.members[0].calls(), before);
    assert_eq!(bench.dispatcher.members[0].status().reason.as_deref(), Some("the module is missing"));
    let error = bench.dispatcher.reachable_for_creation().unwrap_err();
    assert_eq!(error.to_string(), "fewer than two zones can be reached: HSM a in zone zone-a: the module is missing");
    bench.members[0].set_state(State::Serving, None);
    bench.until("return", || bench.healths()[0] == Health::Healthy).await;
    assert_eq!(bench.dispatcher.reachable_for_creation().unwrap(), [0, 1]);
}

#[tokio::test]
async fn bad_ciphertexts_leave_every_member_healthy_and_cost_few_proofs() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    let proofs = Arc::new(AtomicUsize::new(0));
    for member in &bench.members {
        let proofs = Arc::clone(&proofs);
        member.script(move |op| {
            if matches!(op, Op::Decrypt(items) if items.len() == 1 && !items[0].sealed.starts_with(b"bad")) {
                proofs.fetch_add(1, Ordering::Relaxed);
            }
            Act::Well
        });
    }
    let key = key(0b11);
    let started = bench.clock.now();
    for _ in 0..100 {
        let answers = bench.decrypt(&key, &[&b"bad"[..]; 256], 10_000).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(Error::BadCiphertext))));
        assert!(matches!(bench.decrypt(&key, &[b"bad one"], 10_000).await[..], [Err(Error::BadCiphertext)]));
    }
    assert_eq!(bench.healths(), [Health::Healthy; 2]);
    let seconds = (bench.clock.now() - started).as_secs() as usize;
    assert!(proofs.load(Ordering::Relaxed) <= 2 * (seconds + 2), "{proofs:?} proofs in {seconds} s");
    let mixed = bench.decrypt(&key, &[b"good", b"bad", b"fine"], 1_000).await;
    assert!(matches!(&mixed[..], [Ok(_), Err(Error::BadCiphertext), Ok(_)]));
}

#[tokio::test]
async fn a_key_that_does_not_open_its_proof_is_not_used_there() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    bench.members[0].script(|op| refuse_all(op, Class::Ambiguous));
    let key = key(0b11);
    assert_eq!(bench.decrypt(&key, &[b"good"], 1_000).await[0].as_ref().unwrap().expose(), b"good");
    assert_eq!(bench.dispatcher.exclusions.of(key.version).broken, 0b01);
    bench.until("health", || bench.healths() == [Health::Healthy; 2]).await;
    assert_eq!(
        bench.dispatcher.exclusions.of(key.version).broken,
        0b01,
        "the token's health says nothing about this key"
    );
    let only_there = Arc::new(super::KeyRef { placed: super::PlacementMask(0b01), ..(*key).clone() });
    match &bench.encrypt(&[only_there], 1_000).await[0] {
        Err(Error::NoZone(why)) => assert!(why.contains("HSM a") && why.contains("proof"), "{why}"),
        other => panic!("{other:?}"),
    }
    bench.members[0].script(|_| Act::Well);
    bench.until("re-admission", || bench.dispatcher.exclusions.of(key.version).any() == 0).await;
}

#[tokio::test]
async fn where_nobody_else_can_an_excluded_key_is_proven_once_more() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    bench.members[1].set_state(State::Down, None);
    bench.until("its health", || bench.healths() == [Health::Healthy, Health::Down]).await;
    for broken in [true, false] {
        let keys = [key(0b11), key(0b11)];
        // No monitor knows of it.
        bench.dispatcher.exclusions.exclude(keys[0].version, 0, broken);
        let answers = bench.encrypt(&[&keys[..]; 20].concat(), 1_000).await;
        assert!(answers.iter().all(Result::is_ok), "broken: {broken}");
        assert_eq!(bench.dispatcher.exclusions.of(keys[0].version).any(), 0);
    }
    bench.members[0].script(|op| refuse_all(op, Class::Ambiguous));
    let key = key(0b11);
    bench.dispatcher.exclusions.exclude(key.version, 0, true);
    assert!(matches!(&bench.encrypt(&[Arc::clone(&key)], 1_000).await[0], Err(Error::NoZone(_))));
    assert_eq!(bench.dispatcher.exclusions.of(key.version).broken, 0b01, "it was not proven");
    bench.members[0].script(|_| Act::Well);
    // As a moment later.
    bench.dispatcher.proofs.forget(0, key.version);
    assert!(bench.encrypt(&[key], 20_000).await[0].is_ok());
}

#[tokio::test]
async fn a_removed_key_is_reported_once_and_served_from_elsewhere() {
    let mut bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    bench.members[0].script(|op| refuse_all(op, Class::KeyAbsent));
    let key = key(0b11);
    for _ in 0..10 {
        assert!(bench.encrypt(&vec![Arc::clone(&key); 100], 20_000).await.iter().all(Result::is_ok));
    }
    let removal = tokio::time::timeout(Duration::from_secs(60), bench.removals.recv()).await.unwrap().unwrap();
    assert_eq!((removal.hsm.as_str(), removal.version), ("a", key.version));
    assert!(bench.encrypt(&[Arc::clone(&key)], 20_000).await[0].is_ok());
    assert!(bench.removals.try_recv().is_err());
    assert_eq!(bench.healths(), [Health::Healthy; 2]);
    bench.members[1].script(|op| refuse_all(op, Class::KeyAbsent));
    assert!(matches!(bench.encrypt(&[Arc::clone(&key)], 1_000).await[0], Err(Error::KeyGone)));
    let second = tokio::time::timeout(Duration::from_secs(60), bench.removals.recv()).await.unwrap().unwrap();
    assert_eq!(second.hsm.as_str(), "b");
    assert!(matches!(bench.encrypt(&[super::fake::key(0)], 1_000).await[0], Err(Error::KeyGone)));
}

#[tokio::test]
async fn a_key_that_the_token_still_lists_is_no_removal() {
    let mut bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    let key = key(0b11);
    let version = key.version;
    bench.members[0].script(move |op| match op {
        Op::List => Act::Say(Reply::Keys(vec![version])),
        op => refuse_all(op, Class::KeyAbsent),
    });
    assert!(bench.encrypt(&[Arc::clone(&key)], 20_000).await[0].is_ok());
    bench.until("re-admission", || bench.dispatcher.exclusions.of(version).any() == 0).await;
    assert!(bench.removals.try_recv().is_err());
}

#[tokio::test]
async fn a_blind_token_is_no_removal() {
    let mut bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    let key = key(0b11);
    bench.members[0].script(|op| match op {
        Op::Probe => Act::Say(Reply::Failed(Fault::own(Class::Token, "C_GetTokenInfo", "general error"))),
        op => refuse_all(op, Class::KeyAbsent),
    });
    assert!(bench.encrypt(&[Arc::clone(&key)], 20_000).await[0].is_ok());
    let probed = bench.members[0].calls() + 2;
    bench.until("two looks", || bench.members[0].calls() >= probed).await;
    assert!(bench.removals.try_recv().is_err());
    assert_eq!(bench.dispatcher.exclusions.of(key.version).absent, 0b01, "excluded as long as it is in doubt");
}

#[tokio::test]
async fn a_late_answer_is_hedged_once() {
    let bench = Bench::new(3, Some("zone-a"), SOON);
    bench.members[0].script(|_| Act::Hang);
    let mut calls = 0;
    while bench.healths()[0] == Health::Healthy {
        let started = bench.clock.now();
        assert!(bench.encrypt(&[key(0b111)], 60_000).await[0].is_ok());
        assert!(bench.clock.now() - started < Duration::from_secs(50));
        calls += 1;
        // On a machine that does something else between two calls they are not one silence.
        assert!(calls < 500, "silent all the time, and not suspect");
    }
    for member in &bench.members[1..] {
        member.script(|_| Act::Hang);
    }
    let before: usize = bench.members.iter().map(|member| member.calls()).sum();
    bench.members[0].script(|op| match op {
        Op::Probe => Act::Hang,
        _ => Act::Well,
    });
    let answers = bench.encrypt(&[key(0b110)], 300).await;
    assert!(matches!(answers[..], [Err(Error::DeadlineExceeded)]));
    let asked = bench.members.iter().map(|member| member.calls()).sum::<usize>() - before;
    assert!(asked <= 4, "two requests and a probe or two, not {asked}");
}

#[tokio::test]
async fn a_moment_without_answers_makes_no_suspect() {
    // Far apart, so that a machine that stands still for a moment itself does not make it look like more.
    let bench = Bench::new(2, Some("zone-a"), 20 * SOON);
    bench.members[0].script(|_| Act::Slow(40 * SOON));
    assert!(bench.encrypt(&vec![key(0b11); 1_000], 20_000).await.iter().all(Result::is_ok));
    assert_eq!(bench.healths(), [Health::Healthy; 2], "many late calls are one silence");
}

#[tokio::test]
async fn the_slow_one_is_waited_for_when_the_hedge_fails() {
    let bench = Bench::new(2, Some("zone-a"), SOON);
    bench.members[0].script(|_| Act::Slow(Duration::from_millis(100)));
    bench.members[1].script(|_| Act::Fail(CallError::WorkerLost));
    assert!(bench.encrypt(&[key(0b11)], 5_000).await[0].is_ok());
}

#[tokio::test]
async fn a_flooded_member_gets_no_hedge() {
    let bench = Bench::new(2, Some("zone-a"), SOON);
    bench.members[0].script(|_| Act::Slow(Duration::from_millis(60)));
    bench.members[1].set_wait(SOON);
    assert!(bench.encrypt(&[key(0b11)], 5_000).await[0].is_ok());
    assert_eq!(bench.members[1].calls(), 0);
}

#[tokio::test]
async fn short_deadlines_make_no_suspects() {
    let bench = Bench::new(2, Some("zone-a"), Duration::from_millis(100));
    bench.members[0].script(|_| Act::Hang);
    for _ in 0..5 {
        assert!(matches!(bench.encrypt(&[key(0b11)], 2).await[..], [Err(Error::DeadlineExceeded)]));
    }
    assert_eq!(bench.healths(), [Health::Healthy; 2]);
}

#[tokio::test]
async fn only_failed_items_are_asked_for_again() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    bench.members[0].script(|op| match (op, well(op)) {
        (Op::Encrypt(_), Reply::Encrypted(mut outputs)) => {
            for output in outputs.iter_mut().step_by(3) {
                *output = Err(Fault::own(Class::Session, "C_Encrypt", "scripted"));
            }
            Act::Say(Reply::Encrypted(outputs))
        }
        _ => Act::Well,
    });
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&largest);
    bench.members[1].script(move |op| {
        seen.fetch_max(op.items(), Ordering::Relaxed);
        Act::Well
    });
    let answers = bench.encrypt(&vec![key(0b11); 60], 1_000).await;
    for (at, answer) in answers.iter().enumerate() {
        assert_eq!(answer.as_ref().unwrap().sealed[..], at.to_le_bytes());
    }
    assert_eq!(largest.load(Ordering::Relaxed), 20);
}

#[tokio::test]
async fn random_bytes_come_from_anywhere() {
    let bench = Bench::new(2, Some("zone-a"), NO_HEDGE);
    bench.members[0].script(|op| refuse_all(op, Class::Token));
    let task = Task::anywhere(None, 24);
    let answers = bench.dispatcher.run::<Random>(vec![task], bench.within(1_000)).await;
    let done = answers[0].as_ref().unwrap();
    assert_eq!((done.output.len(), done.served), (24, Served::by(1)), "the second has served");
    bench.members[1].script(|op| refuse_all(op, Class::KeyAbsent));
    let task = Task::anywhere(None, 24);
    let answers = bench.dispatcher.run::<Random>(vec![task], bench.within(1_000)).await;
    assert!(matches!(answers[..], [Err(Failed { error: Error::NoZone(_), .. })]));
}

/// A small generator, so that a failing run can be played again from its seed.
struct Rng(u64);

impl Rng {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Members fail in every way, but one of them at a time: no caller may notice, and no answer may go astray.
#[tokio::test]
async fn one_bad_member_at_a_time_costs_no_caller_an_error() {
    for seed in 1..=40_u64 {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let bench = Bench::new(3, (rng.roll(2) == 0).then_some("zone-a"), SOON);
        let keys: Vec<_> = (0..5).map(|_| key(0b111)).collect();
        for _ in 0..6 {
            let bad = rng.roll(3) as usize;
            for (place, member) in bench.members.iter().enumerate() {
                let shift = rng.roll(1_000);
                let count = std::sync::atomic::AtomicU64::new(shift);
                member.script(move |op| {
                    let roll = count.fetch_add(7, Ordering::Relaxed) % 8;
                    match roll {
                        _ if place != bad || matches!(op, Op::List | Op::Probe) => Act::Well,
                        0 => Act::Fail(CallError::Busy),
                        1 => Act::Fail(CallError::NotReady),
                        2 => Act::Fail(CallError::WorkerLost),
                        3 => Act::Hang,
                        4 => refuse_all(op, Class::Token),
                        5 => refuse_all(op, Class::Session),
                        6 => Act::Say(Reply::Random(Secret::default())),
                        _ => Act::Well,
                    }
                });
            }
            let count = 1 + rng.roll(200) as usize;
            let items: Vec<_> = (0..count).map(|_| Arc::clone(&keys[rng.roll(5) as usize])).collect();
            for (at, answer) in bench.encrypt(&items, 10_000).await.iter().enumerate() {
                match answer {
                    Ok(sealed) => assert_eq!(sealed.sealed[..], at.to_le_bytes(), "seed {seed}"),
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
            let sealed: Vec<&[u8]> =
                (0..count).map(|at| if at % 5 == 0 { &b"bad"[..] } else { &b"good"[..] }).collect();
            for (sealed, answer) in sealed.iter().zip(bench.decrypt(&keys[0], &sealed, 10_000).await) {
                match (*sealed, answer) {
                    (b"good", Ok(bytes)) => assert_eq!(bytes.expose(), b"good"),
                    (b"bad", Err(Error::BadCiphertext)) => {}
                    (sealed, answer) => panic!("seed {seed}: {sealed:?} gave {answer:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_token_in_trouble_is_not_asked_what_it_holds() {
    let bench = Bench::new(1, None, NO_HEDGE);
    assert_eq!(bench.dispatcher.list(0, bench.within(1_000).deadline).await.unwrap(), []);
    bench.members[0].script(|op| match op {
        Op::Probe => Act::Say(Reply::Failed(Fault::own(Class::Refused, "probe", "no canary"))),
        _ => Act::Well,
    });
    assert!(
        bench.dispatcher.list(0, bench.within(1_000).deadline).await.is_err(),
        "it would have said that it holds nothing"
    );
}
