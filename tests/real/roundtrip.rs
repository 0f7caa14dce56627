//! What goes in comes out: all sizes, contexts, every form of call.

use proto::v1::stream_request::Request as StreamCall;
use proto::v1::{
    BatchDecryptRequest, BatchEncryptRequest, BatchGenerateDataKeyRequest, DataKeySpec, DecryptRequest, EncryptRequest,
    GenerateDataKeyRequest, GenerateDataKeyWithoutPlaintextRequest, GenerateRandomRequest, StreamRequest,
    decrypt_result, encrypt_result, generate_data_key_result, stream_response,
};
use tokio_stream::StreamExt;

use crate::harness::{Caller, bytes, context, shared};

/// What a batch may carry, in bytes of plaintext, or of ciphertext when it comes back.
const BATCH_BYTES: usize = 1 << 20;
const OVERHEAD: usize = 33 + 16;

#[tokio::test(flavor = "multi_thread")]
async fn every_size_with_a_context_of_its_own() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("every size").await;
    let mut sizes: Vec<usize> = (1..=4096).collect();
    while !sizes.is_empty() {
        let mut total = 0;
        let fits = sizes.iter().take(1000).take_while(|size| {
            total += **size + OVERHEAD;
            total <= BATCH_BYTES
        });
        let batch: Vec<usize> = sizes.drain(..fits.count()).collect();
        round_trip_of(&caller, &key, &batch).await;
    }
}

