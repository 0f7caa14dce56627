//! Bringing a further HSM into a connected cluster, without stopping anything.
//!
//! Its PIN on record (it has joined) → its workers started and let in, which rotates the PIN → a member opens its own copy
//! of the wrapping key and wraps it to the newcomer → the newcomer unwraps it → it serves, and is filled from escrow. Each
//! step can be done again: a call that was broken off is repeated.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{AddStep, passing};
use crate::cluster::kmsuser::{Said, record_of};
use crate::hsm::protocol::{Op, Reply, TransportKey};
use crate::hsm::supervisor::{Hsm, State};
use crate::model::exception::Exception;
use crate::model::id::{HsmId, KeyStoreId};
use crate::model::key_store::ConnectionState;
use crate::model::profile::{PinScope, Rotation};
use crate::model::secret::Secret;
use crate::pki::identity::{Kind, PublicKey, TrustAnchor};
use crate::service::estate::{ClusterSpec, Hardware};
use crate::service::update_key_store::{READS, busy};
use crate::service::{AddHsmInput, AddedHsm, Error, Service};
use crate::store::KeyStore;

/// What the newcomer gets to be let in.
const LET_IN: Duration = Duration::from_secs(20);
/// What one step in an HSM gets.
const STEP: Duration = Duration::from_secs(30);

/// What the ceremony has certified of the newcomer.
struct Newcomer {
    transport: TransportKey,
}

impl Service {
    /// Brings the HSM in. The store must be connected, and the HSM in its cluster's configuration. The store's turn is
    /// taken only where something is changed: a disconnect does not wait for an HSM that is slow, and has its way.
    pub(in crate::service) async fn bring_in(&self, id: &KeyStoreId, input: AddHsmInput) -> Result<AddedHsm, Error> {
        let turn = self.inner.estate.turn(id).await;
        let (store, hardware) = self.connected(id)?;
        let hsm = HsmId::from(input.hsm_id.as_str());
        let spec = self.inner.estate.spec(&store.cluster).ok_or_else(|| Error::no_cluster(store.cluster.as_str()))?;
        let settings = spec.hsm(&hsm).cloned().ok_or_else(|| {
            Error::validation(format!(
                "HSM {hsm} is not in the configuration of {}; add it there and send SIGHUP to the daemon",
                store.cluster
            ))
        })?;
        let newcomer = self.certified(&store, &hsm, &input)?;
        let member = self.member(&hardware, &HsmId::from(input.member_hsm_id.as_str()))?;
        passing(AddStep::RecordPin, self.record_pin(&store, &spec, &hsm, &input.password)).await?;
        drop(turn);

        let running = hardware.cluster.members().iter().find(|running| running.settings().hsm == hsm).cloned();
        let known = running.is_some();
        let candidate =
            running.unwrap_or_else(|| Hsm::start(settings, Arc::new(hardware.gate.clone()), self.inner.clock.clone()));
        let placed = async {
            passing(AddStep::Start, self.let_in(&candidate)).await?;
            let hand_on = Op::HandOnWrappingKey { blob: input.member_wrapped_key, to: newcomer.transport };
            let wrapped = match passing(AddStep::HandOn, self.ask(&member, hand_on)).await? {
                Reply::Blob(blob) => blob,
                _ => return Err(Error::internal("a worker answered something else than a wrapped key")),
            };
            let place = Op::PlaceWrappingKey { blob: wrapped.clone() };
            passing(AddStep::Place, self.ask(&candidate, place)).await?;
            let _turn = self.inner.estate.turn(id).await;
            let (store, now) = self.connected(id)?;
            if !now.gate.is(&hardware.gate) {
                return Err(overtaken(&hsm));
            }
            self.join(&store, &spec, &now, candidate.clone());
            Ok(wrapped)
        };
        let mut handing_on = member.watch();
        let outcome = tokio::select! {
            outcome = placed => outcome,
            // Its key store is being disconnected, or it went from the configuration.
            _ = handing_on.wait_for(|status| status.state == State::Stopped) => Err(overtaken(&hsm)),
        };
        let wrapped = match outcome {
            Ok(wrapped) => wrapped,
            Err(error) => {
                if !known {
                    candidate.stop(super::connect::LEAVE).await;
                    self.inner.estate.identities.release(&hsm);
                }
                return Err(error);
            }
        };
        let keys = self.missing_in(&store.id, &hsm).len();
        tracing::info!(%hsm, cluster = %store.cluster, keys, "the HSM has joined the cluster");
        Ok(AddedHsm { wrapped_key: wrapped, keys_to_place: keys as u64 })
    }

    /// The store and its HSMs, while it is connected.
    fn connected(&self, id: &KeyStoreId) -> Result<(Arc<KeyStore>, Hardware), Error> {
        let invalid = |why: String| Error::lasting(Exception::CustomKeyStoreInvalidState, why);
        let store = self.key_store(id).ok_or_else(|| Error::no_key_store(id.as_str()))?;
        if store.state != ConnectionState::Connected {
            return Err(invalid(format!(
                "key store {} is {}; it must be CONNECTED, so that a member can hand the wrapping key on",
                store.name,
                store.state.name()
            )));
        }
        let live = self.inner.estate.live_of(id).and_then(|live| live.hardware);
        let hardware = live.ok_or_else(|| invalid(format!("no HSM of {} is in use", store.cluster)))?;
        Ok((store, hardware))
    }

