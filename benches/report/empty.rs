//! The empty service: the daemon's listener, TLS and messages, with an answer that is always the same.

use std::io::Write;
use std::path::Path;
use std::pin::Pin;

use keystored::server::{self, Version};
use model::clock::Clock;
use proto::v1;
use proto::v1::crypto_service_server::{CryptoService, CryptoServiceServer};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::{Outcome, PLAINTEXT_BYTES, said};

/// Serves with the certificates of a daemon's configuration until standard input ends. The first line of standard
/// output is the address.
pub(super) fn run(config: &Path, clock: Clock) -> Outcome<()> {
    let mut grpc = config::load(config).map_err(said("reading the configuration"))?.grpc;
    grpc.listen.set_port(0);
    // Built as the daemon's is, so that both have the same threads.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(said("starting the runtime"))?;
    let routes = (Version::Http2, Routes::new(CryptoServiceServer::new(Empty::new())).prepare());
    let ended = async {
        let _ = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await;
    };
    let listening = |address| {
        println!("https://{address}");
        let _ = std::io::stdout().flush();
    };
    runtime.block_on(server::serve_routes(grpc, routes, clock, ended, listening)).map_err(said("serving"))
}

struct Empty {
    response: v1::EncryptResponse,
}

impl Empty {
    fn new() -> Self {
        let key_id = "arn:aws:kms:local:000000000000:key/00000000-0000-4000-8000-000000000000".to_owned();
        let ciphertext_blob = vec![1; PLAINTEXT_BYTES + model::ciphertext::OVERHEAD_BYTES].into();
        Self { response: v1::EncryptResponse { key_id, ciphertext_blob } }
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn not_here<T>() -> Answer<T> {
    Err(Status::unimplemented("the empty service knows Encrypt alone"))
}

#[tonic::async_trait]
impl CryptoService for Empty {
    async fn encrypt(&self, _: Request<v1::EncryptRequest>) -> Answer<v1::EncryptResponse> {
        Ok(Response::new(self.response.clone()))
    }

    async fn decrypt(&self, _: Request<v1::DecryptRequest>) -> Answer<v1::DecryptResponse> {
        not_here()
    }

    async fn generate_data_key(&self, _: Request<v1::GenerateDataKeyRequest>) -> Answer<v1::GenerateDataKeyResponse> {
        not_here()
    }

    async fn generate_data_key_without_plaintext(
        &self,
        _: Request<v1::GenerateDataKeyWithoutPlaintextRequest>,
    ) -> Answer<v1::GenerateDataKeyWithoutPlaintextResponse> {
        not_here()
    }

    async fn re_encrypt(&self, _: Request<v1::ReEncryptRequest>) -> Answer<v1::ReEncryptResponse> {
        not_here()
    }

    async fn generate_random(&self, _: Request<v1::GenerateRandomRequest>) -> Answer<v1::GenerateRandomResponse> {
        not_here()
    }

    async fn batch_encrypt(&self, _: Request<v1::BatchEncryptRequest>) -> Answer<v1::BatchEncryptResponse> {
        not_here()
    }

    async fn batch_decrypt(&self, _: Request<v1::BatchDecryptRequest>) -> Answer<v1::BatchDecryptResponse> {
        not_here()
    }

    async fn batch_generate_data_key(
        &self,
        _: Request<v1::BatchGenerateDataKeyRequest>,
    ) -> Answer<v1::BatchGenerateDataKeyResponse> {
        not_here()
    }

    async fn batch_re_encrypt(&self, _: Request<v1::BatchReEncryptRequest>) -> Answer<v1::BatchReEncryptResponse> {
        not_here()
    }

    type StreamStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::StreamResponse, Status>> + Send>>;

    async fn stream(&self, _: Request<Streaming<v1::StreamRequest>>) -> Answer<Self::StreamStream> {
        not_here()
    }
}
