//! Receipts: whoever asks for it is told which records of the log are those of its call, and nobody else is.

use std::path::PathBuf;

use proto::v1::crypto_service_client::CryptoServiceClient;
use proto::v1::stream_request::Request as Wanted;
use proto::v1::stream_response::Result as Given;
use proto::v1::{
    BatchEncryptRequest, DecryptRequest, DisableKeyRequest, EncryptRequest, StreamRequest, StreamResponse,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Status, Streaming};

use crate::harness::audit::{Receipt, records};
use crate::harness::aws::{Ask, Endpoint, Scope, principal};
use crate::harness::clients::address_of;
use crate::harness::{Caller, Daemon, context, tool, wait};

const ASKS: &str = "keystored-audit-receipt";
const TELLS: &str = "keystored-audit-record";

/// A call under an id of its own, whose caller says this of receipts.
fn asking<T>(caller: &Caller, message: T, id: &str, asks: Option<&'static str>) -> Request<T> {
    let mut request = caller.request(message);
    request.metadata_mut().insert("x-request-id", MetadataValue::try_from(id).unwrap());
    if let Some(asks) = asks {
        request.metadata_mut().insert(ASKS, MetadataValue::from_static(asks));
    }
    request
}

fn told(metadata: &MetadataMap) -> Option<Receipt> {
    metadata.get(TELLS).map(|told| Receipt::read(told.to_str().unwrap()))
}

fn sealing(key: &str) -> EncryptRequest {
    EncryptRequest { key_id: key.to_owned(), plaintext: b"x".to_vec(), ..Default::default() }
}

/// A log, for who has receipts.
struct Log(PathBuf);

impl Log {
    fn of(daemon: &Daemon) -> Self {
        Self(daemon.site().audit_dir())
    }

    /// The one record of this call that its receipt names: its event and how it ended.
    #[track_caller]
    fn has(&self, receipt: Option<&Receipt>, id: &str, event: &str, code: Option<&str>) -> Value {
        let records = receipt.unwrap_or_else(|| panic!("{id} has no receipt")).records(&self.0, id);
        let [record] = &records[..] else { panic!("{records:#?}") };
        assert_eq!((record["eventName"].as_str(), record["errorCode"].as_str()), (Some(event), code), "{record:#}");
        record.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_grpc_are_told_where_their_records_stand() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("with receipts").await;
    let log = Log::of(&daemon);

    let encrypt = async |id: &str, asks| {
        let request = asking(&caller, sealing(&key), id, asks);
        caller.crypto.clone().encrypt(request).await
    };
    let answer = encrypt("unary", Some("true")).await.unwrap();
    log.has(told(answer.metadata()).as_ref(), "unary", "Encrypt", None);
    // Nobody is told who does not ask, and who asks for it unclearly is told that.
    for (id, asks) in [("silent", None), ("no", Some("false"))] {
        assert_eq!(told(encrypt(id, asks).await.unwrap().metadata()), None, "{id}");
    }
    let unclear = encrypt("unclear", Some("1")).await.unwrap_err();
    assert!(unclear.code() == Code::InvalidArgument && unclear.message().contains("`true` or `false`"), "{unclear:?}");
    assert_eq!(told(unclear.metadata()), None);

    // A batch is one event, which may be longer than one leaf.
    let item = |number: usize| EncryptRequest {
        encryption_context: context(&[("item", &number.to_string()), ("padding", &"p".repeat(200))]),
        ..sealing(&key)
    };
    let items = BatchEncryptRequest { items: (0..1_000).map(item).collect() };
    let answer = caller.crypto.clone().batch_encrypt(asking(&caller, items, "batch", Some("true"))).await.unwrap();
    let receipt = told(answer.metadata()).unwrap();
    assert!(receipt.count > 1, "{receipt:?}");
    let leaves = receipt.records(&log.0, "batch");
    let parts: Vec<_> = leaves.iter().map(|leaf| leaf["additionalEventData"]["part"].as_u64()).collect();
    assert_eq!(parts, (1..=u64::from(receipt.count)).map(Some).collect::<Vec<_>>());

    // Refused by policy, and before anybody looked at that.
    let nobody = address_of(&daemon, "nobody").connect().await.unwrap();
    let denied =
        nobody.crypto.clone().encrypt(asking(&nobody, sealing(&key), "denied", Some("true"))).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    log.has(told(denied.metadata()).as_ref(), "denied", "Encrypt", Some("AccessDeniedException"));
    let mut late = asking(&caller, sealing(&key), "untimely", Some("true"));
    late.metadata_mut().insert("grpc-timeout", MetadataValue::from_static("soon"));
    let refused = caller.crypto.clone().encrypt(late).await.unwrap_err();
    log.has(told(refused.metadata()).as_ref(), "untimely", "Encrypt", Some("ValidationException"));

    // Of a change, its outcome, which names what was intended.
    let disable = asking(&caller, DisableKeyRequest { key_id: key.clone() }, "change", Some("true"));
    let answer = caller.keys.clone().disable_key(disable).await.unwrap();
    let outcome = log.has(told(answer.metadata()).as_ref(), "change", "DisableKey", None);
    let intent = &outcome["additionalEventData"]["intentEventID"];
    assert!(records(&log.0).iter().any(|record| record["eventID"] == *intent), "{outcome:#}");
}

/// A stream that was opened under an id of its own.
struct Open {
    requests: mpsc::Sender<StreamRequest>,
    answers: Streaming<StreamResponse>,
}

impl Open {
    async fn new(caller: &Caller, id: &str, asks: Option<&'static str>) -> Self {
        let (requests, receiver) = mpsc::channel(64);
        let request = asking(caller, ReceiverStream::new(receiver), id, asks);
        let mut crypto: CryptoServiceClient<_> = caller.crypto.clone();
        Self { requests, answers: crypto.stream(request).await.unwrap().into_inner() }
    }

