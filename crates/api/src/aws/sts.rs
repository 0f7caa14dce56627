//! Placeholder: STS.

use super::error::Failure;
use service::{RequestContext, Service};

pub(super) async fn answer(_: &Service, _: &RequestContext, _: &[u8]) -> Result<String, Failure> {
    Ok(String::new())
}

pub(super) fn error(failure: &Failure, request_id: &str) -> String {
    format!("<Code>{}</Code>{request_id}", failure.name)
}
