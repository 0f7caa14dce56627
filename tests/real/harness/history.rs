//! A history of concurrent calls, and whether one that began after a change had been answered was given a result by what
//! the change took away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use model::clock::Clock;
use proto::v1::{BatchEncryptRequest, DataKeySpec, EncryptRequest, GenerateDataKeyRequest, encrypt_result};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Status;

use super::aws::{AccessKey, Ask, Endpoint, Scope, Wire};
use super::stream_load::OneStream;
use super::{Caller, Failure, context, wait};

/// How many calls each caller begins after the change has been answered.
const CALLS_AFTER: usize = 3;
/// Likewise over HTTP/1.1, where a connection has one call at a time, so that there are fewer callers.
const SIGNED_CALLS_AFTER: usize = 20;

/// One call: when its caller began it, and what became of it.
struct Event {
    began: Instant,
    outcome: Result<(), Failure>,
}

/// What one caller has done so far.
struct Diary {
    events: Vec<Event>,
    after: usize,
    most_after: usize,
    changed: Arc<AtomicBool>,
    results: Arc<AtomicUsize>,
    clock: Clock,
}

impl Diary {
    /// When the next call begins; none when there have been enough.
    fn begin(&mut self) -> Option<Instant> {
        if self.changed.load(Ordering::Acquire) {
            self.after += 1;
        }
        (self.after <= self.most_after).then(|| self.clock.now())
    }

    fn end(&mut self, began: Instant, outcome: Result<(), Failure>) {
        self.results.fetch_add(usize::from(outcome.is_ok()), Ordering::Relaxed);
        self.events.push(Event { began, outcome });
    }
}

/// Callers that go on until they know that a change has been answered, and a few calls longer.
pub(crate) struct Callers {
    tasks: JoinSet<Vec<Event>>,
    changed: Arc<AtomicBool>,
    results: Arc<AtomicUsize>,
    clock: Clock,
}

impl Callers {
    /// Nobody.
    pub(crate) fn none() -> Self {
        let (changed, results) = (Arc::default(), Arc::default());
        Self { tasks: JoinSet::new(), changed, results, clock: Clock::system() }
    }

    /// So many at once over each of these connections, each with one kind of call; and a stream over each connection.
    pub(crate) async fn start(connections: &[Caller], key: &str, at_once: usize) -> Self {
        let mut this = Self::none();
        for caller in connections {
            let opened = caller.encrypt(key, b"made before", &context(&[])).await.unwrap();
            let (mut stream, mut diary, of_stream) =
                (OneStream::open(caller).await, this.diary(CALLS_AFTER), key.to_owned());
            this.tasks.spawn(async move {
                while let Some(began) = diary.begin() {
                    let outcome = stream.round_trip(&of_stream, b"streamed", &context(&[])).await;
                    diary.end(began, outcome.map(drop));
                }
                diary.events
            });
            for number in 0..at_once {
                let (caller, key, opened, mut diary) =
                    (caller.clone(), key.to_owned(), opened.clone(), this.diary(CALLS_AFTER));
                this.tasks.spawn(async move {
                    while let Some(began) = diary.begin() {
                        let outcome = one(&caller, number, &key, &opened).await;
                        diary.end(began, outcome);
                    }
                    diary.events
                });
            }
        }
        this
    }

    /// And so many over connections of their own to the AWS listener, each with one kind of call, signed with this key.
    pub(crate) async fn and_signed(mut self, aws: &Endpoint, signer: &AccessKey, key: &str, callers: usize) -> Self {
        let kinds = signed(aws, signer, key).await;
        for number in 0..callers {
            let (mut wire, mut diary) = (aws.connect().await.unwrap(), self.diary(SIGNED_CALLS_AFTER));
            let ask = kinds[number % kinds.len()].clone();
            self.tasks.spawn(async move {
                while let Some(began) = diary.begin() {
                    let outcome = one_signed(&mut wire, &ask).await;
                    diary.end(began, outcome);
                }
                diary.events
            });
        }
        self
    }

    fn diary(&self, most_after: usize) -> Diary {
        let (changed, results) = (Arc::clone(&self.changed), Arc::clone(&self.results));
        Diary { events: Vec::new(), after: 0, most_after, changed, results, clock: self.clock.clone() }
    }

