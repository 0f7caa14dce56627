//! The principal behind a TLS connection, checked again at each call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Who calls: the name by which rules, records and logs know a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// A principal with this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// `spiffe://…`, `dns:NAME` or `cn:NAME`, whichever the certificate offers first.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Judges certificate chains by the client CAs of the moment. `server` implements it over rustls.
pub trait Trust: Send + Sync {
    /// Grows whenever the CAs change.
    fn generation(&self) -> u64;
    /// Whether the chain leads to one of the CAs now; the sentence says why not.
    fn check(&self, chain: &[Vec<u8>], now: SystemTime) -> Result<(), String>;
}

/// One client connection: its chain was checked in the handshake, and is again whenever the CAs have changed.
pub struct Peer {
    principal: Principal,
    chain: Vec<Vec<u8>>,
    not_after: SystemTime,
    chain_until: SystemTime,
    trust: Arc<dyn Trust>,
    checked_under: AtomicU64,
}

/// Why a call on an open connection is refused. The connection's client has to come back with another certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The certificate has expired since the handshake.
    #[error("the client certificate has expired; reconnect with a new one")]
    Expired,
    /// The certificate's CA is no longer trusted.
    #[error("the client certificate is no longer trusted: {0}")]
    Untrusted(String),
}

impl Peer {
    /// A connection whose handshake has just succeeded under `generation` of the CAs. `chain` is DER, the client's own
    /// certificate first, which is valid until `not_after`; no certificate of it expires before `chain_until`.
    #[must_use]
    pub fn new(
        principal: Principal,
        chain: Vec<Vec<u8>>,
        not_after: SystemTime,
        chain_until: SystemTime,
        trust: Arc<dyn Trust>,
        generation: u64,
    ) -> Self {
        Self { principal, chain, not_after, chain_until, trust, checked_under: AtomicU64::new(generation) }
    }

    /// The principal, if its certificate is still good. Costs three comparisons unless something has changed.
    pub fn admit(&self, now: SystemTime) -> Result<&Principal, Refusal> {
        if now > self.not_after {
            return Err(Refusal::Expired);
        }
        let generation = self.trust.generation();
        // A certificate on the way to the CA that has expired may have been one that nobody needs: the check tells.
        if now > self.chain_until || self.checked_under.load(Ordering::Acquire) != generation {
            self.trust.check(&self.chain, now).map_err(Refusal::Untrusted)?;
            self.checked_under.store(generation, Ordering::Release);
        }
        Ok(&self.principal)
    }
}
