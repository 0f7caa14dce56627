//! The ceremony: takes tokens to a cluster whose HSMs prove who they are, with one wrapping key that no token gives
//! away; or without one, where keys are made in the only token and stay there.
//!
//! [`steps`] decides what is next from what the tokens and the folder hold; here is the I/O around it. What has to
//! survive is in the folder before anything depends on it, so that a ceremony that was cut short at any point goes on
//! where it stopped.

#![forbid(unsafe_code)]

mod authority;
mod folder;
mod host_file;
mod participant;
pub mod steps;

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use self::authority::Authority;
use self::folder::{Folder, Parcel};
use self::participant::ParticipatingToken;
use self::steps::{Observed, Step};
use config::{Config, Hsm};
use model::clock::Clock;
use model::id::{ClusterId, HsmId};
use model::secret::Secret;
use pki::identity::{Kind, PublicKey, TrustAnchor, der_of, pem_of};
use protocol::{CeremonyOp, Pair, Reply, TransportKey};
use supervisor::{LockDirError, Settings, look_at_lock_dir};
use telemetry::{WORKER_LOG, abort};

/// One token that takes part: blank, or initialised by a security officer, or with kmsuser's PIN.
pub struct Participant {
    /// How to reach it.
    pub settings: Settings,
    /// kmsuser's PIN, or the one that it is to have.
    pub pin: Secret,
    /// The security officer's PIN, or the one that a blank token is to have; needed only where there is no user yet.
    pub so_pin: Option<Secret>,
}

impl Participant {
    /// An HSM of the configuration. Its workers log errors only: what they do is told as progress.
    #[must_use]
    pub fn of(config: &Config, hsm: &Hsm, pin: Secret, so_pin: Option<Secret>) -> Self {
        let mut settings = Settings::of(config, hsm);
        // What one session makes another one may not see yet, where the module has several HSMs behind its slot.
        settings.sessions = 1;
        settings
            .environment
            .extend([("text", 0), ("error", 1)].map(|(value, at)| (WORKER_LOG[at].into(), value.into())));
        Self { settings, pin, so_pin }
    }
}

/// Is told each step in plain words.
pub type Progress<'a> = dyn FnMut(&str) + Send + 'a;

/// A token that was prepared and certified for a cluster that has its wrapping key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMember {
    /// Its serial number.
    pub serial: String,
    /// PEM of its identity certificate.
    pub identity_certificate: String,
    /// PEM of its transport certificate.
    pub transport_certificate: String,
}

/// Why the ceremony stopped. It can be run again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An HSM failed at a step.
    #[error("HSM {hsm}, {step}: {reason}")]
    Hsm {
        /// The HSM.
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
        /// The folder.
        path: String,
        /// The system's words.
        error: String,
    },
    /// The lock that keeps a daemon away from an HSM during the ceremony cannot be taken.
    #[error(
        "state_dir {path}: {error}; the lock files of the HSMs are in it: carry the ceremony out as the user that the daemon \
         runs as"
    )]
    StateDir {
        /// The folder.
        path: String,
        /// The system's words.
        error: String,
    },
    /// The directory of the locks of logins is not there, or not closed to strangers.
    #[error("{0}; {remedy}", remedy = .0.remedy())]
    LockDir(#[from] LockDirError),
}

impl Error {
    fn at(hsm: &HsmId, step: &'static str, reason: String) -> Self {
        Self::Hsm { hsm: hsm.clone(), step, reason }
    }
}

/// Makes the directory of the HSMs' lock files where there is none, for this user alone. The owner of one that belongs
/// to somebody else: lock files that are made in it now cannot be opened by a daemon that runs as its owner.
pub fn state_dir(config: &Config) -> Result<Option<u32>, Error> {
    let path = &config.state_dir;
    let failed = |error: std::io::Error| Error::StateDir { path: path.display().to_string(), error: error.to_string() };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| failed(errno.into()))?;
    let owner = std::fs::metadata(path).map_err(failed)?.uid();
    Ok((owner != rustix::process::geteuid().as_raw()).then_some(owner))
}

/// Says why no login could have its lock, before anything is begun.
pub fn lock_dir(config: &Config) -> Result<(), Error> {
    Ok(look_at_lock_dir(&config.lock_dir)?)
}

