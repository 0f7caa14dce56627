//! What calls leave in the log that were refused: those that somebody has looked at one record each, those that were turned
//! away at the door a count beyond a few.

use std::num::NonZeroU32;
use std::time::Duration;

use super::access::{HERE, arn, bench, by, created, principal};
use super::bench::{Bench, Manner, exception, plain};
use super::event_reader::{Read, read};
use crate::core::recorder::{CallRecord, Parameters, RefusedCall};
use crate::core::turned_away::OWN;
use crate::{Error, GrantTokens, RateLimits};
use auth::peer::Principal;
use auth::request::{Interface, TlsDetails};
use model::clock::Clock;
use model::exception::Exception;
use model::operation::Operation;

const MINUTE: Duration = Duration::from_secs(60);

/// The records so far: those of one call, and those that stand for many.
fn told(bench: &Bench) -> (Vec<CallRecord>, Vec<Read>) {
    let (one, many): (Vec<_>, Vec<_>) = bench.recorder.taken().into_iter().partition(|record| record.name.is_none());
    (one, many.iter().map(|record| read(bench, record)).collect())
}

async fn minute_ends(bench: &Bench) {
    bench.clock.advance(MINUTE);
    bench.service.core.record_what_waits().await;
}

async fn slow() -> (Bench, String) {
    let bench = Bench::by(Clock::manual(), &["zone-a", "zone-b"]).await;
    bench.service.set_administrators(["cn:admin".to_owned()].into());
    let key = created(&bench).await.arn;
    let [per_principal, burst_s] = [NonZeroU32::MIN; 2];
    bench.service.set_rate_limits(RateLimits { per_principal: Some(per_principal), per_key_store: None, burst_s });
    bench.recorder.taken();
    (bench, key)
}

#[tokio::test]
async fn who_calls_too_often_has_a_few_records_and_then_one_a_minute() {
    let (bench, key) = slow().await;
    principal(&bench, HERE, "anna").await;
    let (anna, own) = (by(&bench, "anna"), usize::try_from(OWN).unwrap());
    bench.service.who_am_i(&anna).await.unwrap();
    bench.recorder.taken();
    for _ in 0..400 {
        let refused = bench.service.encrypt(&anna, vec![plain(&key, b"x"), plain(&key, b"y")]).await;
        assert_eq!(exception(refused.map(|_| ())), Exception::Throttling);
        let refused = bench.service.describe_key_with(&anna, &key, GrantTokens::default()).await;
        assert_eq!(exception(refused.map(|_| ())), Exception::Throttling);
    }
    // Somebody else is not touched by that.
    let eve = bench.service.describe_key_with(&by(&bench, "eve"), &key, GrantTokens::default()).await;
    assert_eq!(exception(eve.map(|_| ())), Exception::AccessDenied);
    let (one, many) = told(&bench);
    assert_eq!((one.len(), many.len()), (own + 1, 0));
    assert!(one[..own].iter().all(|record| matches!(record.parameters, Parameters::None)), "nobody has looked at them");
    assert!(one[..own].iter().all(|record| record.caller.is_some()));
    minute_ends(&bench).await;
    let (one, many) = told(&bench);
    let [record] = &many[..] else { panic!("{}", many.len()) };
    assert_eq!(one.len(), 0);
    let calls = 400 - own / 2;
    let (arn, all, items) = (arn(HERE, "anna"), (3 * calls).to_string(), (2 * calls).to_string());
    for (member, is) in [
        ("eventName", Some("RefusedCalls")),
        ("eventSource", Some("keystored")),
        ("errorCode", Some("ThrottlingException")),
        ("userIdentity.arn", Some(&*arn)),
        ("additionalEventData.count", Some(&*all)),
        ("additionalEventData.refusals.0.eventName", Some("DescribeKey")),
        ("additionalEventData.refusals.1.count", Some(&*items)),
        ("additionalEventData.certificate", None),
        ("requestID", None),
    ] {
        assert_eq!(record.get(member), is, "{member} of {}", record.text);
    }
    assert_eq!(bench.service.refusals_without_record(), (800 - own as u64, 0));
    // All were counted by operation all the same.
    let seen = bench.seen.finished.lock().unwrap();
    assert_eq!(seen.iter().filter(|(_, outcome, _)| *outcome == Some(Exception::Throttling)).count(), 800);
}

#[tokio::test]
async fn calls_that_somebody_has_looked_at_have_a_record_each() {
    let bench = bench().await;
    let key = created(&bench).await.arn;
    bench.recorder.taken();
    let eve = by(&bench, "eve");
    for _ in 0..3 * OWN {
        let done = bench.service.encrypt(&eve, vec![plain(&key, b"x")]).await.unwrap().remove(0);
        assert_eq!(exception(done), Exception::AccessDenied);
        let refused = bench.service.describe_key_with(&eve, &key, GrantTokens::default()).await;
        assert_eq!(exception(refused.map(|_| ())), Exception::AccessDenied);
    }
    let (one, _) = told(&bench);
    assert_eq!(one.len(), 6 * usize::try_from(OWN).unwrap());
    assert!(one.iter().all(|record| !matches!(record.parameters, Parameters::None)));
}

