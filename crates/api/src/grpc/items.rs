//! Items of Encrypt and Decrypt, as messages have them and as the service does: in a call, in a batch and in a stream.

use bytes::Bytes;

use model::secret::Secret;
use proto::v1;
use service::{DecryptInput, Decrypted, EncryptInput, Encrypted};

/// Moves the plaintext over; no copy of it is made.
pub(super) fn encrypt_input(request: v1::EncryptRequest) -> EncryptInput {
    let v1::EncryptRequest { key_id, plaintext, encryption_context } = request;
    EncryptInput { key_id, plaintext: Secret::new(plaintext), context: encryption_context }
}

pub(super) fn encrypt_response(encrypted: Encrypted) -> v1::EncryptResponse {
    v1::EncryptResponse {
        key_id: encrypted.key_arn.as_ref().to_owned(),
        ciphertext_blob: Bytes::from(encrypted.ciphertext),
    }
}

pub(super) fn decrypt_input(request: v1::DecryptRequest) -> DecryptInput {
    let v1::DecryptRequest { ciphertext_blob, encryption_context, key_id } = request;
    DecryptInput { key_id, ciphertext: ciphertext_blob, context: encryption_context }
}

/// Moves the plaintext over; from here on it is prost's and the connection's, which do not wipe.
pub(super) fn decrypt_response(decrypted: Decrypted) -> v1::DecryptResponse {
    v1::DecryptResponse { key_id: decrypted.key_arn.as_ref().to_owned(), plaintext: decrypted.plaintext.into_exposed() }
}
