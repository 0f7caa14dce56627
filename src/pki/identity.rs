//! The cluster's own authority: it certifies the identity and transport keys that live in tokens.
//!
//! A certificate binds a public key to an HSM's id and its token's serial number, and says what the key is for. Chains are
//! one certificate long: the trust anchor (`customerCA.crt`) has signed each of them. Signatures are checked here, outside
//! HSMs.

use std::time::SystemTime;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm,
};
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey as Parsed;

use super::{Error, params};
use crate::model::id::{ClusterId, HsmId};
use crate::model::identity::Statement;
use crate::model::limits;
use crate::model::secret::Secret;

/// id-at-serialNumber of X.520.
const SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];
/// Length of an uncompressed point of P-256.
const POINT_BYTES: usize = 65;

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

/// A certificate of the cluster's authority, as the daemon holds it.
#[derive(Clone, Debug)]
pub struct TrustAnchor {
    der: Vec<u8>,
    point: Vec<u8>,
}

/// What a certificate under the anchor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The HSM.
    pub hsm: HsmId,
    /// The token's serial number.
    pub serial: String,
    /// The key.
    pub public_key: PublicKey,
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
        let mut params = endless(&format!("keystored {cluster}"), now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
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
        let mut params = endless(hsm.as_str(), now);
        params.distinguished_name.push(DnType::OrganizationalUnitName, kind.unit());
        params.distinguished_name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), serial);
        params.key_usages = vec![match kind {
            Kind::Identity => KeyUsagePurpose::DigitalSignature,
            Kind::Transport => KeyUsagePurpose::KeyEncipherment,
        }];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&Foreign::of(key)?, &self.issuer)?.pem())
    }
}

fn endless(common_name: &str, now: SystemTime) -> CertificateParams {
    let mut params = params(common_name, now, std::time::Duration::ZERO);
    // RFC 5280, section 4.1.2.5: no well-defined end.
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
    params
}

