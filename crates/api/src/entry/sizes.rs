//! How many bytes a call makes the daemon hold, as far as that is known beforehand.

use model::limits;
use service::{DataKeyInput, DecryptInput, EncryptInput, ReEncryptInput};

/// An open call with the first bytes of its request and its answer: HTTP's account of the stream, the task, buffers of
/// 1 KiB either way, and what the service knows of it. Measured: 7 KiB.
pub const CALL: usize = 8 << 10;
/// A request's first bytes, which [`CALL`] covers.
pub const FIRST_BYTES: usize = 1 << 10;
/// An answer of which nothing but headers is left, beside these.
pub const ANSWER: usize = 1 << 10;
/// A place in HTTP/2's tables of streams, of what has come on them and of what is to be sent.
pub const PLACE: usize = 1 << 10;
/// A header beside its own bytes: names and values are allocated one by one, and indexed in tables that double. This is
/// what a request's take, which are read into such tables; an answer's are counted alike until they have been written.
pub const HEADER: usize = 256;
/// A request's bytes, once as they came and once as what they mean.
pub const REQUEST_TIMES: usize = 2;
/// A stream whose answers are not read: what its client may have sent into its window, and a message that has come in
/// part.
pub const STREAM: usize = STREAM_WINDOW + (64 << 10);
/// What a client may send on one stream before anybody takes it.
pub const STREAM_WINDOW: usize = 256 << 10;

/// An item's answer beside its payload: key ARN, format, fields, and the allocations that hold them.
pub const ITEM: usize = 320;

/// Where an answer's record stands, for whoever asks for that: the log's name has 200 bytes at most, each of which may be
/// written as three.
pub const RECEIPT: usize = HEADER + (1 << 10);

/// The name of a key's material in an answer: 64 digits, their field, their allocation.
pub const MATERIAL: usize = 96;

/// Of the answer to Encrypt.
#[must_use]
pub fn encrypted(items: &[EncryptInput]) -> usize {
    items.iter().map(|item| ITEM + item.plaintext.len()).sum()
}

/// Of the answer to Decrypt.
#[must_use]
pub fn decrypted(items: &[DecryptInput]) -> usize {
    items.iter().map(|item| ITEM + MATERIAL + item.ciphertext.len()).sum()
}

/// Of the answer to ReEncrypt, which names two keys.
#[must_use]
pub fn re_encrypted(items: &[ReEncryptInput]) -> usize {
    items.iter().map(|item| 2 * (ITEM + MATERIAL) + item.ciphertext.len()).sum()
}

/// Of the answer to GenerateDataKey: the key, and what it was wrapped to.
#[must_use]
pub fn data_keys(items: &[DataKeyInput]) -> usize {
    let bytes = |item: &DataKeyInput| {
        let asked = item.number_of_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        // What is over the limit is refused and makes nothing.
        asked.unwrap_or(32).min(limits::RANDOM_BYTES)
    };
    items.iter().map(|item| ITEM + MATERIAL + 2 * bytes(item)).sum()
}
