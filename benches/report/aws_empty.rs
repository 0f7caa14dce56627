//! The empty service for AWS's clients: the daemon's listener, TLS and HTTP, and the same judgement of signatures, with an
//! answer that is always the same.

use std::convert::Infallible;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::aws::Whole;
use api::metered::BoxError;
use api::sigv4::{Expected, claim};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, poll_fn};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use keystored::server;
use model::clock::Clock;
use serde_json::json;
use tower::Service;

use super::aws_load::variable;
use super::{Outcome, PLAINTEXT_BYTES, said};

/// Serves with the certificate of a daemon's configuration, and the access key of the environment, until standard input
/// ends. The first line of standard output is the address.
pub(super) fn run(config: &Path, clock: Clock) -> Outcome<()> {
    let aws = config::load(config).map_err(said("reading the configuration"))?.aws;
    let mut aws = aws.ok_or("the daemon does not listen for AWS's clients")?;
    aws.listen.set_port(0);
    let known = Known {
        access_key: (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?),
        region: variable("AWS_REGION")?,
        answer: answer(),
        clock: clock.clone(),
    };
    // Built as the daemon's is, so that both have the same threads.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(said("starting the runtime"))?;
    let ended = async {
        let _ = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await;
    };
    let listening = |address| {
        println!("https://{address}");
        let _ = std::io::stdout().flush();
    };
    let calls = Empty(Arc::new(known));
    runtime.block_on(server::serve_aws(aws, calls, clock, ended, listening)).map_err(said("serving"))
}

/// As long as Encrypt's.
fn answer() -> Bytes {
    let answer = json!({
        "CiphertextBlob": STANDARD.encode([1; PLAINTEXT_BYTES + model::ciphertext::OVERHEAD_BYTES]),
        "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "KeyId": "arn:aws:kms:eu-central-1:000000000000:key/00000000-0000-4000-8000-000000000000",
    });
    answer.to_string().into()
}

#[derive(Clone)]
struct Empty(Arc<Known>);

/// What it knows.
struct Known {
    /// Id and secret.
    access_key: (String, String),
    region: String,
    answer: Bytes,
    clock: Clock,
}

impl<B> Service<Request<B>> for Empty
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Response = Response<Whole>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Whole>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let known = Arc::clone(&self.0);
        async move {
            let (head, body) = request.into_parts();
            let (status, answer) = match known.judge(&head, body).await {
                Ok(()) => (StatusCode::OK, known.answer.clone()),
                Err(why) => (StatusCode::FORBIDDEN, why.into()),
            };
            let mut response = Response::new(Whole::from(answer.clone()));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
            headers.insert(CONTENT_LENGTH, answer.len().into());
            let id = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string());
            headers.extend(id.ok().map(|id| (http::HeaderName::from_static("x-amzn-requestid"), id)));
            Ok(response)
        }
        .boxed()
    }
}

impl Known {
    /// As the daemon does it: the head, then the body, then the signature over both.
    async fn judge<B>(&self, head: &Parts, mut body: B) -> Outcome<()>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
    {
        let expected = Expected { region: &self.region, services: &["kms"] };
        let refused = |refusal: api::sigv4::Refusal| refusal.to_string();
        let claim = claim(head, &expected, self.clock.calendar()).map_err(refused)?;
        let (id, secret) = &self.access_key;
        if claim.access_key_id() != id {
            return Err("the access key is another one".to_owned());
        }
        let mut whole = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let frame = frame.map_err(|error| error.into().to_string())?;
            whole.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
        claim.verify(secret, head, &whole).map_err(refused)
    }
}
