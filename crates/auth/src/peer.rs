//! The principal behind a TLS connection, checked again at each call.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use pki::{self, Validity};

/// Who calls: the name by which principals are found, and records and logs know a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// A principal with this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// `spiffe://…`, `dns:NAME` or `cn:NAME`, whichever the certificate offers first; `access-key:ID` of calls that are
    /// signed with an access key, which no certificate is called.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a connection is encrypted, in CloudTrail's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `TLSv1.3`, say.
    pub version: &'static str,
    /// `TLS_AES_128_GCM_SHA256`, say.
    pub cipher_suite: &'static str,
}

/// Judges certificate chains by the client CAs of the moment. `server` implements it over rustls.
pub trait Trust: Send + Sync {
    /// Grows whenever the CAs change.
    fn generation(&self) -> u64;
    /// Whether the chain leads to one of the CAs now; the sentence says why not.
    fn check(&self, chain: &[Vec<u8>], now: SystemTime) -> Result<(), String>;
}

/// One client connection. Its chain is checked before the first call, and again whenever the CAs have changed or a
/// certificate of it may have ended: what a handshake lets pass is no right to a call.
pub struct Peer {
    /// Absent where the client showed no certificate.
    shown: Option<Shown>,
    source: Option<IpAddr>,
    tls: Option<Tls>,
}

/// What a client has shown.
struct Shown {
    /// Or why the certificate gives no name.
    principal: Result<Principal, String>,
    chain: Vec<Vec<u8>>,
    /// Of the client's own certificate.
    validity: Validity,
    /// Of the whole chain; absent where there is no such time.
    chain_validity: Option<Validity>,
    trust: Arc<dyn Trust>,
    checked_under: AtomicU64,
}

/// What no generation of CAs is called.
const UNCHECKED: u64 = 0;

/// Why a call on an open connection is refused. The connection's client has to come back with another certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// There is none.
    #[error("the client showed no certificate")]
    NotShown,
    /// The certificate has expired.
    #[error("the client certificate has expired; reconnect with a new one")]
    Expired,
    /// The certificate will be valid.
    #[error("the client certificate is not valid before {}; see to the clocks of both hosts, or wait until then", pki::moment(*.0))]
    NotYet(SystemTime),
    /// The certificate does not lead to a CA that is trusted now.
    #[error("the client certificate is not trusted: {0}")]
    Untrusted(String),
    /// The certificate is nobody's.
    #[error("{0}; have its CA issue another")]
    Nameless(String),
}

impl Peer {
    /// A connection whose handshake has just succeeded. `chain` is DER, the client's own certificate first; `trust`
    /// begins its generations with 1.
    pub fn new(chain: Vec<Vec<u8>>, trust: Arc<dyn Trust>) -> Result<Self, pki::Error> {
        let own = chain.first().ok_or_else(|| pki::Error("the client showed no certificate".to_owned()))?;
        let validity = Validity::of(own)?;
        let principal = pki::holder(own).map(|holder| Principal::new(&holder.name)).map_err(|error| error.0);
        let chain_validity = Validity::common(chain.iter().map(Vec::as_slice));
        let checked_under = AtomicU64::new(UNCHECKED);
        let shown = Shown { principal, chain, validity, chain_validity, trust, checked_under };
        Ok(Self { shown: Some(shown), source: None, tls: None })
    }

    /// A connection whose client showed no certificate, where none is needed. Nobody is let in by it: who calls must be
    /// proven by each call.
    #[must_use]
    pub fn without_certificate() -> Self {
        Self { shown: None, source: None, tls: None }
    }

    /// Whether the client showed a certificate.
    #[must_use]
    pub fn shows_certificate(&self) -> bool {
        self.shown.is_some()
    }

