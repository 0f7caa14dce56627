//! How many requests a second there may be.

use std::num::NonZeroU32;
use std::time::Duration;

use super::bench::{Bench, exception, plain};
use crate::GrantTokens;
use crate::observer::RateLimit;
use crate::{CreatePrincipalInput, Error, Extras, RateLimits, ReEncryptInput, RequestContext};
use model::clock::Clock;
use model::exception::Exception;

async fn bench(per_principal: Option<u32>, per_key_store: Option<u32>) -> Bench {
    let bench = Bench::by(Clock::manual(), &["zone-a", "zone-b"]).await;
    let names = ["admin", "anna", "bert", "eve", "a", "b"].map(|name| format!("cn:{name}"));
    bench.service.set_administrators(names.into());
    set(&bench, per_principal, per_key_store);
    bench
}

fn set(bench: &Bench, per_principal: Option<u32>, per_key_store: Option<u32>) {
    let [per_principal, per_key_store] = [per_principal, per_key_store].map(|rate| rate.and_then(NonZeroU32::new));
    bench.service.set_rate_limits(RateLimits { per_principal, per_key_store, burst_s: NonZeroU32::MIN });
}

fn by(bench: &Bench, name: &str) -> RequestContext {
    bench.call_of(&format!("cn:{name}"), Duration::from_secs(30))
}

async fn encrypt(bench: &Bench, name: &str, key: &str, items: usize) -> Result<Vec<Result<(), Error>>, Error> {
    let items = (0..items).map(|_| plain(key, b"x")).collect();
    let done = bench.service.encrypt(&by(bench, name), items).await?;
    Ok(done.into_iter().map(|done| done.map(drop)).collect())
}

fn throttled(bench: &Bench) -> Vec<(RateLimit, usize)> {
    std::mem::take(&mut *bench.seen.throttled.lock().unwrap())
}

#[tokio::test]
async fn a_principal_has_so_many_requests_a_second_whatever_they_are() {
    let bench = bench(None, None).await;
    let key = bench.create().await.arn;
    set(&bench, Some(5), None);
    encrypt(&bench, "anna", &key, 3).await.unwrap();
    bench.service.describe_key_with(&by(&bench, "anna"), &key, GrantTokens::default()).await.unwrap();
    let error = encrypt(&bench, "anna", &key, 2).await.unwrap_err();
    assert_eq!((error.exception, error.retryable), (Exception::Throttling, true));
    let starts = "You have exceeded the rate at which you may call KMS: cn:anna has 5 requests a second";
    assert!(error.message.starts_with(starts) && error.message.ends_with("; try again in 201 ms"), "{error}");
    assert_eq!(throttled(&bench), [(RateLimit::Principal, 2)]);
    // Of a batch all or nothing is let in, so that one is left; nothing was done for what was refused.
    encrypt(&bench, "anna", &key, 1).await.unwrap();
    assert_eq!(bench.fake.asked.lock().unwrap().iter().map(|(_, items)| items).sum::<usize>(), 4);
    let none = "00000000-0000-4000-8000-000000000001";
    assert_eq!(
        exception(bench.service.describe_key_with(&by(&bench, "anna"), none, GrantTokens::default()).await),
        Exception::Throttling
    );
    assert_eq!(exception(bench.service.who_am_i(&by(&bench, "anna")).await), Exception::Throttling);
    assert_eq!(
        exception(bench.service.describe_key_with(&by(&bench, "anna"), "a\nb", GrantTokens::default()).await),
        Exception::Throttling
    );
    encrypt(&bench, "bert", &key, 5).await.expect("others have their own");
    bench.clock.advance(Duration::from_millis(201));
    encrypt(&bench, "anna", &key, 1).await.unwrap();
    let error = encrypt(&bench, "anna", &key, 6).await.unwrap_err();
    assert!(!error.retryable && error.message.contains("at most 5 fit into one call"), "{error}");
    let records = bench.recorder.taken();
    let refused =
        records.iter().filter(|record| record.outcomes.iter().any(|(one, _)| *one == Some(Exception::Throttling)));
    assert_eq!(refused.count(), 5, "each of them is on record");
}

