//! kmsuser's PINs of one key store: sealed in the metadata, open only for as long as a login takes.
//!
//! [`pin`] decides; here is the I/O around it. One worker at a time works on a PIN: where the PIN belongs to the whole
//! cluster, one of the cluster.

pub mod pin;
pub(crate) mod taken;
pub(crate) mod unchanged;
pub(crate) mod unclear;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use self::pin::told::{self, Told};
use model::id::{HsmId, KeyStoreId};
use model::lock::MutexExt as _;
use model::pin::{Candidate, Pin, PinChange, PinRecordError, PinRecords};
use model::profile::{Login, PinAlphabet, PinScope};
use model::secret::Secret;
use pki::seal::SealKeys;

/// Length of a PIN that is made here, where the token takes that many bytes: 190 bits.
const PIN_CHARS: usize = 32;
/// How often a record is read again that others change as well: nobody tells a PIN more often during one login.
const READS: u32 = 8;
/// Under this id a PIN is on record that belongs to the whole cluster.
const WHOLE_CLUSTER: &str = "*";

/// The keys that seal PINs; replaced when their files are.
pub type Seals = Arc<ArcSwap<SealKeys>>;

/// What people may know of each PIN.
#[derive(Debug, Default)]
pub struct PinStatusRegistry(Mutex<BTreeMap<(KeyStoreId, HsmId), PinStatus>>);

/// What people may know of a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinStatus {
    /// Milliseconds since the Unix epoch.
    pub rotated_at: Option<i64>,
    /// Logins that may still fail before none is tried any more.
    pub tries_left: u32,
}

/// The PINs of one key store.
pub struct Kmsuser {
    /// The metadata.
    pub records: Arc<dyn PinRecords>,
    /// What they are sealed with.
    pub seals: Seals,
    /// Whose they are.
    pub key_store: KeyStoreId,
    /// Whether each HSM has its own.
    pub scope: PinScope,
    /// Failures in a row after which none is tried any more.
    pub tries: u32,
    /// For people.
    pub statuses: Arc<PinStatusRegistry>,
    /// One worker at a time for each PIN.
    pub locks: PinLocks,
}

/// Whose turn it is, for each PIN.
#[derive(Debug, Default)]
pub struct PinLocks(Mutex<BTreeMap<HsmId, Arc<tokio::sync::Mutex<()>>>>);

impl PinStatusRegistry {
    /// What is known of the PIN in an HSM.
    #[must_use]
    pub fn status(&self, key_store: &KeyStoreId, hsm: &HsmId) -> Option<PinStatus> {
        let known = self.0.lock_anyway();
        let of = |hsm: HsmId| known.get(&(key_store.clone(), hsm)).copied();
        of(hsm.clone()).or_else(|| of(WHOLE_CLUSTER.into()))
    }

    /// Takes over what the metadata holds for a key store, in the place of all that was known.
    pub fn replace(&self, key_store: &KeyStoreId, pins: &[(HsmId, Pin)], tries: u32) {
        let mut known = self.0.lock_anyway();
        known.retain(|(of, _), _| of != key_store);
        known.extend(pins.iter().map(|(hsm, pin)| ((key_store.clone(), hsm.clone()), status(pin, tries))));
    }

    fn note(&self, key_store: &KeyStoreId, hsm: HsmId, pin: &Pin, tries: u32) {
        let mut known = self.0.lock_anyway();
        known.insert((key_store.clone(), hsm), status(pin, tries));
    }
}

fn status(pin: &Pin, tries: u32) -> PinStatus {
    PinStatus { rotated_at: pin.rotated_at, tries_left: pin::tries_left(pin, tries) }
}

/// Under which id the PIN of an HSM is on record.
#[must_use]
pub fn record_of(scope: PinScope, hsm: &HsmId) -> HsmId {
    match scope {
        PinScope::Hsm => hsm.clone(),
        PinScope::Cluster => WHOLE_CLUSTER.into(),
    }
}

/// What an operator says of kmsuser's PIN in an HSM.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// The PIN.
    pub pin: Option<&'a Secret>,
    /// When he says, in milliseconds since the Unix epoch, that the security officer has cleared the token's own count
    /// of wrong PINs: by setting this PIN, or by unlocking the user.
    pub was_reset: Option<i64>,
}

