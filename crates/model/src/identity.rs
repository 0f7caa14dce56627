//! What an HSM signs to prove who it is.

use serde::{Deserialize, Serialize};

use super::id::{ClusterId, HsmId, Zone};

/// Bits of the RSA transport keys to which the wrapping key is wrapped: the shortest and the longest.
const TRANSPORT_BITS: (usize, usize) = (2_048, 8_192);
/// Longest public exponent of one, in bytes: FIPS 186-5 ends below 2^256.
const EXPONENT_BYTES: usize = 32;

/// What a statement about a log key begins with.
const LOG_KEY: &str = "keystored audit log key v1";

/// What a signature of an identity key is for. Each has a tag of its own, so that one never passes for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The HSM belongs to the cluster, now.
    Membership,
    /// The token holds the private half of this RSA transport key, which was made in it and cannot leave it.
    Transport {
        /// Modulus, big-endian, without leading zeroes.
        modulus: Vec<u8>,
        /// Public exponent, big-endian, without leading zeroes.
        exponent: Vec<u8>,
    },
}

impl Purpose {
    /// What the signed bytes begin with.
    #[must_use]
    pub const fn tag(&self) -> &'static str {
        match self {
            Self::Membership => "keystored hsm identity v1",
            Self::Transport { .. } => "keystored hsm transport v1",
        }
    }
}

/// A statement about an HSM. The token signs the SHA-256 of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// What it is for.
    pub purpose: Purpose,
    /// The cluster.
    pub cluster: ClusterId,
    /// The HSM.
    pub hsm: HsmId,
    /// Its zone.
    pub zone: Zone,
    /// The token's serial number.
    pub serial: String,
    /// Which of the HSM's workers.
    pub incarnation: u64,
    /// Random, and new for each statement, so that an old one cannot be shown again.
    pub nonce: [u8; 32],
}

impl Statement {
    /// Tag and fields in this order, each as u32 length, big-endian, and its bytes: no two statements have the same.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let incarnation = self.incarnation.to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![
            self.purpose.tag().as_bytes(),
            self.cluster.as_str().as_bytes(),
            self.hsm.as_str().as_bytes(),
            self.zone.as_str().as_bytes(),
            self.serial.as_bytes(),
            &incarnation,
            &self.nonce,
        ];
        if let Purpose::Transport { modulus, exponent } = &self.purpose {
            parts.extend([&modulus[..], &exponent[..]]);
        }
        let mut bytes = Vec::with_capacity(256);
        for part in parts {
            bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }
}

/// What the identity key of a token signs of its log key, named as notes name keys.
///
/// People read it in a file of keys, so it is text. It begins with a letter, and every [`Statement`] with the length of its
/// tag in four bytes, of which the first is 0: neither ever passes for the other.
#[must_use]
pub fn log_key_statement(cluster: &ClusterId, hsm: &HsmId, serial: &str, vkey: &str) -> String {
    format!("{LOG_KEY}\n{cluster}\n{hsm}\n{serial}\n{vkey}\n")
}

/// A number without its leading zeroes.
#[must_use]
pub fn significant(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}

/// Whether a wrapping key may be wrapped to this RSA key; why not, in words. Exponents below 2^16 are refused: a key
/// that was chosen with one is a key that somebody wants to open without having it.
pub fn sound_transport_key(modulus: &[u8], exponent: &[u8]) -> Result<(), &'static str> {
    let (modulus, exponent) = (significant(modulus), significant(exponent));
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    let leading = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    let (least, most) = TRANSPORT_BITS;
    if !(least..=most).contains(&(modulus.len() * 8 - leading)) || !odd(modulus) {
        return Err("the modulus of an RSA transport key is odd and has 2,048 to 8,192 bits");
    }
    if !(3..=EXPONENT_BYTES).contains(&exponent.len()) || !odd(exponent) {
        return Err("the public exponent of an RSA transport key is odd and lies between 2^16 and 2^256");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_kept_apart() {
        let statement = |hsm: &str, zone: &str| Statement {
            purpose: Purpose::Membership,
            cluster: "cluster-abcdefghijk".into(),
            hsm: hsm.into(),
            zone: zone.into(),
            serial: "1".into(),
            incarnation: 1,
            nonce: [7; 32],
        };
        assert_ne!(statement("ab", "c").to_bytes(), statement("a", "bc").to_bytes());
        assert!(statement("a", "b").to_bytes()[4..].starts_with(b"keystored hsm identity v1"));
        let transport = |modulus: &[u8], exponent: &[u8]| {
            let purpose = Purpose::Transport { modulus: modulus.to_vec(), exponent: exponent.to_vec() };
            Statement { purpose, ..statement("a", "b") }.to_bytes()
        };
        assert_ne!(transport(&[1, 2], &[3]), transport(&[1], &[2, 3]));
        assert!(transport(&[1], &[3])[4..].starts_with(b"keystored hsm transport v1"));
        let of_log_key = log_key_statement(&"cluster-abcdefghijk".into(), &"a".into(), "1", "log/a+01020304+key");
        assert_eq!(of_log_key, "keystored audit log key v1\ncluster-abcdefghijk\na\n1\nlog/a+01020304+key\n");
        for statement in [statement("a", "b").to_bytes(), transport(&[1], &[3])] {
            assert_ne!(statement[0], of_log_key.as_bytes()[0], "whatever follows");
        }
    }

    #[test]
    fn only_sound_keys_are_wrapped_to() {
        let modulus = |bytes: usize, first: u8| [&[first][..], &vec![0xa5; bytes - 1]].concat();
        let f4 = [1, 0, 1];
        for (bytes, first, padded) in [(256, 0x80, 0), (256, 0xff, 1), (384, 1, 0), (1_024, 0xff, 2)] {
            let padded = [vec![0; padded], modulus(bytes, first)].concat();
            assert_eq!(sound_transport_key(&padded, &f4), Ok(()), "{bytes}");
        }
        for (bytes, first) in [(256, 0x7f), (128, 0xff), (1, 0xff), (1_025, 1)] {
            assert!(sound_transport_key(&modulus(bytes, first), &f4).is_err(), "{bytes} {first:x}");
        }
        let even = [&modulus(255, 0xff)[..], &[2]].concat();
        assert!(sound_transport_key(&even, &f4).is_err());
        assert!(sound_transport_key(&[], &f4).is_err());
        let good = modulus(256, 0xff);
        for exponent in [&[][..], &[1], &[3], &[17], &[0xff, 0xff], &[1, 0, 0], &[0, 0, 3], &[0xff; 33]] {
            assert!(sound_transport_key(&good, exponent).is_err(), "{exponent:?}");
        }
        assert_eq!(sound_transport_key(&good, &[0, 1, 0, 3]), Ok(()));
    }
}
