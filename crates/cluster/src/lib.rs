//! Many HSMs as one: health, routing, failover, hedging, placement, the ceremony.
//!
//! Decisions are pure functions over observations; the I/O around them is thin.

#![forbid(unsafe_code)]

pub mod admission;
mod books;
pub mod connect;
mod creation;
pub mod diagnosis;
pub mod discovery;
mod dispatch;
mod examination;
mod failover;
#[cfg(test)]
mod fake;
/// What happened to HSMs, for records.
pub mod happened;
mod health;
mod hedge;
pub mod identity;
pub mod inventory;
pub mod item;
pub mod kmsuser;
mod last_resort_proof;
mod log_key;
mod member;
mod member_monitor;
mod member_operation;
pub mod placement;
mod port;
pub mod proof;
mod reexamination;
mod removal;
mod route;
#[cfg(test)]
mod simulation;
mod statistics;
#[cfg(test)]
mod tests;
mod throttle;
pub mod transport;
mod usual;
mod verify;
mod zones;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::dispatch::Dispatcher;
use self::identity::Identities;
use self::item::Done;
pub use self::log_key::AuditKey;
use self::member_operation::Task;
pub use self::statistics::StatisticsSnapshot;
use model::call_options::CallOptions;
use model::ciphertext::IV_BYTES;
use model::clock::Clock;
use model::id::{ClusterId, HsmId, KeyVersionId, Zone};
use model::profile::VerifyWraps;
use model::secret::Secret;
use protocol::Fault;
use supervisor::{Hsm, Status};
use telemetry::watchdog::Watchdog;

/// How a cluster is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its id.
    pub id: ClusterId,
    /// The daemon's own zone, asked first.
    pub own_zone: Option<Zone>,
    /// An answer later than this has the call sent to another zone as well.
    pub hedge_after: Duration,
    /// What is checked in another zone before it is given out.
    pub verify: Verify,
}

/// Which results are checked in another zone, where there is one, before they are given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verify {
    /// Ciphertexts: opened again.
    pub wraps: VerifyWraps,
    /// Plaintexts: opened a second time.
    pub unwraps: bool,
}

/// In which members of the cluster a key version can be used: a bit for each, by its place in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlacementMask(pub u64);

/// What the cluster must know of a key version to use it.
#[derive(Clone, Debug)]
pub struct KeyRef {
    /// Its id.
    pub version: KeyVersionId,
    /// Where it is.
    pub placed: PlacementMask,
    /// Made with this very key at its creation; tells a bad ciphertext from a broken key.
    pub proof: Proof,
}

/// A ciphertext of known bytes, made when the key was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The initialisation vector.
    pub iv: [u8; IV_BYTES],
    /// Ciphertext and tag.
    pub sealed: Bytes,
}

/// Why the cluster has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The ciphertext, its IV or its context is not what the key made.
    #[error("the ciphertext does not open")]
    BadCiphertext,
    /// Every queue that could take it is full.
    #[error("every HSM that holds the key is busy")]
    Busy,
    /// So much waits that the answer would come after the deadline; about so long. Nothing was begun.
    #[error("the answer would come too late, in {} ms", .0.as_millis())]
    WouldMissDeadline(Duration),
    /// The deadline passed.
    #[error("no answer in time")]
    DeadlineExceeded,
    /// The key was removed in every HSM that had it.
    #[error("the key was removed in every HSM")]
    KeyGone,
    /// No HSM that holds the key answers at the moment; the sentence says which and why.
    #[error("no HSM answers: {0}")]
    NoZone(String),
    /// The same, and none will before somebody has done something.
    #[error("no HSM will answer: {0}")]
    Refused(String),
    /// Fewer than two zones can be reached, and the operation needs two.
    #[error("fewer than two zones can be reached: {0}")]
    TooFewZones(String),
    /// An HSM refused; for operations that are not repeated elsewhere.
    #[error("HSM {hsm}: {fault}")]
    Hsm {
        /// The HSM.
        hsm: HsmId,
        /// What it said.
        fault: Fault,
    },
}

/// An item without a result.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// Why there is none.
    #[source]
    pub error: Error,
    /// Some HSM had it, and may have carried it out.
    pub sent: bool,
}

/// Where it is not known whether some HSM had it, that is assumed.
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, sent: true }
    }
}

/// What is left of several objects of a key version, each of which opens its proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// One.
    One,
    /// So many: they are of one material, or are one object that is shown several times. Any of them is as good as another.
    OneMaterial(u64),
}

/// A key version's object is gone in one HSM while token, canary and other keys are sound: somebody took it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The HSM in which it is gone.
    pub hsm: HsmId,
    /// The version.
    pub version: KeyVersionId,
}

/// How one member is, for people and metrics.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// Which HSM.
    pub hsm: HsmId,
    /// Its zone.
    pub zone: Zone,
    /// Its health as routing sees it.
    pub health: Health,
    /// Why it is not healthy.
    pub reason: Option<String>,
    /// Since when.
    pub since: SystemTime,
    /// It makes its keys in place: no other HSM can have them.
    pub in_place: bool,
    /// Data workers that there should be.
    pub data_workers: u16,
    /// Items that wait for it or are in it.
    pub load: usize,
    /// Items that its data workers have in hand at most, one in each session.
    pub capacity: usize,
    /// What it has done.
    pub statistics: StatisticsSnapshot,
    /// What its supervisor says.
    pub status: Arc<Status>,
}

/// A member's health, fed by real operations and by the supervisor's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Its workers have not been ready yet.
    Starting,
    /// Serves, and is asked like any other.
    Healthy,
    /// Serves, but failed lately: others are asked first.
    Suspect,
    /// Does not serve.
    Down,
}

impl Health {
    /// Each, in the order of the declaration.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Healthy, Self::Suspect, Self::Down];
}

