//! A participant with its worker and what is known of its token.

use std::path::PathBuf;

use bytes::Bytes;

use super::authority::Authority;
use super::folder::Folder;
use super::host_file;
use super::steps::{Observed, Raw, Step, raw};
use super::{Error, Participant, Progress};
use model::clock::Clock;
use model::id::HsmId;
use pki::identity::{Kind, PublicKey, der_of, subject_of};
use protocol::{CeremonyOp, Fault, Inspected, Op, Pair, Reply, Role, TransportKey};
use supervisor::Worker;
use telemetry::abort;

/// A token that a worker is logged in to.
pub(super) struct ParticipatingToken {
    pub(super) hsm: HsmId,
    pub(super) worker: Worker,
    pub(super) observed: Observed,
    /// Public, so known only once it was asked for.
    transport: Option<TransportKey>,
    /// Objects in the token, and the certificates in it or in the folder.
    inspected: Inspected,
    /// The token holds no certificates; here the daemon reads the identity's.
    certificate: Option<PathBuf>,
}

impl ParticipatingToken {
    /// Takes a token to where kmsuser can log in, and logs in.
    pub(super) async fn take(
        participant: &Participant,
        clock: &Clock,
        progress: &mut Progress<'_>,
    ) -> Result<Self, Error> {
        let hsm = participant.settings.hsm.clone();
        prepare(participant, clock, progress).await?;
        progress(&format!("HSM {hsm}: logging in"));
        let started = Worker::start(&participant.settings, Role::Ceremony, clock).await;
        let worker = started.map_err(|error| Error::at(&hsm, "starting its worker", error.to_string()))?;
        if let Err(fault) = abort::around(Step::LogIn.name(), worker.login(participant.pin.clone())).await {
            worker.stop().await;
            return Err(Error::at(&hsm, "logging in as kmsuser, once", refused(&fault)));
        }
        let observed = Observed {
            hsm: hsm.clone(),
            serial: worker.ready().serial.clone(),
            in_place: participant.settings.capabilities.keys.in_place(),
            objects: Default::default(),
            identity: None,
            identity_certified: false,
            transport_certified: false,
            parcel: None,
        };
        let certificate = participant.settings.certificate.clone();
        Ok(Self { hsm, worker, observed, transport: None, inspected: Inspected::default(), certificate })
    }

    /// Looks what the token holds, and which of its certificates are good.
    pub(super) async fn inspect(&mut self, authority: &Authority, folder: &Folder) -> Result<(), Error> {
        const STEP: &str = "looking for ceremony objects";
        match self.call(STEP, CeremonyOp::Inspect).await? {
            Reply::Inspected(inspected) => self.inspected = *inspected,
            _ => return Err(self.failed(STEP, "the worker answered something else".to_owned())),
        }
        if self.certificate.is_some() {
            self.inspected.identity_certificate = folder.certificate(&self.hsm, Pair::Identity)?;
            self.inspected.transport_certificate = folder.certificate(&self.hsm, Pair::Transport)?;
        }
        self.observed.objects = self.inspected.objects;
        let identity = if self.observed.objects.identity { Some(self.identity().await?) } else { None };
        self.observed.identity = identity.as_ref().map(|key| Bytes::copy_from_slice(key.as_ref()));
        self.observed.identity_certified = match (&self.inspected.identity_certificate, &identity) {
            (Some(der), Some(key)) => {
                authority.has_certified(Kind::Identity, der, &self.hsm, &self.observed.serial, key)
            }
            _ => false,
        };
        self.observed.transport_certified = match self.inspected.transport_certificate.clone() {
            Some(der) if self.observed.objects.transport => {
                let key = rsa(self.transport().await?);
                authority.has_certified(Kind::Transport, &der, &self.hsm, &self.observed.serial, &key)
            }
            _ => false,
        };
        Ok(())
    }

    /// DER of a certificate in the token, or in the folder in its place.
    pub(super) fn certificate(&self, of: Pair) -> Option<&Bytes> {
        match of {
            Pair::Identity => self.inspected.identity_certificate.as_ref(),
            Pair::Transport => self.inspected.transport_certificate.as_ref(),
        }
    }

    /// The public half of the identity pair, which is made where there is none.
    pub(super) async fn identity(&self) -> Result<PublicKey, Error> {
        const STEP: &str = "making the identity pair";
        match self.call(STEP, CeremonyOp::MakeIdentityPair).await? {
            Reply::IdentityKey(point) => Ok(PublicKey::P256(point.to_vec())),
            _ => Err(self.failed(STEP, "the worker did not answer with a public key".to_owned())),
        }
    }

