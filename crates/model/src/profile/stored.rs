//! What a token holds, and what of it is gone once it is destroyed.

use serde::{Deserialize, Serialize};

/// Objects in an HSM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Where the certificates of its identity and transport keys are.
    pub certificate: CertificateIn,
    /// How far C_DestroyObject reaches.
    pub destroy: Reach,
    /// Most keys; 0 where no bound is known.
    pub keys_max: u64,
}

/// Where certificates are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateIn {
    /// In the token, where each worker reads them.
    Token,
    /// In files on hosts: the token holds no certificates. The daemon reads the identity's, and no worker does.
    HostFile,
}

/// How far a destruction reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// The object is gone for everybody who uses this HSM.
    Everywhere,
    /// The objects are files on this host: its own copy is gone, and no other host's, nor one in a backup.
    ThisHost,
}

/// Keys of keystored's own in a token: two pairs of the ceremony, the canary, the wrapping key, the audit log's pair; and as
/// many again for those that are there for a moment only.
const OWN_KEYS: u64 = 16;

impl Stored {
    /// See [`super::Capabilities::standard`].
    #[must_use]
    pub fn standard() -> Self {
        Self { certificate: CertificateIn::Token, destroy: Reach::Everywhere, keys_max: 0 }
    }

    /// Whether its certificates are in files, and none is looked for in the token.
    #[must_use]
    pub fn in_host_file(&self) -> bool {
        self.certificate == CertificateIn::HostFile
    }

    /// Most key versions; `None` where no bound is known.
    #[must_use]
    pub fn versions_max(&self) -> Option<u64> {
        (self.keys_max > 0).then(|| self.keys_max.saturating_sub(OWN_KEYS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keystored_s_own_keys_have_their_room() {
        let of = |keys_max| Stored { keys_max, ..Stored::standard() }.versions_max();
        assert_eq!([0, 3_300, 20, 3].map(of), [None, Some(3_284), Some(4), Some(0)]);
    }
}