fn at_entry(exception: Exception) -> RefusedCall {
    RefusedCall {
        principal: Some(Principal::new("cn:eve")),
        source: Some("192.0.2.1".parse().unwrap()),
        user_agent: None,
        tls: Some(TlsDetails {
            version: "TLSv1.3",
            cipher_suite: "TLS_AES_128_GCM_SHA256",
            host: Some("kms:1".into()),
        }),
        interface: Interface::Grpc,
        request_id: "r-9".into(),
        operation: Some(Operation::Encrypt),
        event: None,
        items: 1,
        error: Error::permanent(exception, "why"),
        took: Duration::ZERO,
    }
}

#[tokio::test]
async fn an_interface_turns_calls_away_too() {
    // All of it is in one minute.
    let bench = Bench::by(Clock::manual(), &["zone-a", "zone-b"]).await;
    let own = usize::try_from(OWN).unwrap();
    for _ in 0..own {
        for exception in [Exception::Throttling, Exception::Validation, Exception::AccessDenied] {
            bench.service.refused_at_entry(at_entry(exception)).await;
        }
    }
    let (one, _) = told(&bench);
    let of = |exception| one.iter().filter(|record| record.outcomes[0].0 == Some(exception)).count();
    assert_eq!(of(Exception::AccessDenied), own, "who was denied was looked at");
    assert_eq!(of(Exception::Throttling) + of(Exception::Validation), own);
    let record = read(&bench, &one[0]);
    assert_eq!(record.get("tlsDetails.tlsVersion"), Some("TLSv1.3"), "{}", record.text);
    assert_eq!(record.get("tlsDetails.clientProvidedHostHeader"), Some("kms:1"), "{}", record.text);
    // At the end of the daemon nothing is left.
    bench.service.return_budgets().await;
    let (_, many) = told(&bench);
    let count = |record: &Read| record.get("additionalEventData.count").unwrap().parse::<usize>().unwrap();
    assert_eq!((many.len(), many.iter().map(count).sum::<usize>()), (2, own));
    assert!(many.iter().all(|record| record.get("sourceIPAddress") == Some("192.0.2.1")));
}

#[tokio::test]
async fn a_refusal_whose_record_is_not_accepted_is_counted() {
    let (bench, key) = slow().await;
    bench.service.set_rate_limits(RateLimits::default());
    bench.recorder.is(Manner::Fails);
    for _ in 0..5 {
        let refused = bench.service.describe_key_with(&by(&bench, "eve"), &key, GrantTokens::default()).await;
        assert_eq!(exception(refused.map(|_| ())), Exception::AccessDenied, "it is refused all the same");
    }
    assert_eq!(bench.service.refusals_without_record(), (0, 5));
    // What could not be told either waits.
    minute_ends(&bench).await;
    bench.recorder.is(Manner::Quick);
    minute_ends(&bench).await;
    let (_, many) = told(&bench);
    let [record] = &many[..] else { panic!("{}", many.len()) };
    assert_eq!(record.get("errorCode"), Some("AccessDeniedException"));
    assert_eq!(record.get("additionalEventData.count"), Some("5"));
    assert_eq!(record.get("userIdentity.principalId"), Some("cn:eve"));
}

#[tokio::test]
async fn records_that_hang_have_a_share_for_each_principal() {
    let bench = bench().await;
    let key = created(&bench).await.arn;
    bench.recorder.is(Manner::Hangs);
    let short = |name: &str| bench.call_of(&format!("cn:{name}"), Duration::from_millis(1));
    let refused = async |name: &str| {
        let refused = bench.service.describe_key_with(&short(name), &key, GrantTokens::default()).await;
        assert_eq!(exception(refused.map(|_| ())), Exception::AccessDenied);
    };
    let unrecorded = || bench.service.refusals_without_record().1;
    while unrecorded() == 0 {
        refused("eve").await;
    }
    // Hers wait, as many as may; another one's waits as well.
    refused("bert").await;
    assert_eq!(unrecorded(), 1);
    refused("eve").await;
    assert_eq!(unrecorded(), 2);
}

/// Whatever a call is, once it was let in it goes on without its caller, and has its record.
#[tokio::test]
async fn a_call_that_is_taken_back_when_it_was_let_in_is_on_record() {
    use super::walk::{asked, named};
    use futures_util::FutureExt as _;

    let bench = bench().await;
    let named = named(&bench).await;
    principal(&bench, HERE, "idle").await;
    for name in ["admin", "idle"] {
        for operation in Operation::ALL {
            bench.recorder.taken();
            let call = by(&bench, name);
            // Polled once, and dropped.
            let _ = asked(&bench, &call, &named[0], *operation).now_or_never();
            let ended = async {
                let ended = |records: &[CallRecord]| {
                    let of = |record: &&CallRecord| record.operation == Some(*operation);
                    records.iter().filter(of).any(|record| record.phase == crate::core::recorder::Phase::Ended)
                };
                while !ended(&bench.recorder.records.lock().unwrap()) {
                    tokio::task::yield_now().await;
                }
            };
            let ended = tokio::time::timeout(Duration::from_secs(120), ended).await;
            assert!(ended.is_ok(), "{operation:?} of {name} has no record");
        }
    }
}
