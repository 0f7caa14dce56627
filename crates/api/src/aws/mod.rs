//! The interface of AWS KMS: AWS JSON 1.1 over HTTP.

pub mod model;
