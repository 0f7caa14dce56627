//! The ceremony: takes tokens to a cluster with one wrapping key that no token gives away.
//!
//! [`steps`] decides what is next from what the tokens and the folder hold; here is the I/O around it. The blobs of
//! the wrapping key are in the folder before the first of them is placed, so that a ceremony that was cut short at any
//! point goes on where it stopped.

mod folder;
mod steps;

use std::path::Path;

use self::folder::{Folder, Parcel};
use self::steps::{Observed, Step};
use crate::hsm::protocol::{CeremonyOp, Op, Reply, Role, TransportKey};
use crate::hsm::supervisor::{Settings, Worker};
use crate::model::clock::Clock;
use crate::model::id::HsmId;
use crate::model::secret::Secret;

/// One token that takes part: already initialised, with kmsuser's PIN.
pub struct Participant {
    /// How to reach it.
    pub settings: Settings,
    /// kmsuser's PIN.
    pub pin: Secret,
}

/// Why the ceremony stopped. It can be run again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An HSM failed at a step.
    #[error("HSM {hsm}, {step}: {reason}")]
    Hsm {
        /// Which.
        hsm: HsmId,
        /// Which step.
        step: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// The tokens are in states that no ceremony leaves behind.
    #[error("{0}")]
    Inconsistent(String),
    /// The ceremony folder cannot be read or written.
    #[error("ceremony folder {path}: {error}")]
    Folder {
        /// Where.
        path: String,
        /// The system's words.
        error: String,
    },
}

/// Carries the ceremony out, or what is left of it, over all participants. `folder` keeps the OAEP blobs (mode 0600)
/// and belongs to the operator, never to the daemon. `progress` is told each step in plain words.
pub async fn run(
    participants: &[Participant],
    folder: &Path,
    clock: &Clock,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), Error> {
    steps::named_once(participants.iter().map(|participant| &participant.settings.hsm)).map_err(Error::Inconsistent)?;
    let folder = Folder::open(folder)?;
    let mut seats = Vec::with_capacity(participants.len());
    let seated = sit_down(participants, clock, progress, &mut seats).await;
    let outcome = match seated {
        Ok(()) => carry_out(&mut seats, &folder, progress).await,
        Err(error) => Err(error),
    };
    for seat in seats {
        seat.worker.stop().await;
    }
    outcome
}

/// A participant with its worker and what is known of its token.
struct Seat {
    hsm: HsmId,
    worker: Worker,
    observed: Observed,
    /// Public, so known only once it was asked for.
    transport: Option<TransportKey>,
}

async fn sit_down(
    participants: &[Participant],
    clock: &Clock,
    progress: &mut (dyn FnMut(&str) + Send),
    seats: &mut Vec<Seat>,
) -> Result<(), Error> {
    for Participant { settings, pin } in participants {
        let hsm = settings.hsm.clone();
        progress(&format!("HSM {hsm}: logging in"));
        let started = Worker::start(settings, Role::Ceremony, Some(pin.clone()), clock).await;
        let worker = started.map_err(|error| Error::Hsm {
            hsm: hsm.clone(),
            step: "starting its worker",
            reason: error.to_string(),
        })?;
        let serial = worker.ready().serial.clone();
        let observed = Observed { hsm: hsm.clone(), serial, objects: Default::default(), parcel: None };
        seats.push(Seat { hsm, worker, observed, transport: None });
        if let Some(seat) = seats.last_mut() {
            seat.inspect().await?;
        }
    }
    Ok(())
}

