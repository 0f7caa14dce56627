//! Brings each HSM to what it should hold: whenever it becomes ready, when a key could not be placed in every HSM, when
//! an operator asks, and now and then.
//!
//! Filled is what is wanted there and not proven there. What was proven there and is gone was removed by somebody, and
//! is not put back. What was destroyed and is there again is destroyed again. What is there and belongs to no key is
//! shown, and never destroyed by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::Lifecycle;
use super::destroy::undone_in;
use super::resume::is_unfinished;
use cluster::placement::{Findings, Wanted, compare};
use cluster::{Cluster, Removal};
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
/// How long a look tells what a token shows: until the next one, which takes its time.
const LOOK_LASTS: Duration = EVERY.saturating_add(LIST).saturating_add(LIST);

/// One HSM that is looked after. Keeps neither it nor its cluster in use.
#[derive(Clone)]
struct Post {
    key_store: KeyStoreId,
    cluster: Weak<Cluster>,
    member: usize,
    hsm: HsmId,
    data_workers: u16,
    /// Whose looks count: those of this reconciler, and no other's.
    run: u64,
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
    /// What the last look found in each HSM.
    looks: Mutex<BTreeMap<HsmId, Look>>,
}

/// What a look has found.
#[derive(Default)]
struct Look {
    /// Versions that no key explains.
    orphans: Vec<KeyVersionId>,
    /// When the newest look of this run began; none before it has come to an end.
    at: Option<Begun>,
    /// Counts the reconcilers of this HSM.
    run: u64,
}

/// The beginning of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    at: Instant,
    /// How often workers of the HSM had been started again by then: what another one shows may be another token.
    restarts: u64,
}

impl Look {
    /// Whether it still tells what the token shows.
    fn holds(&self, now: Instant, restarts: u64) -> bool {
        let begun = self.at.filter(|begun| begun.restarts == restarts);
        begun.is_some_and(|begun| now.saturating_duration_since(begun.at) <= LOOK_LASTS)
    }
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

    /// Versions that an HSM holds and no key explains.
    pub(crate) fn orphans(&self, hsm: &HsmId) -> Vec<KeyVersionId> {
        self.looks.lock_anyway().get(hsm).map(|look| look.orphans.clone()).unwrap_or_default()
    }

    /// Whether the orphans that are known, and what the metadata say, are all that an HSM shows: it was looked at lately, by
    /// workers that are still there. Only we write to it meanwhile, and what we write is on record before.
    pub(super) fn is_known(&self, hsm: &HsmId, now: Instant, restarts: u64) -> bool {
        self.looks.lock_anyway().get(hsm).is_some_and(|look| look.holds(now, restarts))
    }

    /// As if an HSM had been looked at just now, by workers that have served since it was started.
    #[cfg(test)]
    pub(crate) fn look_at(&self, hsm: &HsmId, orphans: Vec<KeyVersionId>, now: Instant) {
        let run = self.begin(hsm);
        self.found(hsm, orphans, Begun { at: now, restarts: 0 }, run);
    }

    /// Another reconciler looks after an HSM from now on, which may be another token; its number.
    fn begin(&self, hsm: &HsmId) -> u64 {
        let mut looks = self.looks.lock_anyway();
        let look = looks.entry(hsm.clone()).or_default();
        (look.at, look.run) = (None, look.run + 1);
        look.run
    }

    fn found(&self, hsm: &HsmId, orphans: Vec<KeyVersionId>, begun: Begun, run: u64) {
        let mut looks = self.looks.lock_anyway();
        let look = looks.entry(hsm.clone()).or_default();
        if look.run == run {
            look.at = Some(begun);
        }
        let before = std::mem::replace(&mut look.orphans, orphans.clone());
        drop(looks);
        if before != orphans && !orphans.is_empty() {
            tracing::warn!(%hsm, orphans = orphans.len(),
                "the HSM holds keys of this service that are in no metadata; keystorectl cluster status --orphans lists \
                 them, and they are left alone");
        }
    }
}

