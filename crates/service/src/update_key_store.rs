//! UpdateKeyStore: another name, kmsuser's PIN, that an officer has reset it, another cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cluster_registry::ClusterSpec;
use super::{Call, Error, Service, UpdateKeyStoreInput, validate};
use cluster::kmsuser::{Said, record_of, said};
use model::exception::Exception;
use model::id::{ClusterId, HsmId, KeyStoreId};
use model::key_store::{Event, Next};
use model::operation::Operation;
use model::pin::{Pin, PinChange};
use pki::identity::TrustAnchor;
use store::{self, KeyStoreChange};

/// How often records of PINs that change meanwhile are read again.
pub(super) const READS: u32 = 8;

/// What is to be changed, after it was looked at.
struct Plan {
    cluster: Option<ClusterId>,
    /// Of whose PINs something is said.
    records: BTreeSet<HsmId>,
    was_reset: Option<i64>,
}

impl Service {
    /// Changes what is named. What a PIN changes about what is known of the PINs is decided in `cluster::kmsuser`.
    pub async fn update_key_store(&self, call: &Call, input: UpdateKeyStoreInput) -> Result<(), Error> {
        let service = self.clone();
        let principal = call.principal.clone();
        self.on_one(call, Operation::UpdateKeyStore, async move {
            let id = KeyStoreId::from(input.key_store_id.as_str());
            let plan = service.plan_of(&id, &input).await?;
            let _turn = service.inner.registry.turn(&id).await;
            service.record_update(&id, &input, &plan).await?;
            if let Some(store) = service.inner.store.catalogue().key_stores.get(&id)
                && let Some(spec) = service.inner.registry.spec(&store.cluster)
            {
                let pins = service.inner.store.pins(&id).await.map_err(Error::of_store)?;
                service.inner.registry.pins.replace(&id, &pins, spec.login_tries);
            }
            tracing::info!(key_store = %id, name = ?input.new_name, cluster = ?input.cluster_id,
                pin = input.password.is_some(), hsms = ?input.hsm_ids, "key store updated");
            if plan.was_reset.is_some() {
                let hsms: Vec<&str> = plan.records.iter().map(HsmId::as_str).collect();
                tracing::warn!(principal = principal.as_str(), key_store = %id, ?hsms, pin = input.password.is_some(),
                    "kmsuser's PIN was said to be reset by the security officer; its failed logins are counted anew");
            }
            Ok(())
        })
        .await
    }

    /// Records it all, or nothing.
    async fn record_update(&self, id: &KeyStoreId, input: &UpdateKeyStoreInput, plan: &Plan) -> Result<(), Error> {
        let what = Said { pin: input.password.as_ref(), was_reset: plan.was_reset };
        for _ in 0..READS {
            let known = self.inner.store.pins(id).await.map_err(Error::of_store)?;
            let pins = plan.records.iter().map(|record| self.said_of(id, &known, record, what));
            let pins = pins.filter_map(Result::transpose).collect::<Result<_, Error>>()?;
            let change = KeyStoreChange { name: input.new_name.clone(), cluster: plan.cluster.clone(), pins };
            match self.inner.store.update_key_store(id, change).await {
                // What a login has recorded meanwhile is read again.
                Err(store::Error::PinChanged(_)) => {}
                done => return done.map_err(Error::of_store),
            }
        }
        Err(busy())
    }

    /// What goes on record of what an operator says of one PIN, in the place of what is known.
    pub(super) fn said_of(
        &self,
        id: &KeyStoreId,
        known: &[(HsmId, Pin)],
        record: &HsmId,
        what: Said<'_>,
    ) -> Result<Option<PinChange>, Error> {
        let before = known.iter().find(|(of, _)| of == record).map(|(_, pin)| pin.clone());
        let seals = self.inner.registry.seals.load();
        let after = said(&seals, id, record, before.as_ref(), what).map_err(|why| Error::internal(&why))?;
        Ok(after.map(|after| PinChange { hsm: record.clone(), before, after }))
    }

