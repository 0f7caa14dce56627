//! Placeholder: operations.

use bytes::BytesMut;

use super::error::Failure;
use super::model::Input;
use service::{RequestContext, Service};

#[derive(Clone, Debug, Default)]
pub(super) struct CallExtras {
    pub(super) invocation_id: Option<String>,
}

pub(super) async fn answer(
    _: &Service,
    _: &RequestContext,
    _: &str,
    _: Input,
    _: &CallExtras,
) -> Result<BytesMut, Failure> {
    Ok(BytesMut::new())
}
