//! The log key of a token: what signs heads of audit logs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a log key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LogKeyAlgorithm {
    /// Ed25519, over the text itself.
    Ed25519,
    /// ECDSA with P-256, over the SHA-256 of the text.
    EcdsaP256,
}

/// The public half of a token's log key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPublicKey {
    /// What it signs with.
    pub algorithm: LogKeyAlgorithm,
    /// 32 bytes of Ed25519, or an uncompressed point of P-256.
    pub public: Bytes,
}