    async fn plan_of(&self, id: &KeyStoreId, input: &UpdateKeyStoreInput) -> Result<Plan, Error> {
        let store = self.store_with_id(id.as_str())?;
        let of_pins = input.password.is_some() || input.pin_was_reset;
        if input.new_name.is_none() && !of_pins && input.cluster_id.is_none() {
            return Err(Error::validation(
                "Specify at least one of a new name, a password, that the PIN was reset, and a cluster id.",
            ));
        }
        if !of_pins && !input.hsm_ids.is_empty() {
            return Err(Error::validation(
                "HSM ids say for which HSMs a password is, or in which the PIN was reset; specify that too.",
            ));
        }
        if let Some(name) = &input.new_name {
            validate::key_store_name(name)?;
        }
        if of_pins || input.cluster_id.is_some() {
            // Before HSMs are looked at, which takes time. The metadata has the last word.
            if store.state.next(Event::Change) == Next::Refused {
                return Err(Error::of_store(store::Error::State(store.state)));
            }
        }
        let cluster = input.cluster_id.as_deref().map(validate::cluster_id).transpose()?;
        let target = cluster.as_ref().unwrap_or(&store.cluster);
        let mut records = BTreeSet::new();
        if cluster.is_some() || of_pins {
            let spec = self.inner.registry.spec(target).ok_or_else(|| Error::no_cluster(target.as_str()))?;
            if cluster.is_some() {
                let anchor = TrustAnchor::from_pem(&store.trust_anchor)
                    .map_err(|error| Error::internal(&format!("the trust anchor cannot be read: {error}")))?;
                self.inspect(&spec, &anchor, Exception::CloudHsmClusterNotRelated).await?;
            }
            if of_pins {
                input.password.as_ref().map(validate::pin).transpose()?;
                records = self.records(id, input, &spec).await?;
            }
        }
        let was_reset = input.pin_was_reset.then(|| self.inner.clock.unix_millis());
        Ok(Plan { cluster, records, was_reset })
    }

    /// Of whose PINs something is said.
    async fn records(
        &self,
        id: &KeyStoreId,
        input: &UpdateKeyStoreInput,
        spec: &Arc<ClusterSpec>,
    ) -> Result<BTreeSet<HsmId>, Error> {
        let all: BTreeSet<&HsmId> = spec.hsms.iter().map(|hsm| &hsm.hsm).collect();
        let named: Result<Vec<HsmId>, Error> = input.hsm_ids.iter().map(|id| validate::hsm_id("hsmIds", id)).collect();
        let named = named?;
        if let Some(stranger) = named.iter().find(|hsm| !all.contains(hsm)) {
            let cluster = &spec.settings.id;
            return Err(Error::validation(format!("HSM '{stranger}' is not in the configuration of {cluster}")));
        }
        let meant = if named.is_empty() { all.into_iter().cloned().collect() } else { named.clone() };
        let meant = meant.iter().map(|hsm| record_of(spec.pin_scope, hsm));
        if input.password.is_some() {
            return Ok(meant.collect());
        }
        // That a PIN was reset can be said of one that is known.
        let pins = self.inner.store.pins(id).await.map_err(Error::of_store)?;
        let (known, unknown): (BTreeSet<_>, BTreeSet<_>) =
            meant.partition(|record| pins.iter().any(|(of, _)| of == record));
        match unknown.first() {
            Some(hsm) if known.is_empty() || !named.is_empty() => Err(Error::validation(format!(
                "no PIN of kmsuser is on record for HSM {hsm}; specify the password too"
            ))),
            _ => Ok(known),
        }
    }
}

/// The record of a PIN was never the one that had just been read.
pub(super) fn busy() -> Error {
    Error::transient(
        Exception::CustomKeyStoreInvalidState,
        "logins are under way that change what is on record of the PIN; try again in a moment",
    )
}
