//! The cluster's own authority: it certifies the identity and transport keys that live in tokens.
//!
//! A certificate binds a public key to an HSM's id and its token's serial number, and says what the key is for. Chains
//! are one certificate long: the trust anchor (`customerCA.crt`) has signed each of them. Signatures are checked here,
//! outside HSMs: a token that could vouch for itself would prove nothing.

mod anchor;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
};

pub use self::anchor::{Certified, TrustAnchor, claimed, public_key_of};
use super::{Error, params};
use model::id::{ClusterId, HsmId};
use model::identity::{significant, sound_transport_key};
use model::secret::Secret;

/// id-at-serialNumber of X.520.
const SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];
/// Length of an uncompressed point of P-256.
const POINT_BYTES: usize = 65;
/// 9999-12-31T23:59:59Z, since the Unix epoch.
const NO_END: Duration = Duration::from_secs(253_402_300_799);
/// Bytes of a certificate's own serial number.
const CERTIFICATE_SERIAL_BYTES: usize = 16;

/// What a certified key is for. One kind never passes for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Signs statements of membership.
    Identity,
    /// Is wrapped to.
    Transport,
}

impl Kind {
    /// As it stands in the certificate.
    const fn unit(self) -> &'static str {
        match self {
            Self::Identity => "keystored hsm identity",
            Self::Transport => "keystored hsm transport",
        }
    }

    const fn usage(self) -> KeyUsagePurpose {
        match self {
            Self::Identity => KeyUsagePurpose::DigitalSignature,
            Self::Transport => KeyUsagePurpose::KeyEncipherment,
        }
    }

    /// The bits of that usage, and no others, as the parser gives them.
    const fn usage_bits(self) -> u16 {
        match self {
            Self::Identity => 1,
            Self::Transport => 1 << 2,
        }
    }
}

/// The public half of a key that lives in a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
    /// An RSA key.
    Rsa {
        /// Big-endian.
        modulus: Vec<u8>,
        /// Big-endian.
        exponent: Vec<u8>,
    },
}

impl PublicKey {
    /// Whether a key of this kind can be like that.
    fn check(&self, kind: Kind) -> Result<(), Error> {
        let why = match (kind, self) {
            (Kind::Identity, Self::P256(point)) if is_point(point) => return Ok(()),
            (Kind::Transport, Self::Rsa { modulus, exponent }) => match sound_transport_key(modulus, exponent) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            },
            _ => "identity keys are points of P-256, transport keys are RSA",
        };
        Err(Error(format!("not a public key for {}: {why}", kind.unit())))
    }

    /// SHA-256 over its SubjectPublicKeyInfo, in lower-case hexadecimal digits: for people, who can have it of a
    /// certificate by OpenSSL's `x509 -pubkey`, `pkey -pubin -outform DER` and `dgst -sha256`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&Foreign::of(self).subject_public_key_info())
    }
}

impl AsRef<[u8]> for PublicKey {
    /// What tells it from every other key.
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::P256(point) => point,
            Self::Rsa { modulus, .. } => modulus,
        }
    }
}

