//! Bringing a further HSM into a connected cluster, without stopping anything.
//!
//! Its PIN on record (it has joined) → its workers started and let in, which rotates the PIN → its token shows its
//! transport key and signs that → a member opens its own copy of the wrapping key, makes sure that it is that, and
//! wraps it to the key that was shown → the newcomer unwraps it, once it has answered a challenge of the member's → it
//! serves, and is filled from escrow. Each step can be done again: a call that was broken off is repeated, and nothing
//! is wrapped a second time for a token that holds the key. For a full member nothing is done at all.
//!
//! A caller may ask for the wrapping alone, keep the copy, and come again with it: so the ceremony folder holds the
//! copy of every HSM that joins, whatever answer is lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::reconcile::missing_in;
use super::{AddStep, Lifecycle, transient};
use crate::Error;
use crate::core::Core;
use crate::core::cluster_registry::{ClusterSpec, RunningCluster};
use crate::core::hsm_room::holds_all;
use crate::core::pin_record::{READS, busy, said_of};
use cluster::kmsuser::{Said, record_of};
use cluster::transport::{Claim, Fingerprints, Question};
use model::exception::Exception;
use model::id::{HsmId, KeyStoreId};
use model::key_store::ConnectionState;
use model::profile::{PinScope, Rotation};
use model::secret::Secret;
use pki::identity::TrustAnchor;
use protocol::{Op, Reply, ShownTransport, TransportKey};
use store::{Catalogue, KeyStore};
use supervisor::{Hsm, State};

/// An HSM that is to be brought in.
#[derive(Clone, Debug)]
pub struct AddHsmInput {
    /// Its cluster.
    pub cluster_id: String,
    /// The newcomer, as the configuration names it.
    pub hsm_id: String,
    /// PEM.
    pub identity_certificate: String,
    /// PEM.
    pub transport_certificate: String,
    /// A member ...
    pub member_hsm_id: String,
    /// ... and the wrapping key wrapped to it.
    pub member_wrapped_key: bytes::Bytes,
    /// kmsuser's PIN in the new HSM.
    pub password: Secret,
    /// The wrapping key wrapped to the new HSM, from an earlier call; empty: the member wraps it.
    pub wrapped_key: bytes::Bytes,
    /// Only to be wrapped for.
    pub wrap_only: bool,
}

/// An HSM that was brought in, or wrapped for.
#[derive(Clone, Debug)]
pub struct AddedHsm {
    /// The wrapping key wrapped to it; empty where nothing was wrapped.
    pub wrapped_key: bytes::Bytes,
    /// Key versions that will be placed in it; none where it was only wrapped for.
    pub keys_to_place: u64,
}

/// What the newcomer gets to be let in.
const LET_IN: Duration = Duration::from_secs(20);
/// What one step in an HSM gets.
const STEP: Duration = Duration::from_secs(30);

/// What has come of it.
enum Outcome {
    /// It has joined; with the copy, where one was wrapped.
    Joined(Bytes),
    /// The copy, where one was wrapped; nothing else was to be done.
    WrappedOnly(Bytes),
}

