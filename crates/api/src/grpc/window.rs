//! A window of `CryptoService.Stream`: its encryptions and its decryptions as a batch each.

use std::sync::Arc;

use futures_util::future;
use prost::Message;
use tonic::Status;

use super::{error, items};
use crate::entry::{AdmittedStream, sizes};
use proto::v1::stream_request::Request as Wanted;
use proto::v1::stream_response::Result as Given;
use proto::v1::{StreamRequest, StreamResponse};
use service::{Error, Service};

/// Answers one window: its encryptions and its decryptions as a batch each.
pub(super) async fn answer(
    service: Service,
    admitted: Arc<AdmittedStream>,
    window: Vec<StreamRequest>,
) -> Result<Vec<StreamResponse>, Status> {
    let call = admitted.window().map_err(|refusal| error::refused(&refusal))?;
    let mut answers = Vec::with_capacity(window.len());
    let (mut encrypt, mut encrypt_numbers) = (Vec::new(), Vec::new());
    let (mut decrypt, mut decrypt_numbers) = (Vec::new(), Vec::new());
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
            None => {
                let message = "a stream request must hold exactly one of encrypt and decrypt";
                answers.push(failed(number, error::validation(message)));
            }
        }
    }
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
    let (encrypted, decrypted) = future::join(encrypted, decrypted).await;
    number(&mut answers, encrypt_numbers, encrypted, |item| Given::Encrypt(items::encrypt_response(item)));
    number(&mut answers, decrypt_numbers, decrypted, |item| Given::Decrypt(items::decrypt_response(item)));
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
    let (request, payload) = match &request.request {
        Some(Wanted::Encrypt(encrypt)) => (request.encoded_len(), encrypt.plaintext.len()),
        Some(Wanted::Decrypt(decrypt)) => (request.encoded_len(), decrypt.ciphertext_blob.len()),
        None => (0, 0),
    };
    sizes::REQUEST_TIMES * request + sizes::ITEM + payload
}
