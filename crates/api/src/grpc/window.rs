//! A window of `CryptoService.Stream`: a batch of each operation that is in it, each with a record of its own.

use std::sync::Arc;

use futures_util::future;
use prost::Message;
use tonic::Status;

use super::{error, items};
use crate::entry::{AdmittedStream, sizes};
use crate::receipt::Receipt;
use model::exception::Exception;
use proto::v1::stream_request::Request as Wanted;
use proto::v1::stream_response::Result as Given;
use proto::v1::{AuditReceipt, StreamRequest, StreamResponse};
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

/// What a window came to.
#[derive(Debug, Default)]
pub(super) struct Answered {
    pub(super) answers: Vec<StreamResponse>,
    /// The receipt of what was no request, with which the stream ends.
    pub(super) of_the_last: Option<Receipt>,
}

/// Answers one window: a batch of each operation that is in it. What is refused here comes to no use case,
/// and is put on record for each reason once.
pub(super) async fn answer(
    service: Service,
    admitted: Arc<AdmittedStream>,
    sent: Vec<Sent>,
) -> Result<Answered, Status> {
    let items = sent.len();
    let call = match admitted.window() {
        Ok(call) => call,
        Err(refusal) => {
            let error = Error::new(Exception::AccessDenied, refusal.to_string(), false);
            // Whoever is nobody any more has no record of its own.
            service.refused_at_entry(admitted.refused(items, error)).await;
            return Err(error::refused(&refusal));
        }
    };
    let (mut window, mut refused) = (Vec::with_capacity(items), Refused::default());
    let (mut encrypt, mut encrypt_numbers) = (Vec::new(), Vec::new());
    let (mut decrypt, mut decrypt_numbers) = (Vec::new(), Vec::new());
    let (mut re_encrypt, mut re_encrypt_numbers) = (Vec::new(), Vec::new());
    for sent in sent {
        match sent {
            Sent::Request(request) => window.push(request),
            Sent::Full(number) => refused.add(error::full(), Some(number)),
            // The stream ends with it.
            Sent::Unreadable(error) => refused.add(error, None),
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
                refused.add(error::validation(wrong), Some(number));
            }
        }
    }
    // Beside the rest of the window: what was read is on record though its caller leaves meanwhile.
    let refused = refused.recorded(&service, &admitted);
    // Each of them has its own record.
    let encrypted = async {
        match encrypt.is_empty() {
            true => (Ok(Vec::new()), None),
            false => {
                let call = call.for_part();
                (service.encrypt(&call, encrypt).await, Receipt::of(&service, &call.trace))
            }
        }
    };
    let decrypted = async {
        match decrypt.is_empty() {
            true => (Ok(Vec::new()), None),
            false => {
                let call = call.for_part();
                (service.decrypt(&call, decrypt).await, Receipt::of(&service, &call.trace))
            }
        }
    };
    let re_encrypted = async {
        match re_encrypt.is_empty() {
            true => (Ok(Vec::new()), None),
            false => {
                let call = call.for_part();
                (service.re_encrypt(&call, re_encrypt).await, Receipt::of(&service, &call.trace))
            }
        }
    };
    let (mut answered, encrypted, decrypted, re_encrypted) =
        future::join4(refused, encrypted, decrypted, re_encrypted).await;
    let answers = &mut answered.answers;
    number(answers, encrypt_numbers, encrypted, |item| Given::Encrypt(items::encrypt_response(item)));
    number(answers, decrypt_numbers, decrypted, |item| Given::Decrypt(items::decrypt_response(item)));
    number(answers, re_encrypt_numbers, re_encrypted, |item| Given::ReEncrypt(items::re_encrypt_response(item)));
    Ok(answered)
}

/// What no use case gets to see, by the reason: the numbers of requests, none for what was no request.
#[derive(Default)]
struct Refused(Vec<(Error, Vec<Option<u64>>)>);

impl Refused {
    fn add(&mut self, error: Error, number: Option<u64>) {
        match self.0.iter_mut().find(|(known, _)| known.message == error.message) {
            Some((_, numbers)) => numbers.push(number),
            None => self.0.push((error, vec![number])),
        }
    }

    /// Puts them on record, and answers them.
    async fn recorded(self, service: &Service, admitted: &AdmittedStream) -> Answered {
        let recorded = self.0.into_iter().map(|(error, numbers)| async {
            let place = service.refused_at_entry(admitted.refused(numbers.len(), error.clone())).await;
            (error, numbers, Receipt::at(service, admitted.trace(), place))
        });
        let mut answered = Answered::default();
        for (error, numbers, receipt) in future::join_all(recorded).await {
            for number in numbers {
                match number {
                    Some(number) => answered.answers.push(failed(number, error.clone(), receipt.as_ref())),
                    None => answered.of_the_last.clone_from(&receipt),
                }
            }
        }
        answered
    }
}

/// What came of the items of one operation, and where their record stands.
type Done<T> = (Result<Vec<Result<T, Error>>, Error>, Option<Receipt>);

/// Gives results their requests' numbers. An error of the whole window is each item's.
pub(super) fn number<T>(
    answers: &mut Vec<StreamResponse>,
    numbers: Vec<u64>,
    (results, receipt): Done<T>,
    given: impl Fn(T) -> Given,
) {
    let receipt = receipt.as_ref();
    match results {
        Ok(results) => {
            let mut results = results.into_iter();
            for number in numbers {
                answers.push(match results.next() {
                    Some(Ok(item)) => response(number, given(item), receipt),
                    Some(Err(error)) => failed(number, error, receipt),
                    None => failed(number, error::internal("the service gave no result for the item"), receipt),
                });
            }
        }
        Err(error) => answers.extend(numbers.into_iter().map(|number| failed(number, error.clone(), receipt))),
    }
}

fn failed(number: u64, error: Error, receipt: Option<&Receipt>) -> StreamResponse {
    response(number, Given::Error(error::item(error)), receipt)
}

fn response(number: u64, given: Given, receipt: Option<&Receipt>) -> StreamResponse {
    let told = |Receipt { log, first, count }: &Receipt| AuditReceipt {
        log: log.as_ref().to_owned(),
        first_record: *first,
        record_count: *count,
    };
    StreamResponse { number, result: Some(given), audit_receipt: receipt.map(told) }
}

/// What a request takes until its answer has been handed on, which may come with a receipt.
pub(super) fn bytes_of(request: &StreamRequest, receipt: bool) -> usize {
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
    sizes::REQUEST_TIMES * request + answer + if receipt { sizes::RECEIPT } else { 0 }
}