#[tokio::test]
async fn certificates_of_one_principal_count_together() {
    let bench = bench(None, None).await;
    let key = bench.create().await.arn;
    let (arn, identities) = ("arn:aws:iam::111122223333:user/anna".to_owned(), vec!["cn:a".into(), "cn:b".into()]);
    let input = CreatePrincipalInput { arn: arn.clone(), identities, ..Default::default() };
    bench.service.create_principal(&by(&bench, "admin"), input).await.unwrap();
    set(&bench, Some(2), None);
    encrypt(&bench, "a", &key, 2).await.unwrap();
    let error = encrypt(&bench, "b", &key, 1).await.unwrap_err();
    assert!(error.message.contains(&format!("{arn} has 2 requests")), "{error}");
    // An access key is one more of its names.
    let made = bench.service.create_access_key(&by(&bench, "admin"), &arn).await.unwrap().key.id;
    let signed = bench.call_of(&made.identity(), Duration::from_secs(30));
    let error = bench.service.encrypt(&signed, vec![plain(&key, b"x")]).await.unwrap_err();
    assert!(error.message.contains(&format!("{arn} has 2 requests")), "{error}");

    // So has it room for so many items at once, whichever it comes with.
    let (core, items) = (&bench.service.core, 1_000);
    let keyring = core.keyring();
    let held = core.admit(&keyring, &by(&bench, "a"), items).unwrap();
    for call in [&by(&bench, "b"), &signed] {
        let error = core.admit(&keyring, call, items).err().unwrap();
        assert!(error.message.contains(&format!("{arn} has 1000 items in work")), "{error}");
    }
    drop(core.admit(&keyring, &by(&bench, "bert"), items).unwrap());
    drop(held);
    core.admit(&keyring, &signed, items).unwrap();
    let flows = [&by(&bench, "a"), &by(&bench, "b"), &signed].map(|call| core.options(call).flow);
    assert!(flows.iter().all(|flow| *flow == flows[0]) && flows[0] != core.options(&by(&bench, "bert")).flow);
}

#[tokio::test]
async fn a_key_store_has_so_many_requests_a_second_of_all_who_may_use_it() {
    let bench = bench(None, Some(4)).await;
    let key = bench.create().await.arn;
    let none = key.replace(key.rsplit('/').next().unwrap(), "00000000-0000-4000-8000-000000000001");
    encrypt(&bench, "eve", &none, 9).await.unwrap();
    let done = encrypt(&bench, "anna", &key, 6).await.unwrap();
    let refused: Vec<_> = done.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 2, "four of six items are done; what names no key took none of them");
    for error in refused {
        assert_eq!((error.exception, error.retryable), (Exception::Throttling, true));
        assert!(error.message.contains(&format!("the key store {} has 4 requests", bench.key_store)), "{error}");
    }
    assert_eq!(throttled(&bench), [(RateLimit::KeyStore, 1), (RateLimit::KeyStore, 1)]);
    let random = async || bench.service.generate_random(&by(&bench, "bert"), Some(1), "", Extras::default()).await;
    assert_eq!(exception(random().await), Exception::Throttling);
    bench
        .service
        .describe_key_with(&by(&bench, "anna"), &key, GrantTokens::default())
        .await
        .expect("what manages keys is not counted");
    bench.clock.advance(Duration::from_millis(250));
    random().await.unwrap();
    assert_eq!(exception(random().await), Exception::Throttling);
    // What takes from one key and gives to another is two requests.
    bench.clock.advance(Duration::from_secs(1));
    let blob = bench.encrypt(plain(&key, b"x")).await.unwrap();
    let input =
        || ReEncryptInput { ciphertext: blob.clone().into(), destination_key_id: key.clone(), ..Default::default() };
    let done = bench.service.re_encrypt(&bench.call(), vec![input(), input()]).await.unwrap();
    assert_eq!(done.iter().filter(|one| one.is_ok()).count(), 1, "{done:?}");
}

#[tokio::test]
async fn limits_are_taken_over_and_go_on_where_they_are_the_same() {
    let bench = bench(None, None).await;
    let key = bench.create().await.arn;
    set(&bench, Some(2), None);
    encrypt(&bench, "anna", &key, 2).await.unwrap();
    set(&bench, Some(2), None);
    assert_eq!(exception(encrypt(&bench, "anna", &key, 1).await), Exception::Throttling);
    set(&bench, Some(3), None);
    encrypt(&bench, "anna", &key, 3).await.unwrap();
    set(&bench, None, None);
    encrypt(&bench, "anna", &key, 100).await.unwrap();
}
