//! Making a version of a key: the first one, which takes the key from Creating to Enabled, or a further one, which then
//! encrypts in place of the one before.
//!
//! Make it in one token → store the blob → place it in every reachable token → make the proof in one → open it in each
//! other → if at least two zones have proven it: the proof, where it is, its first encryptions, and Enabled or current,
//! all in one transaction. A version costs three waits for the disk, the one for its row among them.
//!
//! Where keys are made in place there is one member, which counts for several zones, and no blob: make it there → make the
//! proof → open it, which is a second operation of the same member → make sure that there is one object, which never was
//! elsewhere → the same transaction.
//!
//! A procedure that a crash interrupted begins again after the blob: nobody has ever used the version, so its objects,
//! which the crash may have left half written, are replaced and proven anew.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{Leftover, Lifecycle, Origin, Plan, UndoStep, VersionStep, transient};
use crate::Error;
use crate::core::budget::BLOCK;
use cluster::{self, Proof};
use model::exception::Exception;
use model::id::KeyVersionId;
use store::{Finished, Version};
use telemetry::sampled::{self, Line};

/// Longer than the kill limit of key generation, so that the HSM's own error arrives.
const MAKE: Duration = Duration::from_secs(40);
/// Longer than the kill limits of placing and using a key, with others waiting before it.
const STEP: Duration = Duration::from_secs(20);
/// A key is Enabled, and a version current, when this many zones have proven it.
const ZONES: usize = 2;

/// Where a key is now.
struct Made {
    /// Members that have proven it, in enough zones.
    proven: BTreeSet<usize>,
    /// Members that have not.
    missed: Vec<usize>,
    proof: Proof,
}

impl Lifecycle {
    /// Carries the plan out. What a failure leaves behind is told beside it: the caller learns the failure first.
    pub(super) async fn carry_out(&self, plan: &Plan) -> (Result<(), Error>, Leftover) {
        let (version, key) = (plan.version, plan.version.key);
        let (result, leftover) = match self.make(plan).await {
            // From here on it works: an error leaves it to the next try and undoes nothing. But where it could not be
            // recorded, or its key or key store was taken out of use meanwhile, the caller of a new one is told that there
            // is none.
            Ok(made) => match self.enable(plan, made).await {
                Ok(()) => (Ok(()), Leftover::None),
                Err(error) => {
                    let out_of_use = matches!(error, store::Error::State(_) | store::Error::KeyState(..));
                    let undone = plan.origin == Origin::New && (error.passes() || out_of_use);
                    (Err(self.core.of_store(error)), if undone { Leftover::ToUndo } else { Leftover::None })
                }
            },
            Err(error) if plan.origin == Origin::New => (Err(error), Leftover::ToUndo),
            Err(error) => (Err(error), Leftover::None),
        };
        // Its key was given up while it was made: HSMs may have destroyed it before they were told to keep it.
        let given_up = result.is_err() && self.core.store().catalogue().is_destroyed(version);
        let leftover = if given_up { Leftover::ToUndo } else { leftover };
        let result = result.inspect_err(|error| {
            if sampled::whole(Line::KeyNotMade, &error.exception) {
                tracing::warn!(%key, version = version.version, exception = %error.exception, why = error.message,
                    "the key version could not be made");
            }
        });
        (result, leftover)
    }

    /// Makes, places and proves the version.
    async fn make(&self, plan: &Plan) -> Result<Made, Error> {
        let (hsm_cluster, store, version) = (&plan.members.hsm_cluster, self.core.store(), plan.version);
        let arn = self.core.scope().key_arn(version.key);
        let of_cluster = |error| Error::of_cluster(error, Some(&arn));
        let mut reachable = hsm_cluster.reachable_for_creation().map_err(of_cluster)?;
        reachable.retain(|member| plan.listed.as_ref().is_none_or(|listed| listed.contains(member)));
        let row = store.catalogue().key(version.key).and_then(|key| key.version(version.version).cloned());
        let row = row.ok_or_else(|| Error::no_key(&arn))?;
        if row.in_place != plan.members.in_place {
            return Err(made_otherwise(&arn));
        }
        let blob = match row.blob {
            blob if row.in_place => blob,
            Some(blob) => Some(blob),
            None => {
                let making = hsm_cluster.make_key(self.within(MAKE));
                let blob = transient(VersionStep::Make, making).await.map_err(of_cluster)?;
                // Before any token keeps the key: what can be in a token can be filled into another.
                let kept = transient(VersionStep::RecordBlob, store.keep_blob(version, &blob)).await;
                kept.map_err(|error| self.core.of_store(error))?;
                Some(blob)
            }
        };
        let making = Making { lifecycle: self, plan, arn: &arn, blob: blob.as_ref() };
        let mut placed = transient(VersionStep::Place, making.place(&reachable)).await;
        let first_proof = transient(VersionStep::MakeProof, making.first_proof(&mut placed)).await;
        let (maker, proof) = first_proof.map_err(of_cluster)?;
        let proving = join_all(placed.into_iter().map(|member| making.prove(member, &proof, member == maker)));
        let opened = transient(VersionStep::Prove, proving).await;
        let proven: BTreeSet<usize> = opened.into_iter().flatten().collect();
        making.enough(&proven)?;
        let missed = (0..plan.members.hsms.len()).filter(|member| !proven.contains(member)).collect();
        Ok(Made { proven, missed, proof })
    }

