//! The calls of the service `CryptoService`.

use bytes::Bytes;

use super::receipt::Asking;
use super::{Client, Error};
use model::limits;
use model::secret::Secret;
use proto::v1 as wire;
use proto::v1::crypto_service_client::CryptoServiceClient;

/// What Decrypt gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plaintext {
    /// ARN of the key that the ciphertext names.
    pub key_id: String,
    /// The bytes in clear.
    pub plaintext: Secret,
    /// Names the material that opened it.
    pub key_material_id: String,
}

/// What GenerateDataKey gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKey {
    /// ARN of the key that wraps it.
    pub key_id: String,
    /// The data key in clear.
    pub plaintext: Secret,
    /// The data key under the key; Decrypt opens it with the same encryption context.
    pub ciphertext_blob: Bytes,
    /// Names the material that wraps it.
    pub key_material_id: String,
}

impl Client {
    /// Encrypts 1 to 4,096 bytes.
    pub async fn encrypt(&self, request: wire::EncryptRequest) -> Result<wire::EncryptResponse, Error> {
        Ok(self.crypto().encrypt(self.request(request)).await?.into_inner())
    }

    /// Opens a ciphertext.
    pub async fn decrypt(&self, request: wire::DecryptRequest) -> Result<Plaintext, Error> {
        Ok(self.crypto().decrypt(self.request(request)).await?.into_inner().into())
    }

    /// Makes a data key, in clear and wrapped.
    pub async fn generate_data_key(&self, request: wire::GenerateDataKeyRequest) -> Result<DataKey, Error> {
        Ok(self.crypto().generate_data_key(self.request(request)).await?.into_inner().into())
    }

    /// Makes a data key, wrapped only.
    pub async fn generate_data_key_without_plaintext(
        &self,
        request: wire::GenerateDataKeyWithoutPlaintextRequest,
    ) -> Result<wire::GenerateDataKeyWithoutPlaintextResponse, Error> {
        Ok(self.crypto().generate_data_key_without_plaintext(self.request(request)).await?.into_inner())
    }

    /// Opens a ciphertext and encrypts what it holds anew; the plaintext comes back to nobody.
    pub async fn re_encrypt(&self, request: wire::ReEncryptRequest) -> Result<wire::ReEncryptResponse, Error> {
        Ok(self.crypto().re_encrypt(self.request(request)).await?.into_inner())
    }

    /// 1 to 1,024 random bytes.
    pub async fn generate_random(&self, request: wire::GenerateRandomRequest) -> Result<Secret, Error> {
        Ok(Secret::new(self.crypto().generate_random(self.request(request)).await?.into_inner().plaintext))
    }

    /// Encrypts up to 1,000 items; each has its own result, in the order of the request.
    pub async fn batch_encrypt(
        &self,
        items: Vec<wire::EncryptRequest>,
    ) -> Result<Vec<Result<wire::EncryptResponse, Error>>, Error> {
        use wire::encrypt_result::Result as Item;
        let expected = items.len();
        let request = self.request(wire::BatchEncryptRequest { items });
        let results = self.crypto().batch_encrypt(request).await?.into_inner().results;
        complete(
            expected,
            results.into_iter().map(|result| match result.result {
                Some(Item::Response(response)) => Ok(response),
                Some(Item::Error(error)) => Err(error.into()),
                None => Err(broken_answer()),
            }),
        )
    }

    /// Opens up to 1,000 ciphertexts; each has its own result, in the order of the request.
    pub async fn batch_decrypt(
        &self,
        items: Vec<wire::DecryptRequest>,
    ) -> Result<Vec<Result<Plaintext, Error>>, Error> {
        use wire::decrypt_result::Result as Item;
        let expected = items.len();
        let request = self.request(wire::BatchDecryptRequest { items });
        let results = self.crypto().batch_decrypt(request).await?.into_inner().results;
        complete(
            expected,
            results.into_iter().map(|result| match result.result {
                Some(Item::Response(response)) => Ok(response.into()),
                Some(Item::Error(error)) => Err(error.into()),
                None => Err(broken_answer()),
            }),
        )
    }

    /// Makes up to 1,000 data keys; each has its own result, in the order of the request.
    pub async fn batch_generate_data_key(
        &self,
        items: Vec<wire::GenerateDataKeyRequest>,
    ) -> Result<Vec<Result<DataKey, Error>>, Error> {
        use wire::generate_data_key_result::Result as Item;
        let expected = items.len();
        let request = self.request(wire::BatchGenerateDataKeyRequest { items });
        let results = self.crypto().batch_generate_data_key(request).await?.into_inner().results;
        complete(
            expected,
            results.into_iter().map(|result| match result.result {
                Some(Item::Response(response)) => Ok(response.into()),
                Some(Item::Error(error)) => Err(error.into()),
                None => Err(broken_answer()),
            }),
        )
    }

    /// Encrypts up to 1,000 ciphertexts anew; each has its own result, in the order of the request.
    pub async fn batch_re_encrypt(
        &self,
        items: Vec<wire::ReEncryptRequest>,
    ) -> Result<Vec<Result<wire::ReEncryptResponse, Error>>, Error> {
        use wire::re_encrypt_result::Result as Item;
        let expected = items.len();
        let request = self.request(wire::BatchReEncryptRequest { items });
        let results = self.crypto().batch_re_encrypt(request).await?.into_inner().results;
        complete(
            expected,
            results.into_iter().map(|result| match result.result {
                Some(Item::Response(response)) => Ok(response),
                Some(Item::Error(error)) => Err(error.into()),
                None => Err(broken_answer()),
            }),
        )
    }

    pub(super) fn crypto(&self) -> CryptoServiceClient<Asking> {
        CryptoServiceClient::new(self.channel()).max_decoding_message_size(limits::MESSAGE_BYTES)
    }
}

/// A batch whose results don't match its items must not be used: results would be taken for other items'.
fn complete<T>(
    expected: usize,
    results: impl ExactSizeIterator<Item = Result<T, Error>>,
) -> Result<Vec<Result<T, Error>>, Error> {
    if results.len() == expected { Ok(results.collect()) } else { Err(broken_answer()) }
}

pub(super) fn broken_answer() -> Error {
    Error {
        exception: None,
        message: "the answer does not match the request; is this a keystored of another version?".to_owned(),
        retryable: false,
        code: super::Code::Internal,
        request_id: None,
        trouble: None,
        approval_id: None,
    }
}

impl From<wire::DecryptResponse> for Plaintext {
    fn from(response: wire::DecryptResponse) -> Self {
        let wire::DecryptResponse { key_id, plaintext, key_material_id } = response;
        Self { key_id, plaintext: Secret::new(plaintext), key_material_id }
    }
}

impl From<wire::GenerateDataKeyResponse> for DataKey {
    fn from(response: wire::GenerateDataKeyResponse) -> Self {
        Self {
            key_id: response.key_id,
            plaintext: Secret::new(response.plaintext),
            ciphertext_blob: response.ciphertext_blob,
            key_material_id: response.key_material_id,
        }
    }
}