impl Lifecycle {
    /// Brings the HSM in. The store must be connected, and the HSM in its cluster's configuration. The store's turn is
    /// taken only where something is changed: a disconnect does not wait for an HSM that is slow, and has its way.
    pub(crate) async fn add_hsm_to_cluster(&self, id: &KeyStoreId, input: &AddHsmInput) -> Result<AddedHsm, Error> {
        let turn = self.core.registry().turn(id).await;
        let (store, in_use) = self.connected(id)?;
        let hsm = HsmId::from(input.hsm_id.as_str());
        // Others may have had to approve it since it was looked at first.
        let (spec, settings) = newcomer(&self.core, &store, &hsm)?;
        let running = in_use.cluster.members().iter().find(|running| running.settings().hsm == hsm).cloned();
        let known = running.is_some();
        if running.as_ref().is_some_and(|running| running.status().holds_wrapping_key()) {
            return Err(is_member(&hsm));
        }
        let anchor = TrustAnchor::from_pem(&store.trust_anchor).map_err(|error| Error::internal(&error.to_string()))?;
        let now = self.core.clock().calendar();
        let claim = Claim::read(&anchor, &hsm, &input.identity_certificate, &input.transport_certificate, now);
        let claim = claim.map_err(|why| Error::permanent(Exception::IncorrectTrustAnchor, why))?;
        let member = self.member(&in_use, &HsmId::from(input.member_hsm_id.as_str()), &hsm)?;
        transient(AddStep::RecordPin, self.record_pin(&store, &spec, &hsm, &input.password)).await?;
        drop(turn);

        let zone = settings.zone.clone();
        let candidate = running.unwrap_or_else(|| self.start_hsm(settings, &in_use.admission));
        let brought = async {
            transient(AddStep::Start, self.let_in(&candidate)).await?;
            // What the token holds is known only now, where it was being started.
            if known && candidate.status().holds_wrapping_key() {
                return Err(is_member(&hsm));
            }
            let question = Question::new(&store.cluster, &zone);
            let question = question.ok_or_else(|| Error::internal("the operating system gives no random bytes"))?;
            let (shown, transport) = transient(AddStep::Show, self.shown(&candidate, &claim, &question)).await?;
            let (wrapped, blob) = match (shown.holds_wrapping_key, input.wrapped_key.is_empty()) {
                (true, _) => (Bytes::new(), None),
                (false, false) => (Bytes::new(), Some(input.wrapped_key.clone())),
                (false, true) => {
                    let rewrap = self.rewrap(&member, input.member_wrapped_key.clone(), transport);
                    let wrapped = transient(AddStep::Rewrap, rewrap).await?;
                    (wrapped.clone(), Some(wrapped))
                }
            };
            if input.wrap_only {
                return Ok(Outcome::WrappedOnly(wrapped));
            }
            transient(AddStep::Place, self.place_wrapping_key(&member, &candidate, blob)).await?;
            let _turn = self.core.registry().turn(id).await;
            let (store, now) = self.connected(id)?;
            // The configuration may have been read again meanwhile: what it says by now counts.
            let spec = self.core.registry().spec(&store.cluster).filter(|spec| spec.hsm(&hsm).is_some());
            let Some(spec) = spec.filter(|_| now.admission.is(&in_use.admission)) else { return Err(overtaken(&hsm)) };
            // No key is begun from here until it is a member: one that is made in place could not be in it.
            let _none_made = self.inner.creations.lock().await;
            newcomer(&self.core, &store, &hsm)?;
            // It then started this HSM too, whose PIN is on record.
            let mut beside = now.cluster.members().iter().filter(|running| !known && running.settings().hsm == hsm);
            let beside = beside.next().cloned();
            self.join(&store, &spec, &now, candidate.clone());
            if let Some(beside) = beside {
                self.core.registry().leave(async move { beside.stop(super::connect::LEAVE).await });
            }
            Ok(Outcome::Joined(wrapped))
        };
        let mut handing_on = member.watch();
        let outcome = tokio::select! {
            outcome = brought => outcome,
            // Its key store is being disconnected, or it went from the configuration.
            _ = handing_on.wait_for(|status| status.state == State::Stopped) => Err(overtaken(&hsm)),
        };
        if !known && !matches!(outcome, Ok(Outcome::Joined(_))) {
            candidate.stop(super::connect::LEAVE).await;
            // One that a SIGHUP started meanwhile keeps the claim.
            let in_use =
                |now: &RunningCluster| now.cluster.members().iter().any(|running| running.settings().hsm == hsm);
            if !self.connected(id).is_ok_and(|(_, now)| in_use(&now)) {
                self.core.registry().identities.release(&hsm);
            }
        }
        match outcome? {
            Outcome::WrappedOnly(wrapped_key) => Ok(AddedHsm { wrapped_key, keys_to_place: 0 }),
            Outcome::Joined(wrapped_key) => {
                let keys = missing_in(&self.core.store().catalogue(), &store.id, &hsm).len();
                tracing::info!(%hsm, cluster = %store.cluster, keys, "the HSM has joined the cluster");
                Ok(AddedHsm { wrapped_key, keys_to_place: keys as u64 })
            }
        }
    }

