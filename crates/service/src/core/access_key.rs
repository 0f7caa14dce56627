//! Access keys as calls need them: whose each is, with its secret opened, once per change and not once per call. A secret is
//! wiped when its key is disabled or deleted and nobody works with it any more.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rpds::RedBlackTreeMapSync;
use zeroize::Zeroizing;

use super::Core;
use super::usage::Recent;
use crate::Error;
use auth::peer::Principal;
use model::id::{AccessKeyId, PrincipalId};
use model::lock::MutexExt as _;
use model::secret::Secret;
use pki::seal::SealKeys;
use store::Catalogue;
use store::access::LastAccess;

/// What secrets are sealed for, beside the key's id and its principal's: one that was moved to another key, or a key that
/// was moved to another principal, does not open.
const PURPOSE: &str = "access key";
/// Random bytes of a secret: 40 characters of base 64, as AWS's have.
const SECRET_BYTES: usize = 30;
const SECRET_CHARS: usize = SECRET_BYTES / 3 * 4;

/// An access key with which calls may be signed.
#[derive(Clone)]
pub struct AccessKey {
    /// As whom they are made: `access-key:ID`, which the access rules map to the key's principal.
    pub principal: Principal,
    /// What they are signed with. Wiped when nobody has it any more.
    pub secret: Arc<Zeroizing<String>>,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// An active access key.
struct Signer {
    key: AccessKey,
    /// What the secret was opened from.
    sealed: Bytes,
    usage: Arc<Recent<LastAccess>>,
}

/// The active access keys of one revision of the catalogue, by their ids.
#[derive(Clone, Default)]
pub(crate) struct Signers(RedBlackTreeMapSync<Arc<str>, Arc<Signer>>);

impl Signers {
    /// Those of a catalogue, where these are those of an older one; all are looked at again where `anew` says so, since a
    /// seal key may have come.
    pub(crate) fn next(
        &self,
        older: &Catalogue,
        catalogue: &Catalogue,
        anew: bool,
        seals: &SealKeys,
        uses: &AccessUses,
    ) -> Self {
        let changed = catalogue.principals_changed_since(older).filter(|_| !anew);
        let (mut next, mut closed) = (self.clone(), Vec::new());
        match changed {
            Some(changed) => {
                for id in changed {
                    let was = older.principal(&id).into_iter().flat_map(|was| &was.access_keys);
                    for key in was {
                        next.0.remove_mut(key.id.as_str());
                    }
                    let is = catalogue.principal(&id).into_iter().flat_map(|is| &is.access_keys);
                    self.enter(&mut next, &id, is, (seals, uses), &mut closed);
                }
            }
            None => {
                next = Self::default();
                for of in catalogue.principals_after(None) {
                    self.enter(&mut next, &of.id, of.access_keys.iter(), (seals, uses), &mut closed);
                }
            }
        }
        if let Some((id, why)) = closed.first() {
            tracing::warn!(access_key = %id, why, more = closed.len() - 1,
                "the secret of an access key cannot be opened; calls that are signed with the key are refused");
        }
        next
    }

    /// Enters those that are active, and takes over what was opened before.
    fn enter<'a>(
        &self,
        next: &mut Self,
        of: &PrincipalId,
        keys: impl Iterator<Item = &'a store::access::AccessKey>,
        (seals, uses): (&SealKeys, &AccessUses),
        closed: &mut Vec<(AccessKeyId, String)>,
    ) {
        for key in keys.filter(|key| key.active) {
            let known = self.0.get(key.id.as_str()).filter(|known| known.sealed == key.sealed);
            let signer = match known {
                Some(known) => Ok(Arc::clone(known)),
                None => opened(seals, &key.id, of, &key.sealed).map(|secret| {
                    let principal = Principal::new(&key.id.identity());
                    let key_of_call = AccessKey { principal, secret: Arc::new(secret) };
                    Arc::new(Signer { key: key_of_call, sealed: key.sealed.clone(), usage: uses.of(&key.id) })
                }),
            };
            match signer {
                Ok(signer) => next.0.insert_mut(key.id.as_str().into(), signer),
                Err(why) => closed.push((key.id.clone(), why)),
            }
        }
    }
}

/// A new secret.
pub(crate) fn new_secret() -> Result<Zeroizing<String>, Error> {
    let no_random = |_| Error::internal("the operating system gives no random bytes");
    let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
    SystemRandom::new().fill(&mut bytes[..]).map_err(no_random)?;
    let mut digits = Zeroizing::new(vec![0; SECRET_CHARS]);
    STANDARD.encode_slice(&bytes[..], &mut digits).map_err(|error| Error::internal(&error.to_string()))?;
    text(std::mem::take(&mut *digits)).map_err(Error::internal)
}

/// A secret as it is kept.
pub(crate) fn sealed(seals: &SealKeys, id: &AccessKeyId, of: &PrincipalId, secret: &str) -> Result<Bytes, Error> {
    let secret = Secret::new(secret.as_bytes().to_vec());
    let sealed = seals.seal(&[PURPOSE, id.as_str(), of.as_str()], &secret);
    sealed.map(Bytes::from).map_err(|error| Error::internal(&format!("the secret of an access key: {error}")))
}

