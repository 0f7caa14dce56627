//! What an HSM signs to prove who it is.

use serde::{Deserialize, Serialize};

use super::id::{ClusterId, HsmId, Zone};

/// What a signature of an identity key is for. Each has a tag of its own, so that one never passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The HSM belongs to the cluster, now.
    Membership,
}

impl Purpose {
    /// What the signed bytes begin with.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Membership => "keystored hsm identity v1",
        }
    }
}

/// A statement of membership. The token signs the SHA-256 of its bytes.
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
    /// Fresh.
    pub nonce: [u8; 32],
}

impl Statement {
    /// Tag and fields in this order, each as u32 length, big-endian, and its bytes: no two statements have the same.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let incarnation = self.incarnation.to_be_bytes();
        let parts: [&[u8]; 7] = [
            self.purpose.tag().as_bytes(),
            self.cluster.as_str().as_bytes(),
            self.hsm.as_str().as_bytes(),
            self.zone.as_str().as_bytes(),
            self.serial.as_bytes(),
            &incarnation,
            &self.nonce,
        ];
        let mut bytes = Vec::with_capacity(256);
        for part in parts {
            bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }
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
    }
}