    /// Records where the version is and that it may be used.
    async fn enable(&self, plan: &Plan, made: Made) -> Result<(), store::Error> {
        let (store, hsms, version) = (self.core.store(), &plan.members.hsms, plan.version);
        let proven = made.proven.iter().map(|member| hsms[*member].0.clone()).collect();
        let proof = (made.proof.iv, made.proof.sealed);
        let finishing = store.finish_version(Finished { version, proof, proven, reserve: BLOCK });
        let granted = transient(VersionStep::RecordCurrent, finishing).await?;
        self.core.budgets().of(version).add(granted, BLOCK, self.core.clock().now());
        // They failed and perhaps go on serving, or their data workers alone were away, so that nothing else tells that
        // something is to be filled. One that is away altogether is looked at when it is ready.
        made.missed.into_iter().for_each(|member| self.inner.reconcilers.ask(&hsms[member].0));
        Ok(())
    }

    /// Takes a version away that could not be made, with its key where that is new, and destroys what it has left in
    /// tokens. What cannot be reached now is on record as destroyed, and is destroyed when it is seen.
    pub(super) async fn undo(&self, plan: &Plan) {
        let (version, store) = (plan.version, self.core.store());
        let (key, number) = (version.key, version.version);
        let catalogue = store.catalogue();
        let row = catalogue.key(key).and_then(|key| key.version(number));
        // Of one whose key was given up meanwhile there is no escrow any more that would tell.
        let may_be_there = row.is_some_and(Version::may_be_in_tokens) || catalogue.is_destroyed(version);
        let abandoning = async {
            match plan.creates() {
                true => store.abandon_key(key).await,
                false => store.abandon_version(version).await,
            }
        };
        if let Err(error) = transient(UndoStep::RecordAbandoned, abandoning).await {
            tracing::warn!(%key, number, %error,
                "the row of an unfinished key version could not be taken away; the next start goes on with it");
            return;
        }
        if self.core.store().catalogue().key(key).is_some_and(|row| row.is_destroyed()) {
            // All of the key was given up meanwhile. What is left of the version is destroyed on record, as the rest is.
            self.destroy_material(key).await;
            return;
        }
        // Else no token was asked to keep anything.
        let asked = |member: &usize| plan.listed.as_ref().is_none_or(|listed| listed.contains(member));
        let members = (0..plan.members.hsms.len()).filter(|member| may_be_there && asked(member));
        let destroying = join_all(members.map(|member| async move {
            let result = plan.members.hsm_cluster.destroy(member, version, self.within(STEP)).await;
            result.map_err(|error| (&plan.members.hsms[member].0, error))
        }));
        let destroyed = transient(UndoStep::Destroy, destroying).await;
        for (hsm, error) in destroyed.into_iter().filter_map(Result::err) {
            tracing::warn!(%key, number, %hsm, %error,
                "what is left of an unfinished key version could not be destroyed now; it will be when the HSM can be \
                 asked");
            self.inner.reconcilers.ask(hsm);
        }
    }

    fn within(&self, limit: Duration) -> Instant {
        self.core.clock().now() + limit
    }
}

/// What was begun while the configuration had keys made in another way is taken away, not finished: in place each HSM would
/// make a material of its own.
fn made_otherwise(arn: &str) -> Error {
    Error::transient(
        Exception::CloudHsmClusterInvalidConfiguration,
        format!(
            "a version of {arn} was begun while the configuration had keys made in another way (capabilities.keys.made); it is \
             taken away, and then the same call can be made again"
        ),
    )
}

/// A version on its way, once its blob is stored, or where it has none because it is made in place.
struct Making<'a> {
    lifecycle: &'a Lifecycle,
    plan: &'a Plan,
    arn: &'a str,
    blob: Option<&'a Bytes>,
}

