//! Keys that sign notes.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Line, Malformed, sound_name};

/// Bytes of a public key, and of a seed, of Ed25519.
const ED25519_BYTES: usize = 32;
/// Longest text of a key that is read.
const TEXT_BYTES: usize = 4_096;
/// What the SubjectPublicKeyInfo of every uncompressed point of P-256 begins with, DER.
const P256_INFO: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Bytes of such a point.
const POINT_BYTES: usize = 65;

/// What a key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Ed25519, over the text itself.
    Ed25519,
    /// ECDSA with P-256 and SHA-256; signatures are DER.
    EcdsaP256,
}

impl Algorithm {
    /// signed-note's identifier of that kind of signature.
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::EcdsaP256 => 2,
        }
    }
}

/// A public key that signs notes, with its name: what Go's tools call a vkey.
#[derive(Clone)]
pub struct VerifierKey {
    name: String,
    id: u32,
    algorithm: Algorithm,
    public: Vec<u8>,
    parsed: ParsedPublicKey,
}

impl VerifierKey {
    /// A key of Ed25519, of 32 bytes.
    pub fn ed25519(name: &str, public: &[u8]) -> Result<Self, Malformed> {
        sound_name(name)?;
        if public.len() != ED25519_BYTES {
            return Err(Malformed::Key);
        }
        let parsed = ParsedPublicKey::new(&ED25519, public).map_err(|_| Malformed::Key)?;
        let typed = [&[Algorithm::Ed25519.byte()], public].concat();
        let id = signed_note::key_id(name, &typed);
        Ok(Self { name: name.to_owned(), id, algorithm: Algorithm::Ed25519, public: public.to_vec(), parsed })
    }

    /// A key of P-256: an uncompressed point, of 65 bytes.
    pub fn p256(name: &str, point: &[u8]) -> Result<Self, Malformed> {
        sound_name(name)?;
        if point.len() != POINT_BYTES || point.first() != Some(&4) {
            return Err(Malformed::Key);
        }
        let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).map_err(|_| Malformed::Key)?;
        let public = [&P256_INFO, point].concat();
        let id = first_four(digest(&SHA256, &public).as_ref());
        Ok(Self { name: name.to_owned(), id, algorithm: Algorithm::EcdsaP256, public, parsed })
    }

    /// The name: the log's origin, or what an HSM is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What lines with its signatures begin with.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// What it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key itself: 32 bytes of Ed25519, or a SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public
    }

    /// Whether the line is this key's signature of the text.
    #[must_use]
    pub fn verify(&self, text: &[u8], line: &Line) -> bool {
        line.name() == self.name && line.id() == self.id && self.parsed.verify_sig(text, line.signature()).is_ok()
    }

    /// The line that has this key's signature.
    pub fn line(&self, signature: Vec<u8>) -> Result<Line, Malformed> {
        Line::new(&self.name, self.id, signature)
    }
}

impl PartialEq for VerifierKey {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.algorithm == other.algorithm && self.public == other.public
    }
}

impl Eq for VerifierKey {}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl fmt::Display for VerifierKey {
    /// `NAME+ID+KEY`: the id in hexadecimal digits, the key with its algorithm's byte before it in base64.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = [&[self.algorithm.byte()], self.public.as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(typed))
    }
}

impl FromStr for VerifierKey {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.len() > TEXT_BYTES {
            return Err(Malformed::Key);
        }
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Malformed::Key);
        };
        let typed = STANDARD.decode(key).map_err(|_| Malformed::Key)?;
        let read = match typed.split_first() {
            Some((1, public)) => Self::ed25519(name, public)?,
            Some((2, info)) => Self::p256(name, info.strip_prefix(&P256_INFO).ok_or(Malformed::Key)?)?,
            _ => return Err(Malformed::Key),
        };
        if format!("{:08x}", read.id) == id { Ok(read) } else { Err(Malformed::Id) }
    }
}

fn first_four(digest: &[u8]) -> u32 {
    digest.iter().take(4).fold(0, |id, byte| id << 8 | u32::from(*byte))
}

/// The log's own key, of Ed25519. It signs every head.
pub struct LogKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl LogKey {
    /// Makes a new key for the log of this origin.
    pub fn generate(origin: &str) -> Result<Self, Malformed> {
        let mut seed = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(seed.as_mut_slice()).map_err(|_| Malformed::Random)?;
        Self::from_seed(origin, &seed)
    }

    /// The key that was made of this seed.
    pub fn from_seed(origin: &str, seed: &[u8; 32]) -> Result<Self, Malformed> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Malformed::Key)?;
        let verifier = VerifierKey::ed25519(origin, pair.public_key().as_ref())?;
        Ok(Self { seed: Zeroizing::new(*seed), pair, verifier })
    }

    /// What it is made of: whoever has it can sign as the log.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        self.seed.clone()
    }

    /// Its public half.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> Line {
        let signature = self.pair.sign(text).as_ref().to_vec();
        Line { name: self.verifier.name.clone(), id: self.verifier.id, signature }
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey({})", self.verifier)
    }
}