/// Carries the ceremony out, or what is left of it, over all participants; their tokens' serial numbers, in the order
/// of the participants. `folder` keeps the authority and the OAEP blobs (mode 0600) and belongs to the operator, never
/// to the daemon.
pub async fn run(
    cluster: &ClusterId,
    participants: &[Participant],
    folder: &Path,
    clock: &Clock,
    progress: &mut Progress<'_>,
) -> Result<Vec<String>, Error> {
    steps::named_once(participants.iter().map(|participant| &participant.settings.hsm)).map_err(Error::Inconsistent)?;
    let folder = Folder::open(folder)?;
    let authority = Authority::open(cluster, &folder, clock, progress).await?;
    let mut tokens = Vec::with_capacity(participants.len());
    let outcome = async {
        for participant in participants {
            let mut token = ParticipatingToken::take(participant, clock, progress).await?;
            let inspected = token.inspect(&authority, &folder).await;
            tokens.push(token);
            inspected?;
        }
        // What a worker could not confine says something about this host: once is enough.
        let degraded: BTreeSet<&String> = tokens.iter().flat_map(|token| &token.worker.ready().degraded).collect();
        degraded.into_iter().for_each(|sentence| progress(&format!("note: {sentence}")));
        carry_out(&mut tokens, &authority, &folder, true, progress).await?;
        tokens.iter().try_for_each(|token| token.hand_over(&folder, progress))
    };
    let outcome = outcome.await;
    let serials = tokens.iter().map(|token| token.observed.serial.clone()).collect();
    for token in tokens {
        token.worker.stop().await;
    }
    outcome.map(|()| serials)
}

/// Prepares and certifies one further token for a cluster that has its wrapping key: everything but that key. What was
/// certified is kept in the folder, see [`certified`].
pub async fn certify(
    cluster: &ClusterId,
    participant: &Participant,
    folder: &Path,
    clock: &Clock,
    progress: &mut Progress<'_>,
) -> Result<NewMember, Error> {
    let folder = Folder::open(folder)?;
    if folder.parcels()?.is_empty() {
        return Err(Error::Inconsistent(format!(
            "{} holds no wrapped keys: name the folder of the ceremony that made this cluster; one whose keys are made in \
             place has none, and no further HSM can join that",
            folder.path().display()
        )));
    }
    let authority = Authority::open(cluster, &folder, clock, progress).await?;
    let mut tokens = vec![ParticipatingToken::take(participant, clock, progress).await?];
    let outcome = async {
        tokens[0].inspect(&authority, &folder).await?;
        without_another_wrapping_key(&mut tokens[0], &folder).await?;
        carry_out(&mut tokens, &authority, &folder, false, progress).await?;
        tokens[0].hand_over(&folder, progress)
    };
    let outcome = outcome.await;
    let token = tokens.remove(0);
    let pem = |of: Pair| token.certificate(of).map(|der| pem_of(der)).unwrap_or_default();
    let member = NewMember {
        serial: token.observed.serial.clone(),
        identity_certificate: pem(Pair::Identity),
        transport_certificate: pem(Pair::Transport),
    };
    let hsm = token.hsm.clone();
    token.worker.stop().await;
    outcome?;
    folder.keep_member(&hsm, &member)?;
    Ok(member)
}

/// A token that comes with a wrapping key has it from this folder, or from elsewhere, and then it cannot join: known
/// here, before the daemon changes its PIN.
async fn without_another_wrapping_key(token: &mut ParticipatingToken, folder: &Folder) -> Result<(), Error> {
    let objects = token.observed.objects;
    // Without a transport pair there is an error of its own.
    if !objects.wrapping || !objects.transport {
        return Ok(());
    }
    let transport = token.transport().await?;
    match folder.read(&token.hsm)?.is_some_and(|parcel| parcel.is_for(&transport)) {
        true => Ok(()),
        false => Err(Error::Inconsistent(format!(
            "HSM {} holds a cluster wrapping key that is not from this folder: its token has been through the ceremony of \
             another cluster; initialise the token anew if nothing in it is needed any more",
            token.hsm
        ))),
    }
}

/// What [`certify`] has kept of this HSM. Whoever was interrupted after the daemon let it in cannot certify it a second
/// time: the daemon's workers hold it, and have changed kmsuser's PIN.
pub fn certified(folder: &Path, hsm: &HsmId) -> Result<Option<NewMember>, Error> {
    Folder::open(folder)?.member(hsm)
}