impl Making<'_> {
    /// Places the key in each of these members; those in which it succeeded.
    async fn place(&self, members: &[usize]) -> Vec<usize> {
        let placed = join_all(members.iter().map(|member| async move {
            let placed = match self.plan.origin {
                Origin::New => self.place_in(*member).await,
                Origin::Interrupted => self.replace(*member).await,
            };
            placed.inspect_err(|error| self.complain(*member, "placing", error)).ok().map(|()| *member)
        }));
        placed.await.into_iter().flatten().collect()
    }

    async fn place_in(&self, member: usize) -> Result<(), cluster::Error> {
        let (cluster, version) = (&self.plan.members.hsm_cluster, self.plan.version);
        match self.blob {
            Some(blob) => cluster.place(member, version, self.arn, blob, self.lifecycle.within(STEP)).await,
            None => cluster.make_in_place(member, version, self.arn, self.lifecycle.within(MAKE)).await,
        }
    }

    /// Makes the proof in the first member that can; members that cannot are taken off the list.
    async fn first_proof(&self, placed: &mut Vec<usize>) -> Result<(usize, Proof), cluster::Error> {
        let mut last = cluster::Error::TooFewZones("the key could be placed in no HSM".into());
        while let Some(member) = placed.first().copied() {
            let made = match self.make_proof(member).await {
                Err(error) => {
                    self.complain(member, "making the proof", &error);
                    match self.replace(member).await {
                        Ok(()) => self.make_proof(member).await,
                        Err(error) => Err(error),
                    }
                }
                made => made,
            };
            match made {
                Ok(proof) => return Ok((member, proof)),
                Err(error) => {
                    self.complain(member, "making the proof again", &error);
                    placed.remove(0);
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn make_proof(&self, member: usize) -> Result<Proof, cluster::Error> {
        self.plan.members.hsm_cluster.make_proof(member, self.plan.version, self.lifecycle.within(STEP)).await
    }

    /// Opens the proof in a member. Who has made it has proven the key by that, unless it counts for several zones: then a
    /// second operation has to succeed as well. An object that does not open it is destroyed and placed again, once; one that
    /// was made in place is the only one there is.
    async fn prove(&self, member: usize, proof: &Proof, made_it: bool) -> Option<usize> {
        if made_it && !self.plan.members.hsms[member].1.is_spread() {
            return Some(member);
        }
        if let Err(error) = self.open(member, proof).await {
            self.complain(member, "opening the proof", &error);
            self.blob.as_ref()?;
            let again = match self.replace(member).await {
                Ok(()) => self.open(member, proof).await,
                Err(error) => Err(error),
            };
            if let Err(error) = again {
                self.complain(member, "opening the proof again", &error);
                return None;
            }
        }
        Some(member)
    }

    async fn open(&self, member: usize, proof: &Proof) -> Result<(), cluster::Error> {
        let (cluster, version) = (&self.plan.members.hsm_cluster, self.plan.version);
        cluster.prove(member, version, proof, self.lifecycle.within(STEP)).await?;
        match self.blob {
            Some(_) => Ok(()),
            None => cluster.confirm_in_place(member, version, self.lifecycle.within(STEP)).await,
        }
    }

    /// The object is our own and was never used: nobody loses anything by its end. Where it is made in place, another one would
    /// be another key: so what an earlier try has made has the time to show up before it is destroyed, and what shows up
    /// later all the same has it before the new one is confirmed.
    async fn replace(&self, member: usize) -> Result<(), cluster::Error> {
        let cluster = &self.plan.members.hsm_cluster;
        let settles = if self.blob.is_none() { cluster.settles(member) } else { Duration::ZERO };
        tokio::time::sleep(settles).await;
        cluster.destroy(member, self.plan.version, self.lifecycle.within(STEP)).await?;
        self.place_in(member).await?;
        tokio::time::sleep(settles).await;
        Ok(())
    }

    fn enough(&self, proven: &BTreeSet<usize>) -> Result<(), Error> {
        let hsms = &self.plan.members.hsms;
        let names: BTreeSet<&str> = proven.iter().flat_map(|member| hsms[*member].1.names()).collect();
        if names.len() >= ZONES {
            return Ok(());
        }
        let names: Vec<&str> = names.into_iter().collect();
        Err(Error::permanent(
            Exception::CloudHsmClusterInvalidConfiguration,
            format!(
                "the key could be proven in {} of the {ZONES} zones that it needs ({}); the daemon's log says what \
                 failed in which HSM",
                names.len(),
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            ),
        ))
    }

    fn complain(&self, member: usize, step: &str, error: &cluster::Error) {
        let hsm = &self.plan.members.hsms[member].0;
        if sampled::whole(Line::KeyNotMade, hsm) {
            let KeyVersionId { key, version } = self.plan.version;
            tracing::warn!(%key, version, %hsm, step, %error, "a step of making a key version failed");
        }
    }
}
