//! How a connection is encrypted, in CloudTrail's words, for the records of its calls.

use rustls::{CipherSuite, ProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use auth::peer::Tls;

/// What was agreed on; absent where that has no name.
pub(super) fn of(stream: &TlsStream<TcpStream>) -> Option<Tls> {
    let connection = stream.get_ref().1;
    let version = version(connection.protocol_version()?)?;
    Some(Tls { version, cipher_suite: cipher_suite(connection.negotiated_cipher_suite()?.suite())? })
}

fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

/// CloudTrail has IANA's names of TLS 1.3's, and OpenSSL's of older ones.
fn cipher_suite(suite: CipherSuite) -> Option<&'static str> {
    Some(match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        other => other.as_str()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_can_be_agreed_on_has_a_name() {
        for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            let name = cipher_suite(suite.suite()).unwrap();
            let of_13 = suite.tls13().is_some();
            assert_eq!((name.starts_with("TLS_"), name.starts_with("ECDHE-")), (of_13, !of_13), "{name}");
            assert!(version(suite.version().version).is_some());
        }
    }
}