/// A sealed secret, sealed under the seal key in use.
pub(crate) fn resealed(seals: &SealKeys, id: &AccessKeyId, of: &PrincipalId, sealed: &[u8]) -> Result<Bytes, String> {
    let purpose = [PURPOSE, id.as_str(), of.as_str()];
    let secret = seals.open(&purpose, sealed).map_err(|error| error.to_string())?;
    seals.seal(&purpose, &secret).map(Bytes::from).map_err(|error| error.to_string())
}

fn opened(seals: &SealKeys, id: &AccessKeyId, of: &PrincipalId, sealed: &[u8]) -> Result<Zeroizing<String>, String> {
    let secret = seals.open(&[PURPOSE, id.as_str(), of.as_str()], sealed).map_err(|error| error.to_string())?;
    text(secret.into_exposed()).map_err(str::to_owned)
}

fn text(bytes: Vec<u8>) -> Result<Zeroizing<String>, &'static str> {
    String::from_utf8(bytes).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        "the secret of an access key is no text"
    })
}

/// When each access key was used last.
#[derive(Debug, Default)]
pub(crate) struct AccessUses(Mutex<HashMap<AccessKeyId, Arc<Recent<LastAccess>>>>);

impl AccessUses {
    pub(crate) fn of(&self, id: &AccessKeyId) -> Arc<Recent<LastAccess>> {
        let mut uses = self.0.lock_anyway();
        Arc::clone(uses.entry(id.clone()).or_insert_with(|| Arc::new(Recent::known(None))))
    }
}

impl Recent<LastAccess> {
    fn note_access(&self, at: i64, service: &str) {
        self.note_at(at, || LastAccess { at, service: service.to_owned() });
    }
}

impl Core {
    /// The access key with this id, if it is active and its secret can be opened.
    pub(crate) fn access_key(&self, id: &str) -> Option<AccessKey> {
        self.keyring().signers.0.get(id).map(|signer| signer.key.clone())
    }

    /// Takes note that a call was signed with an access key.
    pub(crate) fn access_key_used(&self, id: &str, service: &'static str) {
        if let Some(signer) = self.keyring().signers.0.get(id) {
            signer.usage.note_access(self.clock().unix_millis(), service);
        }
    }

    /// Takes over what is on record. Before the first call.
    pub(crate) async fn load_access_uses(&self) {
        match self.store().access_known().await {
            Ok(known) => {
                let known = known.into_iter().map(|(id, last)| {
                    let at = last.at;
                    (id, Arc::new(Recent::known(Some((at, last)))))
                });
                self.access_uses().0.lock_anyway().extend(known);
            }
            Err(error) => tracing::warn!(%error, "when access keys were used last could not be read"),
        }
    }

    /// Puts on record what was not yet, and forgets those that are gone. What cannot be recorded is kept for the next time.
    pub(crate) async fn record_access(&self) {
        let (mut uses, mut of) = (Vec::new(), Vec::new());
        {
            let mut all = self.access_uses().0.lock_anyway();
            for (id, usage) in all.iter() {
                if let Some(last) = usage.take_untold() {
                    uses.push((id.clone(), last));
                    of.push(Arc::clone(usage));
                }
            }
            if uses.is_empty() {
                return;
            }
            // Of a moment after each of them came into the map.
            let catalogue = self.store().catalogue();
            let there: BTreeSet<&AccessKeyId> =
                catalogue.principals_after(None).flat_map(|of| &of.access_keys).map(|key| &key.id).collect();
            all.retain(|id, _| there.contains(id));
        }
        if let Err(error) = self.store().note_access(&uses).await {
            of.iter().for_each(|usage| usage.keep_untold());
            tracing::debug!(%error, "the last use of access keys could not be recorded yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::seal::SealKey;

    #[test]
    fn a_secret_opens_for_its_key_and_principal_alone() {
        let seals = SealKeys::new(SealKey::test(), Vec::new());
        let (id, of) = (AccessKeyId::random(), PrincipalId::random());
        let secret = new_secret().unwrap();
        assert_eq!(secret.len(), 40);
        assert_eq!(STANDARD.decode(&**secret).unwrap().len(), SECRET_BYTES);
        assert_ne!(secret, new_secret().unwrap());
        let kept = sealed(&seals, &id, &of, &secret).unwrap();
        assert_eq!(opened(&seals, &id, &of, &kept).unwrap(), secret);
        assert!(opened(&seals, &AccessKeyId::random(), &of, &kept).is_err());
        assert!(opened(&seals, &id, &PrincipalId::random(), &kept).is_err());
        // Under another seal key, as long as the former one is at hand.
        let anew = SealKeys::new(SealKey::test_of(9), vec![SealKey::test()]);
        let again = resealed(&anew, &id, &of, &kept).unwrap();
        assert_eq!(opened(&SealKeys::new(SealKey::test_of(9), Vec::new()), &id, &of, &again).unwrap(), secret);
        assert!(resealed(&SealKeys::new(SealKey::test_of(9), Vec::new()), &id, &of, &kept).is_err());
        assert!(
            opened(
                &seals,
                &id,
                &of,
                &seals.seal(&[PURPOSE, id.as_str(), of.as_str()], &Secret::new(vec![0xff])).unwrap()
            )
            .is_err()
        );
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Arc::new(new_secret().unwrap());
        let key = AccessKey { principal: Principal::new("access-key:AKKS"), secret: Arc::clone(&secret) };
        let shown = format!("{key:?}");
        assert!(shown.contains("access-key:AKKS") && !shown.contains(secret.as_str()), "{shown}");
    }
}
