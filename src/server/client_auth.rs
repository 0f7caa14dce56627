//! Client certificates in the handshake: which chains pass, and what is said of those that do not.
//!
//! TLS has one alert for a certificate that has ended and for one that is not valid yet, and none for one that names
//! nobody: a client could not tell its user what to mend. So the handshake decides about the chain alone, and a
//! certificate that is of a client CA but not valid at this moment passes it. **It is no one's right to anything:**
//! `auth::peer` checks each connection's chain strictly before its first call, by the verifier that is inside this one,
//! and a connection that fails gets one sentence for each of its calls and is closed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::terms::Terms;
use telemetry::metrics::Refused;

/// A client that was refused reads the alert in this time, or does not.
const FAREWELL: Duration = Duration::from_secs(1);
/// What it may have sent meanwhile.
const FAREWELL_BYTES: u64 = 64 << 10;

/// Lets chains pass that lead to a client CA, now or at the moment nearest to now at which they may.
#[derive(Debug)]
pub(super) struct AnyTime(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AnyTime {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.0.verify_client_cert(end_entity, intermediates, now) {
            // At the nearest moment at which the certificate that is not valid now is: everything else must hold then.
            Err(Error::InvalidCertificate(error)) => match nearest(&error) {
                Some(then) => self.0.verify_client_cert(end_entity, intermediates, then),
                None => Err(Error::InvalidCertificate(error)),
            },
            verdict => verdict,
        }
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }
}

/// When a certificate that is not valid now was valid last, or will be first.
fn nearest(error: &CertificateError) -> Option<UnixTime> {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => Some(*not_after),
        CertificateError::NotValidYetContext { not_before, .. } => Some(*not_before),
        _ => None,
    }
}

/// What is wrong with a chain, for the log and for calls on connections that are open.
pub(super) fn reason(error: &Error, section: &str) -> String {
    use CertificateError as Certificate;
    let Error::InvalidCertificate(error) = error else { return error.to_string() };
    match error {
        Certificate::UnknownIssuer => format!("it is of no CA in {section}.client_ca"),
        Certificate::BadSignature => "its signature is not that of the CA whose name it carries".to_owned(),
        Certificate::Expired | Certificate::ExpiredContext { .. } => {
            "it, or a CA's certificate above it, has ended".to_owned()
        }
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
            "it, or a CA's certificate above it, is not valid yet".to_owned()
        }
        Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. } => {
            "it is not for clients (extendedKeyUsage without clientAuth)".to_owned()
        }
        Certificate::BadEncoding => "it cannot be read".to_owned(),
        other => format!("it is not accepted: {other}"),
    }
}

/// Why a handshake failed: for the metric and the log.
pub(super) fn judge(error: &io::Error, terms: &Terms) -> (Refused, String) {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return (Refused::Handshake, format!("the client went away: {error}"));
    };
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            (Refused::UnknownCa, format!("the client's certificate: {}", reason(error, terms.section)))
        }
        Error::InvalidCertificate(_) => {
            (Refused::Certificate, format!("the client's certificate: {}", reason(error, terms.section)))
        }
        Error::NoCertificatesPresented => (Refused::NoCertificate, "the client showed no certificate".to_owned()),
        Error::AlertReceived(alert) => (
            Refused::Handshake,
            format!("the client does not accept this server's certificate or TLS: alert {alert:?}"),
        ),
        Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired) => {
            (Refused::Handshake, "the client does not speak TLS 1.3".to_owned())
        }
        Error::NoApplicationProtocol => {
            let protocol = String::from_utf8_lossy(terms.protocol);
            (Refused::Handshake, format!("the client does not offer what is spoken here (ALPN {protocol})"))
        }
        Error::InvalidMessage(_) => (Refused::Handshake, format!("what came is not TLS: {error}")),
        other => (Refused::Handshake, other.to_string()),
    }
}