    async fn send(&self, number: u64, request: Option<Wanted>) {
        self.requests.send(StreamRequest { number, request }).await.unwrap();
    }

    async fn next(&mut self) -> Result<StreamResponse, Status> {
        let answer = timeout(wait::LONG, self.answers.message()).await.expect("the stream says nothing")?;
        Ok(answer.expect("the stream has ended"))
    }
}

fn of_stream(answer: &StreamResponse) -> Option<Receipt> {
    let receipt = answer.audit_receipt.clone()?;
    Some(Receipt { log: receipt.log, first: receipt.first_record, count: receipt.record_count })
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_stream_name_the_records_of_their_own_windows() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("streamed").await;
    let blob = caller.encrypt(&key, b"opened again and again", &context(&[])).await.unwrap();
    let log = Log::of(&daemon);
    let seal = || Some(Wanted::Encrypt(sealing(&key)));
    let open = || Some(Wanted::Decrypt(DecryptRequest { ciphertext_blob: blob.clone().into(), ..Default::default() }));

    let mut silent = Open::new(&caller, "silent", None).await;
    silent.send(1, seal()).await;
    assert_eq!(silent.next().await.unwrap().audit_receipt, None);

    let mut stream = Open::new(&caller, "stream", Some("true")).await;
    // One after the other: each is a window.
    let mut places = Vec::new();
    for number in 0..3 {
        stream.send(number, seal()).await;
        let receipt = of_stream(&stream.next().await.unwrap());
        log.has(receipt.as_ref(), "stream", "Encrypt", None);
        places.push(receipt.unwrap().first);
    }
    assert!(places.is_sorted() && places[0] != places[1] && places[1] != places[2], "{places:?}");
    // At once: what is in one window with others has its own kind's record, whatever was recorded meanwhile.
    const BURST: u64 = 300;
    let Open { requests, answers: incoming } = &mut stream;
    let sending = async {
        for number in 0..BURST {
            let request = match number % 3 {
                0 => seal(),
                1 => open(),
                _ => None,
            };
            requests.send(StreamRequest { number, request }).await.unwrap();
        }
    };
    let mut answers = Vec::new();
    let answering = async {
        for _ in 0..BURST {
            answers.push(timeout(wait::LONG, incoming.message()).await.unwrap().unwrap().unwrap());
        }
    };
    tokio::join!(sending, answering);
    let mut of_record = std::collections::BTreeMap::<u64, u64>::new();
    for answer in &answers {
        let receipt = of_stream(answer).unwrap();
        *of_record.entry(receipt.first).or_default() += 1;
    }
    let all = records(&log.0);
    for answer in &answers {
        let receipt = of_stream(answer).unwrap();
        let record = &all[usize::try_from(receipt.first).unwrap()];
        let (event, code) = match answer.result.as_ref().unwrap() {
            Given::Encrypt(_) => (Some("Encrypt"), None),
            Given::Decrypt(_) => (Some("Decrypt"), None),
            Given::Error(error) => (None, Some(error.reason.as_str())),
            Given::ReEncrypt(_) => panic!("nobody asked for that"),
        };
        assert_eq!((record["requestID"].as_str(), record["errorCode"].as_str()), (Some("stream"), code), "{record:#}");
        assert!(event.is_none_or(|event| record["eventName"] == event), "{record:#}");
        // As many answers say so as the record has items.
        if let Some(items) = record["additionalEventData"]["items"]["count"].as_u64() {
            assert_eq!(items, of_record[&receipt.first], "{record:#}");
        }
    }

    // What is no request ends the stream, with a receipt of that.
    let long = EncryptRequest { plaintext: vec![0; 70 << 10], ..sealing(&key) };
    stream.send(0, Some(Wanted::Encrypt(long))).await;
    let ended = stream.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::InvalidArgument, "{ended:?}");
    let receipt = told(ended.metadata()).unwrap();
    let records = receipt.records(&log.0, "stream");
    assert_eq!(records[0]["errorCode"], "ValidationException", "{records:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_aws_s_interface_are_told_where_their_records_stand() {
    const ASKS: &str = "x-keystored-audit-receipt";
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("with receipts").await;
    let signer = principal(&caller, "receipts", "Administrator").await;
    let (aws, log) = (Endpoint::of(&daemon), Log::of(&daemon));
    let sign = |ask: Ask| ask.sign(&signer, &Scope::of("kms"));
    let encrypt = || Ask::kms("Encrypt", &json!({ "KeyId": key, "Plaintext": "eA==" }));
    let unknown = || Ask::kms("DescribeKey", &json!({ "KeyId": "nobody" }));
    let alone = || Ask::kms("GetPublicKey", &json!({ "KeyId": key }));
    for (what, ask, event, code) in [
        ("signed", sign(encrypt().header(ASKS, "true")), "Encrypt", None),
        ("not signed with the rest", sign(encrypt()).header(ASKS, "true"), "Encrypt", None),
        ("refused", sign(unknown().header(ASKS, "true")), "DescribeKey", Some("NotFoundException")),
        ("AWS's alone", sign(alone().header(ASKS, "true")), "GetPublicKey", Some("UnsupportedOperationException")),
        ("a change", sign(Ask::kms("DisableKey", &json!({ "KeyId": key })).header(ASKS, "true")), "DisableKey", None),
    ] {
        let answer = aws.ask(&ask).await;
        let receipt = answer.headers.get("x-keystored-audit-record").map(|told| Receipt::read(told));
        assert!(receipt.is_some(), "{what}: {answer:?}");
        log.has(receipt.as_ref(), &answer.headers["x-amzn-requestid"], event, code);
    }
    let form = Ask::sts("Action=GetCallerIdentity&Version=2011-06-15").header(ASKS, "true");
    let answer = aws.ask(&form.sign(&signer, &Scope::of("sts"))).await;
    let receipt = Receipt::read(&answer.headers["x-keystored-audit-record"]);
    log.has(Some(&receipt), &answer.headers["x-amzn-requestid"], "GetCallerIdentity", None);

    let unclear = sign(encrypt().header(ASKS, "yes"));
    let twice = sign(encrypt()).header(ASKS, "true").header(ASKS, "true");
    for (what, ask, status) in [
        ("nobody asks", sign(unknown()), 400),
        ("they say no", sign(unknown().header(ASKS, "false")), 400),
        ("unclear", unclear.clone(), 400),
        ("twice", twice, 400),
        ("nobody has signed it", encrypt().header(ASKS, "true"), 400),
    ] {
        let answer = aws.ask(&ask).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(!answer.headers.contains_key("x-keystored-audit-record"), "{what}: {answer:?}");
    }
    assert_eq!(aws.ask(&unclear).await.error(), (400, "ValidationException".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_leads_an_auditor_to_the_record_and_its_proof() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("audited").await;
    let file = daemon.site().path().join("plaintext");
    std::fs::write(&file, "attack at dawn").unwrap();
    let encrypt = |more: &[&str]| {
        let arguments = ["encrypt", &key, "--plaintext-file", file.to_str().unwrap(), "--receipt"];
        daemon.keystorectl(&[&arguments[..], more].concat())
    };
    let ran = encrypt(&[]);
    let line = ran.err.lines().find(|line| line.starts_with("audit record ")).unwrap_or_else(|| panic!("{ran:?}"));
    let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let ["audit", "record", number, "of", origin, "request", "id", id] = words[..] else { panic!("{line}") };
    assert_eq!(ran.code, Some(0), "{ran:?}");

    // As docs/audit.md says it.
    daemon.audit_settled();
    let directory = daemon.site().audit_dir();
    let audit = |arguments: &[&str]| tool::keystorectl([].into(), &[&["audit"][..], arguments].concat()).ok();
    let place = directory.to_str().unwrap();
    let shown: Value = serde_json::from_str(&audit(&["show", place, number])).unwrap();
    assert_eq!((shown["requestID"].as_str(), shown["eventName"].as_str()), (Some(id), Some("Encrypt")), "{shown:#}");
    let (proof, keys) = (daemon.site().path().join("record.tlog-proof"), directory.join("keys.json"));
    std::fs::write(&proof, audit(&["prove", place, number])).unwrap();
    let checked = audit(&["check-proof", proof.to_str().unwrap(), "--keys", keys.to_str().unwrap()]);
    assert!(checked.contains(id) && std::fs::read_to_string(&proof).unwrap().contains(origin), "{checked}");

    // The same for programs, of what succeeds and of what fails.
    let log = Log::of(&daemon);
    let of_json = |text: &str| -> (Receipt, String) {
        let told: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let [told] = &told["audit_records"].as_array().unwrap()[..] else { panic!("{told:#}") };
        let (first, count) = (told["first_record"].as_u64().unwrap(), told["record_count"].as_u64().unwrap());
        let receipt =
            Receipt { log: told["log"].as_str().unwrap().to_owned(), first, count: count.try_into().unwrap() };
        (receipt, told["request_id"].as_str().unwrap().to_owned())
    };
    let (receipt, id) = of_json(&encrypt(&["--json"]).ok());
    log.has(Some(&receipt), &id, "Encrypt", None);
    let refused = daemon.keystorectl(&["key", "describe", "nobody", "--receipt", "--json"]);
    let (receipt, id) = of_json(&refused.err);
    log.has(Some(&receipt), &id, "DescribeKey", Some("NotFoundException"));
}
