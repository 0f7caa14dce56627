//! The encryption context: pairs of strings that are bound to a ciphertext but not stored in it.

use std::collections::BTreeMap;

use super::limits;

/// A checked encryption context. Comparison is exact; order does not matter; absent and empty are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptionContext(BTreeMap<String, String>);

/// Why a map is no encryption context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the encryption context is too large: {encoded_bytes} bytes, at most {} are allowed", limits::CONTEXT_BYTES)]
pub struct TooLarge {
    /// Size of the encoded form.
    pub encoded_bytes: usize,
}

impl EncryptionContext {
    /// Checks the size; anything else is allowed, empty keys and values too.
    pub fn new(pairs: BTreeMap<String, String>) -> Result<Self, TooLarge> {
        let context = Self(pairs);
        match context.encoded_len() {
            encoded_bytes if encoded_bytes > limits::CONTEXT_BYTES => Err(TooLarge { encoded_bytes }),
            _ => Ok(context),
        }
    }

    /// The pairs, in the order of the keys' bytes.
    #[must_use]
    pub fn pairs(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Length of what [`EncryptionContext::encode_into`] appends, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.0.iter().map(|(key, value)| 4 + key.len() + value.len()).sum()
    }

    /// Appends the canonical encoding: pairs sorted by key bytes, each as u16 length, key, u16 length, value,
    /// big-endian. Lengths make it injective, sorting makes it free of order.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        // A BTreeMap of strings iterates in the order of their UTF-8 bytes.
        for (key, value) in &self.0 {
            for part in [key, value] {
                // CONTEXT_BYTES is far below u16::MAX, and `new` has checked it.
                let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
}
