//! Callers who send several requests over one stream, and keep it open for more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::v1::stream_request::Request as Wanted;
use proto::v1::stream_response::Result as Given;
use proto::v1::{DecryptRequest, EncryptRequest, StreamRequest, StreamResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::callers::{Known, One};
use crate::harness::{Failure, wait};

/// Requests of a burst at most; so many find room without an answer having been read.
const BURST: usize = 12;
/// Longest until a stream says something. Each request has the service's own deadline, which is far below.
const SILENCE: Duration = wait::LONG;

/// A stream that is open.
pub(super) struct Open {
    requests: mpsc::Sender<StreamRequest>,
    answers: Streaming<StreamResponse>,
    /// Of the next request. An answer to an earlier burst cannot be taken for one to a later.
    number: u64,
}

/// What was asked, and with that what must be answered.
enum Asked {
    Encrypt(Vec<u8>),
    Decrypt(Known),
    ReEncrypt(Known),
    /// A ciphertext that was never made.
    Bad,
}

impl One {
    /// A burst over the stream that is open, or a new one. Now and then it is ended afterwards.
    pub(super) async fn burst(&mut self) {
        let began = self.journal.clock.now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => match self.open().await {
                Ok(stream) => stream,
                Err(status) => return self.journal.failed("Stream", began, &status.into()),
            },
        };
        let mut asked = self.ask(&mut stream).await;
        let all = asked.len();
        while !asked.is_empty() {
            let Ok(answer) = timeout(SILENCE, stream.answers.message()).await else {
                return self.journal.wrong(format!("Stream left {} of {all} requests unanswered", asked.len()));
            };
            match answer {
                Ok(Some(answer)) => self.hear(&mut asked, answer, began),
                // What was not answered has failed with it; the next burst opens another.
                Err(status) => return self.journal.failed("Stream", began, &status.into()),
                Ok(None) => {
                    return self
                        .journal
                        .wrong(format!("Stream ended with {} of {all} requests unanswered", asked.len()));
                }
            }
        }
        self.stream = Some(stream);
        if self.rng.chance(20) {
            self.hang_up().await;
        }
    }

    /// Without a deadline: that would be the end of a stream, whatever is under way.
    async fn open(&self) -> Result<Open, Status> {
        let (requests, receiver) = mpsc::channel(BURST);
        let answers = self.caller.crypto.clone().stream(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Open { requests, answers, number: 0 })
    }

    async fn ask(&mut self, stream: &mut Open) -> BTreeMap<u64, Asked> {
        let mut asked = BTreeMap::new();
        for _ in 0..=self.rng.below(BURST) {
            let (request, what) = self.wanted();
            let number = stream.number;
            stream.number += 1;
            // Where it has ended, its answers say so.
            let _ = stream.requests.send(StreamRequest { number, request: Some(request) }).await;
            asked.insert(number, what);
        }
        asked
    }

    fn wanted(&mut self) -> (Wanted, Asked) {
        if self.rng.chance(50)
            && let Some(known) = self.known()
        {
            if self.rng.chance(25) {
                return (Wanted::ReEncrypt(self.re_encrypt_request(&known)), Asked::ReEncrypt(known));
            }
            let mut ciphertext = known.ciphertext.clone();
            let bad = self.rng.chance(10);
            if bad {
                *ciphertext.last_mut().unwrap() ^= 1;
            }
            let request = DecryptRequest {
                ciphertext_blob: ciphertext.into(),
                encryption_context: known.context.clone(),
                ..Default::default()
            };
            return (Wanted::Decrypt(request), if bad { Asked::Bad } else { Asked::Decrypt(known) });
        }
        let plaintext = self.plaintext();
        let request = EncryptRequest {
            key_id: self.key(),
            plaintext: plaintext.clone(),
            encryption_context: self.context.clone(),
            ..Default::default()
        };
        (Wanted::Encrypt(request), Asked::Encrypt(plaintext))
    }

    /// Takes one answer, of a burst that began then.
    fn hear(&mut self, asked: &mut BTreeMap<u64, Asked>, answer: StreamResponse, began: Instant) {
        const WHAT: &str = "a request of Stream";
        let Some(was) = asked.remove(&answer.number) else {
            return self
                .journal
                .wrong(format!("Stream answered {}, which was not asked or was answered", answer.number));
        };
        match (was, answer.result) {
            (Asked::Encrypt(plaintext), Some(Given::Encrypt(made))) => {
                let doubtful = self.journal.is_lied_to("C_Encrypt", began);
                self.keep(made.ciphertext_blob.to_vec(), plaintext, doubtful);
            }
            (Asked::Decrypt(known), Some(Given::Decrypt(opened))) => {
                self.compare(WHAT, &known, began, Ok(opened.plaintext.to_vec()));
            }
            (Asked::Decrypt(known), Some(Given::Error(error))) => {
                self.compare(WHAT, &known, began, Err(error.into()));
            }
            (Asked::ReEncrypt(known), Some(Given::ReEncrypt(made))) => self.re_encrypted(WHAT, known, began, Ok(made)),
            (Asked::ReEncrypt(known), Some(Given::Error(error))) => {
                self.re_encrypted(WHAT, known, began, Err(error.into()));
            }
            (Asked::Bad, Some(Given::Error(error))) => self.refused(WHAT, began, &error.into()),
            (Asked::Encrypt(_), Some(Given::Error(error))) => self.journal.failed(WHAT, began, &Failure::from(error)),
            (Asked::Bad, Some(Given::Decrypt(_))) => {
                self.journal.wrong("Stream opened a ciphertext that was never made".to_owned());
            }
            (_, None) => self.journal.wrong(format!("{WHAT} has no result")),
            (_, Some(_)) => self.journal.wrong(format!("{WHAT} was answered with something else than was asked")),
        }
    }

    /// Ends the stream, if one is open; all is answered, so it says nothing more.
    pub(super) async fn hang_up(&mut self) {
        let Some(Open { requests, mut answers, .. }) = self.stream.take() else { return };
        let began = self.journal.clock.now();
        drop(requests);
        match timeout(SILENCE, answers.message()).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(answer))) => self.journal.wrong(format!("Stream answered {} once more", answer.number)),
            Ok(Err(status)) => self.journal.failed("Stream", began, &status.into()),
            Err(_) => self.journal.wrong("Stream did not end though its caller had".to_owned()),
        }
    }
}
