//! Certificates: making them for development, reading names and dates out of them, and what is wrong with those of a
//! server, for people.
//!
//! Whether a chain is trusted is not decided here but by rustls, in `server` and `client`.

#![forbid(unsafe_code)]

mod facts;
pub mod identity;
pub mod judge;
pub mod seal;

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use x509_parser::extensions::GeneralName;

use self::facts::parse;
pub use self::facts::{Facts, Validity, moment};
use model::secret::Secret;

/// How far the clocks of two machines may differ before a new certificate seems to come from the future.
const CLOCK_SLACK: Duration = Duration::from_secs(3_600);

/// What a client certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// `spiffe://…` of the first URI name that is one; else `dns:` and the first DNS name; else `cn:` and the common
    /// name.
    pub name: String,
    /// End of validity.
    pub not_after: SystemTime,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self(format!("the certificate cannot be made: {error}"))
    }
}

/// Reads the holder out of a DER certificate.
pub fn holder(der: &[u8]) -> Result<Holder, Error> {
    let certificate = parse(der)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| Error(format!("the certificate's alternative names cannot be read: {error}")))?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names[..]);
    let spiffe = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with("spiffe://") => Some((*uri).to_owned()),
        _ => None,
    });
    let dns = || {
        names.iter().find_map(|name| match name {
            GeneralName::DNSName(dns) => Some(format!("dns:{dns}")),
            _ => None,
        })
    };
    let common = || {
        let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
        (!name.is_empty()).then(|| format!("cn:{name}"))
    };
    let name = spiffe.or_else(dns).or_else(common).ok_or_else(|| {
        Error("the certificate names nobody: it needs a SPIFFE URI, a DNS name or a common name".to_owned())
    })?;
    // The name goes into log lines and records; a line break in it would forge one.
    if name.chars().any(char::is_control) {
        return Err(Error("the certificate's name has control characters in it".to_owned()));
    }
    Ok(Holder { name, not_after: Validity::read(&certificate).until })
}

/// Reads the holder out of the first certificate of a PEM file.
pub fn holder_of_pem(pem: &[u8]) -> Result<Holder, Error> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| Error(format!("no PEM: {error}")))?;
    holder(&pem.contents)
}

/// A certificate authority whose key is at hand: for development and tests.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate with its private key, both PEM.
pub struct Issued {
    /// The chain, leaf first.
    pub certificate: String,
    /// PKCS#8.
    pub key: Secret,
}

impl Authority {
    /// Makes a new authority with this common name, valid from an hour ago for `valid_for`.
    pub fn generate(name: &str, now: SystemTime, valid_for: Duration) -> Result<Self, Error> {
        let mut params = params(name, now, valid_for);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Takes up an authority that was made before, from its certificate and its key, both PEM.
    pub fn load(certificate: &str, key: &str) -> Result<Self, Error> {
        let read = |error: rcgen::Error| Error(format!("the authority cannot be read: {error}"));
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key).map_err(read)?).map_err(read)?;
        Ok(Self { issuer, certificate: certificate.to_owned() })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its private key, PEM. Whoever has it can call the daemon as anybody.
    #[must_use]
    pub fn key(&self) -> Secret {
        Secret::new(self.issuer.key().serialize_pem().into_bytes())
    }

    /// A server certificate for DNS names and IP addresses.
    pub fn server(&self, names: &[&str], now: SystemTime, valid_for: Duration) -> Result<Issued, Error> {
        let mut params = params(names.first().copied().unwrap_or("keystored"), now, valid_for);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into()?),
            });
        }
        self.issue(params)
    }

    /// A client certificate: a common name, and a SPIFFE URI where one is given.
    pub fn client(
        &self,
        common_name: &str,
        spiffe: Option<&str>,
        now: SystemTime,
        valid_for: Duration,
    ) -> Result<Issued, Error> {
        let mut params = params(common_name, now, valid_for);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(uri) = spiffe {
            params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        }
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Issued, Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: Secret::new(key.serialize_pem().into_bytes()) })
    }
}

fn params(common_name: &str, now: SystemTime, valid_for: Duration) -> CertificateParams {
    let from = now.checked_sub(CLOCK_SLACK).unwrap_or(UNIX_EPOCH);
    let mut params = CertificateParams::default();
    params.not_before = from.into();
    params.not_after = (now + valid_for).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// The certificates of a PEM text.
#[cfg(any(test, feature = "test-support"))]
#[must_use]
#[allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "for tests")]
pub fn der_list(pem: &str) -> Vec<Vec<u8>> {
    x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).map(|pem| pem.unwrap().contents).collect()
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn der(pem: &str) -> Vec<u8> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
        pem.contents
    }

    #[test]
    fn a_holder_is_named_by_spiffe_then_dns_then_common_name() {
        let authority = Authority::generate("test", now(), DAY).expect("made");
        let name = |issued: Issued| holder(&der(&issued.certificate)).expect("read").name;
        let client = authority.client("app", Some("spiffe://example/app"), now(), DAY).expect("made");
        assert_eq!(name(client), "spiffe://example/app");
        let client = authority.client("app", Some("https://example/app"), now(), DAY).expect("made");
        assert_eq!(name(client), "cn:app");
        let server = authority.server(&["127.0.0.1", "keys.example"], now(), DAY).expect("made");
        assert_eq!(name(server), "dns:keys.example");
        assert!(holder(b"nonsense").is_err());
        let nobody = authority.client("", None, now(), DAY).expect("made");
        assert!(holder(&der(&nobody.certificate)).expect_err("nobody").0.contains("names nobody"));
        let forger = authority.client("app\nINFO all is well", None, now(), DAY).expect("made");
        assert!(holder(&der(&forger.certificate)).is_err());
    }

    #[test]
    fn validity_ends_when_it_was_said_to() {
        let authority = Authority::generate("test", now(), DAY).expect("made");
        let client = authority.client("app", None, now(), DAY).expect("made");
        let until = holder(&der(&client.certificate)).expect("read").not_after;
        assert!(until >= now() + DAY && until < now() + DAY + Duration::from_secs(1));
    }

    #[test]
    fn an_authority_comes_back_from_its_files() {
        let authority = Authority::generate("test", now(), DAY).expect("made");
        let key = String::from_utf8(authority.key().into_exposed()).expect("PEM");
        let again = Authority::load(authority.certificate(), &key).expect("read");
        let client = again.client("app", None, now(), DAY).expect("made");
        let (ca, leaf) = (der(authority.certificate()), der(&client.certificate));
        let (_, ca) = X509Certificate::from_der(&ca).expect("read");
        let (_, leaf) = X509Certificate::from_der(&leaf).expect("read");
        assert_eq!(leaf.issuer(), ca.subject());
        assert!(ca.is_ca() && !leaf.is_ca());
        let usage = leaf.extended_key_usage().expect("read").expect("has one").value;
        assert!(usage.client_auth && !usage.server_auth);
    }
}