    /// Checks both certificates: of one HSM and one token, under the store's trust anchor.
    fn certified(&self, store: &KeyStore, hsm: &HsmId, input: &AddHsmInput) -> Result<Newcomer, Error> {
        let wrong = |why: String| Error::lasting(Exception::IncorrectTrustAnchor, why);
        let anchor = TrustAnchor::from_pem(&store.trust_anchor).map_err(|error| Error::internal(&error.to_string()))?;
        let now = self.inner.clock.calendar();
        let certified = |kind, pem: &str| {
            let der = crate::pki::identity::der_of(pem).map_err(|error| wrong(error.to_string()))?;
            let certified = anchor.certified(kind, &der, now).map_err(|error| wrong(error.to_string()))?;
            match certified.hsm == *hsm {
                true => Ok(certified),
                false => Err(wrong(format!("the certificate is HSM {}'s, not {hsm}'s", certified.hsm))),
            }
        };
        let identity = certified(Kind::Identity, &input.identity_certificate)?;
        let transport = certified(Kind::Transport, &input.transport_certificate)?;
        if identity.serial != transport.serial {
            return Err(wrong("the two certificates are of two tokens".to_owned()));
        }
        match transport.public_key {
            PublicKey::Rsa { modulus, exponent } => {
                Ok(Newcomer { transport: TransportKey { modulus: modulus.into(), exponent: exponent.into() } })
            }
            PublicKey::P256(_) => Err(wrong("the transport certificate has no RSA key".to_owned())),
        }
    }

    /// The member that hands the wrapping key on.
    fn member(&self, hardware: &Hardware, id: &HsmId) -> Result<Hsm, Error> {
        let member = hardware.cluster.members().iter().find(|member| member.settings().hsm == *id);
        let member = member.ok_or_else(|| Error::validation(format!("HSM {id} is no member of the cluster")))?;
        match member.status().control_ready {
            true => Ok(member.clone()),
            false => Err(Error::passing(
                Exception::CloudHsmClusterInvalidConfiguration,
                format!("HSM {id} does not serve at the moment; try again, or with another member's file"),
            )),
        }
    }

    async fn record_pin(
        &self,
        store: &KeyStore,
        spec: &ClusterSpec,
        hsm: &HsmId,
        password: &Secret,
    ) -> Result<(), Error> {
        // The cluster's PIN is on record already.
        if spec.pin_scope == PinScope::Cluster {
            return Ok(());
        }
        // What may be in the token besides, or is known to be, stays on record: the call may be the second one.
        let (record, told) = (record_of(spec.pin_scope, hsm), Said { pin: Some(password), was_reset: None });
        for _ in 0..READS {
            let known = self.inner.store.pins(&store.id).await.map_err(Error::of_store)?;
            let mut change = self.said_of(&store.id, &known, &record, told)?.ok_or_else(busy)?;
            if change.before.as_ref() == Some(&change.after) {
                return Ok(());
            }
            change.after.rotation_due |= spec.rotation == Rotation::Connect;
            match self.inner.store.replace_pin(&store.id, change).await {
                // What a login under way has recorded is read again.
                Err(crate::store::Error::PinChanged(_)) => {}
                done => return done.map_err(Error::of_store),
            }
        }
        Err(busy())
    }

    /// Waits until the HSM's workers serve.
    async fn let_in(&self, hsm: &Hsm) -> Result<(), Error> {
        let mut status = hsm.watch();
        let name = hsm.settings().hsm.clone();
        let decided = status.wait_for(|status| {
            status.refused || status.state == State::Stopped || (status.state == State::Serving && status.control_ready)
        });
        let refused = |why: String| Error::lasting(Exception::CloudHsmClusterInvalidConfiguration, why);
        match tokio::time::timeout(LET_IN, decided).await {
            Ok(Ok(status)) if status.refused || status.state == State::Stopped => {
                let why = status.reason.clone().unwrap_or_else(|| "it was stopped".to_owned());
                Err(refused(format!("HSM {name} was not let in: {why}")))
            }
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::internal("an HSM vanished while it was being added")),
            Err(_) => {
                let why = hsm.status().reason.clone().unwrap_or_else(|| "it does not answer".to_owned());
                Err(refused(format!("HSM {name} was not let in within {LET_IN:?}: {why}")))
            }
        }
    }

    async fn ask(&self, hsm: &Hsm, op: Op) -> Result<Reply, Error> {
        let name = &hsm.settings().hsm;
        match hsm.call(Arc::new(op), self.inner.clock.now() + STEP).await {
            Ok(Reply::Failed(fault)) => {
                Err(Error::lasting(Exception::CloudHsmClusterInvalidConfiguration, format!("HSM {name}: {fault}")))
            }
            Ok(reply) => Ok(reply),
            Err(error) => Err(Error::passing(
                Exception::CloudHsmClusterInvalidConfiguration,
                format!("HSM {name}: {error}; the same call can be made again"),
            )),
        }
    }

    /// Makes it a member, in its place of the configuration.
    fn join(&self, store: &KeyStore, spec: &Arc<ClusterSpec>, hardware: &Hardware, newcomer: Hsm) {
        let id = newcomer.settings().hsm.clone();
        let mut hsms: Vec<Hsm> =
            hardware.cluster.members().iter().filter(|hsm| hsm.settings().hsm != id).cloned().collect();
        hsms.push(newcomer);
        let place = |hsm: &Hsm| spec.hsms.iter().position(|settings| settings.hsm == hsm.settings().hsm);
        hsms.sort_by_key(place);
        self.put_in_use(&store.id, spec, hardware.gate.clone(), hsms);
    }
}

fn overtaken(hsm: &HsmId) -> Error {
    Error::lasting(
        Exception::CustomKeyStoreInvalidState,
        format!("the key store was disconnected while HSM {hsm} was brought in; the same call can be made again"),
    )
}

/// What a call brings in.
pub(in crate::service) fn wrapped_key_is_sane(bytes: &Bytes) -> bool {
    // RSA-OAEP with keys of 2,048 to 8,192 bits.
    (256..=1_024).contains(&bytes.len())
}
