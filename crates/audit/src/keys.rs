//! What is needed to check a log from outside: public keys, and who vouches for them. It is one small file, `keys.json`.
//!
//! The log's own key is believed because it stands there: whoever checks has had the file from somebody he trusts, or has
//! kept it from before. A key of an HSM is believed because of a statement that the identity key of the token signed, and
//! that key because the cluster's authority certified it. That authority is what people compare by its fingerprint.

#[cfg(test)]
mod tests;

use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::id::{ClusterId, HsmId};
use pki::identity::{Kind, PublicKey, TrustAnchor, der_of};
use serde::{Deserialize, Serialize};

use super::note::{Malformed, VerifierKey};

/// What the file says of itself.
const VERSION: u32 = 1;
/// Longest file that is read.
const FILE_BYTES: usize = 4 * 1_024 * 1_024;
/// Most HSMs and authorities of a file: far more than a daemon has.
const ENTRIES: usize = 1_024;
/// What a statement begins with: no identity key signs anything else that begins like this.
const STATEMENT: &str = "keystored audit log key v1";
/// Bytes of a signature that is r and s.
const FIXED_BYTES: usize = 64;
/// The certificates of identities have no end, and when they begin says nothing to somebody who checks afterwards: they are
/// looked at as of a moment close to the end of the calendar that they know.
const AFTERWARDS: Duration = Duration::from_secs(253_402_300_000);

/// Why keys are not believed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not such a file.
    #[error("not the file of a log's public keys: {0}")]
    Unreadable(String),
    /// The log's own key.
    #[error("the log's own key: {0}")]
    Log(#[from] Malformed),
    /// A trust anchor.
    #[error("trust anchor {number}: {why}")]
    Anchor {
        /// Which, from 1 on.
        number: usize,
        /// What is wrong.
        why: String,
    },
    /// The key of an HSM.
    #[error("the log key of HSM {hsm}: {why}")]
    Hsm {
        /// The HSM's id.
        hsm: String,
        /// What is wrong.
        why: String,
    },
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKeys {
    version: u32,
    /// What the log calls itself in its heads.
    pub origin: String,
    /// The log's own key.
    pub log: String,
    /// Keys of HSMs.
    pub hsms: Vec<HsmKey>,
    /// Certificates of the clusters' authorities, PEM.
    pub trust_anchors: Vec<String>,
}

/// The log key of an HSM, and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HsmKey {
    /// The HSM, as the configuration names it.
    pub hsm: String,
    /// Its zone.
    pub zone: String,
    /// The key store whose cluster it belongs to.
    pub key_store: String,
    /// The key.
    pub key: String,
    /// What the identity key of the token has signed: [`statement`].
    pub statement: String,
    /// That signature, ECDSA with SHA-256, as DER in base64.
    pub statement_signature: String,
    /// The certificate of the identity key, PEM.
    pub identity_certificate: String,
}

impl HsmKey {
    /// Puts the signature into the form that OpenSSL reads. It is DER, or r and s as tokens give it.
    #[must_use]
    pub fn with_signature(self, signature: &[u8]) -> Self {
        let der = if signature.len() == FIXED_BYTES { der_of_fixed(signature) } else { signature.to_vec() };
        Self { statement_signature: STANDARD.encode(der), ..self }
    }
}

/// The text by which a token vouches for its log key.
#[must_use]
pub fn statement(cluster: &ClusterId, hsm: &HsmId, serial: &str, key: &VerifierKey) -> String {
    format!("{STATEMENT}\n{cluster}\n{hsm}\n{serial}\n{key}\n")
}

/// Keys that have been looked at: each is what it claims to be.
#[derive(Clone, Debug)]
pub struct Believed {
    /// The log's own.
    pub log: VerifierKey,
    /// Those of HSMs.
    pub hsms: Vec<BelievedHsm>,
}

/// The key of an HSM for which its token vouches, and for that the cluster's authority.
#[derive(Clone, Debug)]
pub struct BelievedHsm {
    /// The key.
    pub key: VerifierKey,
    /// The HSM.
    pub hsm: String,
    /// Its zone; nobody vouches for that.
    pub zone: String,
    /// The token's serial number.
    pub serial: String,
    /// Which of the trust anchors, from 0 on.
    pub anchor: usize,
}

impl PublicKeys {
    /// The keys of the log of this origin.
    #[must_use]
    pub fn new(log: &VerifierKey, hsms: Vec<HsmKey>, trust_anchors: Vec<String>) -> Self {
        Self { version: VERSION, origin: log.name().to_owned(), log: log.to_string(), hsms, trust_anchors }
    }

