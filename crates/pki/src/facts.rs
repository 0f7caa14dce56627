//! What a certificate says of itself, read once: names, times, what it may be used for.
//!
//! Whether any of it is good is decided elsewhere: for people in [`super::judge`], for connections by rustls.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;
use x509_parser::x509::{X509Name, X509Version};

use super::Error;

/// A name is for log lines, labels of metrics and terminals: longer ones are cut.
const NAME_CHARS: usize = 128;
/// Names of a certificate that are kept; no more are shown.
const NAMES: usize = 64;

/// From when until when a certificate is valid; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: SystemTime,
    /// The last one.
    pub until: SystemTime,
}

impl Validity {
    /// Reads it out of a DER certificate.
    pub fn of(der: &[u8]) -> Result<Self, Error> {
        Ok(Self::read(&parse(der)?))
    }

    /// When all of these certificates are valid; absent where there is no such time, or one cannot be read.
    pub fn common<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let each: Vec<Self> = chain.into_iter().map(Self::of).collect::<Result<_, _>>().ok()?;
        let from = each.iter().map(|validity| validity.from).max()?;
        let until = each.iter().map(|validity| validity.until).min()?;
        (from <= until).then_some(Self { from, until })
    }

    /// Whether the moment belongs to it.
    #[must_use]
    pub fn holds(&self, now: SystemTime) -> bool {
        self.from <= now && now <= self.until
    }

    pub(super) fn read(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        let at = |time: &ASN1Time| UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0));
        // The last second of validity is valid to its end.
        let until = at(&validity.not_after) + Duration::from_secs(1) - Duration::from_nanos(1);
        Self { from: at(&validity.not_before), until }
    }
}

/// What one certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its holder, such as `CN=keys.example`; without control characters.
    pub subject: String,
    /// Who has signed it, likewise.
    pub issuer: String,
    /// When it is valid.
    pub validity: Validity,
    /// The DNS names and IP addresses for which it is.
    pub names: Vec<String>,
    /// It is an authority's: basicConstraints say so, or it is from before there were any and signs itself.
    pub authority: bool,
    /// It has signed itself, or says so.
    pub own_issuer: bool,
    /// TLS servers may show it: extendedKeyUsage has serverAuth, or nothing forbids it.
    pub server: bool,
    /// Its key may sign what is no certificate, as TLS 1.3 wants it.
    pub signs: bool,
    /// Its key may sign certificates.
    pub certifies: bool,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
}

impl Facts {
    /// Reads a DER certificate.
    pub fn of(der: &[u8]) -> Result<Self, Error> {
        let certificate = parse(der)?;
        let unreadable = |_| Error("the certificate's extensions cannot be read".to_owned());
        let usage = certificate.key_usage().map_err(unreadable)?.map(|usage| usage.value);
        let purposes = certificate.extended_key_usage().map_err(unreadable)?.map(|usage| usage.value);
        let constraints = certificate.basic_constraints().map_err(unreadable)?;
        let own_issuer = certificate.subject().as_raw() == certificate.issuer().as_raw();
        let old_root = certificate.version() == X509Version::V1 && own_issuer;
        Ok(Self {
            subject: shown(certificate.subject()),
            issuer: shown(certificate.issuer()),
            validity: Validity::read(&certificate),
            names: names(&certificate).map_err(unreadable)?,
            authority: constraints.map_or(old_root, |constraints| constraints.value.ca),
            own_issuer,
            server: purposes.is_none_or(|purposes| purposes.any || purposes.server_auth),
            signs: usage.is_none_or(|usage| usage.digital_signature()),
            certifies: usage.is_none_or(|usage| usage.key_cert_sign()),
            subject_der: certificate.subject().as_raw().to_vec(),
            issuer_der: certificate.issuer().as_raw().to_vec(),
        })
    }

    /// Whether the other certificate carries the name of the one who has signed this one.
    #[must_use]
    pub fn names_as_issuer(&self, other: &Self) -> bool {
        self.issuer_der == other.subject_der
    }
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Error> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| Error(format!("no X.509 certificate: {error}")))?;
    Ok(certificate)
}