/// An HSM whose parcel is in the folder, and the wrapping key wrapped to it: `wanted`; or the first that is among
/// `members`, or else the first, other than `but`.
pub fn member_parcel(
    folder: &Path,
    wanted: Option<&HsmId>,
    members: &[HsmId],
    but: &HsmId,
) -> Result<(HsmId, Bytes), Error> {
    let folder = Folder::open(folder)?;
    let others: Vec<HsmId> = folder.parcels()?.into_iter().filter(|hsm| hsm != but).collect();
    let first = || others.iter().find(|hsm| members.contains(hsm)).or(others.first());
    let missing = || {
        Error::Inconsistent(format!(
            "{} holds no wrapped key of {}",
            folder.path().display(),
            wanted.map_or("another HSM", HsmId::as_str)
        ))
    };
    let member = wanted.or_else(first).ok_or_else(missing)?.clone();
    let parcel = folder.read(&member)?.ok_or_else(missing)?;
    Ok((member, parcel.blob))
}

/// Whether the folder holds the wrapping key wrapped to this HSM.
pub fn holds_parcel(folder: &Path, hsm: &HsmId) -> Result<bool, Error> {
    Ok(Folder::open(folder)?.read(hsm)?.is_some())
}

/// The wrapping key wrapped to an HSM, where the folder holds it for the transport key of this certificate.
pub fn own_parcel(
    folder: &Path,
    hsm: &HsmId,
    transport_certificate: &str,
    clock: &Clock,
) -> Result<Option<Bytes>, Error> {
    let folder = Folder::open(folder)?;
    let (_, transport) = certified_transport(&folder, transport_certificate, clock)?;
    let parcel = folder.read(hsm)?.filter(|parcel| parcel.is_for(&transport));
    Ok(parcel.map(|parcel| parcel.blob))
}

/// Keeps a new member's parcel in the folder, as one of the set that `member`'s parcel belongs to.
pub async fn keep_parcel(
    folder: &Path,
    member: &HsmId,
    hsm: &HsmId,
    transport_certificate: &str,
    blob: Bytes,
    clock: &Clock,
) -> Result<(), Error> {
    let folder = Folder::open(folder)?;
    let (serial, transport) = certified_transport(&folder, transport_certificate, clock)?;
    let set = folder.read(member)?.map(|parcel| parcel.set).unwrap_or_default();
    let parcel = Parcel::new(set, &serial, &transport, blob);
    abort::around(Step::KeepParcel.name(), async {
        folder.write(hsm, &parcel)?;
        folder.sync()
    })
    .await
}

/// The serial number and the key in a transport certificate of the folder's authority.
fn certified_transport(folder: &Folder, pem: &str, clock: &Clock) -> Result<(String, TransportKey), Error> {
    let wrong = |error: pki::Error| Error::Inconsistent(error.to_string());
    let anchor = folder.text(folder::AUTHORITY_CERTIFICATE)?.unwrap_or_default();
    let anchor = TrustAnchor::from_pem(&String::from_utf8_lossy(anchor.expose())).map_err(wrong)?;
    let der = der_of(pem).map_err(wrong)?;
    let certified = anchor.certified(Kind::Transport, &der, clock.calendar()).map_err(wrong)?;
    match certified.public_key {
        PublicKey::Rsa { modulus, exponent } => Ok((certified.serial, TransportKey::new(&modulus, &exponent))),
        PublicKey::P256(_) => Err(Error::Inconsistent("the transport certificate has no RSA key".to_owned())),
    }
}

/// Where the trust anchor is.
#[must_use]
pub fn trust_anchor(folder: &Path) -> PathBuf {
    folder.join(folder::AUTHORITY_CERTIFICATE)
}

async fn carry_out(
    tokens: &mut [ParticipatingToken],
    authority: &Authority,
    folder: &Folder,
    whole: bool,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    // Each step makes one object, or finds the parcels of all tokens; anything longer goes in a circle.
    let most_steps = 7 * tokens.len() + 2;
    for _ in 0..most_steps {
        let observed: Vec<Observed> = tokens.iter().map(|token| token.observed.clone()).collect();
        let Some((step, place)) = steps::next(&observed, whole).map_err(Error::Inconsistent)? else { return Ok(()) };
        let hsm = tokens[place].hsm.clone();
        if let Some(words) = words(step) {
            progress(&format!("HSM {hsm}: {words}"));
        }
        abort::around(step.name(), take(step, place, tokens, authority, folder, progress)).await?;
        if !matches!(step, Step::ReadParcels | Step::MakeWrappingKey) {
            tokens[place].inspect(authority, folder).await?;
        }
    }
    Err(Error::Inconsistent(
        "the tokens confirm steps of the ceremony but don't show what was made: is somebody else changing them?".into(),
    ))
}

