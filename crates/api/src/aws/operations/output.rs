//! How answers are written: once, into a buffer of the length that they have. A buffer that grows would leave pieces of a
//! plaintext behind that nobody wipes.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, BytesMut};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::Answer;
use crate::aws::error::Failure;

/// The JSON of an answer.
pub(super) fn json(answer: &impl Serialize) -> Answer {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, answer).map_err(unwritten)?;
    let mut body = BytesMut::with_capacity(length.0);
    serde_json::to_writer((&mut body).writer(), answer).map_err(unwritten)?;
    Ok(body)
}

/// The answer of operations that give nothing.
pub(super) fn nothing() -> BytesMut {
    BytesMut::new()
}

/// The answer of operations that give an object without members.
pub(super) fn no_members() -> BytesMut {
    BytesMut::from("{}")
}

fn unwritten(error: serde_json::Error) -> Failure {
    // It names no values: no answer here has a map whose keys are no texts, and a buffer takes what it is given.
    Failure::internal(format!("the answer could not be written: {error}"))
}

/// Counts bytes.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes as JSON has them. Wiped, for they may be a plaintext's.
pub(super) struct Base64(Zeroizing<String>);

impl Base64 {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(STANDARD.encode(bytes)))
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A time as AWS has it: seconds since the Unix epoch, with their fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Time(i64);

impl Time {
    /// Of milliseconds since the Unix epoch.
    pub(super) const fn of(millis: i64) -> Self {
        Self(millis)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Milliseconds of any year that people meet have an exact place in these.
        serializer.serialize_f64(self.0 as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shown {
        plaintext: Base64,
        at: Time,
    }

    #[test]
    fn an_answer_has_a_buffer_of_its_length() {
        let long = Shown { plaintext: Base64::of(&[0xa5; 4_096]), at: Time::of(1_700_000_000_123) };
        let body = json(&long).unwrap();
        assert!(body.ends_with(br#","At":1700000000.123}"#), "{body:?}");
        // Asked for in one piece: it has not moved while it was written.
        assert_eq!(body.capacity(), body.len());
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(STANDARD.decode(read["Plaintext"].as_str().unwrap()).unwrap(), [0xa5; 4_096]);
    }

    #[test]
    fn times_have_their_fraction() {
        let of = |millis| serde_json::to_string(&Time::of(millis)).unwrap();
        assert_eq!([of(0), of(1_000), of(-1), of(1_499_288_695_918)], ["0.0", "1.0", "-0.001", "1499288695.918"]);
    }

    #[test]
    fn nothing_and_no_members_are_told_apart() {
        assert!(nothing().is_empty());
        assert_eq!(&no_members()[..], b"{}");
    }
}
