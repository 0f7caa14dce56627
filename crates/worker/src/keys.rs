//! Which handle stands for a key: its token object, or a hot copy of it in memory.
//!
//! Invariant: a hot copy is used only while its token object was itself used successfully within the last
//! [`PROOF_LASTS`]. A copy outlives its token object, so without that rule a key deleted in the HSM by somebody else
//! would go on working. Handles die with the process, so no handle ever meets another incarnation of the module.
//!
//! No I/O: this only says what to use and what has to be destroyed. `H` is a PKCS#11 object handle.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use lru::LruCache;

use model::id::KeyVersionId;
use model::lock::MutexExt as _;

/// How long a successful use of the token object vouches for its copy.
pub(super) const PROOF_LASTS: Duration = Duration::from_secs(1);
/// How long a look at an object's CKA_ID vouches for its handle.
pub(super) const NAME_LASTS: Duration = Duration::from_secs(10);
/// A copy whose last proof is older than this has not been used for about a second, and makes room for another.
const IN_USE: Duration = Duration::from_secs(2);
/// A copy that was wanted and has not come is wanted again after this.
const WANT_LASTS: Duration = Duration::from_secs(1);
/// After this it is tried again to copy what could not be copied.
const REFUSAL_LASTS: Duration = Duration::from_secs(60);
/// Most hot copies of one process, so many that ten thousand keys in use find room in the workers of an HSM; about 8 kB
/// each in SoftHSM, 64 MB if all of them are made.
const COPIES: NonZeroUsize = NonZeroUsize::new(8_192).unwrap();

/// The handles that one process knows, shared by its session threads.
pub(super) struct Keys<H> {
    hot_copies: bool,
    /// Of several objects with one id none is used but one that was known before there were several: each may be another
    /// key.
    one_each: bool,
    state: Mutex<State<H>>,
}

struct State<H> {
    /// As many as the token holds keys.
    objects: HashMap<KeyVersionId, Object<H>>,
    /// Keys of which there are several objects and none is known.
    several: HashSet<KeyVersionId>,
    /// See [`Keys::is_complete`].
    complete: bool,
    /// In the order of their proofs.
    copies: LruCache<KeyVersionId, HotCopy<H>>,
    /// Counts `forget`s: a copy that was being made meanwhile is not kept.
    forgotten: u64,
}

#[derive(Clone)]
struct Object<H> {
    handle: H,
    proven: Option<Instant>,
    /// When a copy was wanted last.
    wanted: Option<Instant>,
    /// When no copy could be made of it.
    refused: Option<Instant>,
    /// When its CKA_ID was read last.
    named: Instant,
}

impl<H> Object<H> {
    fn can_be_copied(&self, now: Instant) -> bool {
        self.refused.is_none_or(|then| now.saturating_duration_since(then) > REFUSAL_LASTS)
    }

    fn new(handle: H, now: Instant) -> Self {
        Self { handle, proven: None, wanted: None, refused: None, named: now }
    }
}

struct HotCopy<H> {
    handle: H,
    proven: Instant,
}

/// Permission to make a hot copy, void after the next `forget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CopyPermit(u64);

impl<H: Copy + PartialEq> Keys<H> {
    /// With nothing known yet.
    pub(super) fn new(hot_copies: bool, one_each: bool) -> Self {
        let (objects, several, copies) = (HashMap::new(), HashSet::new(), LruCache::new(COPIES));
        let state = State { objects, several, complete: false, copies, forgotten: 0 };
        Self { hot_copies, one_each, state: Mutex::new(state) }
    }

    /// All objects of the token were looked at, and these are the keys among them. What was known beside them is gone. Of
    /// several objects with one id the known one stays.
    pub(super) fn listed(&self, found: &[(KeyVersionId, H)], now: Instant) {
        let mut state = self.lock();
        state.several = self.doubled(found);
        let mut objects = HashMap::with_capacity(found.len());
        for (key, handle) in found {
            let known = state.objects.get(key).filter(|known| known.handle == *handle);
            if known.is_some() || !(objects.contains_key(key) || state.several.contains(key)) {
                let object =
                    known.map_or_else(|| Object::new(*handle, now), |known| Object { named: now, ..known.clone() });
                objects.insert(*key, object);
            }
        }
        state.several.retain(|key| !objects.contains_key(key));
        state.objects = objects;
        state.complete = true;
    }

    /// Objects that were not known, with the key that their CKA_ID names. A key of which an object is known keeps that
    /// one: it is proven by its use, or found not to work and forgotten.
    pub(super) fn learn(&self, found: &[(KeyVersionId, H)], now: Instant) {
        let mut state = self.lock();
        let state = &mut *state;
        let several = self.doubled(found);
        for (key, handle) in found {
            if state.objects.contains_key(key) {
                continue;
            }
            match several.contains(key) {
                true => drop(state.several.insert(*key)),
                false => {
                    state.several.remove(key);
                    state.objects.insert(*key, Object::new(*handle, now));
                }
            }
        }
    }

    /// A search for all objects of `key` has found these, and of other keys what else is new.
    pub(super) fn searched(&self, key: KeyVersionId, found: &[(KeyVersionId, H)], now: Instant) {
        self.learn(found, now);
        if !found.iter().any(|(of, _)| *of == key) {
            self.lock().several.remove(&key);
        }
    }

    /// Keys that are found with several objects, where that matters.
    fn doubled(&self, found: &[(KeyVersionId, H)]) -> HashSet<KeyVersionId> {
        if !self.one_each {
            return HashSet::new();
        }
        let mut once = HashSet::with_capacity(found.len());
        found.iter().map(|(key, _)| *key).filter(|key| !once.insert(*key)).collect()
    }

