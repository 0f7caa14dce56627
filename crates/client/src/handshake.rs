//! Why no connection came about, in the words of the one who has to mend it: one sentence for each kind of failure.
//!
//! In TLS 1.3 the service looks at the client's certificate when the client has done its part, so that a refusal comes
//! as an alert at the first read, on a connection that seems to be there. What is decided here goes by rustls's types,
//! never by texts.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::chain::chain;
use pki::{Validity, moment};

/// What has to be mended so that there is a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The address is none.
    Address,
    /// A file with a certificate or a key cannot be used.
    Files,
    /// The caller's certificate is not accepted.
    ClientCertificate,
    /// The service's certificate, or the CA that the caller gave for it.
    ServerCertificate,
    /// The way to the service, or the service.
    Connection,
}

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) trouble: Trouble,
    pub(super) sentence: String,
}

/// Finds the reason in an error and its causes. `own` is when the caller's certificate is valid, where that is known.
pub(super) fn reason(error: &(dyn StdError + 'static), own: Option<Validity>) -> Reason {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(cause) = cause.downcast_ref::<io::Error>() {
            if let Some(tls) = cause.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                return of_tls(tls, own);
            }
            if let Some(reason) = of_io(cause) {
                return reason;
            }
        }
        if let Some(tls) = cause.downcast_ref::<Error>() {
            return of_tls(tls, own);
        }
        next = cause.source();
    }
    other(chain("", Some(error)).trim_start_matches(": ").to_owned())
}

/// Whether a status that came with these causes speaks of the handshake.
pub(super) fn is_of_handshake(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if cause.is::<Error>() || inner.is_some_and(|inner| inner.is::<Error>()) {
            return true;
        }
        next = cause.source();
    }
    false
}

fn other(sentence: String) -> Reason {
    Reason { trouble: Trouble::Connection, sentence }
}

fn of_io(error: &io::Error) -> Option<Reason> {
    let closed = "the service closed the connection at once: it is being stopped, has as many connections as it may have, or is no \
                  keystored";
    Some(other(match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => closed.to_owned(),
        _ => return None,
    }))
}

fn of_tls(error: &Error, own: Option<Validity>) -> Reason {
    match error {
        Error::AlertReceived(alert) => of_alert(*alert, own),
        Error::InvalidCertificate(error) => {
            Reason { trouble: Trouble::ServerCertificate, sentence: of_server_certificate(error) }
        }
        Error::InvalidMessage(_) => other("what listens there does not speak TLS; is this the gRPC port?".to_owned()),
        error => other(format!("TLS failed: {error}")),
    }
}

/// What an alert of the service says of the client's certificate.
fn of_alert(alert: AlertDescription, own: Option<Validity>) -> Reason {
    let why = match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "it is of none of the service's client CAs (grpc.client_ca), or intermediate CAs' certificates are missing \
             behind it"
                .to_owned()
        }
        AlertDescription::CertificateExpired => {
            let own = own.map(|own| format!(" (it is valid from {} until {})", moment(own.from), moment(own.until)));
            format!("it, or a CA's certificate above it, has ended or is not valid yet{}", own.unwrap_or_default())
        }
        AlertDescription::UnsupportedCertificate => {
            "it is not one for clients (extendedKeyUsage without clientAuth)".to_owned()
        }
        AlertDescription::CertificateRequired => "none was shown, and the service wants one".to_owned(),
        AlertDescription::CertificateRevoked => "it was revoked".to_owned(),
        AlertDescription::BadCertificate => "the service cannot read it".to_owned(),
        AlertDescription::CertificateUnknown | AlertDescription::AccessDenied => {
            "the service gives no reason; its log does".to_owned()
        }
        AlertDescription::NoApplicationProtocol => {
            return other("what listens there does not speak HTTP/2; is this the gRPC port?".to_owned());
        }
        AlertDescription::ProtocolVersion => return other("what listens there does not speak TLS 1.3".to_owned()),
        alert => {
            return other(format!("the service broke the handshake off (alert {alert:?}); its log has the reason"));
        }
    };
    Reason {
        trouble: Trouble::ClientCertificate,
        sentence: format!("the service does not accept the client certificate: {why}"),
    }
}