/// Whether the client has come as far as to show a certificate, and so is one that reads why it is refused.
pub(super) fn has_shown_itself(refused: Refused) -> bool {
    matches!(refused, Refused::Certificate | Refused::UnknownCa | Refused::NoCertificate)
}

/// Closes a connection whose last words are an alert, so that they arrive: closing it while something that the client
/// has sent is unread would have the kernel throw them away.
pub(super) async fn part(mut stream: TcpStream) {
    let farewell = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(FAREWELL_BYTES), &mut tokio::io::sink()).await
    };
    // However it ends, the connection is over.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use rustls::RootCertStore;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::server::WebPkiClientVerifier;

    use super::*;
    use pki::{Authority, Issued};

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn over(authority: &Authority) -> AnyTime {
        let mut roots = RootCertStore::empty();
        roots.add(der(authority.certificate())).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        AnyTime(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap())
    }

    fn passes(verifier: &AnyTime, issued: &Issued, above: &[CertificateDer<'_>]) -> Result<(), Error> {
        let at = UnixTime::since_unix_epoch(now().duration_since(UNIX_EPOCH).unwrap());
        verifier.verify_client_cert(&der(&issued.certificate), above, at).map(|_| ())
    }

    #[test]
    fn a_chain_passes_whatever_the_time_and_another_cas_does_not() {
        let authority = Authority::generate("clients", now(), 30 * DAY).unwrap();
        let verifier = over(&authority);
        let stranger = Authority::generate("clients", now(), 30 * DAY).unwrap();
        for from in [now(), now() - 10 * DAY, now() + 10 * DAY] {
            let good = authority.client("app", None, from, DAY).unwrap();
            passes(&verifier, &good, &[]).unwrap();
            let strict = verifier.0.verify_client_cert(
                &der(&good.certificate),
                &[],
                UnixTime::since_unix_epoch(now().duration_since(UNIX_EPOCH).unwrap()),
            );
            assert_eq!(strict.is_ok(), from == now(), "the verifier inside is the strict one");
            // The CA's name is not its key, and what is for servers is for servers, at whatever time.
            let forged = passes(&verifier, &stranger.client("app", None, from, DAY).unwrap(), &[]).unwrap_err();
            assert!(
                matches!(forged, Error::InvalidCertificate(_)) && !reason(&forged, "grpc").contains("ended"),
                "{forged:?}"
            );
            let server = authority.server(&["localhost"], from, DAY).unwrap();
            let error = passes(&verifier, &server, &[]).unwrap_err();
            assert!(reason(&error, "grpc").contains("not for clients"), "{error:?}");
        }
    }

    #[test]
    fn every_failure_of_a_handshake_has_its_words() {
        let path = || std::path::PathBuf::from("x.pem");
        let files =
            config::Grpc { listen: ([127, 0, 0, 1], 0).into(), certificate: path(), key: path(), client_ca: path() };
        let terms = Terms::grpc(&files);
        let failure = |error: Error| judge(&io::Error::new(io::ErrorKind::InvalidData, error), &terms);
        let invalid = |error| failure(Error::InvalidCertificate(error));
        for ((refused, says), expected, words) in [
            (invalid(CertificateError::UnknownIssuer), Refused::UnknownCa, "of no CA in grpc.client_ca"),
            (invalid(CertificateError::InvalidPurpose), Refused::Certificate, "not for clients"),
            (invalid(CertificateError::BadEncoding), Refused::Certificate, "cannot be read"),
            (failure(Error::NoCertificatesPresented), Refused::NoCertificate, "no certificate"),
            (
                failure(Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired)),
                Refused::Handshake,
                "does not speak TLS 1.3",
            ),
            (failure(Error::NoApplicationProtocol), Refused::Handshake, "(ALPN h2)"),
            (judge(&io::ErrorKind::UnexpectedEof.into(), &terms), Refused::Handshake, "went away"),
        ] {
            assert!(says.contains(words), "{words}: {says}");
            assert_eq!(refused, expected, "{says}");
            assert!(!says.contains("http"), "{says}");
        }
    }
}
