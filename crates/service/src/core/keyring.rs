//! What requests need of each key, made from the catalogue once per change and not once per request.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;

use crate::Error;
use crate::core::Core;
use crate::core::access_key::{AccessUses, Signers};
use crate::core::budget::{Budget, Budgets};
use crate::core::cluster_registry::ActiveCluster;
use crate::core::decisions::Decisions;
use crate::core::directory::{self, Compiled, Directory};
use crate::core::error::{Escrow, removed_everywhere};
use crate::core::granted::Grants;
use crate::core::hsm_cluster::Members;
use crate::core::usage::{Usage, Usages};
use cluster::{KeyRef, PlacementMask, Proof};
use model::exception::Exception;
use model::id::{KeyId, Scope};
use model::key::{KeyState, Placement};
use model::key_store::ConnectionState;
use model::lock::MutexExt as _;
use pki::seal::SealKeys;
use store::access::Principal;
use store::{Catalogue, Key, Version};

/// Into how many shards a keyring's entries are split. A change copies the list of shards and one of them.
const SHARDS: usize = 256;

/// Every key, as one revision of the catalogue has it.
#[derive(Clone)]
pub(crate) struct Keyring {
    pub(crate) catalogue: Arc<Catalogue>,
    /// Identity policies.
    pub(crate) directory: Arc<Directory>,
    pub(crate) grants: Grants,
    /// Access keys with which calls may be signed.
    pub(crate) signers: Signers,
    /// What was decided by all of this.
    pub(crate) decisions: Arc<Decisions>,
    /// Of the clusters in use, and of the seal keys.
    generation: u64,
    /// By the random part of the ids; what makes the next keyring of this one takes over all shards without a change.
    /// Flat lists instead of a persistent map: this is read several times for each item of each call.
    shards: [Arc<Shard>; SHARDS],
}

/// Entries in the order of their ids.
type Shard = Vec<(KeyId, Arc<Entry>)>;

/// A version of a key, where the keyring has it. Unlike counted references it costs nothing, and leaves the memory alone
/// in which those are counted, which all processors read.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) version: &'a Usable,
}

/// One key, ready for use.
pub(crate) struct Entry {
    pub(crate) key: Arc<Key>,
    pub(crate) arn: Arc<str>,
    /// The key's policy.
    pub(crate) policy: Compiled,
    /// As callers see it.
    pub(crate) state: KeyState,
    /// Boxed, so that what each use of the key needs lies close together.
    unavailable: Option<Box<Unavailable>>,
    /// The cluster that holds it, if it is configured.
    pub(crate) members: Option<Members>,
    /// Versions that have a proof, oldest first.
    versions: Vec<Usable>,
    /// Which of them encrypts.
    current: Option<usize>,
    pub(crate) usage: Arc<Usage>,
}

/// A version that can be used.
pub(crate) struct Usable {
    pub(crate) reference: Arc<KeyRef>,
    /// Names its material, for callers: the same text as in the metadata.
    pub(crate) material_id: Arc<str>,
    pub(crate) budget: Arc<Budget>,
}

/// Why a key that is Enabled or Disabled in the metadata cannot be used.
enum Unavailable {
    /// The key store is not connected; its name and state.
    Store(String, &'static str),
    /// Its HSMs are not in use, although it is connected: the configuration does not describe them.
    NotConfigured,
    /// Removed in every HSM.
    Removed,
    /// No HSM of the configuration is known to hold it.
    Nowhere,
}

/// What keyrings are made with, beside the catalogue and the clusters.
#[derive(Clone, Copy)]
struct Kept<'a> {
    scope: &'a Scope,
    budgets: &'a Budgets,
    usages: &'a Usages,
    access_uses: &'a AccessUses,
    seals: &'a SealKeys,
    default_policy: &'a Compiled,
}

impl Keyring {
    /// As which principal of policies somebody calls.
    pub(crate) fn caller(&self, certificate: &auth::peer::Principal) -> Option<Arc<Principal>> {
        self.catalogue.principal_known_as(certificate.as_str()).cloned()
    }

