//! Service `CryptoService`: using keys, one by one, in batches, in a stream.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status, Streaming};

use super::entry::CallEntry;
use super::items::{
    decrypt_input, decrypt_response, encrypt_input, encrypt_response, re_encrypt_input, re_encrypt_response,
};
use super::{error, stream};
use crate::entry::sizes;
use model::key::DataKeySpec;
use model::operation::Operation;
use proto::v1;
use proto::v1::crypto_service_server::CryptoService;
use service::{DataKeyInput, Decrypted, Encrypted, Error, Extras, GeneratedDataKey, ReEncrypted, RequestedSpec};

/// What the service gives for a list of items: an error of the whole call, or a result for each item.
type Items<T> = Result<Vec<Result<T, Error>>, Error>;

/// The service's gRPC side.
pub(super) struct CryptoApi {
    pub(super) entry: Arc<CallEntry>,
    pub(super) streams: stream::Streams,
}

#[tonic::async_trait]
impl CryptoService for CryptoApi {
    async fn encrypt(&self, request: Request<v1::EncryptRequest>) -> Result<Response<v1::EncryptResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::Encrypt)?;
        let items = vec![encrypt_input(request.into_inner())];
        let admitted = admitted.expects(sizes::encrypted(&items))?;
        let result = only(self.entry.service.encrypt(&admitted.call, items).await);
        admitted.answer(result.map(encrypt_response))
    }

    async fn decrypt(&self, request: Request<v1::DecryptRequest>) -> Result<Response<v1::DecryptResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::Decrypt)?;
        let items = vec![decrypt_input(request.into_inner())];
        let admitted = admitted.expects(sizes::decrypted(&items))?;
        let result = only(self.entry.service.decrypt(&admitted.call, items).await);
        admitted.answer(result.map(decrypt_response))
    }

    async fn generate_data_key(
        &self,
        request: Request<v1::GenerateDataKeyRequest>,
    ) -> Result<Response<v1::GenerateDataKeyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GenerateDataKey)?;
        let item = data_key_input(request.into_inner());
        let result = only(self.entry.service.generate_data_keys(&admitted.call, vec![item], false).await);
        admitted.answer(result.map(data_key_response))
    }

    async fn generate_data_key_without_plaintext(
        &self,
        request: Request<v1::GenerateDataKeyWithoutPlaintextRequest>,
    ) -> Result<Response<v1::GenerateDataKeyWithoutPlaintextResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GenerateDataKeyWithoutPlaintext)?;
        let v1::GenerateDataKeyWithoutPlaintextRequest {
            key_id,
            key_spec,
            number_of_bytes,
            encryption_context,
            grant_tokens,
            dry_run,
        } = request.into_inner();
        let same = v1::GenerateDataKeyRequest {
            key_id,
            key_spec,
            number_of_bytes,
            encryption_context,
            grant_tokens,
            dry_run,
            recipient: None,
        };
        let item = data_key_input(same);
        let result = only(self.entry.service.generate_data_keys(&admitted.call, vec![item], true).await);
        admitted.answer(result.map(|generated| v1::GenerateDataKeyWithoutPlaintextResponse {
            key_id: generated.key_arn.as_ref().to_owned(),
            ciphertext_blob: generated.ciphertext.into(),
            key_material_id: generated.material_id.as_ref().to_owned(),
        }))
    }

    async fn re_encrypt(
        &self,
        request: Request<v1::ReEncryptRequest>,
    ) -> Result<Response<v1::ReEncryptResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ReEncrypt)?;
        let items = vec![re_encrypt_input(request.into_inner())];
        let admitted = admitted.expects(sizes::re_encrypted(&items))?;
        let result = only(self.entry.service.re_encrypt(&admitted.call, items).await);
        admitted.answer(result.map(re_encrypt_response))
    }

    async fn generate_random(
        &self,
        request: Request<v1::GenerateRandomRequest>,
    ) -> Result<Response<v1::GenerateRandomResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GenerateRandom)?;
        let v1::GenerateRandomRequest { number_of_bytes, key_store_id, recipient } = request.into_inner();
        let extras = Extras { recipient: recipient.is_some(), ..Extras::default() };
        let random = self.entry.service.generate_random(&admitted.call, number_of_bytes, &key_store_id, extras);
        let result = random.await;
        admitted.answer(result.map(|random| v1::GenerateRandomResponse { plaintext: random.into_exposed() }))
    }

    async fn batch_encrypt(
        &self,
        request: Request<v1::BatchEncryptRequest>,
    ) -> Result<Response<v1::BatchEncryptResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::Encrypt)?;
        let items: Vec<_> = request.into_inner().items.into_iter().map(encrypt_input).collect();
        let admitted = admitted.expects(sizes::encrypted(&items))?;
        let result = self.entry.service.encrypt(&admitted.call, items).await;
        admitted.answer(
            result
                .map(|results| v1::BatchEncryptResponse { results: results.into_iter().map(encrypt_result).collect() }),
        )
    }

    async fn batch_decrypt(
        &self,
        request: Request<v1::BatchDecryptRequest>,
    ) -> Result<Response<v1::BatchDecryptResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::Decrypt)?;
        let items: Vec<_> = request.into_inner().items.into_iter().map(decrypt_input).collect();
        let admitted = admitted.expects(sizes::decrypted(&items))?;
        let result = self.entry.service.decrypt(&admitted.call, items).await;
        admitted.answer(
            result
                .map(|results| v1::BatchDecryptResponse { results: results.into_iter().map(decrypt_result).collect() }),
        )
    }

    async fn batch_generate_data_key(
        &self,
        request: Request<v1::BatchGenerateDataKeyRequest>,
    ) -> Result<Response<v1::BatchGenerateDataKeyResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::GenerateDataKey)?;
        let items: Vec<_> = request.into_inner().items.into_iter().map(data_key_input).collect();
        let admitted = admitted.expects(sizes::data_keys(&items))?;
        let result = self.entry.service.generate_data_keys(&admitted.call, items, false).await;
        admitted.answer(result.map(|results| v1::BatchGenerateDataKeyResponse {
            results: results.into_iter().map(data_key_result).collect(),
        }))
    }

    async fn batch_re_encrypt(
        &self,
        request: Request<v1::BatchReEncryptRequest>,
    ) -> Result<Response<v1::BatchReEncryptResponse>, Status> {
        let admitted = self.entry.admit(&request, Operation::ReEncrypt)?;
        let items: Vec<_> = request.into_inner().items.into_iter().map(re_encrypt_input).collect();
        let admitted = admitted.expects(sizes::re_encrypted(&items))?;
        let result = self.entry.service.re_encrypt(&admitted.call, items).await;
        admitted.answer(result.map(|results| v1::BatchReEncryptResponse {
            results: results.into_iter().map(re_encrypt_result).collect(),
        }))
    }

    type StreamStream = stream::Answers;

    async fn stream(
        &self,
        request: Request<Streaming<v1::StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let admitted = self.entry.admit_stream(&request)?;
        self.streams.open(admitted, request.into_inner())
    }
}

