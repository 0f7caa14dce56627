//! Brings each HSM to what it should hold: whenever it becomes ready, when a key could not be placed in every HSM, when
//! an operator asks, and now and then.
//!
//! Filled is what is wanted there and not proven there. What was proven there and is gone was removed by somebody, and
//! is not put back. What was destroyed and is there again is destroyed again. What is there and belongs to no key is
//! shown, and never destroyed by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::Lifecycle;
use super::destroy::undone_in;
use super::resume::is_unfinished;
use super::sight::Sight;
use crate::core::hsm_cluster::HsmCluster;
use cluster::placement::{Findings, Wanted, compare, doubled};
use cluster::{Cluster, Kept, Proof, Removal};
use model::id::{HsmId, KeyStoreId, KeyVersionId};
use model::key::KeyState;
use model::lock::MutexExt as _;
use store::{Catalogue, Destroyed};
use supervisor::Status;
use telemetry::watchdog::{Heartbeat, Task};

/// How often a token that has all it should have is looked at. A listing costs SoftHSM some 40 ms for a thousand keys,
/// in the control worker.
const EVERY: Duration = Duration::from_secs(300);
/// How soon one that could not be brought to what it should hold; each time in a row twice as late.
const AGAIN: Duration = Duration::from_secs(1);
/// For a listing, with others waiting before it.
const LIST: Duration = Duration::from_secs(20);
/// Data workers read the whole token before they serve, as a look does: the first look waits for them, but no longer.
const SETTLE: Duration = Duration::from_secs(5);

/// One HSM that is looked after. Keeps neither it nor its cluster in use.
#[derive(Clone)]
struct Post {
    key_store: KeyStoreId,
    cluster: Weak<Cluster>,
    member: usize,
    hsm: HsmId,
    data_workers: u16,
    status: watch::Receiver<Arc<Status>>,
    asked: watch::Receiver<()>,
}

/// What a reconciler does next.
enum Next {
    /// Looks again.
    Look,
    /// The HSM has gone.
    Away,
    /// It is not used any more.
    End,
}

/// What the reconcilers share with the rest of the lifecycle.
#[derive(Default)]
pub(crate) struct Reconcilers {
    /// For each HSM that ever had one: tells that somebody asked.
    asked: Mutex<BTreeMap<HsmId, watch::Sender<()>>>,
    /// What the last look found in each HSM that no key explains, or explains only once.
    orphans: Mutex<BTreeMap<HsmId, Vec<KeyVersionId>>>,
}

impl Reconcilers {
    /// Has an HSM looked at now.
    pub(crate) fn ask(&self, hsm: &HsmId) {
        if let Some(asked) = self.asked.lock_anyway().get(hsm) {
            asked.send_replace(());
        }
    }

