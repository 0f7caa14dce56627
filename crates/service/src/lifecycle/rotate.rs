//! Rotation in place: a key gets new material as a further version, made and proven as a new key is. New encryptions
//! change over to it in one transaction; what was encrypted before is opened with the version that it names.

use std::time::Duration;

use futures_util::future::join_all;

use super::{Leftover, Lifecycle, Origin, Plan, VersionStep, transient};
use crate::Error;
use crate::core::hsm_cluster::Members;
use crate::core::service_event::ServiceEvent;
use crate::keys::rotate_key::may_be_rotated;
use audit::event::Value;
use model::exception::Exception;
use model::id::{HsmId, KeyId, KeyVersionId};
use model::key::RotationCause;
use store::Rotating;

/// For a listing, with others waiting before it.
const LIST: Duration = Duration::from_secs(20);

impl Lifecycle {
    /// Gives a key a new version and waits until that encrypts. Goes on with one that is unfinished; joins a rotation
    /// that is under way only where both were asked for.
    pub(crate) async fn rotate(&self, key: KeyId, cause: RotationCause) -> Result<(), Error> {
        let arn = self.core.scope().key_arn(key);
        let mut underway = self.inner.creations.lock().await;
        if let Some(making) = underway.get(&key).filter(|outcome| outcome.is_no_rotation()).cloned() {
            // The key is in use before the making of its first version has ended: whoever wants a rotation wants another.
            drop(underway);
            making.result().await?;
            underway = self.inner.creations.lock().await;
        }
        let catalogue = self.core.store().catalogue();
        let row = catalogue.key(key).ok_or_else(|| Error::no_key(&arn))?;
        let (_, members) = self.core.connected_store(row.key_store.as_str())?;
        let outcome = match row.unfinished() {
            Some(version) if version.cause != Some(cause) => {
                return Err(self.core.of_store(store::Error::Rotating(key)));
            }
            Some(version) => {
                let plan = Plan { version: version.id, members, origin: Origin::Interrupted, listed: None };
                self.finish(&mut underway, plan, version.cause)
            }
            // It lists the tokens still, and has no row; or its version is current this moment, and it is listed still.
            None if underway.get(&key).is_some_and(|outcome| outcome.rotates_otherwise(cause)) => {
                return Err(self.core.of_store(store::Error::Rotating(key)));
            }
            None => {
                if cause == RotationCause::Request {
                    // Once more: no other rotation of the key ends while the list of what is being made is held.
                    may_be_rotated(&self.core, row)?;
                }
                // Before there is a row: nothing is begun that cannot be finished, and no token is listed for it. Where there
                // is a row for it, its room is looked at once more.
                members.hsm_cluster.reachable_for_creation().map_err(|error| Error::of_cluster(error, Some(&arn)))?;
                members.room(&catalogue, &row.key_store)?;
                let lifecycle = self.clone();
                let making = async move { lifecycle.make_version(key, cause, members).await };
                self.run(&mut underway, key, Some(cause), making)
            }
        };
        drop(underway);
        outcome.result().await
    }

    /// Begins a version and makes it.
    async fn make_version(
        &self,
        key: KeyId,
        cause: RotationCause,
        members: Members,
    ) -> (Result<(), Error>, Option<Plan>) {
        let (version, listed) = match self.next_number(key, &members).await {
            Ok((version, listed)) => (KeyVersionId { key, version }, Some(listed)),
            Err(error) => return (Err(error), None),
        };
        if let Err(error) = self.begin_version(version, cause, &members).await {
            return (Err(error), None);
        }
        let plan = Plan { version, members, origin: Origin::New, listed };
        let (result, leftover) = self.carry_out(&plan).await;
        if result.is_ok() {
            tracing::info!(%key, version = version.version, cause = cause.name(), "the key was rotated");
            self.note_rotation(plan.version, Some(cause));
        }
        (result, (leftover == Leftover::ToUndo).then_some(plan))
    }

    /// Makes the row of a further version. The list of what is being made is held from the look for room to the row, as where
    /// a key is begun: two that are begun at once never both take the last room.
    async fn begin_version(&self, version: KeyVersionId, cause: RotationCause, members: &Members) -> Result<(), Error> {
        let _alone = self.inner.creations.lock().await;
        let catalogue = self.core.store().catalogue();
        let row = catalogue.key(version.key);
        let row = row.ok_or_else(|| Error::no_key(&self.core.scope().key_arn(version.key)))?;
        // Tokens were listed since it was looked at: the key store may be disconnected by now.
        self.core.connected_store(row.key_store.as_str())?;
        members.room(&catalogue, &row.key_store)?;
        let hsms: Vec<HsmId> = members.hsms.iter().map(|(hsm, _)| hsm.clone()).collect();
        let beginning = self.core.store().begin_version(Rotating { version, cause, in_place: members.in_place }, &hsms);
        transient(VersionStep::RecordBegun, beginning).await.map_err(|error| self.core.of_store(error))
    }

    /// Has it recorded that a key was rotated by itself. What was asked for has the record of its call, and so has the making
    /// of a key.
    pub(super) fn note_rotation(&self, version: KeyVersionId, cause: Option<RotationCause>) {
        let Some(cause) = cause.filter(|cause| *cause != RotationCause::Request) else { return };
        let catalogue = self.core.store().catalogue();
        let Some(key) = catalogue.key(version.key) else { return };
        let event = ServiceEvent::of_kms(self.core.clock().unix_millis(), "RotateKey")
            .about(self.core.scope().key_arn(key.id))
            .saying("customKeyStoreId", key.key_store.as_str())
            .saying("rotationType", "AUTOMATIC")
            .saying("cause", cause.name())
            .saying("keyVersion", Value::Number(version.version.into()));
        let made = key.versions.iter().find(|made| made.id == version);
        let material = made.map(|made| made.material_id.to_string()).unwrap_or_default();
        self.core.happened(event.saying("keyMaterialId", material.as_str()));
    }

    /// A number above everything that the metadata and the tokens show for a key. A database that was restored knows
    /// less than the tokens do, and one number must never be given to two materials. With the members whose tokens were asked.
    async fn next_number(&self, key: KeyId, members: &Members) -> Result<(u32, Vec<usize>), Error> {
        let arn = self.core.scope().key_arn(key);
        let reachable = members.hsm_cluster.reachable_for_creation();
        let reachable = reachable.map_err(|error| Error::of_cluster(error, Some(&arn)))?;
        let deadline = self.core.clock().now() + LIST;
        let listed = join_all(reachable.iter().map(|member| members.hsm_cluster.list(*member, deadline))).await;
        let mut shown = Vec::new();
        for listed in listed {
            shown.extend(listed.map_err(|error| Error::of_cluster(error, Some(&arn)))?);
        }
        // What was seen in HSMs that are away now.
        shown.extend(members.hsms.iter().flat_map(|(hsm, _)| self.inner.reconcilers.orphans(hsm)));
        let catalogue = self.core.store().catalogue();
        let known = catalogue.key(key).map(|key| key.versions.iter().map(|version| version.id).collect::<Vec<_>>());
        shown.extend(known.unwrap_or_default());
        shown.extend(catalogue.destroyed_of(key));
        let highest = shown.into_iter().filter(|version| version.key == key).map(|version| version.version).max();
        let next = highest.unwrap_or(0).checked_add(1).ok_or_else(|| {
            Error::permanent(Exception::LimitExceeded, format!("{arn} has no numbers left for further versions"))
        })?;
        Ok((next, reachable))
    }
}