/// A key whose private half is not here.
struct Foreign {
    bits: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl Foreign {
    fn of(key: &PublicKey) -> Result<Self, Error> {
        match key {
            PublicKey::P256(point) if point.len() == POINT_BYTES && point.first() == Some(&4) => {
                Ok(Self { bits: point.clone(), algorithm: &PKCS_ECDSA_P256_SHA256 })
            }
            PublicKey::P256(_) => Err(Error("not an uncompressed point of P-256".to_owned())),
            PublicKey::Rsa { modulus, exponent } => {
                // RSAPublicKey of PKCS #1.
                let numbers = [integer(modulus), integer(exponent)].concat();
                Ok(Self { bits: tagged(0x30, &numbers), algorithm: &PKCS_RSA_SHA256 })
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
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = &bytes[first..];
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
    Ok(parse(der)?.subject().as_raw().to_vec())
}

/// A DER certificate as PEM.
#[must_use]
pub fn pem_of(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

impl TrustAnchor {
    /// Reads the certificate of a cluster's authority.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        if pem.len() > limits::TRUST_ANCHOR_CHARS {
            return Err(Error("longer than any trust anchor".to_owned()));
        }
        let der = der_of(pem)?;
        let certificate = parse(&der)?;
        if !certificate.is_ca() {
            return Err(Error(
                "not the certificate of an authority; the ceremony keeps it as customerCA.crt".to_owned(),
            ));
        }
        let PublicKey::P256(point) = key_of(&certificate)? else {
            return Err(Error("the authority's key is not of P-256, as the ceremony makes it".to_owned()));
        };
        signed_by(&certificate, &point).map_err(|_| Error("not signed by itself".to_owned()))?;
        Ok(Self { point, der: der.clone() })
    }

    /// Whether both are certificates of one authority.
    #[must_use]
    pub fn is_same_authority(&self, other: &Self) -> bool {
        self.point == other.point
    }

    /// Reads a certificate that this anchor has signed for this kind of key.
    pub fn certified(&self, kind: Kind, der: &[u8], now: SystemTime) -> Result<Certified, Error> {
        let certificate = parse(der)?;
        let anchor = parse(&self.der)?;
        if certificate.issuer().as_raw() != anchor.subject().as_raw() || signed_by(&certificate, &self.point).is_err() {
            return Err(Error("its certificate is not one of this cluster's authority".to_owned()));
        }
        if certificate.is_ca() {
            return Err(Error("its certificate is an authority's".to_owned()));
        }
        let since_epoch = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let begins = certificate.validity().not_before.timestamp();
        if u64::try_from(begins).is_ok_and(|begins| begins > since_epoch) {
            return Err(Error("its certificate is not valid yet: see to the clock of this host".to_owned()));
        }
        let subject = certificate.subject();
        let unit = only(subject.iter_organizational_unit().map(|value| value.as_str()))?;
        if unit != kind.unit() {
            return Err(Error(format!("its certificate is for another use ({unit})")));
        }
        let hsm = only(subject.iter_common_name().map(|value| value.as_str()))?;
        let oid = x509_parser::oid_registry::OID_X509_SERIALNUMBER;
        let serial = only(subject.iter_by_oid(&oid).map(|value| value.as_str()))?;
        let hsm = HsmId::parse(hsm).ok_or_else(|| Error("its certificate names no HSM".to_owned()))?;
        let public_key = key_of(&certificate)?;
        if matches!(
            (kind, &public_key),
            (Kind::Identity, PublicKey::Rsa { .. }) | (Kind::Transport, PublicKey::P256(_))
        ) {
            return Err(Error("its certificate has a key of another type".to_owned()));
        }
        Ok(Certified { hsm, serial: serial.to_owned(), public_key })
    }
}

impl Certified {
    /// Checks that the certified key has signed the statement, and that the statement is about its HSM and token.
    /// `signature` is r and s, 32 bytes each.
    pub fn verify(&self, statement: &Statement, signature: &[u8]) -> Result<(), Error> {
        let PublicKey::P256(point) = &self.public_key else {
            return Err(Error("not a key that signs".to_owned()));
        };
        if statement.hsm != self.hsm || statement.serial != self.serial {
            return Err(Error("the statement is about another token".to_owned()));
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(&statement.to_bytes(), signature).map_err(|_| Error("the signature is not the key's".to_owned()))
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Error("something follows the certificate".to_owned())),
        Err(error) => Err(Error(format!("no X.509 certificate: {error}"))),
    }
}

fn key_of(certificate: &X509Certificate<'_>) -> Result<PublicKey, Error> {
    let unreadable = || Error("its public key cannot be read".to_owned());
    let info = certificate.public_key();
    let parsed = info.parsed().map_err(|_| unreadable())?;
    match parsed {
        Parsed::EC(point)
            if info.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && point.data().len() == POINT_BYTES =>
        {
            Ok(PublicKey::P256(point.data().to_vec()))
        }
        Parsed::RSA(rsa) if info.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION => {
            let bare = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
            Ok(PublicKey::Rsa { modulus: bare(rsa.modulus), exponent: bare(rsa.exponent) })
        }
        _ => Err(unreadable()),
    }
}

fn signed_by(certificate: &X509Certificate<'_>, point: &[u8]) -> Result<(), Error> {
    if certificate.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
        return Err(Error("signed by an algorithm that the ceremony does not use".to_owned()));
    }
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
    key.verify(certificate.tbs_certificate.as_ref(), certificate.signature_value.as_ref())
        .map_err(|_| Error("the signature is not the authority's".to_owned()))
}

fn only<'a, E>(mut values: impl Iterator<Item = Result<&'a str, E>>) -> Result<&'a str, Error> {
    match (values.next(), values.next()) {
        (Some(Ok(value)), None) => Ok(value),
        _ => Err(Error("its certificate does not name its HSM, serial number and use once each".to_owned())),
    }
}

#[cfg(test)]
mod tests;
