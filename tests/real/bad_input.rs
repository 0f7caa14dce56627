//! Whatever callers send: one clear answer, and nobody else notices.

use std::time::Duration;

use proto::v1::{
    BatchDecryptRequest, BatchEncryptRequest, BatchGenerateDataKeyRequest, CreateKeyRequest, DataKeySpec,
    DecryptRequest, DescribeKeyRequest, EncryptRequest, GenerateDataKeyRequest, GenerateDataKeyResult,
    GenerateRandomRequest, decrypt_result, encrypt_result, generate_data_key_result,
};
use tonic::Code;

use crate::harness::load::Load;
use crate::harness::{Caller, Failure, bytes, context, shared};

const INVALID: &str = "InvalidCiphertextException";

#[tokio::test(flavor = "multi_thread")]
async fn a_ciphertext_that_is_not_exactly_right_has_one_answer() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("ciphertexts").await;
    let other = caller.create_key("another").await;
    let pairs = context(&[("purpose", "test"), ("tenant", "7")]);
    let good = caller.encrypt(&key, b"sixteen bytes or", &pairs).await.unwrap();
    assert_eq!(caller.decrypt(&good, &pairs).await.unwrap(), b"sixteen bytes or");

    let mut wrong: Vec<(String, Vec<u8>)> = Vec::new();
    for length in 1..good.len() {
        wrong.push((format!("cut to {length}"), good[..length].to_vec()));
    }
    for place in 0..good.len() {
        let mut altered = good.clone();
        altered[place] ^= 1;
        wrong.push((format!("altered at {place}"), altered));
    }
    wrong.push(("longer".to_owned(), [&good[..], &[0]].concat()));
    wrong.push(("of a future format".to_owned(), [&[2], &good[1..]].concat()));
    wrong.push(("noise".to_owned(), bytes(100, 9)));
    let foreign = caller.encrypt(&other, b"sixteen bytes or", &pairs).await.unwrap();
    wrong.push(("with another key's header".to_owned(), [&foreign[..21], &good[21..]].concat()));
    for (what, blob) in wrong {
        let failure = caller.decrypt(&blob, &pairs).await.expect_err(&what);
        assert_eq!(failure, invalid(), "{what}");
    }
    for (what, pairs) in [
        ("none", context(&[])),
        ("one missing", context(&[("purpose", "test")])),
        ("one more", context(&[("purpose", "test"), ("tenant", "7"), ("x", "")])),
        ("another value", context(&[("purpose", "test"), ("tenant", "8")])),
        ("another case", context(&[("Purpose", "test"), ("tenant", "7")])),
        ("swapped", context(&[("purpose", "7"), ("tenant", "test")])),
    ] {
        let failure = caller.decrypt(&good, &pairs).await.expect_err(what);
        assert_eq!(failure, invalid(), "context: {what}");
    }

    let request =
        DecryptRequest { ciphertext_blob: good.into(), encryption_context: pairs, key_id: other, ..Default::default() };
    let failure = caller.crypto.clone().decrypt(caller.request(request)).await.map(drop).unwrap_err();
    assert_eq!(Failure::from(failure).reason, "IncorrectKeyException");
}