    /// Waits until so many calls have been given results, makes the change, and looks at what each call came to: none
    /// that began after the answer may have been given anything, and each of them was refused with one of `reasons`.
    pub(crate) async fn meet(mut self, what: &str, results: usize, reasons: &[&str], change: impl Future<Output = ()>) {
        let enough = async || (self.results.load(Ordering::Relaxed) >= results).then_some(());
        wait::until_async("calls are given results", 2 * wait::LONG, enough).await;
        change.await;
        let answered = self.clock.now();
        self.changed.store(true, Ordering::Release);
        let (mut given, mut refused) = (0, BTreeMap::<String, usize>::new());
        while let Some(events) = self.tasks.join_next().await {
            for Event { began, outcome } in events.unwrap() {
                match outcome {
                    Ok(()) if began > answered => panic!(
                        "{what}: a call was given a result that began {:?} after the answer",
                        began.duration_since(answered)
                    ),
                    Ok(()) => given += 1,
                    Err(failure) if began > answered => {
                        assert!(reasons.contains(&failure.reason.as_str()), "{what}: {failure:?}");
                        *refused.entry(failure.reason).or_default() += 1;
                    }
                    // What was in hand may have been refused, for that or for want of room.
                    Err(_) => {}
                }
            }
        }
        let after: usize = refused.values().sum();
        eprintln!("{what}: {given} results before, none of {after} calls after it ({refused:?})");
        assert!(given >= results && after > 1_000, "{what}: {given} results, {after} calls after the change");
    }
}

/// One call of a kind that the caller's number tells.
async fn one(caller: &Caller, number: usize, key: &str, opened: &[u8]) -> Result<(), Failure> {
    let encrypt = || EncryptRequest { key_id: key.to_owned(), plaintext: b"x".to_vec(), ..Default::default() };
    match number % 4 {
        0 => caller.encrypt(key, b"x", &context(&[])).await.map(drop),
        1 => caller.decrypt(opened, &context(&[])).await.map(drop),
        2 => {
            let request = GenerateDataKeyRequest {
                key_id: key.to_owned(),
                key_spec: DataKeySpec::Aes256.into(),
                ..Default::default()
            };
            caller.generate_data_key(request).await.map(drop)
        }
        _ => {
            let request = caller.request(BatchEncryptRequest { items: vec![encrypt()] });
            let mut results = caller.crypto.clone().batch_encrypt(request).await?.into_inner().results;
            match results.remove(0).result {
                Some(encrypt_result::Result::Error(error)) => Err(error.into()),
                _ => Ok(()),
            }
        }
    }
}

/// Requests of each kind. The same is sent over and over: a signature holds for some minutes.
async fn signed(aws: &Endpoint, signer: &AccessKey, key: &str) -> Vec<Vec<u8>> {
    let ask = |operation, body| Ask::kms(operation, &body).sign(signer, &Scope::of("kms"));
    let encrypt = || ask("Encrypt", json!({ "KeyId": key, "Plaintext": "eA==" }));
    let sealed = aws.ask(&encrypt()).await.json();
    let asks = [
        encrypt(),
        ask("Decrypt", json!({ "CiphertextBlob": sealed["CiphertextBlob"] })),
        ask("GenerateDataKey", json!({ "KeyId": key, "KeySpec": "AES_256" })),
        ask("GenerateDataKeyWithoutPlaintext", json!({ "KeyId": key, "NumberOfBytes": 16 })),
    ];
    asks.iter().map(Ask::bytes).collect()
}

/// One call over a connection, which goes on whatever comes of it.
async fn one_signed(wire: &mut Wire, ask: &[u8]) -> Result<(), Failure> {
    let ended = |error: std::io::Error| Failure::from(Status::unavailable(format!("the connection ended: {error}")));
    wire.send(ask).await.map_err(ended)?;
    let answer = wire.answer().await.map_err(ended)?;
    if answer.status == 200 {
        return Ok(());
    }
    let failure = Failure::from(Status::unknown(answer.text()));
    Err(Failure { reason: answer.error().1, ..failure })
}
