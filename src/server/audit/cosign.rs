//! The HSMs of all connected zones sign the log's heads: a thread of the log asks, the runtime carries it out.

use std::collections::BTreeMap;
use std::sync::{Mutex, Weak};
use std::time::{Duration, Instant};

use super::{Audit, Inner};
use audit::note::{Cosigner, Line, VerifierKey};
use model::id::HsmId;
use model::lock::MutexExt as _;
use telemetry::fault;
use telemetry::watchdog::Task;

/// What HSMs get to sign.
const SIGN: Duration = Duration::from_secs(2);

/// The log keys of HSMs that are known, and when each HSM signed last.
#[derive(Default)]
pub(super) struct Signers {
    keys: Mutex<BTreeMap<HsmId, VerifierKey>>,
    signed: Mutex<BTreeMap<HsmId, Instant>>,
}

impl Signers {
    /// These are the keys of those who are connected.
    pub(super) fn are(&self, keys: BTreeMap<HsmId, VerifierKey>) {
        *self.keys.lock_anyway() = keys;
    }

    /// How long ago each of those who are connected signed last; those that have not are left out.
    pub(super) fn ages(&self, now: Instant) -> Vec<(HsmId, Duration)> {
        let keys = self.keys.lock_anyway();
        let signed = self.signed.lock_anyway();
        let connected = signed.iter().filter(|(hsm, _)| keys.contains_key(*hsm));
        connected.map(|(hsm, at)| (hsm.clone(), now.saturating_duration_since(*at))).collect()
    }

    /// The lines of those whose key is known and whose signature is good: one that is not would make the head doubtful.
    fn lines(&self, text: &[u8], signatures: Vec<(HsmId, Vec<u8>)>, now: Instant) -> Vec<Line> {
        let keys = self.keys.lock_anyway();
        let mut lines = Vec::new();
        for (hsm, signature) in signatures {
            let Some(key) = keys.get(&hsm) else { continue };
            match key.line(signature) {
                Ok(line) if key.verify(text, &line) => {
                    self.signed.lock_anyway().insert(hsm, now);
                    lines.push(line);
                }
                _ => {
                    tracing::warn!(%hsm, "an HSM has signed a head of the audit log wrongly; its signature is left out")
                }
            }
        }
        lines
    }
}

/// All connected zones.
pub(super) struct Zones(Weak<Inner>);

impl Zones {
    pub(super) fn new(audit: &Audit) -> Self {
        // The log, which has this, is a part of it.
        Self(std::sync::Arc::downgrade(&audit.0))
    }
}

impl Cosigner for Zones {
    fn cosign(&self, text: &[u8]) -> Vec<Line> {
        fault::hit(Task::Heads, "");
        let Some(audit) = self.0.upgrade() else { return Vec::new() };
        let Some(service) = audit.service.get() else { return Vec::new() };
        let deadline = audit.clock.now() + SIGN;
        let asked = async { tokio::time::timeout(SIGN, service.sign_checkpoint(text, deadline)).await };
        let signatures = audit.runtime.block_on(asked).unwrap_or_default();
        audit.signers.lines(text, signatures, audit.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audit::note::LogKey;
    use model::clock::Clock;

    #[test]
    fn only_good_signatures_of_known_keys_are_taken() {
        let key = |name: &str| LogKey::generate(name).unwrap();
        let (a, b, c) = (key("o/a"), key("o/b"), key("o/c"));
        let signers = Signers::default();
        let keys = [("a", &a), ("b", &b)].map(|(hsm, key)| (HsmId::from(hsm), key.verifier().clone()));
        signers.are(keys.into());
        let text = b"a head\n";
        let signature = |key: &LogKey, text: &[u8]| key.sign(text).signature().to_vec();
        let signatures = vec![
            (HsmId::from("a"), signature(&a, text)),
            (HsmId::from("b"), signature(&b, b"another head\n")),
            (HsmId::from("c"), signature(&c, text)),
        ];
        let now = Clock::manual().now();
        let lines = signers.lines(text, signatures, now);
        assert_eq!(lines.iter().map(Line::name).collect::<Vec<_>>(), ["o/a"]);
        let later = now + Duration::from_secs(3);
        assert_eq!(signers.ages(later), [(HsmId::from("a"), Duration::from_secs(3))]);
        signers.are(BTreeMap::new());
        assert_eq!(signers.ages(later), [], "one that is not connected does not age");
    }
}