    /// Has the token show its transport key, which must be the one that was claimed.
    async fn shown(
        &self,
        candidate: &Hsm,
        claim: &Claim,
        question: &Question,
    ) -> Result<(ShownTransport, TransportKey), Error> {
        let Reply::Transport(mut shown) = self.ask(candidate, question.op()).await? else {
            return Err(Error::internal("a worker answered something else than its token's transport key"));
        };
        if candidate.settings().certificate.is_some() {
            // The token holds none: the one under which its worker was let in.
            let ready = candidate.status().ready.clone();
            shown.identity_certificate = ready.and_then(|ready| ready.identity.clone()).unwrap_or_default();
        }
        let confirmed = claim.confirm(question, &shown).map_err(|why| {
            let Fingerprints { identity: identity_sha256, transport: transport_sha256 } = Fingerprints::shown(&shown);
            let hsm = &candidate.settings().hsm;
            tracing::warn!(%hsm, identity_sha256, transport_sha256, why, "the HSM's token has shown other keys than were given for it");
            Error::permanent(Exception::IncorrectTrustAnchor, format!("HSM {hsm}: {why}; nothing was wrapped for it"))
        })?;
        Ok((*shown, confirmed))
    }

    /// The wrapping key, wrapped by a member.
    async fn rewrap(&self, member: &Hsm, blob: Bytes, to: TransportKey) -> Result<Bytes, Error> {
        match self.ask(member, Op::HandOnWrappingKey { blob, to }).await? {
            Reply::Blob(blob) => Ok(blob),
            _ => Err(Error::internal("a worker answered something else than a wrapped key")),
        }
    }

    /// Has the newcomer unwrap its copy, or show that it holds the key.
    async fn place_wrapping_key(&self, member: &Hsm, candidate: &Hsm, blob: Option<Bytes>) -> Result<(), Error> {
        let Reply::Challenge(challenge) = self.ask(member, Op::ChallengeWrappingKey).await? else {
            return Err(Error::internal("a worker answered something else than a challenge"));
        };
        self.ask(candidate, Op::PlaceWrappingKey { blob, challenge: *challenge }).await.map(drop)
    }

    /// The store and its HSMs, while it is connected.
    fn connected(&self, id: &KeyStoreId) -> Result<(Arc<KeyStore>, RunningCluster), Error> {
        let invalid = |why: String| Error::permanent(Exception::CustomKeyStoreInvalidState, why);
        let store = self.core.key_store(id).ok_or_else(|| Error::no_key_store(id.as_str()))?;
        if store.state != ConnectionState::Connected {
            return Err(invalid(format!(
                "key store {} is {}; it must be CONNECTED, so that a member can hand the wrapping key on",
                store.name,
                store.state.name()
            )));
        }
        let active = self.core.registry().active_of(id).and_then(|active| active.running);
        let in_use = active.ok_or_else(|| invalid(format!("no HSM of {} is in use", store.cluster)))?;
        Ok((store, in_use))
    }