const fn words(step: Step) -> Option<&'static str> {
    match step {
        Step::MakeIdentityPair => Some("making the identity pair"),
        Step::CertifyIdentity => Some("certifying its identity"),
        Step::MakeTransportPair => Some("making the RSA transport pair"),
        Step::CertifyTransport => Some("certifying the transport pair"),
        Step::MakeCanary => Some("making the canary key"),
        Step::MakeWrappingKey => Some("making the cluster wrapping key, wrapped to every token's transport key"),
        Step::PlaceWrappingKey => Some("placing the cluster wrapping key"),
        _ => None,
    }
}

async fn take(
    step: Step,
    place: usize,
    tokens: &mut [ParticipatingToken],
    authority: &Authority,
    folder: &Folder,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    let token = &mut tokens[place];
    match step {
        Step::MakeIdentityPair => token.identity().await.map(drop),
        Step::CertifyIdentity => token.certify(Pair::Identity, authority, folder).await,
        Step::MakeTransportPair => token.transport().await.map(drop),
        Step::CertifyTransport => token.certify(Pair::Transport, authority, folder).await,
        Step::MakeCanary => token.done("making the canary key", CeremonyOp::MakeCanary).await,
        Step::ReadParcels => {
            for token in tokens {
                let transport = token.transport().await?;
                let parcel = folder.read(&token.hsm)?.filter(|parcel| parcel.is_for(&transport));
                token.observed.parcel = Some(parcel.map(|parcel| parcel.set));
            }
            Ok(())
        }
        Step::MakeWrappingKey => make_wrapping_key(tokens, place, folder, progress).await,
        Step::PlaceWrappingKey => {
            let blob = folder.read(&token.hsm)?.map(|parcel| parcel.blob).unwrap_or_default();
            token.done("placing the cluster wrapping key", CeremonyOp::PlaceWrappingKey { blob }).await
        }
        Step::InitToken
        | Step::InitUserPin
        | Step::MakeAuthorityKey
        | Step::MakeAuthorityCertificate
        | Step::LogIn
        | Step::KeepParcel => Ok(()),
    }
}

/// Makes the wrapping key in one token, for all of them, and stores its parcels.
async fn make_wrapping_key(
    tokens: &mut [ParticipatingToken],
    place: usize,
    folder: &Folder,
    progress: &mut Progress<'_>,
) -> Result<(), Error> {
    const STEP: &str = "making the cluster wrapping key";
    let mut transports = Vec::with_capacity(tokens.len());
    for token in &mut *tokens {
        transports.push(token.transport().await?);
    }
    let reply = tokens[place].call(STEP, CeremonyOp::MakeWrappingKey { transports: transports.clone() }).await?;
    let blobs = match reply {
        Reply::Blobs(blobs) if blobs.len() == tokens.len() => blobs,
        _ => return Err(tokens[place].failed(STEP, "the worker did not answer with a blob for each token".to_owned())),
    };
    let set = folder::new_set();
    for ((token, transport), blob) in tokens.iter_mut().zip(transports).zip(blobs) {
        let parcel = Parcel::new(set.clone(), &token.observed.serial, &transport, blob);
        abort::around(Step::KeepParcel.name(), async { folder.write(&token.hsm, &parcel) }).await?;
        token.observed.parcel = Some(Some(set.clone()));
    }
    folder.sync()?;
    progress(&format!("the wrapped copies of the cluster wrapping key are in {}", folder.path().display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_s_parcel_goes_before_one_that_nobody_can_open_now() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("ceremony");
        let folder = Folder::open(&path).unwrap();
        let of = |id: &str| HsmId::from(id);
        let parcel = |wanted: Option<&str>, members: &[&str]| {
            let members: Vec<HsmId> = members.iter().map(|id| of(id)).collect();
            member_parcel(&path, wanted.map(of).as_ref(), &members, &of("new")).map(|(hsm, blob)| (hsm, blob[0]))
        };
        assert!(parcel(None, &["a"]).unwrap_err().to_string().contains("no wrapped key of another HSM"));
        for (id, byte) in [("a", 1), ("b", 2), ("new", 3)] {
            let transport = TransportKey::new(&[byte; 256], &[1, 0, 1]);
            folder.write(&of(id), &Parcel::new(folder::new_set(), "1", &transport, vec![byte; 256].into())).unwrap();
        }
        assert_eq!(parcel(None, &["new", "b"]).unwrap(), (of("b"), 2));
        assert_eq!(parcel(None, &[]).unwrap(), (of("a"), 1), "of an older daemon, which names no members");
        assert_eq!(parcel(Some("a"), &["b"]).unwrap(), (of("a"), 1));
        assert!(parcel(Some("c"), &["c"]).unwrap_err().to_string().contains("no wrapped key of c"));
    }
}
