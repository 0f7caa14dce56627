//! Durable procedures: what a crash may interrupt and the next start goes on with.

mod add_hsm;
mod connect;
mod create;
mod destroy;
mod disconnect;
mod escrow;
mod fill;
mod key_store;
mod procedures;
mod reconcile;
mod recorded;
mod removal;
mod restart;
mod resume;
mod rotate;
mod sight;
pub(crate) mod tend;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard, watch};

pub use self::add_hsm::{AddHsmInput, AddedHsm};
pub(crate) use self::add_hsm::{has_keys_in_place, newcomer, wrapped_key_is_sane};
pub(crate) use self::procedures::Procedures;
pub(crate) use self::reconcile::Reconcilers;
pub(crate) use self::reconcile::missing_in;
pub use self::reconcile::wanted_in;
use crate::Error;
use crate::core::Core;
use crate::core::hsm_cluster::Members;
use model::id::{KeyId, KeyVersionId};
use model::key::RotationCause;
use model::step::steps;
use telemetry::watchdog::Task;
use telemetry::{abort, fault};

steps! {
    /// Steps of a connect outside admission.
    pub enum ConnectStep in "connect" {
        /// CONNECTING, and PINs marked for rotation, on record.
        RecordConnecting = "record-connecting",
        /// The workers of all HSMs are started.
        Start = "start",
        /// CONNECTED on record.
        RecordConnected = "record-connected",
        /// FAILED on record.
        RecordFailed = "record-failed",
        /// The workers of a failed connect leave.
        Stop = "stop",
    }
}

steps! {
    /// Steps of a disconnect.
    pub enum DisconnectStep in "disconnect" {
        /// DISCONNECTING on record: no operation succeeds any more.
        RecordDisconnecting = "record-disconnecting",
        /// Operations in flight are drained, workers log out and leave.
        Stop = "stop",
        /// DISCONNECTED on record.
        RecordDisconnected = "record-disconnected",
    }
}

steps! {
    /// Steps of bringing an HSM into a cluster.
    pub enum AddStep in "add-hsm" {
        /// Its PIN on record: it has joined.
        RecordPin = "record-pin",
        /// Its workers are started and let in.
        Start = "start",
        /// Its token shows its transport key and signs that.
        Show = "show",
        /// A member wraps the wrapping key to it.
        Rewrap = "rewrap",
        /// It unwraps the wrapping key, or shows that it holds it.
        Place = "place",
    }
}

steps! {
    /// Steps of making a version of a key, the first or a further one.
    pub enum VersionStep in "version" {
        /// Its row is on record.
        RecordBegun = "record-begun",
        /// An HSM makes it, and gives it wrapped; not where keys are made in place.
        Make = "make",
        /// Its escrow is on record; likewise.
        RecordBlob = "record-blob",
        /// It is placed in each HSM that can be reached, or made in the one that keeps it.
        Place = "place",
        /// One of them makes its proof ciphertext.
        MakeProof = "make-proof",
        /// The others open it, and who counts for several zones opens it too.
        Prove = "prove",
        /// Its proof ciphertext and where it is are on record, and the key is Enabled with it, or it encrypts in place of
        /// the one before.
        RecordCurrent = "record-current",
    }
}

steps! {
    /// Steps of taking away a version that could not be made.
    pub enum UndoStep in "undo" {
        /// It is on record as destroyed.
        RecordAbandoned = "record-abandoned",
        /// It is destroyed in each HSM that can be reached.
        Destroy = "destroy",
    }
}

steps! {
    /// Steps of destroying a key's material.
    pub enum DestroyStep in "destroy" {
        /// It is given up: no escrow, no proof, and on record as destroyed.
        RecordGivenUp = "record-given-up",
        /// It is destroyed in each HSM that can be reached.
        Destroy = "destroy",
        /// What came of that is on record.
        RecordDestroyed = "record-destroyed",
        /// The key is gone from the metadata.
        RecordDeleted = "record-deleted",
    }
}

/// A step that has a name, so that a test can break off before and after it.
pub(crate) trait Named {
    fn name(self) -> &'static str;
}

macro_rules! named {
    ($($steps:ident),+) => {$(
        impl Named for $steps {
            fn name(self) -> &'static str {
                $steps::name(self)
            }
        }
    )+};
}

named!(ConnectStep, DisconnectStep, AddStep, VersionStep, UndoStep, DestroyStep);

/// Does the work of a step.
pub(crate) async fn transient<T>(step: impl Named, work: impl Future<Output = T>) -> T {
    abort::around(step.name(), work).await
}

/// A version to be made: a new key's first one, or a further one of a key that is Enabled.
pub(crate) struct Plan {
    pub(crate) version: KeyVersionId,
    pub(crate) members: Members,
    pub(crate) origin: Origin,
    /// The members that have shown that they hold nothing of this number, where that had to be asked. One that has come since
    /// may hold something, of a time that the metadata do not know; so it is filled later, which destroys nothing. Not known
    /// any more of one that was interrupted.
    pub(crate) listed: Option<Vec<usize>>,
}