/// The one answer, without a detail.
fn invalid() -> Failure {
    Failure { code: Code::InvalidArgument, reason: INVALID.to_owned(), message: String::new(), retryable: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_ciphertexts_takes_no_zone_out_of_service() {
    const BATCHES: usize = 100;
    const ITEMS: usize = 1_000;
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("flooded").await;
    let good = caller.encrypt(&key, &[5; 32], &context(&[])).await.unwrap();
    let restarts = |body: &str| {
        let line = body.lines().filter(|line| !line.starts_with('#') && line.contains("restarts"));
        line.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    let (_, before) = daemon.ops("/metrics").unwrap();

    let beside = daemon.caller().await;
    let load = Load::start(&beside, &key, 2);
    for batch in 0..BATCHES {
        let item = |number: usize| {
            // Right in shape, wrong in the tag: only the token can tell.
            let mut blob = good.clone();
            let end = blob.len();
            blob[end - 8..].copy_from_slice(&(batch * ITEMS + number).to_be_bytes());
            DecryptRequest { ciphertext_blob: blob.into(), ..Default::default() }
        };
        let request = caller.request(BatchDecryptRequest { items: (0..ITEMS).map(item).collect() });
        let results = caller.crypto.clone().batch_decrypt(request).await.unwrap().into_inner().results;
        for result in results {
            let Some(decrypt_result::Result::Error(error)) = result.result else { panic!("a forged tag was accepted") };
            assert_eq!(Failure::from(error), invalid());
        }
    }
    load.passes(20).await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls} good calls failed: {:?}", failures.len(), failures.first());
    for hsm in caller.hsms().await.unwrap() {
        // A machine that stands still for a moment may make a suspect, and says so: that is no ciphertext's doing.
        let well = hsm.health() == proto::v1::HsmHealth::Healthy || hsm.reason.contains("no reply for ");
        assert!(well, "{hsm:?}");
        assert_eq!(hsm.ready_workers, hsm.workers, "{hsm:?}");
    }
    let (_, after) = daemon.ops("/metrics").unwrap();
    assert_eq!(restarts(&before), restarts(&after), "a worker was started again");
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_are_aws_s() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("bounds").await;
    for plaintext in [vec![], vec![1; 4097]] {
        let failure = caller.encrypt(&key, &plaintext, &context(&[])).await.unwrap_err();
        assert_eq!(failure.reason, "ValidationException");
        assert!(failure.message.contains("plaintext"), "{failure:?}");
    }
    for ciphertext in [vec![], vec![1; 6145]] {
        let failure = caller.decrypt(&ciphertext, &context(&[])).await.unwrap_err();
        assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "ValidationException"));
    }
    let failure = caller.encrypt(&key, b"x", &context(&[("k", &"v".repeat(9_000))])).await.unwrap_err();
    assert_eq!(failure.reason, "ValidationException", "{failure:?}");
    for number in [None, Some(0), Some(1025), Some(u32::MAX)] {
        let request = GenerateRandomRequest { number_of_bytes: number, ..Default::default() };
        let status = caller.crypto.clone().generate_random(caller.request(request)).await.map(drop).unwrap_err();
        assert_eq!(Failure::from(status).reason, "ValidationException", "{number:?} bytes");
    }
    for (spec, number) in [
        (DataKeySpec::Unspecified, None),
        (DataKeySpec::Aes256, Some(32)),
        (DataKeySpec::Unspecified, Some(0)),
        (DataKeySpec::Unspecified, Some(1025)),
    ] {
        let mut request = GenerateDataKeyRequest { key_id: key.clone(), number_of_bytes: number, ..Default::default() };
        request.set_key_spec(spec);
        let failure = caller.generate_data_key(request).await.map(drop).unwrap_err();
        assert_eq!(failure.reason, "ValidationException", "{spec:?} and {number:?}");
    }
    let request = CreateKeyRequest { description: "d".repeat(8_193), ..Default::default() };
    let status = caller.keys.clone().create_key(caller.request(request)).await.map(drop).unwrap_err();
    assert_eq!(Failure::from(status).reason, "ValidationException");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_bounded_as_a_whole() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("batch bounds").await;
    let item = |length| EncryptRequest { key_id: key.clone(), plaintext: vec![1; length], ..Default::default() };
    for (count, length) in [(0, 1), (1_001, 1), (257, 4_096)] {
        let request = caller.request(BatchEncryptRequest { items: vec![item(length); count] });
        let status = caller.crypto.clone().batch_encrypt(request).await.map(drop).unwrap_err();
        let failure = Failure::from(status);
        assert_eq!(failure.reason, "ValidationException", "{count} items of {length} bytes: {failure:?}");
    }
    let request = caller.request(BatchEncryptRequest { items: vec![item(4_096); 256] });
    let sealed = caller.crypto.clone().batch_encrypt(request).await.unwrap().into_inner().results;
    assert_eq!(sealed.len(), 256);

    // What one call gave, one call takes back.
    let items = sealed.into_iter().map(|result| match result.result {
        Some(encrypt_result::Result::Response(response)) => {
            DecryptRequest { ciphertext_blob: response.ciphertext_blob, ..Default::default() }
        }
        other => panic!("{other:?}"),
    });
    let request = caller.request(BatchDecryptRequest { items: items.collect() });
    assert_eq!(caller.crypto.clone().batch_decrypt(request).await.unwrap().into_inner().results.len(), 256);

    // Items that cannot even be read have their own errors, too.
    let unreadable = GenerateDataKeyRequest { key_id: key.clone(), key_spec: 9, ..Default::default() };
    let request = caller.request(BatchGenerateDataKeyRequest { items: vec![unreadable; 2] });
    let results = caller.crypto.clone().batch_generate_data_key(request).await.unwrap().into_inner().results;
    let refused = |result: &GenerateDataKeyResult| matches!(&result.result, Some(generate_data_key_result::Result::Error(error)) if error.reason == "ValidationException");
    assert!(results.len() == 2 && results.iter().all(refused), "{results:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_keys_that_are_none_are_refused_clearly() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("names").await;
    let arn = caller.describe_key(&key).await.unwrap().arn;
    for (name, reason) in [
        (String::new(), "ValidationException"),
        ("k".repeat(2_049), "ValidationException"),
        ("00000000-0000-4000-8000-000000000000".to_owned(), "NotFoundException"),
        (key.replace('-', ""), "NotFoundException"),
        ("alias/nobody".to_owned(), "NotFoundException"),
        (arn.replace(":key/", ":key-"), "InvalidArnException"),
        (arn.replace("arn:aws:", "arn:elsewhere:"), "NotFoundException"),
        ("../../etc/passwd".to_owned(), "NotFoundException"),
        ("'; DROP TABLE keys; --".to_owned(), "NotFoundException"),
    ] {
        let request = DescribeKeyRequest { key_id: name.clone(), ..Default::default() };
        let status = caller.keys.clone().describe_key(caller.request(request)).await.map(drop).unwrap_err();
        let described = Failure::from(status);
        assert_eq!(described.reason, reason, "{name}: {described:?}");
        assert!(!described.message.is_empty());
        let encrypted = caller.encrypt(&name, b"x", &context(&[])).await.unwrap_err();
        assert_eq!(encrypted.reason, reason, "{name}: {encrypted:?}");
    }
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_ends_its_call_only() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("oversized").await;
    let request = EncryptRequest { key_id: key.clone(), plaintext: vec![1; 8 << 20], ..Default::default() };
    let failure: Failure = caller.crypto.clone().encrypt(caller.request(request)).await.map(drop).unwrap_err().into();
    assert!(matches!(failure.code, Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument), "{failure:?}");
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_answered_by_us_and_harms_no_worker() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("deadlines").await;
    let hasty: Caller = caller.with_deadline(Duration::from_micros(1));
    for _ in 0..200 {
        if let Err(failure) = hasty.encrypt(&key, b"x", &context(&[])).await {
            // The client's own timer may be first; then there is no ErrorInfo.
            let ours = failure.reason == "DependencyTimeoutException" || failure.reason.is_empty();
            assert!(ours && matches!(failure.code, Code::DeadlineExceeded | Code::Cancelled), "{failure:?}");
        }
    }
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
    daemon.wait_until_healthy_for(&caller).await;
}