/// What goes on record of what an operator says; `None` where it says nothing of an HSM without a PIN. `record` is what
/// [`record_of`] says.
pub fn said(
    seals: &SealKeys,
    key_store: &KeyStoreId,
    record: &HsmId,
    on_record: Option<&Pin>,
    said: Said<'_>,
) -> Result<Option<Pin>, String> {
    let told = |known: &Pin, pin: &Secret| {
        let same = Candidate::ALL.into_iter().find(|candidate| {
            known.sealed(*candidate).is_some_and(|sealed| is_same(seals, key_store, record, sealed, pin))
        });
        Ok::<_, String>(Told { sealed: seal(seals, key_store, record, pin)?, same })
    };
    Ok(match (on_record, said.pin, said.was_reset) {
        (None, None, _) => None,
        (None, Some(pin), reset_at) => Some(Pin { reset_at, ..Pin::given(seal(seals, key_store, record, pin)?) }),
        (Some(known), None, None) => Some(known.clone()),
        (Some(known), Some(pin), None) => Some(told::tell(known.clone(), told(known, pin)?)),
        (Some(known), pin, Some(now)) => {
            let told = pin.map(|pin| told(known, pin)).transpose()?;
            Some(told::reset(known.clone(), told, now))
        }
    })
}

/// Whether nothing else is on record than this PIN, as it was first given.
#[must_use]
pub fn is_given(seals: &SealKeys, key_store: &KeyStoreId, record: &HsmId, on_record: &Pin, pin: &Secret) -> bool {
    on_record.rotated_at.is_none()
        && on_record.offered.is_none()
        && is_same(seals, key_store, record, &on_record.current, pin)
}

/// Whether a PIN that can be opened is this one. Takes as long for any two of one length.
fn is_same(seals: &SealKeys, key_store: &KeyStoreId, record: &HsmId, sealed: &[u8], pin: &Secret) -> bool {
    let known = seals.open(&purpose(key_store, record), sealed);
    known.is_ok_and(|known| aws_lc_rs::constant_time::verify_slices_are_equal(known.expose(), pin.expose()).is_ok())
}

/// Seals what is sealed anew, with the newest key.
pub fn reseal(seals: &SealKeys, key_store: &KeyStoreId, record: &HsmId, sealed: &[u8]) -> Result<Bytes, String> {
    let pin = seals.open(&purpose(key_store, record), sealed).map_err(|error| error.to_string())?;
    seal(seals, key_store, record, &pin)
}

fn seal(seals: &SealKeys, key_store: &KeyStoreId, record: &HsmId, pin: &Secret) -> Result<Bytes, String> {
    seals.seal(&purpose(key_store, record), pin).map(Bytes::from).map_err(|error| error.to_string())
}

/// A sealed PIN opens only where it belongs.
fn purpose<'a>(key_store: &'a KeyStoreId, record: &'a HsmId) -> [&'a str; 3] {
    ["kmsuser pin", key_store.as_str(), record.as_str()]
}