    /// Whether there are several objects of `key`, of which none is used.
    pub(super) fn has_several(&self, key: KeyVersionId) -> bool {
        self.lock().several.contains(&key)
    }

    /// Whether a key of which no object is known has none, but for what others than keystored have put there since all
    /// were looked at. Only in the control worker: others learn of what it places when they are asked for it.
    pub(super) fn is_complete(&self) -> bool {
        self.lock().complete
    }

    /// A step that writes to the token failed, and may have left an object behind.
    pub(super) fn doubt(&self) {
        self.lock().complete = false;
    }

    /// The hot copy of `key`, if there is one that may be used now. Otherwise the token object is to be used, and its
    /// success to be reported by [`Keys::prove`].
    pub(super) fn copy(&self, key: KeyVersionId, now: Instant) -> Option<H> {
        self.lock().copies.peek(&key).filter(|copy| is_fresh(copy.proven, now)).map(|copy| copy.handle)
    }

    /// The token object of `key` was just used with success. Says whether a hot copy is wanted: it is when the object
    /// was used before within the last second, a copy can be kept without taking the place of one in use, and none is on
    /// its way.
    pub(super) fn prove(&self, key: KeyVersionId, used: H, now: Instant) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(object) = state.objects.get_mut(&key).filter(|object| object.handle == used) else { return false };
        let again = object.proven.replace(now).is_some_and(|before| is_fresh(before, now));
        if let Some(copy) = state.copies.get_mut(&key) {
            copy.proven = now;
            return false;
        }
        let wanted = self.hot_copies && object.can_be_copied(now) && again && has_room(&state.copies, now);
        let asked = object.wanted.is_some_and(|then| now.saturating_duration_since(then) <= WANT_LASTS);
        if wanted && !asked {
            object.wanted = Some(now);
        }
        wanted && !asked
    }

    /// Whether a hot copy may be made now, and of which object of the token.
    pub(super) fn permit(&self, key: KeyVersionId, now: Instant) -> Option<(H, CopyPermit)> {
        let state = self.lock();
        let object = state.objects.get(&key).filter(|object| object.can_be_copied(now))?;
        let room = !state.copies.contains(&key) && has_room(&state.copies, now);
        (self.hot_copies && room).then_some((object.handle, CopyPermit(state.forgotten)))
    }

    /// Keeps a hot copy. Returns a copy that has to be destroyed: the evicted one, or this one when it came too late.
    pub(super) fn keep_copy(&self, key: KeyVersionId, handle: H, proven: Instant, permit: CopyPermit) -> Option<H> {
        let mut state = self.lock();
        if permit.0 != state.forgotten || state.copies.contains(&key) {
            return Some(handle);
        }
        state.copies.push(key, HotCopy { handle, proven }).map(|(_, evicted)| evicted.handle)
    }

    /// No copy could be made of this object: it is not tried again for a while.
    pub(super) fn refuse_copies(&self, key: KeyVersionId, now: Instant) {
        if let Some(object) = self.lock().objects.get_mut(&key) {
            object.refused = Some(now);
        }
    }

    /// Takes the copy of `key` out, to be destroyed.
    pub(super) fn take_copy(&self, key: KeyVersionId) -> Option<H> {
        self.lock().copies.pop(&key).map(|copy| copy.handle)
    }

    /// The known handle of the token object of `key`.
    pub(super) fn object(&self, key: KeyVersionId) -> Option<H> {
        self.lock().objects.get(&key).map(|object| object.handle)
    }

    /// All known handles of token objects, but for those of `key`.
    pub(super) fn objects_but(&self, key: KeyVersionId) -> Vec<H> {
        let state = self.lock();
        state.objects.iter().filter(|(known, _)| **known != key).map(|(_, object)| object.handle).collect()
    }

    /// Whether the object under this handle said lately that it is `key`.
    pub(super) fn is_named(&self, key: KeyVersionId, handle: H, now: Instant) -> bool {
        let state = self.lock();
        let known = state.objects.get(&key).filter(|object| object.handle == handle);
        known.is_some_and(|object| now.saturating_duration_since(object.named) <= NAME_LASTS)
    }

    /// The object under this handle says that it is `key`.
    pub(super) fn named(&self, key: KeyVersionId, handle: H, now: Instant) {
        if let Some(object) = self.lock().objects.get_mut(&key).filter(|object| object.handle == handle) {
            object.named = now;
        }
    }

    /// The token object of `key` was made under this handle.
    pub(super) fn placed(&self, key: KeyVersionId, handle: H, now: Instant) {
        let mut state = self.lock();
        state.several.remove(&key);
        state.objects.insert(key, Object::new(handle, now));
    }

    /// How often something was forgotten.
    pub(super) fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    /// Drops everything known of these keys, but for that they have several objects: the next search tells, and a thread that
    /// has just found them would else take them for none. Returns the copies, to be destroyed.
    pub(super) fn forget(&self, keys: &[KeyVersionId]) -> Vec<H> {
        let mut state = self.lock();
        state.forgotten += 1;
        for key in keys {
            state.objects.remove(key);
        }
        keys.iter().filter_map(|key| state.copies.pop(key)).map(|copy| copy.handle).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock_anyway()
    }
}

/// Whether one more copy can be kept without taking the place of one in use.
fn has_room<H>(copies: &LruCache<KeyVersionId, HotCopy<H>>, now: Instant) -> bool {
    copies.len() < COPIES.get()
        || copies.peek_lru().is_some_and(|(_, oldest)| now.saturating_duration_since(oldest.proven) > IN_USE)
}

fn is_fresh(proven: Instant, now: Instant) -> bool {
    now.saturating_duration_since(proven) <= PROOF_LASTS
}

#[cfg(test)]
mod tests;