/// A cluster of HSMs.
pub struct Cluster {
    id: ClusterId,
    hsms: Vec<Hsm>,
    dispatcher: Arc<Dispatcher<Hsm>>,
    /// Ends the members' monitors with the cluster.
    _monitors: JoinSet<()>,
}

impl Cluster {
    /// Makes one HSM of many, at most 64. Removals are reported on the channel, what becomes of zones is noted with what
    /// happened to HSMs. What `before` counted of the same HSMs is counted on. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(
        settings: Settings,
        members: Vec<Hsm>,
        clock: Clock,
        (removals, identities): (mpsc::Sender<Removal>, &Arc<Identities>),
        before: Option<&Self>,
        watchdog: &Watchdog,
    ) -> Arc<Self> {
        let goes_on = before.is_some();
        let before = before.map(|cluster| &cluster.dispatcher.members[..]).unwrap_or_default();
        let (dispatcher, suspicions) = Dispatcher::new(&settings, members.clone(), clock.clone(), before);
        let dispatcher = Arc::new(dispatcher);
        // What serves already serves from the first call on: a cluster is made anew when an HSM comes to it.
        for member in &dispatcher.members {
            member.follow(&member.port.status());
        }
        let mut monitors = member_monitor::keep(&dispatcher, suspicions, &removals, watchdog);
        log_key::keep(&dispatcher, watchdog, &mut monitors);
        reexamination::keep(&dispatcher, watchdog, &mut monitors, reexamination::PAUSES);
        zones::keep(&dispatcher, &settings.id, identities, &clock, goes_on);
        Arc::new(Self { id: settings.id, hsms: members, dispatcher, _monitors: monitors })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &ClusterId {
        &self.id
    }

    /// Its members, in the order of the configuration, which is the order of the bits in [`PlacementMask`].
    #[must_use]
    pub fn members(&self) -> &[Hsm] {
        &self.hsms
    }

    /// How each member is.
    #[must_use]
    pub fn status(&self) -> Vec<MemberStatus> {
        self.dispatcher.members.iter().map(|member| member.status()).collect()
    }

    /// Random bytes of some HSM XOR the operating system's, and which HSM that was.
    pub async fn random(&self, length: u16, options: CallOptions) -> Result<Done<Secret>, Error> {
        let task = Task::anywhere(None, length);
        let mut answers = self.dispatcher.run::<member_operation::Random>(vec![task], options).await;
        answers.pop().map_or(Err(Error::DeadlineExceeded), |answer| answer.map_err(|failed| failed.error))
    }

    /// Members in which keys can be made, by place; an error when they are in fewer than two zones.
    pub fn reachable_for_creation(&self) -> Result<Vec<usize>, Error> {
        self.dispatcher.reachable_for_creation()
    }

    /// Members whose control worker can be asked, by place.
    #[must_use]
    pub fn reachable(&self) -> Vec<usize> {
        self.dispatcher.reachable()
    }

    /// Keys are made in the one member that there is, and never leave it.
    #[must_use]
    pub fn makes_in_place(&self) -> bool {
        self.hsms.iter().any(|hsm| hsm.settings().capabilities.keys.in_place())
    }

    /// Makes an AES-256 key as a version's token object in one member, which never leaves it. One that is there already is
    /// left alone.
    pub async fn make_in_place(
        &self,
        member: usize,
        version: KeyVersionId,
        label: &str,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.dispatcher.make_in_place(member, version, label, deadline).await
    }

    /// Makes sure that a version has one object in one member's token, which was made there and never could leave it.
    pub async fn confirm_in_place(&self, member: usize, version: KeyVersionId, deadline: Instant) -> Result<(), Error> {
        self.dispatcher.confirm_in_place(member, version, deadline).await
    }

    /// Makes an AES-256 key in one token and returns it wrapped under the cluster wrapping key.
    pub async fn make_key(&self, deadline: Instant) -> Result<Bytes, Error> {
        self.dispatcher.make_key(deadline).await
    }

    /// Unwraps a blob as a token object in one member.
    pub async fn place(
        &self,
        member: usize,
        version: KeyVersionId,
        label: &str,
        blob: &Bytes,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.dispatcher.place(member, version, label, blob, deadline).await
    }

    /// Makes the proof ciphertext of a version in one member.
    pub async fn make_proof(&self, member: usize, version: KeyVersionId, deadline: Instant) -> Result<Proof, Error> {
        self.dispatcher.make_proof(member, version, deadline).await
    }

    /// Opens the proof ciphertext in one member with the token object and compares.
    pub async fn prove(
        &self,
        member: usize,
        version: KeyVersionId,
        proof: &Proof,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.dispatcher.prove(member, version, proof, deadline).await
    }

    /// Destroys a version's object in one member; also when there is none.
    pub async fn destroy(&self, member: usize, version: KeyVersionId, deadline: Instant) -> Result<(), Error> {
        self.dispatcher.destroy(member, version, deadline).await
    }

    /// Of several objects of a version in one member's token, destroys those that do not open the proof; nothing where that is
    /// not clear. Says what is left.
    pub async fn keep_proven(
        &self,
        member: usize,
        version: KeyVersionId,
        proof: &Proof,
        deadline: Instant,
    ) -> Result<Kept, Error> {
        self.dispatcher.keep_proven(member, version, proof, deadline).await
    }

    /// The key versions that one member's token holds, each as often as there are objects of it.
    pub async fn list(&self, member: usize, deadline: Instant) -> Result<Vec<KeyVersionId>, Error> {
        self.dispatcher.list(member, deadline).await
    }

    /// Stops every member.
    pub async fn stop(&self, within: Duration) {
        join_all(self.hsms.iter().map(|hsm| hsm.stop(within))).await;
    }
}
