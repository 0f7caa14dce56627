//! The messages of a run, encoded once, and the reading of answers without decoding them.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::{Arguments, Mode, Operation};
use crate::failure::Failure;
use client::{Client, Code, Error, raw};
use proto::v1 as wire;
use proto::v1::stream_request::Request;

/// What plaintext consists of. Its value does not matter to anybody.
const PAYLOAD_BYTE: u8 = 0x5a;

/// Encodes one message for each key and context: a whole request for unary calls, one item of a batch with its tag, or a
/// stream's request without its number. Decrypt and ReEncrypt first need a ciphertext of each.
pub(super) async fn encode(client: &Client, arguments: &Arguments, keys: &[String]) -> Result<Vec<Bytes>, Failure> {
    let contexts: Vec<BTreeMap<String, String>> = match arguments.contexts {
        None => vec![BTreeMap::new()],
        Some(count) => (0..count).map(|number| [("item".to_owned(), number.to_string())].into()).collect(),
    };
    let mut bodies = Vec::with_capacity(keys.len() * contexts.len());
    let next = keys.iter().cycle().skip(1);
    let pairs = keys.iter().zip(next).flat_map(|keys| contexts.iter().map(move |context| (keys, context)));
    for ((key, next), context) in pairs {
        let encryption_context = context.clone();
        let encrypt = wire::EncryptRequest {
            key_id: key.clone(),
            plaintext: vec![PAYLOAD_BYTE; arguments.payload as usize],
            encryption_context: encryption_context.clone(),
            ..Default::default()
        };
        let body = match arguments.operation {
            Operation::Encrypt => encrypted(arguments.mode, encrypt),
            Operation::Decrypt => {
                let ciphertext_blob = client.encrypt(encrypt).await?.ciphertext_blob;
                let request = wire::DecryptRequest { ciphertext_blob, encryption_context, ..Default::default() };
                decrypted(arguments.mode, request)
            }
            Operation::ReEncrypt => {
                let ciphertext_blob = client.encrypt(encrypt).await?.ciphertext_blob;
                let request = wire::ReEncryptRequest {
                    ciphertext_blob,
                    source_encryption_context: encryption_context.clone(),
                    destination_key_id: next.clone(),
                    destination_encryption_context: encryption_context,
                    ..Default::default()
                };
                re_encrypted(arguments.mode, request)
            }
            Operation::GenerateDataKey => generated(
                arguments.mode,
                wire::GenerateDataKeyRequest {
                    key_id: key.clone(),
                    number_of_bytes: Some(arguments.payload),
                    encryption_context,
                    ..Default::default()
                },
            ),
        };
        bodies.push(body.into());
    }
    Ok(bodies)
}

fn encrypted(mode: Mode, request: wire::EncryptRequest) -> Vec<u8> {
    match mode {
        Mode::Unary => request.encode_to_vec(),
        // A repeated field of messages is the same bytes for each item, so items can be joined as they are.
        Mode::Batch => wire::BatchEncryptRequest { items: vec![request] }.encode_to_vec(),
        Mode::Stream => wire::StreamRequest { number: 0, request: Some(Request::Encrypt(request)) }.encode_to_vec(),
    }
}

fn decrypted(mode: Mode, request: wire::DecryptRequest) -> Vec<u8> {
    match mode {
        Mode::Unary => request.encode_to_vec(),
        Mode::Batch => wire::BatchDecryptRequest { items: vec![request] }.encode_to_vec(),
        Mode::Stream => wire::StreamRequest { number: 0, request: Some(Request::Decrypt(request)) }.encode_to_vec(),
    }
}

fn re_encrypted(mode: Mode, request: wire::ReEncryptRequest) -> Vec<u8> {
    match mode {
        Mode::Unary => request.encode_to_vec(),
        Mode::Batch => wire::BatchReEncryptRequest { items: vec![request] }.encode_to_vec(),
        Mode::Stream => wire::StreamRequest { number: 0, request: Some(Request::ReEncrypt(request)) }.encode_to_vec(),
    }
}

