//! AES-GCM as keystored uses it: 12 bytes of IV, 16 bytes of tag.

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use crate::hsm::worker::fault::Failure;
use crate::model::ciphertext::{IV_BYTES, TAG_BYTES};

const TAG_BITS: u64 = TAG_BYTES as u64 * 8;

/// C_Encrypt: ciphertext and tag.
pub(super) fn seal(
    session: &Session,
    key: ObjectHandle,
    mut iv: [u8; IV_BYTES],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, aad, TAG_BITS.into())?);
    Ok(session.encrypt(&mechanism, key, plaintext)?)
}

/// C_Decrypt.
pub(super) fn open(
    session: &Session,
    key: ObjectHandle,
    mut iv: [u8; IV_BYTES],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mechanism = Mechanism::AesGcm(GcmParams::new(&mut iv, aad, TAG_BITS.into())?);
    Ok(session.decrypt(&mechanism, key, sealed)?)
}
