//! Who an HSM is: what its certificate says, what its token has signed, and that no identity stands in two places.
//!
//! This proves against tokens that were swapped, made blank, restored elsewhere or mixed up. It does not prove against
//! a malicious module, or one that relays to the token of somebody else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use super::happened::Happenings;
use model::clock::Clock;
use model::id::{ClusterId, HsmId, Zone};
use model::identity::{Purpose, Statement};
use model::lock::MutexExt as _;
use pki::identity::{Certified, Kind, TrustAnchor};
use protocol::Ready;

/// The identity keys in use in this daemon, over all clusters, and how often each HSM was refused.
#[derive(Debug, Default)]
pub struct Identities {
    claims: Mutex<BTreeMap<Vec<u8>, HsmId>>,
    refusals: Mutex<BTreeMap<HsmId, u64>>,
    /// What came of the admissions of HSMs.
    pub happened: Happenings,
}

impl Identities {
    /// Notes that `hsm` has proven to hold this key; the HSM that did so before, if it is another one.
    fn claim(&self, key: &[u8], hsm: &HsmId) -> Result<(), HsmId> {
        let mut claims = lock(&self.claims);
        match claims.get(key) {
            Some(holder) if holder != hsm => Err(holder.clone()),
            _ => {
                claims.insert(key.to_vec(), hsm.clone());
                Ok(())
            }
        }
    }

    /// The HSM is not used any more.
    pub fn release(&self, hsm: &HsmId) {
        lock(&self.claims).retain(|_, holder| holder != hsm);
    }

    /// How often the HSM did not prove to be the one that it should be, since the daemon was started.
    #[must_use]
    pub fn refusals(&self, hsm: &HsmId) -> u64 {
        lock(&self.refusals).get(hsm).copied().unwrap_or(0)
    }

    pub(super) fn refuse(&self, hsm: &HsmId) {
        *lock(&self.refusals).entry(hsm.clone()).or_default() += 1;
    }
}

/// What an HSM must be.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) anchor: &'a TrustAnchor,
    pub(super) cluster: &'a ClusterId,
    pub(super) hsm: &'a HsmId,
    pub(super) zone: &'a Zone,
    /// Where its certificate is, if it is not in the token.
    pub(super) file: Option<&'a Path>,
}

impl Expected<'_> {
    /// Looks at the certificate in the token, or in the HSM's file, before anybody logs in to it. Why not, in words.
    pub(super) fn certified(&self, found: &Ready, clock: &Clock) -> Result<Certified, String> {
        let certificate = found.identity.as_ref().ok_or(
            "its token holds no identity certificate (or more than one): it is not the token that the ceremony certified",
        )?;
        let certified = self.anchor.certified(Kind::Identity, certificate, clock.calendar());
        let certified = certified.map_err(|error| error.to_string())?;
        if certified.hsm != *self.hsm {
            return Err(match self.file {
                Some(_) => format!("the certificate in its file is HSM {}'s", certified.hsm),
                None => format!("its token was certified as HSM {}", certified.hsm),
            });
        }
        if certified.serial != found.serial {
            return Err(format!(
                "its token has the serial number {}, but was certified with {}",
                found.serial, certified.serial
            ));
        }
        Ok(certified)
    }

    /// What to do about one that did not prove to be itself.
    pub(super) fn remedy(&self) -> String {
        let sound = "put the certified token back, correct the configuration, or bring this token in by the ceremony";
        match self.file {
            None => sound.to_owned(),
            Some(file) => format!(
                "its certificate is read from {}: put {}.identity.crt of the ceremony folder there; else {sound}",
                file.display(),
                self.hsm
            ),
        }
    }

    /// What the token is to sign.
    pub(super) fn statement(&self, serial: &str, incarnation: u64, nonce: [u8; 32]) -> Statement {
        Statement {
            purpose: Purpose::Membership,
            cluster: self.cluster.clone(),
            hsm: self.hsm.clone(),
            zone: self.zone.clone(),
            serial: serial.to_owned(),
            incarnation,
            nonce,
        }
    }

    /// Checks what it has signed, and that no other HSM holds the same key.
    pub(super) fn verify(
        &self,
        certified: &Certified,
        statement: &Statement,
        signature: &[u8],
        identities: &Identities,
    ) -> Result<(), String> {
        certified.verify(statement, signature).map_err(|_| {
            "what its token signed does not fit its certificate: the token does not hold the certified identity key"
                .to_owned()
        })?;
        identities.claim(certified.public_key.as_ref(), self.hsm).map_err(|holder| {
            format!("its identity key is also HSM {holder}'s: one token, or a copy of it, stands behind both")
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock_anyway()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_place() {
        let identities = Identities::default();
        let (a, b): (HsmId, HsmId) = ("hsm-a".into(), "hsm-b".into());
        assert_eq!(identities.claim(b"key", &a), Ok(()));
        assert_eq!(identities.claim(b"key", &a), Ok(()));
        assert_eq!(identities.claim(b"key", &b), Err(a.clone()));
        identities.release(&a);
        assert_eq!(identities.claim(b"key", &b), Ok(()));
    }
}
