//! The fingerprint by which people compare certificates.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// SHA-256 of the first certificate in a PEM text, as 64 lower-case hexadecimal digits; none where the text holds no
/// certificate.
#[must_use]
pub fn fingerprint(pem: &str) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let mut text = String::with_capacity(64);
    for byte in digest(&SHA256, &certificate).as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_digest_of_what_the_pem_holds() {
        // base64 of "abc", whose digest FIPS 180-4 gives as its first example.
        let pem = "before\n-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprint(pem).as_deref(), Some(expected));
    }

    #[test]
    fn what_is_no_certificate_has_none() {
        assert_eq!(fingerprint(""), None);
        assert_eq!(fingerprint("-----BEGIN PRIVATE KEY-----\nYWJj\n-----END PRIVATE KEY-----\n"), None);
    }
}