    /// The same connection, which came from this address.
    #[must_use]
    pub fn from_address(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The same connection, which is encrypted like this.
    #[must_use]
    pub fn over(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// How the connection is encrypted, where that is known.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.tls
    }

    /// The address that the connection came from, where that is known.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The last moment of the client's own certificate, where it showed one.
    #[must_use]
    pub fn until(&self) -> Option<SystemTime> {
        self.shown.as_ref().map(|shown| shown.validity.until)
    }

    /// The principal, if its certificate is good. Costs a few comparisons unless something has changed.
    pub fn admit(&self, now: SystemTime) -> Result<&Principal, CertificateRefusal> {
        self.shown.as_ref().ok_or(CertificateRefusal::NotShown)?.admit(now)
    }
}

impl Shown {
    fn admit(&self, now: SystemTime) -> Result<&Principal, CertificateRefusal> {
        if now > self.validity.until {
            return Err(CertificateRefusal::Expired);
        }
        if now < self.validity.from {
            return Err(CertificateRefusal::NotYet(self.validity.from));
        }
        let generation = self.trust.generation();
        // A certificate on the way to the CA that has expired may have been one that nobody needs: the check tells.
        let lasts = self.chain_validity.is_some_and(|validity| validity.holds(now));
        if !lasts || self.checked_under.load(Ordering::Acquire) != generation {
            self.trust.check(&self.chain, now).map_err(CertificateRefusal::Untrusted)?;
            self.checked_under.store(generation, Ordering::Release);
        }
        self.principal.as_ref().map_err(|why| CertificateRefusal::Nameless(why.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use model::clock::Clock;
    use pki::{Authority, der_list};

    const DAY: Duration = Duration::from_secs(86_400);

    /// Trusts or not, and counts how often it was asked.
    #[derive(Default)]
    struct Says {
        no: AtomicBool,
        generation: AtomicU64,
        asked: AtomicU64,
    }

    impl Trust for Says {
        fn generation(&self) -> u64 {
            1 + self.generation.load(Ordering::Relaxed)
        }

        fn check(&self, _: &[Vec<u8>], _: SystemTime) -> Result<(), String> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.no.load(Ordering::Relaxed) { Err("by nobody".to_owned()) } else { Ok(()) }
        }
    }

    fn peer(name: &str, from: SystemTime, trust: &Arc<Says>) -> Peer {
        let authority = Authority::generate("clients", from, 30 * DAY).unwrap();
        let chain = der_list(&authority.client(name, None, from, DAY).unwrap().certificate);
        Peer::new(chain, Arc::clone(trust) as _).unwrap()
    }

    #[test]
    fn a_chain_is_checked_before_the_first_call_and_when_cas_change() {
        let (trust, now) = (Arc::new(Says::default()), Clock::system().calendar());
        let peer = peer("app", now, &trust);
        for _ in 0..3 {
            assert_eq!(peer.admit(now).unwrap().as_str(), "cn:app");
        }
        assert_eq!(trust.asked.load(Ordering::Relaxed), 1);
        trust.no.store(true, Ordering::Relaxed);
        trust.generation.fetch_add(1, Ordering::Relaxed);
        for _ in 0..2 {
            assert_eq!(peer.admit(now).unwrap_err(), CertificateRefusal::Untrusted("by nobody".to_owned()));
        }
        trust.no.store(false, Ordering::Relaxed);
        peer.admit(now).unwrap();
    }

    #[test]
    fn what_a_lenient_handshake_let_pass_is_refused_with_its_reason() {
        let (trust, now) = (Arc::new(Says::default()), Clock::system().calendar());
        assert_eq!(peer("app", now - 10 * DAY, &trust).admit(now), Err(CertificateRefusal::Expired));
        let early = peer("app", now + 10 * DAY, &trust);
        let refusal = early.admit(now).unwrap_err();
        assert!(matches!(refusal, CertificateRefusal::NotYet(_)), "{refusal:?}");
        assert!(refusal.to_string().contains(" UTC; see to the clocks"), "{refusal}");
        early.admit(now + 10 * DAY).unwrap();
        let refusal = peer("", now, &trust).admit(now).unwrap_err().to_string();
        assert!(refusal.contains("names nobody") && refusal.contains("SPIFFE"), "{refusal}");
        trust.no.store(true, Ordering::Relaxed);
        assert!(matches!(peer("app", now, &trust).admit(now), Err(CertificateRefusal::Untrusted(_))));
    }

    #[test]
    fn a_certificate_on_the_way_that_has_ended_has_the_chain_checked_each_time() {
        let (trust, now) = (Arc::new(Says::default()), Clock::system().calendar());
        let authority = Authority::generate("clients", now, 30 * DAY).unwrap();
        let mut chain = der_list(&authority.client("app", None, now, DAY).unwrap().certificate);
        chain.extend(der_list(&authority.client("old", None, now - 20 * DAY, DAY).unwrap().certificate));
        let peer = Peer::new(chain, Arc::clone(&trust) as _).unwrap();
        for _ in 0..2 {
            peer.admit(now).unwrap();
        }
        assert_eq!(trust.asked.load(Ordering::Relaxed), 2);
        assert!(Peer::new(Vec::new(), trust as _).is_err());
    }

    #[test]
    fn nobody_is_let_in_by_a_connection_without_a_certificate() {
        let peer = Peer::without_certificate().from_address(IpAddr::from([192, 0, 2, 7]));
        assert_eq!(peer.admit(Clock::system().calendar()), Err(CertificateRefusal::NotShown));
        assert_eq!((peer.shows_certificate(), peer.until()), (false, None));
        assert_eq!(peer.source(), Some(IpAddr::from([192, 0, 2, 7])));
    }
}