fn data_key_input(request: v1::GenerateDataKeyRequest) -> DataKeyInput {
    let v1::GenerateDataKeyRequest {
        key_id,
        key_spec,
        number_of_bytes,
        encryption_context,
        grant_tokens,
        dry_run,
        recipient,
    } = request;
    let key_spec = match v1::DataKeySpec::try_from(key_spec) {
        Ok(v1::DataKeySpec::Unspecified) => None,
        Ok(v1::DataKeySpec::Aes256) => Some(RequestedSpec::Known(DataKeySpec::Aes256)),
        Ok(v1::DataKeySpec::Aes128) => Some(RequestedSpec::Known(DataKeySpec::Aes128)),
        Err(_) => Some(RequestedSpec::Unknown),
    };
    let extras =
        Extras { dry_run, grant_tokens: grant_tokens.into(), recipient: recipient.is_some(), ..Extras::default() };
    DataKeyInput { key_id, key_spec, number_of_bytes, context: encryption_context, extras }
}

fn data_key_response(generated: GeneratedDataKey) -> v1::GenerateDataKeyResponse {
    v1::GenerateDataKeyResponse {
        key_id: generated.key_arn.as_ref().to_owned(),
        plaintext: generated.plaintext.into_exposed(),
        ciphertext_blob: Bytes::from(generated.ciphertext),
        key_material_id: generated.material_id.as_ref().to_owned(),
    }
}

