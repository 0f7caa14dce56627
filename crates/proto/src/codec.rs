//! The codec of the generated services: prost's, behind a check that a message does not grow out of proportion when it
//! is decoded.
//!
//! An empty item of a batch is two bytes on the wire and more than seventy in memory. So a message is walked once,
//! without allocating, before prost sees it: no message of this package needs more top-level fields than
//! [`FIELDS`]. Bounds that a caller can meet by an honest mistake (1,000 items) lie well under it and are answered by
//! the service with a precise error.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use model::limits;

/// Most top-level fields of a message. The most that is legal is a ReEncrypt whose two encryption contexts hold as many
/// pairs as their encoding has room for, four bytes of lengths each, beside a few single fields; half of that again leaves
/// room for whoever writes a field more than once.
pub const FIELDS: usize = 3 * (limits::CONTEXT_BYTES / 4);

/// Bytes that a call's buffers begin with, in either direction. Most messages fit in; tonic's default of 8 KiB is
/// allocated twice for each call.
const BUFFER_BYTES: usize = 1_024;

/// Messages of a stream are put together up to here before they are written.
const YIELD_BYTES: usize = 32 * 1_024;

/// Encodes `T`, decodes `U`.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = BoundedCodec<T, U>;
    type Decoder = BoundedCodec<T, U>;

    fn encoder(&mut self) -> Self::Encoder {
        Self::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self::default()
    }
}

impl<T: Message, U> Encoder for BoundedCodec<T, U> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

impl<T, U: Message + Default> Decoder for BoundedCodec<T, U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // A field takes two bytes at least, so short messages need no walk.
        if buffer.remaining() > 2 * FIELDS && fields_exceed(buffer.chunk(), FIELDS) {
            return Err(Status::invalid_argument(format!("the message has more than {FIELDS} fields")));
        }
        // prost's error names the message and the field, never the bytes.
        U::decode(buffer).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// Whether a message has more than `most` top-level fields. Stops at the first thing that is not well-formed: prost
/// says what is wrong with that, and it will not get further either.
fn fields_exceed(mut message: &[u8], most: usize) -> bool {
    let mut fields = 0;
    while let Some(rest) = skip_field(message) {
        fields += 1;
        if fields > most {
            return true;
        }
        message = rest;
    }
    false
}

fn skip_field(message: &[u8]) -> Option<&[u8]> {
    let (key, rest) = varint(message)?;
    match key & 7 {
        0 => varint(rest).map(|(_, rest)| rest),
        1 => rest.get(8..),
        2 => {
            let (length, rest) = varint(rest)?;
            rest.get(usize::try_from(length).ok()?..)
        }
        // Groups: not used here; prost skips them, and counts their depth.
        3 | 4 => Some(rest),
        5 => rest.get(4..),
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::v1;

    #[test]
    fn empty_items_are_counted() {
        let items = vec![v1::EncryptRequest::default(); 10];
        let message = v1::BatchEncryptRequest { items }.encode_to_vec();
        assert_eq!(message.len(), 20);
        assert!(!fields_exceed(&message, 10));
        assert!(fields_exceed(&message, 9));
    }

    #[test]
    fn the_largest_legal_messages_pass() {
        let context = (0..limits::CONTEXT_BYTES / 4).map(|n| (n.to_string(), String::new())).collect();
        let unary = v1::EncryptRequest { encryption_context: context, ..Default::default() };
        assert!(!fields_exceed(&unary.encode_to_vec(), FIELDS));
        let context =
            |prefix: char| (0..limits::CONTEXT_BYTES / 4).map(|n| (format!("{prefix}{n}"), String::new())).collect();
        let two = v1::ReEncryptRequest {
            source_encryption_context: context('a'),
            destination_encryption_context: context('b'),
            ..Default::default()
        };
        assert!(!fields_exceed(&two.encode_to_vec(), FIELDS));
        let batch = v1::BatchEncryptRequest { items: vec![v1::EncryptRequest::default(); limits::BATCH_ITEMS] };
        assert!(!fields_exceed(&batch.encode_to_vec(), FIELDS));
    }

    #[test]
    fn every_wire_type_is_one_field() {
        // Field 1 as varint, 64 bits, bytes, 32 bits.
        let message = [0x08, 0x96, 0x01, 0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0a, 2, 7, 7, 0x0d, 1, 2, 3, 4];
        assert!(fields_exceed(&message, 3));
        assert!(!fields_exceed(&message, 4));
    }

    proptest! {
        #[test]
        fn any_bytes_end_the_walk(bytes: Vec<u8>, most in 0usize..8) {
            let exceed = fields_exceed(&bytes, most);
            prop_assert!(!exceed || bytes.len() > most);
        }
    }
}