/// Decides what becomes of the version when the procedure fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Just begun: undone, so that a failed call leaves nothing behind where the HSMs can be reached.
    New,
    /// Begun by an earlier run: left as it is, for the next try.
    Interrupted,
}

/// What a procedure that has ended leaves to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// It is over.
    None,
    /// A new version that could not be finished.
    ToUndo,
}

impl Plan {
    /// The version is the key's first one.
    fn creates(&self) -> bool {
        self.version.version == 1
    }
}

/// Procedures that make versions, so that no key has two at once.
#[derive(Default)]
pub(crate) struct Creations(Mutex<Underway>);

/// The keys of which a version is being made, each with what comes of it.
pub(crate) type Underway = HashMap<KeyId, Outcome>;

/// What comes of a procedure, for everybody who waits for it.
#[derive(Clone)]
pub(crate) struct Outcome {
    told: watch::Receiver<Option<Result<(), Error>>>,
    /// Why a key is rotated: before there is a row of the version that is unfinished, and between its end and that of this,
    /// nothing else says so.
    cause: Option<RotationCause>,
}

impl Creations {
    pub(crate) async fn lock(&self) -> MutexGuard<'_, Underway> {
        self.0.lock().await
    }

    /// Ends when nothing is made of this key.
    #[cfg(test)]
    pub(crate) async fn ended(&self, key: KeyId) {
        while self.0.lock().await.contains_key(&key) {
            tokio::task::yield_now().await;
        }
    }
}

impl Outcome {
    /// A fault in this program broke the procedure off before it came to an end: nobody will tell.
    fn is_lost(&self) -> bool {
        self.told.has_changed().is_err() && self.told.borrow().is_none()
    }

    /// Whether it is a rotation for another reason than this.
    fn rotates_otherwise(&self, cause: RotationCause) -> bool {
        !self.is_lost() && self.cause.is_some_and(|other| other != cause)
    }

    /// Whether it makes a key, or takes a version away.
    fn is_no_rotation(&self) -> bool {
        !self.is_lost() && self.cause.is_none()
    }

    /// Waits for the end.
    pub(crate) async fn result(mut self) -> Result<(), Error> {
        match self.told.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Err(Error::internal("the making of a key was broken off")),
        }
    }
}

/// The durable procedures, and which of them are under way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lifecycle {
    core: Core,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    creations: Creations,
    procedures: Procedures,
    reconcilers: Reconcilers,
}

impl Lifecycle {
    pub(crate) fn new(core: Core) -> Self {
        Self { core, inner: Arc::default() }
    }

    /// Keys that are being made.
    pub(crate) fn creations(&self) -> &Creations {
        &self.inner.creations
    }

    /// Who compares HSMs with the metadata.
    pub(crate) fn reconcilers(&self) -> &Reconcilers {
        &self.inner.reconcilers
    }

    /// Starts the procedure for a version that is being made, or joins the one of its key that is under way. It runs to
    /// its end by itself. `cause`: why it was begun, as its row has it; absent for a key's first one alone.
    pub(crate) fn finish(&self, underway: &mut Underway, plan: Plan, cause: Option<RotationCause>) -> Outcome {
        let lifecycle = self.clone();
        self.run(underway, plan.version.key, cause, async move {
            let (result, leftover) = lifecycle.carry_out(&plan).await;
            (result, (leftover == Leftover::ToUndo).then_some(plan))
        })
    }

    /// Runs a procedure that makes a version of a key, unless one is under way: then that one's outcome is told. It gives
    /// its result, and the plan that has to be undone. `cause`: why it rotates the key.
    fn run(
        &self,
        underway: &mut Underway,
        key: KeyId,
        cause: Option<RotationCause>,
        procedure: impl Future<Output = (Result<(), Error>, Option<Plan>)> + Send + 'static,
    ) -> Outcome {
        if let Some(outcome) = underway.get(&key).filter(|outcome| !outcome.is_lost()) {
            return outcome.clone();
        }
        let (tell, told) = watch::channel(None);
        let outcome = Outcome { told, cause };
        underway.insert(key, outcome.clone());
        let (lifecycle, counted) = (self.clone(), self.core.tasks().token());
        // On panic: whoever waits gets an internal error. The version stays unfinished until it is asked for again, or
        // the next look at an HSM has it finished.
        tokio::spawn(async move {
            fault::point(Task::Creation, "").await;
            match procedure.await {
                (result, Some(plan)) => {
                    // Told first: undoing waits for the very HSMs that have just failed. Until it is done the key stays
                    // listed as under way, so that nobody begins to finish it.
                    tell.send_replace(Some(result));
                    lifecycle.undo(&plan).await;
                    lifecycle.inner.creations.lock().await.remove(&key);
                }
                (result, None) => {
                    lifecycle.inner.creations.lock().await.remove(&key);
                    tell.send_replace(Some(result));
                }
            }
            drop(counted);
        });
        outcome
    }
}