fn names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, x509_parser::error::X509Error> {
    let names = certificate.subject_alternative_name()?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names[..]);
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(plain(name)),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    };
    Ok(names.iter().filter_map(name).take(NAMES).collect())
}

fn shown(name: &X509Name<'_>) -> String {
    match plain(&name.to_string()) {
        empty if empty.is_empty() => "a nameless holder".to_owned(),
        text => text,
    }
}

/// Short, and nothing in it that a terminal would obey.
fn plain(text: &str) -> String {
    let hides = |c: &char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().take(NAME_CHARS).map(|c| if hides(&c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A moment for people, to the minute, such as `2027-03-01 12:30 UTC`.
#[must_use]
pub fn moment(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = i64::try_from(seconds).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    let Some(time) = time.map(|time| time.to_datetime()) else { return "the end of time".to_owned() };
    let (date, month) = (time.date(), u8::from(time.month()));
    format!("{:04}-{month:02}-{:02} {:02}:{:02} UTC", date.year(), date.day(), time.hour(), time.minute())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, der_list};

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn facts(pem: &str) -> Facts {
        Facts::of(&der_list(pem)[0]).unwrap()
    }

    #[test]
    fn a_certificate_is_read() {
        let authority = Authority::generate("test CA", now(), DAY).unwrap();
        let ca = facts(authority.certificate());
        assert!(ca.authority && ca.certifies && ca.own_issuer && !ca.signs, "{ca:?}");
        let server = facts(&authority.server(&["keys.example", "::1", "10.0.0.1"], now(), DAY).unwrap().certificate);
        assert_eq!(server.names, ["keys.example", "::1", "10.0.0.1"]);
        assert_eq!((server.subject.as_str(), server.issuer.as_str()), ("CN=keys.example", "CN=test CA"));
        assert!(server.server && server.signs && !server.authority && !server.certifies, "{server:?}");
        assert!(server.names_as_issuer(&ca) && !ca.names_as_issuer(&server));
        let client = facts(&authority.client("app\u{1b}[2J\u{202e}", None, now(), DAY).unwrap().certificate);
        assert!(!client.server && client.names.is_empty());
        assert_eq!(client.subject, "CN=app\u{fffd}[2J\u{fffd}");
        let nobody = facts(&authority.client("", None, now(), DAY).unwrap().certificate);
        assert!(!nobody.subject.is_empty());
        assert!(Facts::of(b"nonsense").is_err());
    }

    #[test]
    fn validity_ends_with_the_last_second_and_begins_with_the_first() {
        let authority = Authority::generate("test", now(), 3 * DAY).unwrap();
        let client = der_list(&authority.client("app", None, now(), DAY).unwrap().certificate).remove(0);
        let validity = Validity::of(&client).unwrap();
        assert!(validity.holds(validity.from) && validity.holds(validity.until) && validity.holds(now()));
        assert!(!validity.holds(validity.from - Duration::from_secs(1)));
        assert!(!validity.holds(now() + DAY + Duration::from_secs(1)));
        let later = der_list(&authority.client("app", None, now() + 2 * DAY, DAY).unwrap().certificate).remove(0);
        assert_eq!(Validity::common([&client[..]]), Some(validity));
        assert_eq!(Validity::common([&client[..], &later[..]]), None, "they are never valid together");
        assert_eq!(Validity::common([&client[..], b"nonsense"]), None);
        let ca = der_list(authority.certificate()).remove(0);
        assert_eq!(Validity::common([&client[..], &ca[..]]), Some(validity));
    }

    #[test]
    fn moments_are_for_people() {
        assert_eq!(moment(now()), "2027-01-15 08:00 UTC");
        assert_eq!(moment(UNIX_EPOCH), "1970-01-01 00:00 UTC");
        assert_eq!(moment(UNIX_EPOCH + Duration::from_secs(u64::MAX >> 8)), "the end of time");
    }
}
