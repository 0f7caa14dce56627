//! Which handle stands for a key: its token object, or a hot copy of it in memory.
//!
//! Invariant: a hot copy is used only while its token object was itself used successfully within the last
//! [`PROOF_LASTS`]. A copy outlives its token object, so without that rule a key deleted in the HSM by somebody else
//! would go on working. Handles die with the process, so no handle ever meets another incarnation of the module.
//!
//! No I/O: this only says what to use and what has to be destroyed. `H` is a PKCS#11 object handle.

use std::collections::HashMap;
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
/// Most hot copies of one process, so many that ten thousand keys in use find room in the workers of an HSM; about 8 kB
/// each in SoftHSM, 64 MB if all of them are made.
const COPIES: NonZeroUsize = NonZeroUsize::new(8_192).unwrap();

/// The handles that one process knows, shared by its session threads.
pub(super) struct Keys<H> {
    hot_copies: bool,
    state: Mutex<State<H>>,
}

struct State<H> {
    /// As many as the token holds keys.
    objects: HashMap<KeyVersionId, Object<H>>,
    /// See [`Keys::is_complete`].
    complete: bool,
    /// In the order of their proofs.
    copies: LruCache<KeyVersionId, HotCopy<H>>,
    /// Counts `forget`s: a copy that was being made meanwhile is not kept.
    forgotten: u64,
}

struct Object<H> {
    handle: H,
    /// False once the token refused to copy it.
    copyable: bool,
    proven: Option<Instant>,
    /// When its CKA_ID was read last.
    named: Instant,
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
    pub(super) fn new(hot_copies: bool) -> Self {
        let state = State { objects: HashMap::new(), complete: false, copies: LruCache::new(COPIES), forgotten: 0 };
        Self { hot_copies, state: Mutex::new(state) }
    }

    /// All objects of the token were looked at, and these are the keys among them. What was known beside them is gone. Of
    /// several objects with one id the known one stays.
    pub(super) fn listed(&self, found: &[(KeyVersionId, H)], now: Instant) {
        let mut state = self.lock();
        let mut objects = HashMap::with_capacity(found.len());
        for (key, handle) in found {
            let known = state.objects.get(key).filter(|known| known.handle == *handle);
            if known.is_some() || !objects.contains_key(key) {
                let (copyable, proven) = known.map_or((true, None), |known| (known.copyable, known.proven));
                objects.insert(*key, Object { handle: *handle, copyable, proven, named: now });
            }
        }
        state.objects = objects;
        state.complete = true;
    }