/// What is wrong with the service's certificate.
fn of_server_certificate(error: &CertificateError) -> String {
    let at = |time: &rustls::pki_types::UnixTime| {
        moment(std::time::UNIX_EPOCH + std::time::Duration::from_secs(time.as_secs()))
    };
    let clock = "unless this host's clock is wrong";
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("its certificate ended on {}: its operator has to renew it, {clock}", at(not_after))
        }
        CertificateError::Expired => format!("its certificate has ended: its operator has to renew it, {clock}"),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("its certificate is not valid before {}: its operator has to replace it, {clock}", at(not_before))
        }
        CertificateError::NotValidYet => {
            format!("its certificate is not valid yet: its operator has to replace it, {clock}")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
            format!("its certificate is not made for this name: it is for {names}, not for {}", expected.to_str())
        }
        CertificateError::NotValidForName => "its certificate is not made for this name".to_owned(),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not signed by the given CA".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not one for servers (extendedKeyUsage without serverAuth): its operator has to replace it"
                .to_owned()
        }
        other => format!("its certificate cannot be trusted ({other}): its operator has to replace it"),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn of(error: Error) -> Reason {
        // As tokio-rustls gives it.
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        reason(&error, None)
    }

    #[test]
    fn each_alert_says_what_is_wrong_with_the_client_certificate() {
        for (alert, says) in [
            (AlertDescription::UnknownCA, "none of the service's client CAs"),
            (AlertDescription::CertificateExpired, "has ended or is not valid yet"),
            (AlertDescription::UnsupportedCertificate, "not one for clients"),
            (AlertDescription::CertificateRequired, "none was shown"),
            (AlertDescription::BadCertificate, "cannot read it"),
            (AlertDescription::AccessDenied, "gives no reason"),
        ] {
            let reason = of(Error::AlertReceived(alert));
            assert_eq!(reason.trouble, Trouble::ClientCertificate, "{alert:?}");
            assert!(reason.sentence.contains("does not accept the client certificate"), "{reason:?}");
            assert!(reason.sentence.contains(says), "{reason:?}");
        }
        assert_eq!(of(Error::AlertReceived(AlertDescription::ProtocolVersion)).trouble, Trouble::Connection);
    }

    #[test]
    fn each_fault_of_the_services_certificate_has_its_sentence() {
        let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000));
        let expected = ServerName::try_from("keys.example").unwrap();
        for (error, says) in [
            (CertificateError::ExpiredContext { time: then, not_after: then }, "ended on 2027-01-15 08:00 UTC"),
            (CertificateError::NotValidYetContext { time: then, not_before: then }, "not valid before 2027-01-15"),
            (
                CertificateError::NotValidForNameContext { expected, presented: vec!["other.example".to_owned()] },
                "not made for this name: it is for other.example, not for keys.example",
            ),
            (CertificateError::UnknownIssuer, "not signed by the given CA"),
            (CertificateError::InvalidPurpose, "not one for servers"),
        ] {
            let reason = of(Error::InvalidCertificate(error));
            assert_eq!(reason.trouble, Trouble::ServerCertificate);
            assert!(reason.sentence.contains(says), "{says}: {reason:?}");
        }
    }

    #[test]
    fn no_sentence_leads_into_another_programs_documentation() {
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            let error = io::Error::new(kind, "see https://docs.rs/rustls/unexpected-eof");
            let reason = reason(&error, None);
            assert!(reason.sentence.contains("closed the connection at once"), "{reason:?}");
            assert!(!reason.sentence.contains("docs.rs"), "{reason:?}");
        }
        let garbage = of(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType));
        assert!(garbage.sentence.contains("does not speak TLS"), "{garbage:?}");
    }

    #[test]
    fn the_cause_is_found_below_others() {
        #[derive(Debug, thiserror::Error)]
        #[error("transport error")]
        struct Outer(#[source] io::Error);
        let alert = Error::AlertReceived(AlertDescription::UnknownCA);
        let outer = Outer(io::Error::new(io::ErrorKind::InvalidData, alert));
        assert_eq!(reason(&outer, None).trouble, Trouble::ClientCertificate);
        assert!(is_of_handshake(&outer));
        let refused = Outer(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(reason(&refused, None).sentence, "nothing listens there");
        assert!(!is_of_handshake(&refused));
        let other = Outer(io::Error::other("no route"));
        assert!(reason(&other, None).sentence.contains("no route"), "{other:?}");
    }
}
