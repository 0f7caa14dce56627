//! Items of Encrypt, Decrypt and ReEncrypt, as messages have them and as the service does: in a call, in a batch and in a stream.

use bytes::Bytes;

use model::secret::Secret;
use proto::v1;
use service::{DecryptInput, Decrypted, EncryptInput, Encrypted, Extras, ReEncryptInput, ReEncrypted};

/// Moves the plaintext over; no copy of it is made.
pub(super) fn encrypt_input(request: v1::EncryptRequest) -> EncryptInput {
    let v1::EncryptRequest { key_id, plaintext, encryption_context, grant_tokens, dry_run } = request;
    let extras = Extras { dry_run, grant_tokens: grant_tokens.into(), ..Extras::default() };
    EncryptInput { key_id, plaintext: Secret::new(plaintext), context: encryption_context, extras }
}

pub(super) fn encrypt_response(encrypted: Encrypted) -> v1::EncryptResponse {
    v1::EncryptResponse {
        key_id: encrypted.key_arn.as_ref().to_owned(),
        ciphertext_blob: Bytes::from(encrypted.ciphertext),
    }
}

pub(super) fn decrypt_input(request: v1::DecryptRequest) -> DecryptInput {
    let v1::DecryptRequest {
        ciphertext_blob,
        encryption_context,
        key_id,
        grant_tokens,
        dry_run,
        recipient,
        dry_run_modifiers,
    } = request;
    let extras = Extras {
        grant_tokens: grant_tokens.into(),
        recipient: recipient.is_some(),
        ..dry_run_of(dry_run, &dry_run_modifiers)
    };
    DecryptInput { key_id, ciphertext: ciphertext_blob, context: encryption_context, extras }
}

/// Moves the plaintext over; from here on it is prost's and the connection's, which do not wipe.
pub(super) fn decrypt_response(decrypted: Decrypted) -> v1::DecryptResponse {
    v1::DecryptResponse {
        key_id: decrypted.key_arn.as_ref().to_owned(),
        plaintext: decrypted.plaintext.into_exposed(),
        key_material_id: decrypted.material_id.as_ref().to_owned(),
    }
}

pub(super) fn re_encrypt_input(request: v1::ReEncryptRequest) -> ReEncryptInput {
    let v1::ReEncryptRequest {
        ciphertext_blob,
        source_encryption_context,
        source_key_id,
        destination_key_id,
        destination_encryption_context,
        grant_tokens,
        dry_run,
        dry_run_modifiers,
    } = request;
    ReEncryptInput {
        ciphertext: ciphertext_blob,
        source_key_id,
        source_context: source_encryption_context,
        destination_key_id,
        destination_context: destination_encryption_context,
        extras: Extras { grant_tokens: grant_tokens.into(), ..dry_run_of(dry_run, &dry_run_modifiers) },
    }
}

fn dry_run_of(dry_run: bool, modifiers: &[i32]) -> Extras {
    let ignores = i32::from(v1::DryRunModifierType::IgnoreCiphertext);
    Extras {
        dry_run,
        ignore_ciphertext: modifiers.contains(&ignores),
        unknown_modifier: modifiers.iter().any(|modifier| *modifier != ignores),
        ..Extras::default()
    }
}

pub(super) fn re_encrypt_response(made: ReEncrypted) -> v1::ReEncryptResponse {
    v1::ReEncryptResponse {
        ciphertext_blob: Bytes::from(made.ciphertext),
        source_key_id: made.source_key_arn.as_ref().to_owned(),
        key_id: made.key_arn.as_ref().to_owned(),
        source_key_material_id: made.source_material_id.as_ref().to_owned(),
        destination_key_material_id: made.material_id.as_ref().to_owned(),
    }
}