    /// Objects that were not known, with the key that their CKA_ID names. A key of which an object is known keeps that
    /// one: it is proven by its use, or found not to work and forgotten.
    pub(super) fn learn(&self, found: &[(KeyVersionId, H)], now: Instant) {
        let mut state = self.lock();
        for (key, handle) in found {
            let object = || Object { handle: *handle, copyable: true, proven: None, named: now };
            state.objects.entry(*key).or_insert_with(object);
        }
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

    /// The token object of `key` was just used with success. Says whether it is worth a hot copy: it is when the object
    /// was used before within the last second, and a copy can be kept without taking the place of one in use.
    pub(super) fn prove(&self, key: KeyVersionId, used: H, now: Instant) -> Option<CopyPermit> {
        let mut state = self.lock();
        let state = &mut *state;
        let object = state.objects.get_mut(&key).filter(|object| object.handle == used)?;
        let again = object.proven.replace(now).is_some_and(|before| is_fresh(before, now));
        if let Some(copy) = state.copies.get_mut(&key) {
            copy.proven = now;
            return None;
        }
        let room = state.copies.len() < COPIES.get()
            || state.copies.peek_lru().is_some_and(|(_, oldest)| now.saturating_duration_since(oldest.proven) > IN_USE);
        (self.hot_copies && object.copyable && again && room).then_some(CopyPermit(state.forgotten))
    }

    /// Keeps a hot copy. Returns a copy that has to be destroyed: the evicted one, or this one when it came too late.
    pub(super) fn keep_copy(&self, key: KeyVersionId, handle: H, proven: Instant, permit: CopyPermit) -> Option<H> {
        let mut state = self.lock();
        if permit.0 != state.forgotten || state.copies.contains(&key) {
            return Some(handle);
        }
        state.copies.push(key, HotCopy { handle, proven }).map(|(_, evicted)| evicted.handle)
    }

    /// The token does not copy this object: it is not asked again.
    pub(super) fn refuse_copies(&self, key: KeyVersionId) {
        if let Some(object) = self.lock().objects.get_mut(&key) {
            object.copyable = false;
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
        self.lock().objects.insert(key, Object { handle, copyable: true, proven: None, named: now });
    }

    /// How often something was forgotten.
    pub(super) fn forgotten(&self) -> u64 {
        self.lock().forgotten
    }

    /// Drops everything known of these keys. Returns the copies, to be destroyed.
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

fn is_fresh(proven: Instant, now: Instant) -> bool {
    now.saturating_duration_since(proven) <= PROOF_LASTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::clock::Clock;
    use model::id::KeyId;

    fn key(number: u32) -> KeyVersionId {
        KeyVersionId { key: KeyId::from_bytes([7; 16]), version: number }
    }

    fn keys(count: u32, now: Instant) -> Keys<u64> {
        let keys = Keys::new(true);
        keys.listed(&(1..=count).map(|n| (key(n), u64::from(n))).collect::<Vec<_>>(), now);
        keys
    }

    /// Uses the token object twice and keeps the copy that is then allowed.
    fn warm(keys: &Keys<u64>, n: u32, now: Instant) -> Option<u64> {
        keys.prove(key(n), u64::from(n), now);
        let permit = keys.prove(key(n), u64::from(n), now)?;
        keys.keep_copy(key(n), 10_000 + u64::from(n), now, permit)
    }

    #[test]
    fn a_copy_is_used_for_a_second_and_then_the_object_again() {
        let clock = Clock::manual();
        let keys = keys(1, clock.now());
        assert_eq!(keys.copy(key(1), clock.now()), None);
        assert_eq!(warm(&keys, 1, clock.now()), None);
        assert_eq!(keys.copy(key(1), clock.now()), Some(10_001));
        clock.advance(PROOF_LASTS + Duration::from_millis(1));
        assert_eq!(keys.copy(key(1), clock.now()), None);
        assert_eq!(keys.prove(key(1), 1, clock.now()), None, "the copy is there already");
        assert_eq!(keys.copy(key(1), clock.now()), Some(10_001));
    }

    #[test]
    fn a_key_used_once_a_while_gets_no_copy() {
        let clock = Clock::manual();
        let keys = keys(1, clock.now());
        for _ in 0..5 {
            assert_eq!(keys.prove(key(1), 1, clock.now()), None);
            clock.advance(Duration::from_secs(2));
        }
    }

    #[test]
    fn forgetting_gives_the_copy_up_and_voids_permits() {
        let clock = Clock::manual();
        let keys = keys(2, clock.now());
        warm(&keys, 1, clock.now());
        keys.prove(key(2), 2, clock.now());
        let permit = keys.prove(key(2), 2, clock.now()).unwrap();
        assert_eq!(keys.forget(&[key(1)]), [10_001]);
        assert_eq!((keys.copy(key(1), clock.now()), keys.object(key(1))), (None, None));
        assert_eq!(keys.keep_copy(key(2), 77, clock.now(), permit), Some(77), "made before the forget");
        assert_eq!((keys.copy(key(2), clock.now()), keys.object(key(2))), (None, Some(2)));
    }

    #[test]
    fn copies_in_use_are_not_driven_out() {
        let clock = Clock::manual();
        let most = u32::try_from(COPIES.get()).unwrap();
        let keys = keys(most + 1, clock.now());
        for n in 1..=most {
            assert_eq!(warm(&keys, n, clock.now()), None);
        }
        keys.prove(key(most + 1), u64::from(most + 1), clock.now());
        assert_eq!(keys.prove(key(most + 1), u64::from(most + 1), clock.now()), None, "all are fresh");
        clock.advance(IN_USE);
        assert_eq!(warm(&keys, most + 1, clock.now()), None, "they may still be used");
        clock.advance(Duration::from_millis(1));
        assert_eq!(warm(&keys, most + 1, clock.now()), Some(10_001), "the one used longest ago goes");
    }

    #[test]
    fn a_proof_by_an_outdated_handle_counts_for_nothing() {
        let clock = Clock::manual();
        let keys = keys(1, clock.now());
        keys.placed(key(1), 9, clock.now());
        keys.prove(key(1), 1, clock.now());
        assert_eq!(keys.prove(key(1), 1, clock.now()), None);
        assert_eq!((keys.copy(key(1), clock.now()), keys.object(key(1))), (None, Some(9)));
    }

    #[test]
    fn a_token_that_refuses_to_copy_is_not_asked_again() {
        let clock = Clock::manual();
        let keys = keys(1, clock.now());
        keys.prove(key(1), 1, clock.now());
        assert!(keys.prove(key(1), 1, clock.now()).is_some());
        keys.refuse_copies(key(1));
        assert_eq!(keys.prove(key(1), 1, clock.now()), None);
    }

    #[test]
    fn without_hot_copies_there_is_no_permit() {
        let clock = Clock::manual();
        let keys = Keys::new(false);
        keys.placed(key(1), 1_u64, clock.now());
        assert_eq!((0..3).find_map(|_| keys.prove(key(1), 1, clock.now())), None);
    }
    #[test]
    fn an_object_says_again_and_again_which_key_it_is() {
        let clock = Clock::manual();
        let keys = keys(1, clock.now());
        assert!(keys.is_named(key(1), 1, clock.now()));
        assert!(!keys.is_named(key(1), 2, clock.now()) && !keys.is_named(key(2), 1, clock.now()));
        clock.advance(NAME_LASTS + Duration::from_millis(1));
        assert!(!keys.is_named(key(1), 1, clock.now()), "use does not vouch for the name");
        keys.named(key(1), 1, clock.now());
        assert!(keys.is_named(key(1), 1, clock.now()));
    }

    #[test]
    fn of_two_objects_with_one_id_the_known_one_stays() {
        let clock = Clock::manual();
        let keys = keys(1, clock.now());
        keys.learn(&[(key(1), 8), (key(2), 9)], clock.now());
        assert_eq!((keys.object(key(1)), keys.object(key(2))), (Some(1), Some(9)));
        for found in [[(key(1), 7), (key(1), 1)], [(key(1), 1), (key(1), 7)]] {
            keys.listed(&found, clock.now());
            assert_eq!((keys.object(key(1)), keys.object(key(2))), (Some(1), None), "what was not shown is gone");
        }
        keys.listed(&[(key(1), 7)], clock.now());
        assert_eq!(keys.object(key(1)), Some(7));
    }

    #[test]
    fn what_is_not_there_is_known_until_something_failed() {
        let clock = Clock::manual();
        let keys = Keys::new(false);
        keys.learn(&[(key(1), 1_u64)], clock.now());
        assert!(!keys.is_complete(), "nobody has looked at everything");
        keys.listed(&[(key(1), 1)], clock.now());
        assert!(keys.is_complete());
        keys.doubt();
        assert!(!keys.is_complete());
    }
}