    /// For whom a call counts, and how that one is shown: a principal, whichever of its certificates and access keys the
    /// call comes with; without one the certificate.
    pub(crate) fn party<'k>(&'k self, certificate: &'k auth::peer::Principal) -> (&'k str, &'k str) {
        let (known, name) = (self.catalogue.principal_known_as(certificate.as_str()), certificate.as_str());
        known.map_or((name, name), |principal| (principal.id.as_str(), &*principal.arn))
    }

    pub(crate) fn key(&self, id: KeyId) -> Option<&Entry> {
        let entries = self.shards.get(shard_of(id))?;
        entries.get(index_of(entries, id).ok()?).map(|(_, entry)| &**entry)
    }

    fn next(&self, catalogue: Arc<Catalogue>, generation: u64, clusters: &[ActiveCluster], kept: Kept<'_>) -> Self {
        let entry = |key: &Arc<Key>| {
            let before = self.key(key.id);
            Arc::new(Entry::new(Arc::clone(key), before, &catalogue, clusters, kept))
        };
        let changed = catalogue.keys_changed_since(&self.catalogue).filter(|_| generation == self.generation);
        let mut next = match &changed {
            Some(_) => self.clone(),
            // What a key store, or the clusters in use, have to say concerns every key of it.
            None => Self::default(),
        };
        match changed {
            Some(changed) => changed.into_iter().for_each(|id| next.put(id, catalogue.key(id).map(entry))),
            None => catalogue.keys().for_each(|key| next.put(key.id, Some(entry(key)))),
        }
        next.directory = match catalogue.access_changed_since(&self.catalogue) {
            true => Arc::new(self.directory.next(&catalogue)),
            false => Arc::clone(&self.directory),
        };
        // They come to an end with their key, too.
        next.grants = self.grants.next(&self.catalogue, &catalogue);
        let anew = generation != self.generation;
        next.signers = self.signers.next(&self.catalogue, &catalogue, anew, kept.seals, kept.access_uses);
        // None of the old ones is taken over.
        next.decisions = Arc::default();
        (next.catalogue, next.generation) = (catalogue, generation);
        next
    }

    /// An entry as it is now; `None` where the key is gone.
    fn put(&mut self, id: KeyId, entry: Option<Arc<Entry>>) {
        let Some(shard) = self.shards.get_mut(shard_of(id)) else { return };
        let entries = Arc::make_mut(shard);
        match (index_of(entries, id), entry) {
            (Ok(index), Some(entry)) => entries[index].1 = entry,
            (Ok(index), None) => drop(entries.remove(index)),
            (Err(index), Some(entry)) => entries.insert(index, (id, entry)),
            (Err(_), None) => {}
        }
    }
}

impl Default for Keyring {
    fn default() -> Self {
        let shards = std::array::from_fn(|_| Arc::default());
        Self {
            catalogue: Arc::default(),
            directory: Arc::default(),
            grants: Grants::default(),
            signers: Signers::default(),
            decisions: Arc::default(),
            generation: 0,
            shards,
        }
    }
}

/// The last byte of an id is random.
fn shard_of(id: KeyId) -> usize {
    usize::from(id.as_bytes()[15])
}

fn index_of(entries: &Shard, id: KeyId) -> Result<usize, usize> {
    entries.binary_search_by_key(&id, |(id, _)| *id)
}

