//! What is said while the cluster wrapping key is handed on to a token that joins.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Sealed;
use model::identity::significant;
use model::secret::Secret;

/// The public half of an RSA transport key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportKey {
    /// Modulus, big-endian, without leading zeroes.
    pub modulus: Bytes,
    /// Public exponent, likewise.
    pub exponent: Bytes,
}

impl TransportKey {
    /// Of two numbers, big-endian.
    #[must_use]
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Self {
        let bare = |number: &[u8]| Bytes::copy_from_slice(significant(number));
        Self { modulus: bare(modulus), exponent: bare(exponent) }
    }
}

/// What a token shows of its transport key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownTransport {
    /// The public half.
    pub key: TransportKey,
    /// DER of the certificate of the identity key that has signed, as it lies in the token; empty where that holds none.
    pub identity_certificate: Bytes,
    /// Which of the HSM's workers has had it signed.
    pub incarnation: u64,
    /// Of the statement that the token holds the private half: r and s, 32 bytes each.
    pub signature: Bytes,
    /// The token holds a cluster wrapping key already.
    pub holds_wrapping_key: bool,
}

/// What only a holder of the cluster wrapping key can answer. Made in a member, answered in the token that joins; it
/// never leaves the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Challenge {
    /// A fresh AES-256 key under the wrapping key.
    pub wrapped: Bytes,
    /// The answer, encrypted with that key.
    pub sealed: Sealed,
    /// 32 random bytes.
    pub answer: Secret,
}