/// The cluster's authority with its private key, which the operator keeps.
pub struct ClusterAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl ClusterAuthority {
    /// Makes a new authority. Neither it nor what it certifies has an end: a token's identity has none.
    pub fn generate(cluster: &ClusterId, now: SystemTime) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Self::sign_itself(cluster, key, now)
    }

    /// Makes the certificate for a key that is there already.
    pub fn certify_itself(cluster: &ClusterId, key_pem: &str, now: SystemTime) -> Result<Self, Error> {
        Self::sign_itself(cluster, KeyPair::from_pem(key_pem)?, now)
    }

    fn sign_itself(cluster: &ClusterId, key: KeyPair, now: SystemTime) -> Result<Self, Error> {
        let mut params = endless(&authority_name(cluster), now)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Reads an authority back, both PEM.
    pub fn load(certificate: &str, key: &str) -> Result<Self, Error> {
        let read = |error: rcgen::Error| Error(format!("the cluster's authority cannot be read: {error}"));
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key).map_err(read)?).map_err(read)?;
        // A key that does not fit would sign certificates that nobody can use.
        let anchor = TrustAnchor::from_pem(certificate)?;
        if anchor.point != issuer.key().public_key_raw() {
            return Err(Error(
                "the cluster's authority: certificate and private key do not belong together".to_owned(),
            ));
        }
        Ok(Self { issuer, certificate: certificate.to_owned() })
    }

    /// Its certificate, PEM: the trust anchor.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its private key, PEM. Whoever has it can certify any token.
    #[must_use]
    pub fn key(&self) -> Secret {
        Secret::new(self.issuer.key().serialize_pem().into_bytes())
    }

    /// Certifies a key that lives in a token; PEM.
    pub fn issue(
        &self,
        kind: Kind,
        key: &PublicKey,
        hsm: &HsmId,
        serial: &str,
        now: SystemTime,
    ) -> Result<String, Error> {
        key.check(kind)?;
        if serial.is_empty() {
            return Err(Error(format!("the token of HSM {hsm} has no serial number to be certified")));
        }
        let mut params = endless(hsm.as_str(), now)?;
        params.distinguished_name.push(DnType::OrganizationalUnitName, kind.unit());
        params.distinguished_name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), serial);
        params.key_usages = vec![kind.usage()];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&Foreign::of(key), &self.issuer)?.pem())
    }
}

/// Common name of a cluster's authority.
fn authority_name(cluster: &ClusterId) -> String {
    format!("keystored {cluster}")
}

fn endless(common_name: &str, now: SystemTime) -> Result<CertificateParams, Error> {
    // A pair may be certified more than once; each certificate has a number of its own.
    let mut serial = [0; CERTIFICATE_SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| Error("the operating system gives no random bytes".to_owned()))?;
    // Positive, and of the same length each time.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = params(common_name, now, Duration::ZERO);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    // RFC 5280, section 4.1.2.5: no well-defined end.
    params.not_after = (UNIX_EPOCH + NO_END).into();
    Ok(params)
}

/// A key whose private half is not here.
struct Foreign {
    bits: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl Foreign {
    fn of(key: &PublicKey) -> Self {
        match key {
            PublicKey::P256(point) => Self { bits: point.clone(), algorithm: &PKCS_ECDSA_P256_SHA256 },
            PublicKey::Rsa { modulus, exponent } => {
                // RSAPublicKey of PKCS #1.
                let numbers = [integer(modulus), integer(exponent)].concat();
                Self { bits: tagged(0x30, &numbers), algorithm: &PKCS_RSA_SHA256 }
            }
        }
    }
}

impl PublicKeyData for Foreign {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// An INTEGER of DER that is not negative.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let digits = significant(bytes);
    let sign: &[u8] = if digits.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
    tagged(0x02, &[sign, digits].concat())
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(0));
            out.extend(bytes);
        }
    }
    out.extend(content);
    out
}

/// The only certificate in a PEM text, as DER.
pub fn der_of(pem: &str) -> Result<Vec<u8>, Error> {
    let (_, parsed) =
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| Error("not a certificate in PEM".to_owned()))?;
    if parsed.label != "CERTIFICATE" || pem.matches("-----BEGIN").count() != 1 {
        return Err(Error("must be exactly one certificate in PEM".to_owned()));
    }
    Ok(parsed.contents)
}

/// DER of a certificate's subject, as tokens want it beside the certificate.
pub fn subject_of(der: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(anchor::parse(der)?.subject().as_raw().to_vec())
}

/// SHA-256 of a certificate or another DER structure, in lower-case hexadecimal digits: `openssl x509 -fingerprint
/// -sha256` shows a certificate's in capitals, with colons.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A DER certificate as PEM.
#[must_use]
pub fn pem_of(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// An uncompressed point that lies on the curve.
fn is_point(point: &[u8]) -> bool {
    point.len() == POINT_BYTES && point[0] == 4 && ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).is_ok()
}
