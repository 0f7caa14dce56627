//! The trust anchor, what it certified, and what tokens sign. All of it is checked here, outside HSMs.

#[cfg(test)]
mod tests;

use std::time::SystemTime;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ECDSA_WITH_SHA256,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey as Parsed;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{Kind, PublicKey, authority_name, der_of, is_point, tagged};
use crate::Error;
use model::id::{ClusterId, HsmId};
use model::identity::{Statement, significant};
use model::limits;

/// No certificate that the ceremony makes comes near it.
const MOST_BYTES: usize = 4_096;
/// The AlgorithmIdentifier of ecdsa-with-SHA256, DER.
const ECDSA_WITH_SHA256: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// A certificate of the cluster's authority, as the daemon holds it.
#[derive(Clone, Debug)]
pub struct TrustAnchor {
    der: Vec<u8>,
    pub(super) point: Vec<u8>,
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

impl TrustAnchor {
    /// Reads the certificate of a cluster's authority.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        if pem.len() > limits::TRUST_ANCHOR_CHARS {
            return Err(Error("longer than any trust anchor".to_owned()));
        }
        let der = der_of(pem)?;
        let certificate = parse(&der)?;
        let signs = certificate.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign());
        if !certificate.is_ca() || !signs {
            return Err(Error(
                "not the certificate of an authority; the ceremony keeps it as customerCA.crt".to_owned(),
            ));
        }
        only_known_extensions(&certificate)?;
        let PublicKey::P256(point) = key_of(&certificate)? else {
            return Err(Error("the authority's key is not of P-256, as the ceremony makes it".to_owned()));
        };
        let own_name = certificate.issuer().as_raw() == certificate.subject().as_raw();
        if !own_name || signed_by(&der, &certificate, &point).is_err() {
            return Err(Error("not signed by itself".to_owned()));
        }
        Ok(Self { der, point })
    }

    /// Whether both are certificates of one authority.
    #[must_use]
    pub fn is_same_authority(&self, other: &Self) -> bool {
        self.point == other.point
    }

    /// Whether the ceremony made it for this cluster.
    #[must_use]
    pub fn is_of(&self, cluster: &ClusterId) -> bool {
        let names = |certificate: X509Certificate<'_>| {
            only(certificate.subject().iter_common_name().map(|value| value.as_str())).map(str::to_owned)
        };
        parse(&self.der).and_then(names).is_ok_and(|name| name == authority_name(cluster))
    }

    /// Reads a certificate that this anchor has signed for this kind of key.
    pub fn certified(&self, kind: Kind, der: &[u8], now: SystemTime) -> Result<Certified, Error> {
        let certificate = parse(der)?;
        let anchor = parse(&self.der)?;
        if certificate.issuer().as_raw() != anchor.subject().as_raw()
            || signed_by(der, &certificate, &self.point).is_err()
        {
            return Err(Error("its certificate is not one of this cluster's authority".to_owned()));
        }
        said(kind, &certificate, now)
    }
}

/// What a certificate says, whoever has signed it: for people, as `keystored check` knows no trust anchor. Nothing may
/// depend on it that [`TrustAnchor::certified`] has not confirmed.
pub fn claimed(kind: Kind, der: &[u8], now: SystemTime) -> Result<Certified, Error> {
    said(kind, &parse(der)?, now)
}

