//! Ciphertext format 1.
//!
//! ```text
//! 0   1   format 0x01
//! 1   16  key id (UUID)
//! 17  4   key version number, big-endian, from 1
//! 21  12  IV
//! 33  n   ciphertext, then 16 bytes tag
//! AAD = bytes 0..21 ‖ encoded encryption context
//! ```
//!
//! Parsed strictly before any HSM call. The key is the one named in the header, never guessed. A released format is
//! read for ever: `tests/vectors/` holds ciphertexts that must open.

use super::context::EncryptionContext;
use super::id::{KeyId, KeyVersionId};
use super::limits;

/// First byte of a ciphertext of this format.
pub const FORMAT: u8 = 0x01;
/// Bytes of the part that is authenticated as it stands: format, key id, version.
pub const BOUND_BYTES: usize = 21;
/// Bytes before the ciphertext proper.
pub const HEADER_BYTES: usize = BOUND_BYTES + IV_BYTES;
/// Bytes of the initialisation vector.
pub const IV_BYTES: usize = 12;
/// Bytes of the authentication tag.
pub const TAG_BYTES: usize = 16;
/// What a ciphertext is longer than its plaintext, in bytes.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// A ciphertext that has the right shape. Whether it opens, only the HSM can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ciphertext<'a> {
    /// The key version that it names.
    pub key_version: KeyVersionId,
    /// The initialisation vector.
    pub iv: [u8; IV_BYTES],
    /// Ciphertext and tag.
    pub sealed: &'a [u8],
}

/// The bytes are no ciphertext of a format that this release knows. Deliberately without detail: callers get none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ciphertext of a known format")]
pub struct Malformed;

impl<'a> Ciphertext<'a> {
    /// Reads the header and checks every length.
    pub fn parse(blob: &'a [u8]) -> Result<Self, Malformed> {
        let (header, sealed) = blob.split_at_checked(HEADER_BYTES).ok_or(Malformed)?;
        let (&[format], rest) = header.split_first_chunk::<1>().ok_or(Malformed)?;
        let (key, rest) = rest.split_first_chunk::<16>().ok_or(Malformed)?;
        let (version, iv) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
        let version = u32::from_be_bytes(*version);
        let longest = limits::PLAINTEXT_BYTES + TAG_BYTES;
        if format != FORMAT || version == 0 || !(TAG_BYTES + 1..=longest).contains(&sealed.len()) {
            return Err(Malformed);
        }
        let key_version = KeyVersionId { key: KeyId::from_bytes(*key), version };
        Ok(Self { key_version, iv: iv.try_into().map_err(|_| Malformed)?, sealed })
    }
}

/// Puts a ciphertext together from what the HSM returned.
#[must_use]
pub fn assemble(key_version: KeyVersionId, iv: &[u8; IV_BYTES], sealed: &[u8]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(HEADER_BYTES + sealed.len());
    bind(key_version, &mut blob);
    blob.extend_from_slice(iv);
    blob.extend_from_slice(sealed);
    blob
}

/// The additional authenticated data for a key version and a context.
#[must_use]
pub fn authenticated_data(key_version: KeyVersionId, context: &EncryptionContext) -> Vec<u8> {
    let mut aad = Vec::with_capacity(BOUND_BYTES + context.encoded_len());
    bind(key_version, &mut aad);
    context.encode_into(&mut aad);
    aad
}

fn bind(key_version: KeyVersionId, out: &mut Vec<u8>) {
    out.push(FORMAT);
    out.extend_from_slice(&key_version.to_bytes());
}
