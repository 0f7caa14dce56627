//! A caller that keeps one stream open and goes on encrypting and decrypting over it, each once at a time.

use std::collections::BTreeMap;

use proto::v1::stream_request::Request as Wanted;
use proto::v1::stream_response::Result as Given;
use proto::v1::{DecryptRequest, EncryptRequest, StreamRequest, StreamResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Caller, Failure, wait};

pub(crate) struct OneStream {
    requests: mpsc::Sender<StreamRequest>,
    answers: Streaming<StreamResponse>,
    number: u64,
}

impl OneStream {
    pub(crate) async fn open(caller: &Caller) -> Self {
        let (requests, receiver) = mpsc::channel(1);
        let answers = caller.crypto.clone().stream(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, answers, number: 0 }
    }

    /// What was opened of what was encrypted.
    pub(crate) async fn round_trip(
        &mut self,
        key: &str,
        plaintext: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, Failure> {
        let (key_id, encryption_context) = (key.to_owned(), context.clone());
        let request =
            EncryptRequest { key_id, plaintext: plaintext.to_vec(), encryption_context, ..Default::default() };
        let Given::Encrypt(made) = self.ask(Wanted::Encrypt(request)).await? else { panic!("not what was asked") };
        let (ciphertext_blob, encryption_context) = (made.ciphertext_blob, context.clone());
        let request = DecryptRequest { ciphertext_blob, encryption_context, ..Default::default() };
        let Given::Decrypt(opened) = self.ask(Wanted::Decrypt(request)).await? else { panic!("not what was asked") };
        Ok(opened.plaintext)
    }

    async fn ask(&mut self, request: Wanted) -> Result<Given, Failure> {
        self.number += 1;
        // Where the stream has ended, its answers say why.
        let _ = self.requests.send(StreamRequest { number: self.number, request: Some(request) }).await;
        let answer = timeout(wait::LONG, self.answers.message()).await.expect("the stream says nothing")?;
        let answer = answer.expect("the stream has ended");
        assert_eq!(answer.number, self.number);
        match answer.result.unwrap() {
            Given::Error(error) => Err(error.into()),
            given => Ok(given),
        }
    }
}