async fn round_trip_of(caller: &Caller, key: &str, sizes: &[usize]) {
    let plain = |size: usize| bytes(size, u8::try_from(size % 251).unwrap());
    let pairs = |size: usize| context(&[("size", &size.to_string()), ("", "an empty key is allowed")]);
    let items = sizes.iter().map(|size| EncryptRequest {
        key_id: key.to_owned(),
        plaintext: plain(*size),
        encryption_context: pairs(*size),
        ..Default::default()
    });
    let request = caller.request(BatchEncryptRequest { items: items.collect() });
    let sealed = caller.crypto.clone().batch_encrypt(request).await.unwrap().into_inner().results;
    assert_eq!(sealed.len(), sizes.len());
    let items = sizes.iter().zip(sealed).map(|(size, result)| {
        let Some(encrypt_result::Result::Response(response)) = result.result else { panic!("size {size}: {result:?}") };
        assert_eq!(response.ciphertext_blob.len(), size + OVERHEAD);
        assert_eq!(response.ciphertext_blob[0], 1);
        DecryptRequest {
            ciphertext_blob: response.ciphertext_blob,
            encryption_context: pairs(*size),
            key_id: String::new(),
            ..Default::default()
        }
    });
    let request = caller.request(BatchDecryptRequest { items: items.collect() });
    let opened = caller.crypto.clone().batch_decrypt(request).await.unwrap().into_inner().results;
    for (size, result) in sizes.iter().zip(opened) {
        let Some(decrypt_result::Result::Response(response)) = result.result else { panic!("size {size}: {result:?}") };
        assert!(response.plaintext == plain(*size), "size {size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_by_its_id_and_by_its_arn() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("names").await;
    let arn = caller.describe_key(&key).await.unwrap().arn;
    assert!(arn.starts_with("arn:aws:kms:") && arn.ends_with(&format!(":key/{key}")), "{arn}");
    for name in [&key, &arn, &key.to_uppercase()] {
        let request = EncryptRequest { key_id: name.clone(), plaintext: vec![7], ..Default::default() };
        let response = caller.crypto.clone().encrypt(caller.request(request)).await.unwrap().into_inner();
        assert_eq!(response.key_id, arn);
        let request =
            DecryptRequest { ciphertext_blob: response.ciphertext_blob, key_id: name.clone(), ..Default::default() };
        let response = caller.crypto.clone().decrypt(caller.request(request)).await.unwrap().into_inner();
        assert_eq!((response.key_id, response.plaintext), (arn.clone(), vec![7]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_encryptions_of_the_same_differ() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("IVs").await;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..200 {
        let ciphertext = caller.encrypt(&key, b"the same", &context(&[])).await.unwrap();
        assert!(seen.insert(ciphertext[21..33].to_vec()), "an IV came twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_keys_open_to_what_was_given_in_clear() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("data keys").await;
    let pairs = context(&[("tenant", "42")]);
    for (spec, number, length) in [
        (DataKeySpec::Aes256, None, 32),
        (DataKeySpec::Aes128, None, 16),
        (DataKeySpec::Unspecified, Some(1), 1),
        (DataKeySpec::Unspecified, Some(1024), 1024),
    ] {
        let mut request = GenerateDataKeyRequest { key_id: key.clone(), number_of_bytes: number, ..Default::default() };
        request.set_key_spec(spec);
        request.encryption_context = pairs.clone();
        let made = caller.generate_data_key(request).await.unwrap();
        assert_eq!(made.plaintext.len(), length);
        assert!(caller.decrypt(&made.ciphertext_blob, &pairs).await.unwrap() == made.plaintext);
        assert_eq!(caller.decrypt(&made.ciphertext_blob, &context(&[])).await.unwrap_err().reason, INVALID);

        let mut request = GenerateDataKeyWithoutPlaintextRequest { key_id: key.clone(), ..Default::default() };
        request.number_of_bytes = number;
        request.set_key_spec(spec);
        let request = caller.request(request);
        let made = caller.crypto.clone().generate_data_key_without_plaintext(request).await.unwrap().into_inner();
        assert_eq!(caller.decrypt(&made.ciphertext_blob, &context(&[])).await.unwrap().len(), length);
    }
}

const INVALID: &str = "InvalidCiphertextException";

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_are_as_many_as_asked_for_and_never_the_same() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let mut seen = std::collections::HashSet::new();
    for length in [1, 16, 32, 1024, 16, 32, 1024] {
        let request = GenerateRandomRequest { number_of_bytes: Some(length), ..Default::default() };
        let made = caller.crypto.clone().generate_random(caller.request(request)).await.unwrap().into_inner();
        assert_eq!(made.plaintext.len(), length as usize);
        assert!(length == 1 || seen.insert(made.plaintext), "{length} bytes came twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_item_s_failure_is_never_the_others() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("batches").await;
    let unknown = "00000000-0000-4000-8000-000000000000";
    let item = |key: &str, plaintext: &[u8]| EncryptRequest {
        key_id: key.to_owned(),
        plaintext: plaintext.to_vec(),
        ..Default::default()
    };
    let items =
        vec![item(&key, b"good"), item(unknown, b"x"), item(&key, b""), item("nonsense", b"x"), item(&key, b"!")];
    let request = caller.request(BatchEncryptRequest { items });
    let results = caller.crypto.clone().batch_encrypt(request).await.unwrap().into_inner().results;
    let reasons: Vec<_> = results
        .iter()
        .map(|result| match result.result.as_ref().unwrap() {
            encrypt_result::Result::Response(_) => "",
            encrypt_result::Result::Error(error) => &error.reason,
        })
        .collect();
    assert_eq!(reasons, ["", "NotFoundException", "ValidationException", "NotFoundException", ""]);

    let wanted = |number| GenerateDataKeyRequest { key_id: key.clone(), number_of_bytes: number, ..Default::default() };
    let request = BatchGenerateDataKeyRequest { items: vec![wanted(Some(24)), wanted(None), wanted(Some(24))] };
    let results = caller.crypto.clone().batch_generate_data_key(caller.request(request)).await.unwrap().into_inner();
    let lengths: Vec<_> = results
        .results
        .iter()
        .map(|result| match result.result.as_ref().unwrap() {
            generate_data_key_result::Result::Response(made) => made.plaintext.len(),
            generate_data_key_result::Result::Error(_) => 0,
        })
        .collect();
    assert_eq!(lengths, [24, 0, 24]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_each_request_under_its_number() {
    const REQUESTS: u64 = 2_000;
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("streams").await;
    let bad = REQUESTS / 2;
    let make = {
        let key = key.clone();
        move |number: u64| {
            let plaintext = if number == bad { Vec::new() } else { number.to_be_bytes().to_vec() };
            let call = EncryptRequest { key_id: key.clone(), plaintext, ..Default::default() };
            StreamRequest { number, request: Some(StreamCall::Encrypt(call)) }
        }
    };
    let answers = caller.crypto.clone().stream(tokio_stream::iter((0..REQUESTS).map(make))).await.unwrap();
    let answers: Vec<_> = answers.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(answers.len() as u64, REQUESTS);
    let mut sealed = Vec::new();
    for answer in answers {
        match answer.result.unwrap() {
            stream_response::Result::Encrypt(response) => sealed.push((answer.number, response.ciphertext_blob)),
            stream_response::Result::Error(error) => {
                assert_eq!((answer.number, error.reason.as_str()), (bad, "ValidationException"));
            }
            other => panic!("nothing but Encrypt was asked for: {other:?}"),
        }
    }
    assert_eq!(sealed.len() as u64, REQUESTS - 1);

    let requests = sealed.into_iter().map(|(number, ciphertext_blob)| {
        let call = DecryptRequest { ciphertext_blob, ..Default::default() };
        StreamRequest { number, request: Some(StreamCall::Decrypt(call)) }
    });
    let requests: Vec<_> = requests.collect();
    let mut answers = caller.crypto.clone().stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut opened = 0;
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        let Some(stream_response::Result::Decrypt(response)) = answer.result else { panic!("{answer:?}") };
        assert_eq!(response.plaintext, answer.number.to_be_bytes());
        opened += 1;
    }
    assert_eq!(opened, REQUESTS - 1);
}