async fn carry_out(seats: &mut [Seat], folder: &Folder, progress: &mut (dyn FnMut(&str) + Send)) -> Result<(), Error> {
    // Each step makes one object, or finds the parcels of one token; anything longer goes in a circle.
    let most_steps = 4 * seats.len() + 2;
    for _ in 0..most_steps {
        let observed: Vec<Observed> = seats.iter().map(|seat| seat.observed.clone()).collect();
        match steps::next(&observed).map_err(Error::Inconsistent)? {
            Step::MakeTransportPair(place) => {
                progress(&format!("HSM {}: making the RSA transport pair", seats[place].hsm));
                seats[place].transport().await?;
                seats[place].inspect().await?;
            }
            Step::MakeCanary(place) => {
                progress(&format!("HSM {}: making the canary key", seats[place].hsm));
                seats[place].done("making the canary key", CeremonyOp::MakeCanary).await?;
                seats[place].inspect().await?;
            }
            Step::ReadParcels => {
                for seat in &mut *seats {
                    let transport = seat.transport().await?;
                    let parcel = folder.read(&seat.hsm)?.filter(|parcel| parcel.is_for(&transport));
                    seat.observed.parcel = Some(parcel.map(|parcel| parcel.set));
                }
            }
            Step::MakeWrappingKey(place) => make_wrapping_key(seats, place, folder, progress).await?,
            Step::PlaceWrappingKey(place) => {
                progress(&format!("HSM {}: placing the cluster wrapping key", seats[place].hsm));
                let seat = &mut seats[place];
                let blob = folder.read(&seat.hsm)?.map(|parcel| parcel.blob).unwrap_or_default();
                seat.done("placing the cluster wrapping key", CeremonyOp::PlaceWrappingKey { blob }).await?;
                seat.inspect().await?;
            }
            Step::Finished => {
                progress("every token holds its ceremony objects");
                return Ok(());
            }
        }
    }
    Err(Error::Inconsistent(
        "the tokens confirm steps of the ceremony but don't show what was made: is somebody else changing them?".into(),
    ))
}

/// Makes the wrapping key in one token, for all of them, and stores its parcels.
async fn make_wrapping_key(
    seats: &mut [Seat],
    place: usize,
    folder: &Folder,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), Error> {
    const STEP: &str = "making the cluster wrapping key";
    progress(&format!("HSM {}: {STEP}, wrapped to every token's transport key", seats[place].hsm));
    let mut transports = Vec::with_capacity(seats.len());
    for seat in &mut *seats {
        transports.push(seat.transport().await?);
    }
    let reply = seats[place].call(STEP, CeremonyOp::MakeWrappingKey { transports: transports.clone() }).await?;
    let blobs = match reply {
        Reply::Blobs(blobs) if blobs.len() == seats.len() => blobs,
        _ => return Err(seats[place].failed(STEP, "the worker did not answer with a blob for each token".to_owned())),
    };
    let set = folder::new_set();
    for ((seat, transport), blob) in seats.iter_mut().zip(transports).zip(blobs) {
        folder.write(&seat.hsm, &Parcel::new(set.clone(), &seat.observed.serial, &transport, blob))?;
        seat.observed.parcel = Some(Some(set.clone()));
    }
    folder.sync()?;
    progress(&format!("the wrapped copies of the cluster wrapping key are in {}", folder.path().display()));
    Ok(())
}

impl Seat {
    /// Looks which objects the token holds.
    async fn inspect(&mut self) -> Result<(), Error> {
        const STEP: &str = "looking for ceremony objects";
        match self.call(STEP, CeremonyOp::Inspect).await? {
            Reply::CeremonyObjects(objects) => self.observed.objects = objects,
            _ => return Err(self.failed(STEP, "the worker answered something else".to_owned())),
        }
        Ok(())
    }

    /// The public half of the transport pair, which is made where there is none.
    async fn transport(&mut self) -> Result<TransportKey, Error> {
        const STEP: &str = "making the RSA transport pair";
        if let Some(transport) = &self.transport {
            return Ok(transport.clone());
        }
        match self.call(STEP, CeremonyOp::MakeTransportPair).await? {
            Reply::TransportKey(transport) => {
                self.transport = Some(transport.clone());
                Ok(transport)
            }
            _ => Err(self.failed(STEP, "the worker did not answer with a public key".to_owned())),
        }
    }

    async fn done(&self, step: &'static str, op: CeremonyOp) -> Result<(), Error> {
        match self.call(step, op).await? {
            Reply::Done => Ok(()),
            _ => Err(self.failed(step, "the worker answered something else".to_owned())),
        }
    }

    async fn call(&self, step: &'static str, op: CeremonyOp) -> Result<Reply, Error> {
        match self.worker.call(Op::Ceremony(op)).await {
            Ok(Reply::Failed(fault)) => Err(self.failed(step, fault.to_string())),
            Ok(reply) => Ok(reply),
            Err(error) => Err(self.failed(step, format!("{error}; run the ceremony again to go on from here"))),
        }
    }

    fn failed(&self, step: &'static str, reason: String) -> Error {
        Error::Hsm { hsm: self.hsm.clone(), step, reason }
    }
}