fn said(kind: Kind, certificate: &X509Certificate<'_>, now: SystemTime) -> Result<Certified, Error> {
    only_known_extensions(certificate)?;
    if certificate.is_ca() {
        return Err(Error("its certificate is an authority's".to_owned()));
    }
    let since_epoch = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let begins = certificate.validity().not_before.timestamp();
    if u64::try_from(begins).is_ok_and(|begins| begins > since_epoch) {
        return Err(Error("its certificate is not valid yet: see to the clock of this host".to_owned()));
    }
    // The ceremony's have no end; an operator may have made one that has.
    if u64::try_from(certificate.validity().not_after.timestamp()).map_or(true, |ends| ends < since_epoch) {
        return Err(Error(
            "its certificate has expired: those that the ceremony makes have no end; see to the clock of this host"
                .to_owned(),
        ));
    }
    let subject = certificate.subject();
    let unit = only(subject.iter_organizational_unit().map(|value| value.as_str()))?;
    if unit != kind.unit() {
        return Err(Error(format!("its certificate is for another use ({unit})")));
    }
    let usage = certificate.key_usage().ok().flatten().map(|usage| usage.value.flags);
    if usage != Some(kind.usage_bits()) {
        return Err(Error("its certificate allows another use of its key".to_owned()));
    }
    let hsm = only(subject.iter_common_name().map(|value| value.as_str()))?;
    let oid = x509_parser::oid_registry::OID_X509_SERIALNUMBER;
    let serial = only(subject.iter_by_oid(&oid).map(|value| value.as_str()))?;
    let hsm = HsmId::parse(hsm).ok_or_else(|| Error("its certificate names no HSM".to_owned()))?;
    let public_key = key_of(certificate)?;
    public_key.check(kind)?;
    Ok(Certified { hsm, serial: serial.to_owned(), public_key })
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

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    if der.len() > MOST_BYTES {
        return Err(Error(format!("no certificate of the ceremony: {} bytes", der.len())));
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Error("something follows the certificate".to_owned())),
        Err(error) => Err(Error(format!("no X.509 certificate: {error}"))),
    }
}

/// The key in a certificate, whoever has signed that: for people to look at, and nothing to rely on.
pub fn public_key_of(der: &[u8]) -> Result<PublicKey, Error> {
    key_of(&parse(der)?)
}

fn key_of(certificate: &X509Certificate<'_>) -> Result<PublicKey, Error> {
    let unreadable = || Error("its public key cannot be read".to_owned());
    let info = certificate.public_key();
    let parsed = info.parsed().map_err(|_| unreadable())?;
    match parsed {
        Parsed::EC(point) if is_p256(info) && is_point(point.data()) => Ok(PublicKey::P256(point.data().to_vec())),
        Parsed::RSA(rsa) if info.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION => {
            let bare = |bytes: &[u8]| significant(bytes).to_vec();
            Ok(PublicKey::Rsa { modulus: bare(rsa.modulus), exponent: bare(rsa.exponent) })
        }
        _ => Err(unreadable()),
    }
}

fn is_p256(info: &SubjectPublicKeyInfo<'_>) -> bool {
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    info.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY && curve == Some(OID_EC_P256)
}

/// ECDSA with P-256 and SHA-256: the only algorithm that an authority of the ceremony uses.
fn signed_by(der: &[u8], certificate: &X509Certificate<'_>, point: &[u8]) -> Result<(), Error> {
    let signature = certificate.signature_value.as_ref();
    // What stands around the signed part is itself not signed, and the parser is lenient there: compared byte by byte,
    // so that one certificate has one form.
    let parts =
        [certificate.tbs_certificate.as_ref(), &ECDSA_WITH_SHA256, &tagged(BIT_STRING, &[&[0], signature].concat())];
    if der != tagged(SEQUENCE, &parts.concat())
        || certificate.tbs_certificate.signature.algorithm != OID_SIG_ECDSA_WITH_SHA256
    {
        return Err(Error("signed by an algorithm that the ceremony does not use".to_owned()));
    }
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
    key.verify(certificate.tbs_certificate.as_ref(), signature)
        .map_err(|_| Error("the signature is not the authority's".to_owned()))
}

/// What a critical extension says must be understood, or the certificate refused.
fn only_known_extensions(certificate: &X509Certificate<'_>) -> Result<(), Error> {
    for extension in certificate.extensions().iter().filter(|extension| extension.critical) {
        let parsed = extension.parsed_extension();
        if !matches!(parsed, ParsedExtension::BasicConstraints(_) | ParsedExtension::KeyUsage(_)) {
            return Err(Error(format!("the certificate has the unknown critical extension {}", extension.oid)));
        }
    }
    Ok(())
}

fn only<'a, E>(mut values: impl Iterator<Item = Result<&'a str, E>>) -> Result<&'a str, Error> {
    match (values.next(), values.next()) {
        (Some(Ok(value)), None) => Ok(value),
        _ => Err(Error("its certificate does not name its HSM, serial number and use once each".to_owned())),
    }
}
