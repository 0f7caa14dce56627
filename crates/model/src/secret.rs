//! Bytes that are wiped when they are dropped and never shown.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroize;

/// A PIN, a plaintext or a data key. Wiped on drop; `Debug` shows the length only.
///
/// Growing a `Secret` would leave an unwiped copy behind, so it cannot grow.
#[derive(Clone, Default, Eq)]
pub struct Secret(Vec<u8>);

impl PartialEq for Secret {
    /// Takes as long whatever the bytes are; how many there are is no secret.
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Secret {
    /// Takes the bytes over without copying them.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves. Every place that reads them says so by this name.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Gives the bytes away, to a buffer that somebody else wipes or that leaves the process (a reply).
    #[must_use]
    pub fn into_exposed(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// Number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Secret, E> {
                Ok(Secret(bytes.to_vec()))
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Secret, E> {
                Ok(Secret(bytes))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// Why a file with this mode, as stat(2) gives it, is no place for a secret: whoever is neither its owner nor of its
/// group can get at it. Absent where nobody can. The one rule for PINs, seal keys and TLS keys.
#[must_use]
pub fn exposed(mode: u32, what: &str) -> Option<String> {
    let may = match mode & 0o007 {
        0 => return None,
        others if others & 0o004 != 0 => "read",
        others if others & 0o002 != 0 => "write",
        _ => "execute",
    };
    Some(format!("everybody may {may} {what} (mode {:03o})", mode & 0o777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_are_equal() {
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        assert_eq!(secret("1234"), secret("1234"));
        for other in ["", "123", "12345", "1235", "0234"] {
            assert_ne!(secret("1234"), secret(other));
        }
    }

    #[test]
    fn a_secret_s_file_is_closed_to_others() {
        for mode in [0o100_400, 0o600, 0o440, 0o660, 0o770] {
            assert_eq!(exposed(mode, "it"), None, "{mode:o}");
        }
        assert_eq!(exposed(0o100_644, "the key").unwrap(), "everybody may read the key (mode 644)");
        assert_eq!(exposed(0o602, "it").unwrap(), "everybody may write it (mode 602)");
        assert_eq!(exposed(0o401, "it").unwrap(), "everybody may execute it (mode 401)");
    }

    #[test]
    fn debug_shows_the_length_only() {
        assert_eq!(format!("{:?}", Secret::new(b"1234".to_vec())), "Secret(4 bytes)");
    }
}