    /// Tells when somebody asks.
    fn asked(&self, hsm: &HsmId) -> watch::Receiver<()> {
        let mut asked = self.asked.lock_anyway();
        asked.entry(hsm.clone()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Versions that an HSM holds and no key explains, and those of which it holds more than one object.
    pub(crate) fn orphans(&self, hsm: &HsmId) -> Vec<KeyVersionId> {
        self.orphans.lock_anyway().get(hsm).cloned().unwrap_or_default()
    }

    fn found(&self, hsm: &HsmId, orphans: Vec<KeyVersionId>) {
        let mut known = self.orphans.lock_anyway();
        let before = known.insert(hsm.clone(), orphans.clone()).unwrap_or_default();
        drop(known);
        if before != orphans && !orphans.is_empty() {
            tracing::warn!(%hsm, orphans = orphans.len(),
                "the HSM holds keys of this service that are in no metadata, or more than one object of a key version; \
                 keystorectl cluster status --orphans lists them, and they are left alone");
        }
    }
}

impl Lifecycle {
    /// Looks after each HSM of a cluster for as long as the cluster is in use with these members.
    pub(super) fn reconcile_all(&self, key_store: &KeyStoreId, cluster: &Arc<Cluster>) {
        for (member, hsm) in cluster.members().iter().enumerate() {
            let data_workers = hsm.settings().data_workers;
            let (lifecycle, hsm, status) = (self.clone(), hsm.settings().hsm.clone(), hsm.watch());
            let asked = self.inner.reconcilers.asked(&hsm);
            let (key_store, cluster) = (key_store.clone(), Arc::downgrade(cluster));
            let post = Post { key_store, cluster, member, hsm: hsm.clone(), data_workers, status, asked };
            // On panic: started again; a look needs nothing of the one before.
            tokio::spawn(self.core.registry().watchdog.clone().restarted(
                Task::Reconcile,
                hsm.to_string(),
                || (),
                move |heartbeat| lifecycle.clone().keep_reconciled(post.clone(), heartbeat),
            ));
        }
    }

    async fn keep_reconciled(self, post: Post, heartbeat: Heartbeat) {
        let Post { key_store, cluster, member, hsm, data_workers, mut status, mut asked } = post;
        let (mut again, mut comes) = (AGAIN, true);
        loop {
            if heartbeat.idle(status.wait_for(|status| status.control_ready)).await.is_err() {
                return;
            }
            if std::mem::take(&mut comes) {
                let all_in = |status: &Arc<Status>| !status.control_ready || status.data_ready >= data_workers;
                let _ = heartbeat.idle(timeout(SETTLE, status.wait_for(all_in))).await;
            }
            asked.mark_unchanged();
            let Some(cluster) = cluster.upgrade() else { return };
            // Each of its steps has a deadline; all of them together may take long.
            let complete = heartbeat.idle(self.reconcile(&key_store, &*cluster, member, &hsm)).await;
            drop(cluster);
            let pause = if complete { EVERY } else { again };
            again = if complete { AGAIN } else { (again * 2).min(EVERY) };
            let next = async {
                tokio::select! {
                    gone = status.wait_for(|status| !status.control_ready) => match gone {
                        Ok(_) => Next::Away,
                        Err(_) => Next::End,
                    },
                    asked = asked.changed() => if asked.is_ok() { Next::Look } else { Next::End },
                    () = tokio::time::sleep(pause) => Next::Look,
                }
            };
            match heartbeat.idle(next).await {
                // What comes back may be another token in the same place.
                Next::Away => (again, comes) = (AGAIN, true),
                Next::Look => {}
                Next::End => return,
            }
        }
    }

    /// One look, and what follows from it; whether the HSM now holds what it should.
    pub(crate) async fn reconcile(
        &self,
        key_store: &KeyStoreId,
        cluster: &dyn HsmCluster,
        member: usize,
        hsm: &HsmId,
    ) -> bool {
        // Before the token is asked: what is proven there by then, the token must show, and what was given up by then is
        // placed there no more.
        let before = self.core.store().catalogue();
        let wanted = wanted_in(&before, key_store, hsm);
        let undone: BTreeSet<KeyVersionId> = undone_in(&before, key_store, hsm).into_iter().collect();
        let told = undone.iter().copied().chain(unproven_in_place(&before, &wanted)).collect();
        let sight = self.look(cluster, member, hsm, &wanted, &told).await;
        let seen = sight.as_ref().map(Sight::seen);
        let Findings { to_fill, mut gone, to_destroy, mut orphans } = compare(&wanted, seen.as_ref());
        // After: versions that were begun meanwhile are no orphans, and what was destroyed meanwhile nobody else has removed.
        let catalogue = self.core.store().catalogue();
        orphans.retain(|version| catalogue.key(version.key).is_none_or(|key| key.version(version.version).is_none()));
        gone.retain(|version| {
            sight.as_ref().is_some_and(|sight| sight.lacks(*version)) && !catalogue.is_destroyed(*version)
        });
        for version in gone {
            self.note_removal(Removal { hsm: hsm.clone(), version }).await;
        }
        let destroyed = self.destroy_again(cluster, member, hsm, to_destroy, &undone).await;
        let (mut single, mut seen_gone) = (true, true);
        if let Some(sight) = &sight {
            // Of keys whose material was given up: what is not there any more, whoever has destroyed it. Where several HSMs stand
            // behind the slot, that one session finds it no more says nothing of the others: the next look does.
            let tells = cluster.settles(member).is_zero();
            let (done, to_be_seen): (Vec<_>, Vec<_>) =
                destroyed.done.iter().copied().filter(|version| undone.contains(version)).partition(|_| tells);
            seen_gone = to_be_seen.is_empty();
            let gone = undone.into_iter().filter(|version| sight.lacks(*version) || done.contains(version));
            let outcome = |version| Destroyed { version, hsm: hsm.clone(), failure: None };
            self.note_destroyed(gone.map(outcome).collect()).await;
            let several = self.keep_proven(cluster, member, hsm, doubled(&wanted, sight.listed())).await;
            single = several.unclear.is_empty();
            orphans.extend(several.unclear.into_iter().chain(several.of_one_material));
            self.inner.reconcilers.found(hsm, orphans);
        }
        let filled = self.fill(cluster, member, hsm, to_fill, sight.as_ref()).await;
        if catalogue.keys_of(key_store).any(|key| is_unfinished(key)) {
            // Also what a start could not finish because its HSMs were away.
            self.resume_in_background();
        }
        sight.is_some_and(|sight| sight.is_whole()) && filled && destroyed.all && seen_gone && single
    }

    /// What the HSM shows. Where something is not shown that was there, or one of those that are `told` to be gone when they are
    /// not shown, and the HSM's module has its objects in several HSMs, it is looked at once more when all of them have had the
    /// time to show it.
    async fn look(
        &self,
        cluster: &dyn HsmCluster,
        member: usize,
        hsm: &HsmId,
        wanted: &BTreeMap<KeyVersionId, Wanted>,
        told: &BTreeSet<KeyVersionId>,
    ) -> Option<Sight> {
        let list = || cluster.list(member, self.core.clock().now() + LIST);
        let failed = |error: &cluster::Error| {
            tracing::warn!(%hsm, %error, "the HSM could not be asked which keys it holds");
        };
        let sight = Sight::of(list().await.inspect_err(failed).ok()?);
        let settles = cluster.settles(member);
        let missed = || {
            let seen = sight.seen();
            !compare(wanted, Some(&seen)).gone.is_empty() || told.iter().any(|version| !seen.contains(version))
        };
        if settles.is_zero() || !missed() {
            return Some(sight);
        }
        tokio::time::sleep(settles).await;
        let second = list().await.inspect_err(failed).ok();
        Some(sight.and(second))
    }

    /// Leaves one object of each of these versions, of which the HSM shows several: the one that opens its proof. Another one
    /// comes from a try to make it in place whose answer was lost, and that showed up after the key was confirmed; no worker
    /// has used it, since none uses one of several that it does not know. Those of which several are left.
    ///
    /// Of keys that are wrapped all objects have the same material: they are left alone where keys were never made in place. So are
    /// those that all open the proof: any of them serves, and all of them go where the key is destroyed.
    async fn keep_proven(
        &self,
        cluster: &dyn HsmCluster,
        member: usize,
        hsm: &HsmId,
        versions: BTreeSet<KeyVersionId>,
    ) -> Several {
        let catalogue = self.core.store().catalogue();
        let known = self.inner.reconcilers.orphans(hsm);
        let mut several = Several::default();
        for version in versions {
            let row = catalogue.key(version.key).and_then(|key| key.version(version.version));
            // In an HSM that replicates its keys a wrapped version may have come beside one that was made in place.
            let looked_at = |row: &&store::Version| row.in_place || cluster.replicates(member);
            let Some(row) = row.filter(looked_at) else { continue };
            // Given up since.
            let Some((iv, sealed)) = row.proof.clone() else { continue };
            let (proof, within) = (Proof { iv, sealed }, self.core.clock().now() + LIST);
            match cluster.keep_proven(member, version, &proof, within).await {
                Ok(Kept::One) => tracing::warn!(%hsm, key_version = %version,
                    "the HSM held several objects of a key version; those that do not open its proof were destroyed"),
                Ok(Kept::OneMaterial(objects)) => {
                    several.of_one_material.push(version);
                    // Once: it stays so, and does no harm.
                    if !known.contains(&version) {
                        tracing::warn!(%hsm, key_version = %version, objects,
                            "the HSM holds several objects of a key version, or shows one several times, and each opens its \
                             proof; any of them is used, and all of them are destroyed with the key");
                    }
                }
                Err(error) => {
                    several.unclear.push(version);
                    tracing::error!(%hsm, key_version = %version, %error,
                        "the HSM holds several objects of a key version, and it could not be left with the one that opens its \
                         proof; workers that have not used one of them yet use none, unless all of them are of one material");
                }
            }
        }
        several
    }

    /// Destroys what is there of material that was given up, `undone` for the first time.
    async fn destroy_again(
        &self,
        cluster: &dyn HsmCluster,
        member: usize,
        hsm: &HsmId,
        versions: Vec<KeyVersionId>,
        undone: &BTreeSet<KeyVersionId>,
    ) -> DestroyedAgain {
        let mut outcome = DestroyedAgain { done: BTreeSet::new(), all: true };
        for version in versions {
            match cluster.destroy(member, version, self.core.clock().now() + LIST).await {
                Ok(()) => {
                    if !undone.contains(&version) {
                        tracing::warn!(%hsm, key_version = %version,
                            "the token held a key that had been destroyed, as one does that was away or was restored; \
                             it was destroyed again");
                    }
                    outcome.done.insert(version);
                }
                Err(error) => {
                    outcome.all = false;
                    tracing::error!(%hsm, key_version = %version, %error,
                        "the token holds a key that no token must hold any more, and it could not be destroyed there");
                    self.note_undestroyed(version, hsm, &error.to_string()).await;
                }
            }
        }
        outcome
    }
}

/// Versions of which an HSM has more than one object.
#[derive(Default)]
struct Several {
    /// Nobody knows yet which of them is the key.
    unclear: Vec<KeyVersionId>,
    /// Each of them is.
    of_one_material: Vec<KeyVersionId>,
}

/// What came of destroying.
struct DestroyedAgain {
    done: BTreeSet<KeyVersionId>,
    /// Nothing is left to be destroyed.
    all: bool,
}

/// Versions that were made in place and are not proven there: of them, too, it counts when they are not shown.
fn unproven_in_place(catalogue: &Catalogue, wanted: &BTreeMap<KeyVersionId, Wanted>) -> Vec<KeyVersionId> {
    let row = |version: &KeyVersionId| catalogue.key(version.key).and_then(|key| key.version(version.version));
    let unproven = compare(wanted, None).to_fill.into_iter();
    unproven.filter(|version| row(version).is_some_and(|row| row.in_place)).collect()
}

/// Versions of a store's keys that are wanted in an HSM and not known to be there.
pub(crate) fn missing_in(catalogue: &Catalogue, key_store: &KeyStoreId, hsm: &HsmId) -> Vec<KeyVersionId> {
    compare(&wanted_in(catalogue, key_store, hsm), None).to_fill
}

/// What the metadata say of each version in an HSM.
#[must_use]
pub fn wanted_in(catalogue: &Catalogue, key_store: &KeyStoreId, hsm: &HsmId) -> BTreeMap<KeyVersionId, Wanted> {
    let versions = catalogue.keys_of(key_store).flat_map(|key| key.versions.iter().map(move |version| (key, version)));
    let wanted = versions.map(|(key, version)| {
        let placement = version.placements.get(hsm).copied();
        if key.is_destroyed() {
            return (version.id, Wanted::Destroyed);
        }
        let unfinished = key.state == KeyState::Creating || version.id.version > key.current_version;
        // Without escrow there is nothing to fill from, but for an HSM that has made it itself.
        match unfinished || (version.blob.is_none() && placement.is_none()) {
            true => (version.id, Wanted::Unfinished),
            false => (version.id, Wanted::Placed(placement)),
        }
    });
    let destroyed = catalogue.orphaned().map(|version| (version, Wanted::Destroyed));
    wanted.chain(destroyed).collect()
}
