//! A window of `CryptoService.Stream`: a batch of each operation that is in it.

use std::sync::Arc;

use futures_util::future;
use prost::Message;
use tonic::Status;

use super::{error, items};
use crate::entry::{AdmittedStream, sizes};
use model::exception::Exception;
use proto::v1::stream_request::Request as Wanted;
use proto::v1::stream_response::Result as Given;
use proto::v1::{StreamRequest, StreamResponse};
use service::{Error, Service};

/// What a stream was sent.
#[derive(Debug)]
pub(super) enum Sent {
    /// A request.
    Request(StreamRequest),
    /// A request with this number, for which there is no room.
    Full(u64),
    /// What is no request.
    Unreadable(Error),
}

/// Answers one window: a batch of each operation that is in it. What is refused here comes to no use case,
/// and is put on record for each reason once.
pub(super) async fn answer(
    service: Service,
    admitted: Arc<AdmittedStream>,
    sent: Vec<Sent>,
) -> Result<Vec<StreamResponse>, Status> {
    let items = sent.len();
    let call = match admitted.window() {
        Ok(call) => call,
        Err(refusal) => {
            let error = Error::new(Exception::AccessDenied, refusal.to_string(), false);
            service.refused_at_entry(admitted.refused(items, error)).await;
            return Err(error::refused(&refusal));
        }
    };
    let (mut window, mut refused) = (Vec::with_capacity(items), Vec::new());
    let mut refuse =
        |error: Error| match refused.iter_mut().find(|(known, _): &&mut (Error, usize)| known.message == error.message)
        {
            Some((_, items)) => *items += 1,
            None => refused.push((error, 1)),
        };
    let mut answers = Vec::with_capacity(window.len());
    let (mut encrypt, mut encrypt_numbers) = (Vec::new(), Vec::new());
    let (mut decrypt, mut decrypt_numbers) = (Vec::new(), Vec::new());
    let (mut re_encrypt, mut re_encrypt_numbers) = (Vec::new(), Vec::new());
    for sent in sent {
        match sent {
            Sent::Request(request) => window.push(request),
            Sent::Full(number) => {
                refuse(error::full());
                answers.push(failed(number, error::full()));
            }
            // The stream ends with it.
            Sent::Unreadable(error) => refuse(error),
        }
    }
    for StreamRequest { number, request } in window {
        match request {
            Some(Wanted::Encrypt(request)) => {
                encrypt.push(items::encrypt_input(request));
                encrypt_numbers.push(number);
            }
            Some(Wanted::Decrypt(request)) => {
                decrypt.push(items::decrypt_input(request));
                decrypt_numbers.push(number);
            }
            Some(Wanted::ReEncrypt(request)) => {
                re_encrypt.push(items::re_encrypt_input(request));
                re_encrypt_numbers.push(number);
            }
            None => {
                let wrong = "a stream request must hold exactly one of encrypt, decrypt and re_encrypt";
                let error = error::validation(wrong);
                refuse(error.clone());
                answers.push(failed(number, error));
            }
        }
    }
    // Beside the rest of the window: what was read is on record though its caller leaves meanwhile.
    let refused = refused.into_iter().map(|(error, items)| service.refused_at_entry(admitted.refused(items, error)));
    let told = future::join_all(refused);
    let encrypted = async {
        match encrypt.is_empty() {
            true => Ok(Vec::new()),
            false => service.encrypt(&call, encrypt).await,
        }
    };
    let decrypted = async {
        match decrypt.is_empty() {
            true => Ok(Vec::new()),
            false => service.decrypt(&call, decrypt).await,
        }
    };
    let re_encrypted = async {
        match re_encrypt.is_empty() {
            true => Ok(Vec::new()),
            false => service.re_encrypt(&call, re_encrypt).await,
        }
    };
    let (_, encrypted, decrypted, re_encrypted) = future::join4(told, encrypted, decrypted, re_encrypted).await;
    number(&mut answers, encrypt_numbers, encrypted, |item| Given::Encrypt(items::encrypt_response(item)));
    number(&mut answers, decrypt_numbers, decrypted, |item| Given::Decrypt(items::decrypt_response(item)));
    number(&mut answers, re_encrypt_numbers, re_encrypted, |item| Given::ReEncrypt(items::re_encrypt_response(item)));
    Ok(answers)
}

/// Gives results their requests' numbers. An error of the whole window is each item's.
pub(super) fn number<T>(
    answers: &mut Vec<StreamResponse>,
    numbers: Vec<u64>,
    results: Result<Vec<Result<T, Error>>, Error>,
    given: impl Fn(T) -> Given,
) {
    match results {
        Ok(results) => {
            let mut results = results.into_iter();
            for number in numbers {
                answers.push(match results.next() {
                    Some(Ok(item)) => StreamResponse { number, result: Some(given(item)) },
                    Some(Err(error)) => failed(number, error),
                    None => failed(number, error::internal("the service gave no result for the item")),
                });
            }
        }
        Err(error) => answers.extend(numbers.into_iter().map(|number| failed(number, error.clone()))),
    }
}

pub(super) fn failed(number: u64, error: Error) -> StreamResponse {
    StreamResponse { number, result: Some(Given::Error(error::item(error))) }
}

/// What a request takes until its answer has been handed on.
pub(super) fn bytes_of(request: &StreamRequest) -> usize {
    let (request, answer) = match &request.request {
        Some(Wanted::Encrypt(encrypt)) => (request.encoded_len(), sizes::ITEM + encrypt.plaintext.len()),
        Some(Wanted::Decrypt(decrypt)) => {
            (request.encoded_len(), sizes::ITEM + sizes::MATERIAL + decrypt.ciphertext_blob.len())
        }
        Some(Wanted::ReEncrypt(anew)) => {
            (request.encoded_len(), 2 * (sizes::ITEM + sizes::MATERIAL) + anew.ciphertext_blob.len())
        }
        None => (0, sizes::ITEM),
    };
    sizes::REQUEST_TIMES * request + answer
}