    /// The public half of the transport pair, which is made where there is none.
    pub(super) async fn transport(&mut self) -> Result<TransportKey, Error> {
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

    /// Has the authority certify a pair, and the token keep the certificate, or the folder in its place.
    pub(super) async fn certify(&mut self, of: Pair, authority: &Authority, folder: &Folder) -> Result<(), Error> {
        const STEP: &str = "certifying a key pair";
        let (kind, key) = match of {
            Pair::Identity => (Kind::Identity, self.identity().await?),
            Pair::Transport => (Kind::Transport, rsa(self.transport().await?)),
        };
        let wrong = |error: pki::Error| Error::at(&self.hsm, STEP, error.to_string());
        let pem = authority.issue(kind, &key, &self.hsm, &self.observed.serial)?;
        if self.certificate.is_some() {
            return folder.keep_certificate(&self.hsm, of, &pem);
        }
        let certificate = der_of(&pem).map_err(wrong)?;
        let subject = subject_of(&certificate).map_err(wrong)?;
        let op = CeremonyOp::StoreCertificate { of, certificate: certificate.into(), subject: subject.into() };
        self.done(STEP, op).await
    }

    /// Puts a certificate that the token does not hold where the daemon reads it.
    pub(super) fn hand_over(&self, folder: &Folder, progress: &mut Progress<'_>) -> Result<(), Error> {
        let file = self.certificate.as_deref();
        file.map_or(Ok(()), |file| host_file::hand_over(&self.hsm, file, folder, progress))
    }

    pub(super) async fn done(&self, step: &'static str, op: CeremonyOp) -> Result<(), Error> {
        match self.call(step, op).await? {
            Reply::Done => Ok(()),
            _ => Err(self.failed(step, "the worker answered something else".to_owned())),
        }
    }

    pub(super) async fn call(&self, step: &'static str, op: CeremonyOp) -> Result<Reply, Error> {
        ask(&self.worker, &self.hsm, step, op).await
    }

    pub(super) fn failed(&self, step: &'static str, reason: String) -> Error {
        Error::at(&self.hsm, step, reason)
    }
}

fn rsa(key: TransportKey) -> PublicKey {
    PublicKey::Rsa { modulus: key.modulus.to_vec(), exponent: key.exponent.to_vec() }
}

/// Initialises a blank token, and its user where it has none.
async fn prepare(participant: &Participant, clock: &Clock, progress: &mut Progress<'_>) -> Result<(), Error> {
    const LOOK: &str = "looking for its token";
    let (settings, hsm) = (&participant.settings, &participant.settings.hsm);
    // Each of the two leads to the next.
    for _ in 0..3 {
        let worker = Worker::bare(settings, clock).await;
        let worker = worker.map_err(|error| Error::at(hsm, "starting its worker", error.to_string()))?;
        let looked = async {
            let seen = match ask(&worker, hsm, LOOK, CeremonyOp::Discover).await? {
                Reply::Tokens(seen) => seen,
                _ => return Err(Error::at(hsm, LOOK, "the worker answered something else".to_owned())),
            };
            let needs = raw(&seen, &settings.token, &settings.capabilities).map_err(|why| Error::at(hsm, LOOK, why))?;
            let so_pin = || {
                participant.so_pin.clone().ok_or_else(|| {
                    let why = match needs {
                        Raw::Blank => "no token has its label, and a blank one can be initialised only with a security officer's PIN",
                        _ => "its token has no user, which can be made only with the security officer's PIN",
                    };
                    Error::at(hsm, LOOK, why.to_owned())
                })
            };
            let token = settings.token.clone();
            match needs {
                Raw::Usable => Ok(true),
                Raw::Blank => {
                    progress(&format!("HSM {hsm}: initialising a blank token as '{}'", token.label));
                    let op = CeremonyOp::InitToken { token, so_pin: so_pin()? };
                    let done = ask(&worker, hsm, "initialising the token", op);
                    abort::around(Step::InitToken.name(), done).await.map(|_| false)
                }
                Raw::NoUser => {
                    progress(&format!("HSM {hsm}: setting kmsuser's PIN as its security officer"));
                    let user_pin = participant.pin.clone();
                    let op = CeremonyOp::InitUserPin { token, so_pin: so_pin()?, user_pin };
                    let done = ask(&worker, hsm, "setting kmsuser's PIN", op);
                    abort::around(Step::InitUserPin.name(), done).await.map(|_| false)
                }
            }
        };
        let usable = looked.await;
        worker.stop().await;
        if usable? {
            return Ok(());
        }
    }
    Err(Error::at(hsm, LOOK, "the token was initialised, but does not show it".to_owned()))
}

async fn ask(worker: &Worker, hsm: &HsmId, step: &'static str, op: CeremonyOp) -> Result<Reply, Error> {
    match worker.call(Op::Ceremony(op)).await {
        Ok(Reply::Failed(fault)) => Err(Error::at(hsm, step, refused(&fault))),
        Ok(reply) => Ok(reply),
        Err(error) => Err(Error::at(hsm, step, format!("{error}; run the ceremony again to go on from here"))),
    }
}

/// CKR_PIN_EXPIRED of the standard.
const PIN_EXPIRED: u64 = 0xa3;

fn refused(fault: &Fault) -> String {
    match fault.class {
        protocol::Class::Login if fault.code == PIN_EXPIRED => {
            format!(
                "{fault}; the token wants the PIN changed before anything else: change it by the vendor's tool, and run \
                     the ceremony again with the new one"
            )
        }
        protocol::Class::Login | protocol::Class::Locked => {
            format!("{fault}; the PIN was tried once and is not tried again: make sure of it before the next run")
        }
        _ => fault.to_string(),
    }
}
