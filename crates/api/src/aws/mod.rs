//! The interface of AWS KMS: AWS JSON 1.1 over HTTP.

#[cfg_attr(not(test), expect(dead_code, reason = "the listener, which calls this, is another change"))]
mod error;
pub mod model;
#[cfg_attr(not(test), expect(dead_code, reason = "the listener, which calls this, is another change"))]
mod operations;
#[cfg_attr(not(test), expect(dead_code, reason = "the listener, which calls this, is another change"))]
mod sts;