impl Kmsuser {
    /// Waits until no other worker works on the PIN of this HSM.
    pub(super) async fn turn(&self, hsm: &HsmId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut locks = self.locks.0.lock_anyway();
            Arc::clone(locks.entry(record_of(self.scope, hsm)).or_default())
        };
        turn.lock_owned().await
    }

    /// What is on record.
    pub(super) async fn load(&self, hsm: &HsmId) -> Result<Option<Pin>, String> {
        let record = record_of(self.scope, hsm);
        let pins = self.records.pins(&self.key_store).await.map_err(|error| error.to_string())?;
        Ok(pins.into_iter().find(|(of, _)| *of == record).map(|(_, pin)| pin))
    }

    /// Puts it on record in the place of `before`; durable when it returns. What is on record then: a PIN that was told
    /// meanwhile stands beside it, and what is known of the token is not lost for that.
    pub(super) async fn save(&self, hsm: &HsmId, before: &Pin, pin: &Pin) -> Result<Pin, String> {
        let record = record_of(self.scope, hsm);
        let (mut before, mut pin) = (before.clone(), pin.clone());
        for _ in 0..READS {
            let change = PinChange { hsm: record.clone(), before: Some(before.clone()), after: pin.clone() };
            let changed = match self.records.replace_pin(&self.key_store, change).await {
                Ok(()) => {
                    self.statuses.note(&self.key_store, record, &pin, self.tries);
                    return Ok(pin);
                }
                Err(error @ PinRecordError::Changed(_)) => error.to_string(),
                Err(error) => return Err(error.to_string()),
            };
            let now = self.load(hsm).await?.ok_or_else(|| changed.clone())?;
            pin = told::meanwhile(pin, &before, &now).ok_or(changed)?;
            before = now;
        }
        Err(format!("the record of kmsuser's PIN of HSM {record} was changed {READS} times meanwhile"))
    }

    /// Logins that may still fail before none is tried any more.
    pub(super) fn tries_left(&self, pin: &Pin) -> u32 {
        pin::tries_left(pin, self.tries)
    }

    /// One is left, of those that all HSMs of the cluster have together.
    pub(super) fn is_last_try_of_all(&self, pin: &Pin) -> bool {
        self.scope == PinScope::Cluster && self.tries_left(pin) == 1
    }

    /// Opens a sealed PIN.
    pub(super) fn open(&self, hsm: &HsmId, sealed: &[u8]) -> Result<Secret, String> {
        let record = record_of(self.scope, hsm);
        self.seals.load().open(&purpose(&self.key_store, &record), sealed).map_err(|error| error.to_string())
    }

    /// A new PIN, sealed. Nobody has seen it.
    pub(super) fn make(&self, hsm: &HsmId, longest: u32, login: &Login) -> Result<Bytes, String> {
        let pin = random_pin(length(longest, login), login.pin_alphabet)?;
        seal(&self.seals.load(), &self.key_store, &record_of(self.scope, hsm), &pin)
    }
}

/// How long a new PIN is: as long as the token and what is known of it let it be, and never so short that it is guessed.
fn length(longest: u32, login: &Login) -> usize {
    let shortest = usize::try_from(login.pin_alphabet.shortest()).unwrap_or(PIN_CHARS).min(PIN_CHARS);
    let bounded = |chars: u64| usize::try_from(chars).unwrap_or(PIN_CHARS).clamp(shortest, PIN_CHARS);
    // Tokens without a limit say 0. What they are given for a PIN may have the user's name before it.
    let beside = login.text(&[]).len();
    let longest = usize::try_from(longest).ok().filter(|longest| *longest > 0);
    let longest = longest.map_or(PIN_CHARS, |longest| longest.saturating_sub(beside));
    longest.min(bounded(login.pin_max)).max(bounded(login.pin_min))
}

fn random_pin(length: usize, of: PinAlphabet) -> Result<Secret, String> {
    of.pin(length, |bytes| {
        aws_lc_rs::rand::fill(bytes).map_err(|_| "the operating system gives no random bytes".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::profile::PinForm;

    #[test]
    fn a_pin_is_as_long_as_it_may_be() {
        let login = |pin_min, pin_max| Login { pin_min, pin_max, ..Login::standard() };
        for (longest, bounds, expected) in [
            (0, (8, 32), 32),
            (255, (8, 32), 32),
            (16, (8, 32), 16),
            (4, (8, 32), 8),
            (0, (8, 20), 20),
            (16, (12, 12), 12),
        ] {
            assert_eq!(length(longest, &login(bounds.0, bounds.1)), expected, "{longest} {bounds:?}");
        }
        let named = Login { pin_form: PinForm::UserAndPin, user: "kmsuser".to_owned(), ..login(8, 32) };
        assert_eq!([0, 64, 32, 20, 4].map(|longest| length(longest, &named)), [32, 32, 24, 12, 8]);
        let digits = Login { pin_alphabet: PinAlphabet::Digits, ..login(8, 32) };
        assert_eq!([0, 20, 12].map(|longest| length(longest, &digits)), [32, 20, 15]);
    }

    #[test]
    fn pins_are_text_of_all_kinds_and_differ() {
        for length in [8, 32] {
            let made = || random_pin(length, PinAlphabet::LettersDigits).unwrap();
            let (one, other) = (made(), made());
            assert_eq!(one.len(), length);
            assert!(one.expose().iter().all(u8::is_ascii_alphanumeric));
            assert_ne!(one, other);
        }
    }
}