    /// The member that hands the wrapping key on.
    fn member(&self, in_use: &RunningCluster, id: &HsmId, newcomer: &HsmId) -> Result<Hsm, Error> {
        if id == newcomer {
            return Err(Error::validation(format!(
                "HSM {id} cannot hand the wrapping key on to itself; name a member"
            )));
        }
        let member = in_use.cluster.members().iter().find(|member| member.settings().hsm == *id);
        let member = member.ok_or_else(|| Error::validation(format!("HSM {id} is no member of the cluster")))?;
        let status = member.status();
        let unfit = |why: String| Error::transient(Exception::CloudHsmClusterInvalidConfiguration, why);
        match (status.control_ready, status.holds_wrapping_key()) {
            (true, true) => Ok(member.clone()),
            (true, false) => Err(unfit(format!("HSM {id} holds no cluster wrapping key itself; name another member"))),
            (false, _) => {
                Err(unfit(format!("HSM {id} does not serve at the moment; try again, or with another member's file")))
            }
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
            let known = self.core.store().pins(&store.id).await.map_err(Error::of_store)?;
            let mut change = said_of(&self.core, &store.id, &known, &record, told)?.ok_or_else(busy)?;
            if change.before.as_ref() == Some(&change.after) {
                return Ok(());
            }
            change.after.rotation_due |= spec.rotation == Rotation::Connect;
            match self.core.store().replace_pin(&store.id, change).await {
                // What a login under way has recorded is read again.
                Err(store::Error::PinChanged(_)) => {}
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
        let refused = |why: String| Error::permanent(Exception::CloudHsmClusterInvalidConfiguration, why);
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
        match hsm.call(Arc::new(op), self.core.clock().now() + STEP).await {
            Ok(Reply::Failed(fault)) => {
                Err(Error::permanent(Exception::CloudHsmClusterInvalidConfiguration, format!("HSM {name}: {fault}")))
            }
            Ok(reply) => Ok(reply),
            Err(error) => Err(Error::transient(
                Exception::CloudHsmClusterInvalidConfiguration,
                format!("HSM {name}: {error}; the same call can be made again"),
            )),
        }
    }

    /// Makes it a member, in its place of the configuration.
    fn join(&self, store: &KeyStore, spec: &Arc<ClusterSpec>, in_use: &RunningCluster, newcomer: Hsm) {
        let id = newcomer.settings().hsm.clone();
        let mut hsms: Vec<Hsm> =
            in_use.cluster.members().iter().filter(|hsm| hsm.settings().hsm != id).cloned().collect();
        hsms.push(newcomer);
        let place = |hsm: &Hsm| spec.hsms.iter().position(|settings| settings.hsm == hsm.settings().hsm);
        hsms.sort_by_key(place);
        self.put_in_use(&store.id, spec, in_use.admission.clone(), hsms);
    }
}

fn is_member(hsm: &HsmId) -> Error {
    Error::permanent(
        Exception::CustomKeyStoreInvalidState,
        format!(
            "HSM {hsm} is a member already, and nothing is wrapped for a member; `keystorectl cluster status` shows it"
        ),
    )
}

/// How an HSM of the configuration is run that is to come to the cluster of a key store, and that cluster; what stands against
/// it, as far as the configuration and the metadata tell.
pub(crate) fn newcomer(
    core: &Core,
    store: &KeyStore,
    hsm: &HsmId,
) -> Result<(Arc<ClusterSpec>, supervisor::Settings), Error> {
    let spec = core.registry().spec(&store.cluster).ok_or_else(|| Error::no_cluster(store.cluster.as_str()))?;
    let settings = spec.hsm(hsm).cloned().ok_or_else(|| {
        Error::validation(format!(
            "HSM {hsm} is not in the configuration of {}; add it there and send SIGHUP to the daemon",
            store.cluster
        ))
    })?;
    let catalogue = core.store().catalogue();
    if has_keys_in_place(&catalogue, &store.id) {
        return Err(stay_where_they_are(hsm));
    }
    if let Some(most) = settings.capabilities.objects.versions_max() {
        holds_all(&catalogue, &store.id, hsm, most)?;
    }
    Ok((spec, settings))
}

/// Whether keys of the store are in the HSM that has made them, and can be in no other one.
pub(crate) fn has_keys_in_place(catalogue: &Catalogue, key_store: &KeyStoreId) -> bool {
    let keys = catalogue.keys_of(key_store).filter(|key| !key.is_destroyed());
    keys.flat_map(|key| &key.versions).any(|version| version.in_place)
}

fn stay_where_they_are(hsm: &HsmId) -> Error {
    Error::permanent(
        Exception::CloudHsmClusterInvalidConfiguration,
        format!(
            "HSM {hsm} cannot join: the key store has keys that were made in place, in an HSM that gives none away, so that \
             they could never be in this one. Make a key store over a cluster whose keys are wrapped, and have what was \
             encrypted encrypted anew under its keys (ReEncrypt)"
        ),
    )
}

fn overtaken(hsm: &HsmId) -> Error {
    Error::permanent(
        Exception::CustomKeyStoreInvalidState,
        format!(
            "the key store was disconnected while HSM {hsm} was brought in, or the HSM went from the configuration; the same \
             call can be made again"
        ),
    )
}

/// What a call brings in.
pub(crate) fn wrapped_key_is_sane(bytes: &Bytes) -> bool {
    // RSA-OAEP with keys of 2,048 to 8,192 bits.
    (256..=1_024).contains(&bytes.len())
}