impl Entry {
    /// The version that Encrypt uses.
    pub(crate) fn current(&self) -> Option<Target<'_>> {
        Some(Target { entry: self, version: self.versions.get(self.current?)? })
    }

    /// The version with this number. One that has not become current has encrypted nothing.
    pub(crate) fn numbered(&self, number: u32) -> Option<Target<'_>> {
        if number > self.key.current_version {
            return None;
        }
        let version = self.versions.iter().find(|usable| usable.reference.version.version == number)?;
        Some(Target { entry: self, version })
    }

    fn new(
        key: Arc<Key>,
        before: Option<&Self>,
        catalogue: &Catalogue,
        clusters: &[ActiveCluster],
        kept: Kept<'_>,
    ) -> Self {
        let Kept { scope, budgets, usages, default_policy, .. } = kept;
        let store = catalogue.key_store(&key.key_store);
        let members =
            clusters.iter().find(|active| active.key_store == key.key_store).map(|active| active.members.clone());
        let usable = |version: &Version| {
            let (iv, sealed) = version.proof.clone()?;
            let placed = members.as_ref().map(|members| members.placed(version)).unwrap_or_default();
            let reference = Arc::new(KeyRef { version: version.id, placed, proof: Proof { iv, sealed } });
            let material_id = Arc::clone(&version.material_id);
            Some(Usable { reference, material_id, budget: budgets.of(version.id) })
        };
        let versions: Vec<Usable> = key.versions.iter().filter_map(usable).collect();
        let of_current = |usable: &Usable| usable.reference.version.version == key.current_version;
        let current = versions.iter().position(of_current);
        let connected = store.is_some_and(|store| store.state == ConnectionState::Connected);
        let homeless = current.is_none_or(|current| versions[current].reference.placed == PlacementMask::default());
        let removed = |version: &Version| version.placements.values().any(|at| *at == Placement::Removed);
        let unavailable = match (store, &members) {
            (Some(store), _) if !connected => Some(Unavailable::Store(store.name.clone(), store.state.name())),
            (None, _) | (_, None) => Some(Unavailable::NotConfigured),
            _ if homeless && key.current().is_some_and(removed) => Some(Unavailable::Removed),
            _ if homeless => Some(Unavailable::Nowhere),
            _ => None,
        };
        // Being made and waiting for deletion are shown whatever the store is doing.
        let hidden = matches!(key.state, KeyState::Creating | KeyState::PendingDeletion);
        let state = if unavailable.is_some() && !hidden { KeyState::Unavailable } else { key.state };
        let unavailable = unavailable.map(Box::new);
        let arn: Arc<str> = scope.key_arn(key.id).into();
        let policy = match (&key.policy, before) {
            (None, _) => default_policy.clone(),
            (same, Some(before)) if before.key.policy == *same => before.policy.clone(),
            (Some(policy), _) => directory::of_key(policy, &arn),
        };
        let usage = usages.of(key.id);
        Self { key, arn, policy, state, unavailable, members, versions, current, usage }
    }

    /// Why an operation that is legal in these states is not in the key's.
    pub(crate) fn refusal(&self, allowed: &[KeyState]) -> Error {
        let arn = &self.arn;
        if *allowed == [KeyState::PendingDeletion] {
            return Error::permanent(Exception::KmsInvalidState, format!("{arn} is not pending deletion."));
        }
        let invalid = |message: String| Error::permanent(Exception::KmsInvalidState, message);
        match (self.state, self.unavailable.as_deref()) {
            (KeyState::Disabled | KeyState::PendingDeletion | KeyState::Creating, _) => {
                Error::in_state(arn, self.state)
            }
            (_, Some(Unavailable::Removed)) => removed_everywhere(arn, Escrow::of(self.key.current())),
            (_, Some(Unavailable::Store(name, state))) => {
                invalid(format!("{arn} is unavailable. Its key store {name} is {state}."))
            }
            (_, Some(Unavailable::NotConfigured)) => {
                invalid(format!("{arn} is unavailable. The cluster of its key store is not in the configuration."))
            }
            (_, Some(Unavailable::Nowhere)) => {
                invalid(format!("{arn} is unavailable. No HSM in the configuration holds it."))
            }
            (KeyState::Enabled | KeyState::Unavailable, None) => Error::in_state(arn, self.state),
        }
    }
}

/// The keyring of the moment. Made anew by whoever first asks after a change.
#[derive(Default)]
pub(crate) struct Keyrings {
    pub(super) newest: ArcSwap<Keyring>,
    /// Held while one is made, which takes microseconds after a change of a key, and per thousand keys after one of a key
    /// store; never across an await.
    making: Mutex<()>,
}

impl Core {
    /// The keyring of the catalogue's newest revision.
    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        let newest = self.inner.keyring.newest.load_full();
        let registry = &self.inner.registry;
        let is_current = |keyring: &Keyring| {
            keyring.generation == registry.generation() && keyring.catalogue.revision() == self.inner.store.revision()
        };
        if is_current(&newest) {
            return newest;
        }
        let _making = self.inner.keyring.making.lock_anyway();
        let newest = self.inner.keyring.newest.load_full();
        if is_current(&newest) {
            return newest;
        }
        // The generation first: what comes to be in use after it was read makes another keyring.
        let (inner, generation) = (&self.inner, registry.generation());
        let (catalogue, active) = (inner.store.catalogue(), registry.active());
        let kept = Kept {
            scope: &inner.scope,
            budgets: &inner.budgets,
            usages: &inner.usages,
            access_uses: &inner.access_uses,
            seals: &registry.seals.load_full(),
            default_policy: &inner.default_policy,
        };
        let next = Arc::new(newest.next(catalogue, generation, &active, kept));
        inner.keyring.newest.store(Arc::clone(&next));
        next
    }
}