fn generated(mode: Mode, request: wire::GenerateDataKeyRequest) -> Vec<u8> {
    match mode {
        Mode::Batch => wire::BatchGenerateDataKeyRequest { items: vec![request] }.encode_to_vec(),
        // The stream does not carry it; the arguments were checked.
        Mode::Unary | Mode::Stream => request.encode_to_vec(),
    }
}

/// The call that carries these messages.
pub(super) fn method(mode: Mode, operation: Operation) -> raw::Method {
    match (mode == Mode::Batch, operation) {
        (false, Operation::Encrypt) => raw::Method::Encrypt,
        (false, Operation::Decrypt) => raw::Method::Decrypt,
        (false, Operation::GenerateDataKey) => raw::Method::GenerateDataKey,
        (false, Operation::ReEncrypt) => raw::Method::ReEncrypt,
        (true, Operation::Encrypt) => raw::Method::BatchEncrypt,
        (true, Operation::Decrypt) => raw::Method::BatchDecrypt,
        (true, Operation::GenerateDataKey) => raw::Method::BatchGenerateDataKey,
        (true, Operation::ReEncrypt) => raw::Method::BatchReEncrypt,
    }
}

/// Gives one message after the other, of keys and contexts picked uniformly.
#[derive(Clone)]
pub(super) struct Messages {
    bodies: Vec<Bytes>,
    items: usize,
    /// State of a xorshift generator; the same in each run.
    random: u64,
}

impl Messages {
    /// Of these bodies, `items` in each message.
    pub(super) fn new(bodies: Vec<Bytes>, items: usize) -> Self {
        // With one key all messages are the same, so they are made once.
        match bodies.as_slice() {
            [body] if items > 1 => Self { bodies: vec![body.repeat(items).into()], items: 1, random: 0 },
            _ => Self { bodies, items, random: 0 },
        }
    }

    /// The same for one of several tasks: with a sequence of keys of its own.
    pub(super) fn of_task(&self, task: usize) -> Self {
        let random = (task as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { random, ..self.clone() }
    }

    pub(super) fn next(&mut self) -> Bytes {
        if self.items == 1 {
            let key = self.pick();
            return self.bodies[key].clone();
        }
        let mut message = BytesMut::with_capacity(self.items * (self.bodies[0].len() + 8));
        for _ in 0..self.items {
            let key = self.pick();
            message.put_slice(&self.bodies[key]);
        }
        message.freeze()
    }

    /// The number of a key.
    fn pick(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // The high half is the better one; multiply and shift instead of a division.
        (((self.random >> 32) * self.bodies.len() as u64) >> 32) as usize
    }
}

/// Walks over the results of a batch's answer. All kinds have the response as field 1 and the error as field 2.
pub(super) fn batch_results(mut answer: &[u8], mut each: impl FnMut(Result<(), Error>)) -> Result<(), Error> {
    while !answer.is_empty() {
        let (_, result) = field(&mut answer)?;
        let mut result = result;
        match field(&mut result)? {
            (1, _) => each(Ok(())),
            (_, error) => each(Err(item_error(error)?)),
        }
    }
    Ok(())
}

/// Number and result of an answer on a stream.
pub(super) fn stream_result(mut answer: &[u8]) -> Result<(u64, Result<(), Error>), Error> {
    let (mut number, mut outcome) = (0, None);
    while !answer.is_empty() {
        let (tag, wire_type) = decode_key(&mut answer).map_err(broken)?;
        if wire_type == WireType::Varint {
            number = decode_varint(&mut answer).map_err(broken)?;
            continue;
        }
        let content = content(&mut answer)?;
        outcome = Some(if tag == 4 { Err(item_error(content)?) } else { Ok(()) });
    }
    Ok((number, outcome.ok_or_else(|| broken("an answer without a result"))?))
}

fn field<'a>(message: &mut &'a [u8]) -> Result<(u32, &'a [u8]), Error> {
    let (tag, wire_type) = decode_key(message).map_err(broken)?;
    if wire_type != WireType::LengthDelimited {
        return Err(broken("a field of another type"));
    }
    Ok((tag, content(message)?))
}

