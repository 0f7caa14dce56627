//! Receipts: where the record of a call stands in the audit log, told with its answer to whoever asks for that.
//!
//! A receipt says no more than that the record was accepted under this number. That it is in the log for good, and what it
//! says, is proven by the log alone.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use auth::request::Trace;
use service::Service;

/// What an interface calls the headers.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// By which a caller asks.
    pub(crate) asks: &'static str,
    /// In which it is answered.
    pub(crate) tells: &'static str,
}

/// gRPC's metadata.
pub(crate) const GRPC: Headers = Headers { asks: "keystored-audit-receipt", tells: "keystored-audit-record" };
/// HTTP's.
pub(crate) const AWS: Headers = Headers { asks: "x-keystored-audit-receipt", tells: "x-keystored-audit-record" };

impl Headers {
    /// Whether a caller asks for a receipt. What can be taken either way is refused, with what would be right: nobody
    /// should find out afterwards that it has none.
    pub(crate) fn are_in(self, headers: &HeaderMap) -> Result<bool, String> {
        let mut values = headers.get_all(self.asks).iter();
        match (values.next().map(HeaderValue::as_bytes), values.next()) {
            (None, _) | (Some(b"false"), None) => Ok(false),
            (Some(b"true"), None) => Ok(true),
            _ => Err(format!("{} must be `true` or `false`, and be there once", self.asks)),
        }
    }

    /// The receipt of a call whose caller asked for one, beside the other headers of its answer.
    pub(crate) fn add(self, receipt: Option<Receipt>, headers: &mut HeaderMap) {
        if let Some(value) = receipt.and_then(|receipt| receipt.value()) {
            headers.insert(self.tells, value);
        }
    }
}

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The log's origin.
    pub(crate) log: Arc<str>,
    /// The number of the first leaf.
    pub(crate) first: u64,
    /// How many there are.
    pub(crate) count: u32,
}

impl Receipt {
    /// Of the newest record of a call; absent where it has none in a log, and where nobody asked for it.
    pub(crate) fn of(service: &Service, trace: &Trace) -> Option<Self> {
        Self::at(service, trace, trace.recorded_at())
    }

    /// Of the record that stands there.
    pub(crate) fn at(service: &Service, trace: &Trace, place: Option<(u64, u32)>) -> Option<Self> {
        let (first, count) = place.filter(|_| trace.wants_receipt())?;
        Some(Self { log: service.audit_log()?, first, count })
    }

    /// As a header has it: origin, first leaf, count, with a blank between two. What is not printable ASCII in the origin
    /// is written as URIs have it.
    pub(crate) fn value(&self) -> Option<HeaderValue> {
        let mut text = String::with_capacity(self.log.len() + 24);
        for byte in self.log.bytes() {
            match byte {
                b'%' | 0..=b' ' | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
                plain => text.push(char::from(plain)),
            }
        }
        text.push_str(&format!(" {} {}", self.first, self.count));
        let mut value = HeaderValue::try_from(text).ok()?;
        // Never the same twice: this keeps it out of HTTP/2's table of headers.
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_for_by_one_word() {
        let of = |values: &[&'static str]| {
            let values = values.iter().map(|value| ("keystored-audit-receipt", *value));
            let pair = |(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value));
            GRPC.are_in(&values.map(pair).collect()).ok()
        };
        assert_eq!([of(&[]), of(&["false"]), of(&["true"])], [Some(false), Some(false), Some(true)]);
        for wrong in [&[""][..], &["1"], &["True"], &["true "], &["true", "true"], &["true", "false"]] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
        assert_eq!(AWS.are_in(&HeaderMap::new()), Ok(false));
    }

    #[test]
    fn it_is_three_words_whatever_the_log_is_called() {
        let shown = |log: &str| {
            let receipt = Receipt { log: log.into(), first: 73_894, count: 3 };
            receipt.value().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(shown("kms.example.com/audit/2"), "kms.example.com/audit/2 73894 3");
        assert_eq!(shown("schlüssel%20"), "schl%C3%BCssel%2520 73894 3");
        let mut headers = HeaderMap::new();
        GRPC.add(None, &mut headers);
        assert!(headers.is_empty());
        GRPC.add(Some(Receipt { log: "a".into(), first: u64::MAX, count: 1 }), &mut headers);
        assert_eq!(headers["keystored-audit-record"], "a 18446744073709551615 1");
    }
}