    /// Reads the file. Nothing is said of whether the keys are to be believed: [`Self::check`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, KeysError> {
        if bytes.len() > FILE_BYTES {
            return Err(KeysError::Unreadable("it is too long".to_owned()));
        }
        let read: Self = serde_json::from_slice(bytes).map_err(|error| KeysError::Unreadable(error.to_string()))?;
        if read.version != VERSION {
            return Err(KeysError::Unreadable(format!("its version is {}, not {VERSION}", read.version)));
        }
        if read.hsms.len() > ENTRIES || read.trust_anchors.len() > ENTRIES {
            return Err(KeysError::Unreadable("it names too many keys".to_owned()));
        }
        Ok(read)
    }

    /// As it stands in the file.
    pub fn to_json(&self) -> Result<Vec<u8>, KeysError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| KeysError::Unreadable(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Checks who vouches for what.
    pub fn check(&self) -> Result<Believed, KeysError> {
        let log: VerifierKey = self.log.parse()?;
        if log.name() != self.origin {
            return Err(KeysError::Unreadable(format!("the key is {}'s, the origin {}", log.name(), self.origin)));
        }
        let mut anchors = Vec::new();
        for (index, pem) in self.trust_anchors.iter().enumerate() {
            let anchor = TrustAnchor::from_pem(pem)
                .map_err(|error| KeysError::Anchor { number: index + 1, why: error.to_string() })?;
            anchors.push(anchor);
        }
        let mut hsms: Vec<BelievedHsm> = Vec::new();
        for entry in &self.hsms {
            let refused = |why: String| KeysError::Hsm { hsm: entry.hsm.clone(), why };
            let believed = entry.check(&anchors).map_err(refused)?;
            let named_alike = |one: &VerifierKey| one.name() == believed.key.name() && one.id() == believed.key.id();
            if named_alike(&log) || hsms.iter().any(|one| named_alike(&one.key)) {
                return Err(refused("its name and id are another key's".to_owned()));
            }
            hsms.push(believed);
        }
        Ok(Believed { log, hsms })
    }
}

impl HsmKey {
    fn check(&self, anchors: &[TrustAnchor]) -> Result<BelievedHsm, String> {
        let key: VerifierKey = self.key.parse().map_err(|error: Malformed| error.to_string())?;
        let lines: Vec<&str> = self.statement.split('\n').collect();
        let [STATEMENT, cluster, hsm, serial, named, ""] = lines[..] else {
            return Err("its statement is none about a log key".to_owned());
        };
        if named != self.key || hsm != self.hsm {
            return Err("its statement is about another key or HSM".to_owned());
        }
        let cluster = ClusterId::parse(cluster).ok_or_else(|| "its statement names no cluster".to_owned())?;
        let der = der_of(&self.identity_certificate).map_err(|error| error.to_string())?;
        let mut why = format!("there is no trust anchor of {cluster}");
        for (index, anchor) in anchors.iter().enumerate().filter(|(_, anchor)| anchor.is_of(&cluster)) {
            match anchor.certified(Kind::Identity, &der, UNIX_EPOCH + AFTERWARDS) {
                Ok(certified) if certified.hsm.as_str() != hsm || certified.serial != serial => {
                    return Err("its certificate is another token's".to_owned());
                }
                Ok(certified) => {
                    self.check_signature(&certified.public_key)?;
                    let (hsm, zone) = (self.hsm.clone(), self.zone.clone());
                    return Ok(BelievedHsm { key, hsm, zone, serial: serial.to_owned(), anchor: index });
                }
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    fn check_signature(&self, identity: &PublicKey) -> Result<(), String> {
        let PublicKey::P256(point) = identity else {
            return Err("its identity key does not sign".to_owned());
        };
        let signature =
            STANDARD.decode(&self.statement_signature).map_err(|_| "its signature is not base64".to_owned())?;
        let algorithms: [&'static dyn VerificationAlgorithm; 2] = [&ECDSA_P256_SHA256_ASN1, &ECDSA_P256_SHA256_FIXED];
        let good =
            |algorithm| UnparsedPublicKey::new(algorithm, point).verify(self.statement.as_bytes(), &signature).is_ok();
        if algorithms.into_iter().any(good) { Ok(()) } else { Err("its token has not signed the statement".to_owned()) }
    }
}

/// SHA-256 of an authority's certificate in hexadecimal digits: what people compare, and `openssl x509 -fingerprint -sha256`
/// shows.
pub fn anchor_fingerprint(pem: &str) -> Result<String, KeysError> {
    let der = der_of(pem).map_err(|error| KeysError::Unreadable(error.to_string()))?;
    Ok(pki::identity::fingerprint(&der))
}

/// r and s as the two INTEGERs that DER has of them.
#[must_use]
pub fn der_of_fixed(signature: &[u8]) -> Vec<u8> {
    let integer = |half: &[u8]| {
        let digits: Vec<u8> = half.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
        tagged(0x02, &[sign, &digits].concat())
    };
    let (r, s) = signature.split_at(signature.len() / 2);
    tagged(0x30, &[integer(r), integer(s)].concat())
}

/// A short structure of DER: what is in it has fewer than 128 bytes.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag, u8::try_from(content.len()).unwrap_or(u8::MAX)];
    bytes.extend(content);
    bytes
}