fn content<'a>(message: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let length = usize::try_from(decode_varint(message).map_err(broken)?).unwrap_or(usize::MAX);
    let (content, rest) = message.split_at_checked(length).ok_or_else(|| broken("a field longer than the message"))?;
    *message = rest;
    Ok(content)
}

fn item_error(message: &[u8]) -> Result<Error, Error> {
    Ok(wire::ItemError::decode(message).map_err(broken)?.into())
}

fn broken(why: impl std::fmt::Display) -> Error {
    let message = format!("the answer cannot be read: {why}");
    Error {
        exception: None,
        message,
        retryable: false,
        code: Code::Internal,
        request_id: None,
        trouble: None,
        approval_id: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: &str) -> wire::EncryptRequest {
        wire::EncryptRequest { key_id: key.to_owned(), plaintext: vec![1; 32], ..Default::default() }
    }

    fn error() -> wire::ItemError {
        wire::ItemError {
            code: 8,
            reason: "ThrottlingException".to_owned(),
            message: "busy".to_owned(),
            retryable: true,
        }
    }

    #[test]
    fn batches_are_joined_from_encoded_items() {
        for keys in [vec!["a"], vec!["a", "b", "c"]] {
            let bodies = keys.iter().map(|key| encrypted(Mode::Batch, request(key)).into()).collect();
            let mut messages = Messages::new(bodies, 100).of_task(3);
            for _ in 0..3 {
                let batch = wire::BatchEncryptRequest::decode(messages.next()).unwrap();
                assert_eq!(batch.items.len(), 100);
                for key in &keys {
                    assert!(batch.items.contains(&request(key)), "{key}");
                }
            }
        }
    }

    #[test]
    fn keys_are_picked_uniformly() {
        let bodies = (0..10_u8).map(|key| Bytes::from(vec![key])).collect();
        let mut messages = Messages::new(bodies, 1).of_task(0);
        let mut counts = [0; 10];
        for _ in 0..100_000 {
            counts[usize::from(messages.next()[0])] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn results_of_a_batch_are_told_from_errors() {
        use wire::encrypt_result::Result as Item;
        let response = wire::EncryptResponse { key_id: "arn".to_owned(), ciphertext_blob: vec![1; 81].into() };
        let results = [Item::Response(response), Item::Error(error()), Item::Response(Default::default())];
        let results = results.map(|result| wire::EncryptResult { result: Some(result) }).to_vec();
        let answer = wire::BatchEncryptResponse { results }.encode_to_vec();
        let mut seen = Vec::new();
        batch_results(&answer, |result| seen.push(result.map_err(|error| error.exception))).unwrap();
        assert_eq!(seen, [Ok(()), Err(Some("ThrottlingException".to_owned())), Ok(())]);
    }

    #[test]
    fn answers_on_a_stream_are_told_from_errors() {
        use wire::stream_response::Result as Item;
        for number in [0, 1, u64::MAX] {
            let good =
                wire::StreamResponse { number, result: Some(Item::Encrypt(Default::default())), audit_receipt: None };
            assert_eq!(stream_result(&good.encode_to_vec()).unwrap(), (number, Ok(())));
            let bad = wire::StreamResponse { number, result: Some(Item::Error(error())), audit_receipt: None };
            let (bad_number, result) = stream_result(&bad.encode_to_vec()).unwrap();
            assert_eq!((bad_number, result.unwrap_err().code), (number, Code::ResourceExhausted));
        }
        assert!(stream_result(&[]).is_err());
    }

    #[test]
    fn garbage_is_an_error() {
        for garbage in [&[0xff_u8; 20][..], &[0x0a, 0x7f], &[0x08, 0x01]] {
            assert!(batch_results(garbage, |_| {}).is_err());
        }
    }
}