impl Lifecycle {
    /// Looks after each HSM of a cluster for as long as the cluster is in use with these members.
    pub(super) fn reconcile_all(&self, key_store: &KeyStoreId, cluster: &Arc<Cluster>) {
        for (member, hsm) in cluster.members().iter().enumerate() {
            let data_workers = hsm.settings().data_workers;
            let (lifecycle, hsm, status) = (self.clone(), hsm.settings().hsm.clone(), hsm.watch());
            let (asked, run) = (self.inner.reconcilers.asked(&hsm), self.inner.reconcilers.begin(&hsm));
            let (key_store, cluster) = (key_store.clone(), Arc::downgrade(cluster));
            let post = Post { key_store, cluster, member, hsm: hsm.clone(), data_workers, run, status, asked };
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
        let Post { key_store, cluster, member, hsm, data_workers, run, mut status, mut asked } = post;
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
            let begun = Begun { at: self.core.clock().now(), restarts: status.borrow().restarts };
            // Each of its steps has a deadline; all of them together may take long.
            let look = self.reconcile(&key_store, &cluster, (member, &hsm), |orphans| {
                self.inner.reconcilers.found(&hsm, orphans, begun, run);
            });
            let complete = heartbeat.idle(look).await;
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

    /// One look, and what follows from it; whether the HSM now holds what it should. `found` is told of the orphans.
    async fn reconcile(
        &self,
        key_store: &KeyStoreId,
        cluster: &Cluster,
        (member, hsm): (usize, &HsmId),
        found: impl FnOnce(Vec<KeyVersionId>) + Send,
    ) -> bool {
        // Before the token is asked: what is proven there by then, the token must show.
        let wanted = wanted_in(&self.core.store().catalogue(), key_store, hsm);
        let listed = cluster.list(member, self.core.clock().now() + LIST).await;
        let seen: Option<BTreeSet<KeyVersionId>> = match listed {
            Ok(seen) => Some(seen.into_iter().collect()),
            Err(error) => {
                tracing::warn!(%hsm, %error, "the HSM could not be asked which keys it holds");
                None
            }
        };
        let Findings { to_fill, gone, to_destroy, mut orphans } = compare(&wanted, seen.as_ref());
        let gone = self.gone_for_good(cluster, member, gone).await;
        // After: versions that were begun meanwhile are no orphans.
        let catalogue = self.core.store().catalogue();
        orphans.retain(|version| catalogue.key(version.key).is_none_or(|key| key.version(version.version).is_none()));
        if seen.is_some() {
            found(orphans);
        }
        for version in gone {
            self.note_removal(Removal { hsm: hsm.clone(), version }).await;
        }
        let undone: BTreeSet<KeyVersionId> = undone_in(&catalogue, key_store, hsm).into_iter().collect();
        let destroyed = self.destroy_again(cluster, member, hsm, to_destroy, &undone).await;
        if let Some(seen) = &seen {
            // Of keys whose material was given up: what is not there any more, whoever has destroyed it.
            let gone = undone.into_iter().filter(|version| !seen.contains(version) || destroyed.done.contains(version));
            let outcome = |version| Destroyed { version, hsm: hsm.clone(), failure: None };
            self.note_destroyed(gone.map(outcome).collect()).await;
        }
        let filled = self.fill(cluster, member, hsm, to_fill).await;
        if catalogue.keys_of(key_store).any(|key| is_unfinished(key)) {
            // Also what a start could not finish because its HSMs were away.
            self.resume_in_background();
        }
        seen.is_some() && filled && destroyed.all
    }

    /// What an HSM still does not show after it has had the time to have its objects wherever it keeps them. One that is a
    /// single token shows what it has.
    async fn gone_for_good(&self, cluster: &Cluster, member: usize, gone: Vec<KeyVersionId>) -> Vec<KeyVersionId> {
        let hsm = cluster.members().get(member).map(|hsm| &hsm.settings().capabilities.topology);
        let Some(topology) = hsm.filter(|topology| topology.replicates() && !gone.is_empty()) else { return gone };
        tokio::time::sleep(topology.settles()).await;
        match cluster.list(member, self.core.clock().now() + LIST).await {
            Ok(seen) => gone.into_iter().filter(|version| !seen.contains(version)).collect(),
            // The next look tells.
            Err(_) => Vec::new(),
        }
    }

    /// Destroys what is there of material that was given up, `undone` for the first time.
    async fn destroy_again(
        &self,
        cluster: &Cluster,
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
                }
            }
        }
        outcome
    }
}

/// What came of destroying.
struct DestroyedAgain {
    done: BTreeSet<KeyVersionId>,
    /// Nothing is left to be destroyed.
    all: bool,
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

#[cfg(test)]
mod tests {
    use super::*;
    use model::clock::Clock;
    use model::id::KeyId;

    fn begun(clock: &Clock, restarts: u64) -> Begun {
        Begun { at: clock.now(), restarts }
    }

    #[test]
    fn a_look_holds_until_it_is_old_or_another_worker_or_reconciler_has_come() {
        let (clock, reconcilers, hsm) = (Clock::manual(), Reconcilers::default(), HsmId::from("hsm-a"));
        let orphan = KeyVersionId { key: KeyId::random(), version: 3 };
        let run = reconcilers.begin(&hsm);
        assert!(!reconcilers.is_known(&hsm, clock.now(), 0), "nobody has looked");
        reconcilers.found(&hsm, vec![orphan], begun(&clock, 0), run);
        assert!(reconcilers.is_known(&hsm, clock.now(), 0));
        assert!(!reconcilers.is_known(&hsm, clock.now(), 1), "a worker was started again");
        clock.advance(LOOK_LASTS);
        assert!(reconcilers.is_known(&hsm, clock.now(), 0));
        clock.advance(Duration::from_millis(1));
        assert!(!reconcilers.is_known(&hsm, clock.now(), 0));
        reconcilers.found(&hsm, vec![orphan], begun(&clock, 1), run);
        assert!(reconcilers.is_known(&hsm, clock.now(), 1));
        let another = reconcilers.begin(&hsm);
        assert!(!reconcilers.is_known(&hsm, clock.now(), 1), "it may be another token by now");
        reconcilers.found(&hsm, vec![orphan], begun(&clock, 1), run);
        assert!(!reconcilers.is_known(&hsm, clock.now(), 1), "a look of before");
        reconcilers.found(&hsm, Vec::new(), begun(&clock, 1), another);
        assert!(reconcilers.is_known(&hsm, clock.now(), 1) && reconcilers.orphans(&hsm).is_empty());
    }
}