fn encrypt_result(result: Result<Encrypted, Error>) -> v1::EncryptResult {
    use v1::encrypt_result::Result as Wire;
    let result = match result {
        Ok(encrypted) => Wire::Response(encrypt_response(encrypted)),
        Err(error) => Wire::Error(error::item(error)),
    };
    v1::EncryptResult { result: Some(result) }
}

fn decrypt_result(result: Result<Decrypted, Error>) -> v1::DecryptResult {
    use v1::decrypt_result::Result as Wire;
    let result = match result {
        Ok(decrypted) => Wire::Response(decrypt_response(decrypted)),
        Err(error) => Wire::Error(error::item(error)),
    };
    v1::DecryptResult { result: Some(result) }
}

fn data_key_result(result: Result<GeneratedDataKey, Error>) -> v1::GenerateDataKeyResult {
    use v1::generate_data_key_result::Result as Wire;
    let result = match result {
        Ok(generated) => Wire::Response(data_key_response(generated)),
        Err(error) => Wire::Error(error::item(error)),
    };
    v1::GenerateDataKeyResult { result: Some(result) }
}

fn re_encrypt_result(result: Result<ReEncrypted, Error>) -> v1::ReEncryptResult {
    use v1::re_encrypt_result::Result as Wire;
    let result = match result {
        Ok(made) => Wire::Response(re_encrypt_response(made)),
        Err(error) => Wire::Error(error::item(error)),
    };
    v1::ReEncryptResult { result: Some(result) }
}

/// The result of a call with one item.
fn only<T>(results: Items<T>) -> Result<T, Error> {
    results?.pop().unwrap_or_else(|| Err(error::internal("the service gave no result for the item")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::exception::Exception;

    #[test]
    fn a_key_spec_that_is_none_is_told_from_none_at_all() {
        let spec = |key_spec| data_key_input(v1::GenerateDataKeyRequest { key_spec, ..Default::default() }).key_spec;
        assert_eq!([spec(0), spec(9)], [None, Some(RequestedSpec::Unknown)]);
        assert_eq!(spec(1), Some(RequestedSpec::Known(DataKeySpec::Aes256)));
        assert_eq!(spec(2), Some(RequestedSpec::Known(DataKeySpec::Aes128)));
    }

    #[test]
    fn an_empty_batch_of_results_is_our_fault() {
        assert_eq!(only::<()>(Ok(Vec::new())).unwrap_err().exception, Exception::KmsInternal);
        assert_eq!(only(Ok(vec![Ok(7)])).unwrap(), 7);
    }

    #[test]
    fn plaintext_is_moved() {
        let plaintext = b"thirty-two bytes of a plaintext.".to_vec();
        let place = plaintext.as_ptr();
        let input = encrypt_input(v1::EncryptRequest { plaintext, ..Default::default() });
        assert_eq!(input.plaintext.expose().as_ptr(), place);
        let decrypted =
            Decrypted { key_arn: "arn".into(), plaintext: input.plaintext, material_id: "00".repeat(32).into() };
        assert_eq!(decrypt_response(decrypted).plaintext.as_ptr(), place);
    }
}
