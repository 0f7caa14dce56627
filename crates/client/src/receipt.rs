//! Receipts: where the audit log has the records of calls, told by the service to who asks for that.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::transport::{self, Channel};
use tower::Service;

const ASKS: HeaderName = HeaderName::from_static("keystored-audit-receipt");
const YES: HeaderValue = HeaderValue::from_static("true");
const TELLS: &str = "keystored-audit-record";

/// Where the record of a call stands. It is the service's word; the log proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The log's origin.
    pub log: String,
    /// The number of the record's first leaf.
    pub first: u64,
    /// How many leaves it has; the others follow.
    pub count: u32,
    /// The id of the call, which the record has too: by it a record is told from another one under its number. Absent from
    /// the answers of a stream, which have the stream's.
    pub request_id: Option<String>,
}

impl Receipt {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let mut words = text(TELLS)?.split(' ');
        let (log, first, count) = (words.next()?, words.next()?, words.next()?);
        Some(Self {
            log: decoded(log),
            first: first.parse().ok()?,
            count: count.parse().ok()?,
            request_id: text("x-request-id").map(str::to_owned),
        })
    }
}

impl From<proto::v1::AuditReceipt> for Receipt {
    fn from(receipt: proto::v1::AuditReceipt) -> Self {
        let proto::v1::AuditReceipt { log, first_record, record_count } = receipt;
        Self { log, first: first_record, count: record_count, request_id: None }
    }
}

/// What hears of the receipts of calls, each when the head of its answer is there.
#[derive(Clone)]
pub struct Receipts(Arc<dyn Fn(Receipt) + Send + Sync>);

impl Receipts {
    /// Hands them to this.
    pub fn new(hear: impl Fn(Receipt) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }
}

impl fmt::Debug for Receipts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipts")
    }
}

/// A connection whose calls ask for receipts, if anybody wants to hear of them.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) channel: Channel,
    pub(super) receipts: Option<Receipts>,
}

impl Service<Request<Body>> for Asking {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, transport::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), transport::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(receipts) = self.receipts.clone() else { return self.channel.call(request).boxed() };
        request.headers_mut().insert(ASKS, YES);
        let answer = self.channel.call(request);
        async move {
            let answer = answer.await?;
            if let Some(receipt) = Receipt::of(answer.headers()) {
                receipts.0(receipt);
            }
            Ok(answer)
        }
        .boxed()
    }
}

/// A text that was percent-encoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| byte == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_the_service_writes_it() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TELLS, HeaderValue::from_static(value));
            headers.insert("x-request-id", HeaderValue::from_static("r-1"));
            Receipt::of(&headers)
        };
        let receipt = of("kms.example.com/audit 73894 3").unwrap();
        assert_eq!((receipt.log.as_str(), receipt.first, receipt.count), ("kms.example.com/audit", 73_894, 3));
        assert_eq!(receipt.request_id.as_deref(), Some("r-1"));
        assert_eq!(of("schl%C3%BCssel%2520 0 1").unwrap().log, "schlüssel%20");
        assert_eq!(of("100%z%2 0 1").unwrap().log, "100%z%2");
        for none in ["", "a", "a 1", "a b c", "a -1 1"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(Receipt::of(&HeaderMap::new()), None);
    }
}
