//! Encrypt, Decrypt and ReEncrypt without a call's overhead: many requests and answers on one stream.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Client, Error, Plaintext, Receipt};
use proto::v1 as wire;
use proto::v1::stream_request::Request;
use proto::v1::stream_response::Result as Answered;

/// The side of a stream that takes requests. Dropping it ends the stream after the answers still due.
#[derive(Clone, Debug)]
pub struct Requests(mpsc::Sender<wire::StreamRequest>);

/// The side of a stream that gives answers, in any order.
#[derive(Debug)]
pub struct Answers(tonic::Streaming<wire::StreamResponse>);

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number of its request.
    pub number: u64,
    /// What came of it.
    pub outcome: Result<Outcome, Error>,
    /// Where its record stands, where the client asks for that.
    pub receipt: Option<Receipt>,
}

/// What a request on a stream came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of an Encrypt.
    Encrypted(wire::EncryptResponse),
    /// Of a Decrypt.
    Decrypted(Plaintext),
    /// Of a ReEncrypt.
    ReEncrypted(wire::ReEncryptResponse),
}

impl Client {
    /// Opens a stream. At most `window` requests wait on this side; then sending waits. No deadline bounds the stream
    /// as a whole.
    pub async fn stream(&self, window: usize) -> Result<(Requests, Answers), Error> {
        let (sender, receiver) = mpsc::channel(window.max(1));
        let answers = self.crypto().stream(ReceiverStream::new(receiver)).await?.into_inner();
        Ok((Requests(sender), Answers(answers)))
    }
}

impl Requests {
    /// Sends an Encrypt. False when the stream has ended: [`Answers::next`] says why.
    pub async fn encrypt(&self, number: u64, request: wire::EncryptRequest) -> bool {
        self.send(number, Request::Encrypt(request)).await
    }

    /// Sends a Decrypt. False when the stream has ended: [`Answers::next`] says why.
    pub async fn decrypt(&self, number: u64, request: wire::DecryptRequest) -> bool {
        self.send(number, Request::Decrypt(request)).await
    }

    /// Sends a ReEncrypt. False when the stream has ended: [`Answers::next`] says why.
    pub async fn re_encrypt(&self, number: u64, request: wire::ReEncryptRequest) -> bool {
        self.send(number, Request::ReEncrypt(request)).await
    }

    async fn send(&self, number: u64, request: Request) -> bool {
        self.0.send(wire::StreamRequest { number, request: Some(request) }).await.is_ok()
    }
}

impl Answers {
    /// The next answer; none when the stream has ended in order.
    pub async fn next(&mut self) -> Option<Result<Answer, Error>> {
        let response = match self.0.message().await {
            Ok(response) => response?,
            Err(status) => return Some(Err(status.into())),
        };
        let outcome = match response.result {
            Some(Answered::Encrypt(response)) => Ok(Outcome::Encrypted(response)),
            Some(Answered::Decrypt(response)) => Ok(Outcome::Decrypted(response.into())),
            Some(Answered::ReEncrypt(response)) => Ok(Outcome::ReEncrypted(response)),
            Some(Answered::Error(error)) => Err(error.into()),
            None => Err(super::crypto::broken_answer()),
        };
        Some(Ok(Answer { number: response.number, outcome, receipt: response.audit_receipt.map(Receipt::from) }))
    }
}
