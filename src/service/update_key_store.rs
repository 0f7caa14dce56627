//! UpdateKeyStore: another name, kmsuser's PIN after an officer has set it, another cluster.

use std::collections::BTreeSet;

use super::{Call, Error, Service, UpdateKeyStoreInput, validate};
use crate::model::exception::Exception;
use crate::model::id::{HsmId, KeyStoreId};
use crate::model::key_store::{Event, Next};
use crate::model::operation::Operation;
use crate::pki::identity::TrustAnchor;
use crate::store::KeyStoreChange;

impl Service {
    /// Changes what is named. A PIN takes the place of all that was known of the PINs in the HSMs that it is for.
    pub async fn update_key_store(&self, call: &Call, input: UpdateKeyStoreInput) -> Result<(), Error> {
        let service = self.clone();
        self.on_one(call, Operation::UpdateKeyStore, async move {
            let id = KeyStoreId::from(input.key_store_id.as_str());
            let change = service.change_of(&id, &input).await?;
            let _turn = service.inner.estate.turn(&id).await;
            service.inner.store.update_key_store(&id, change).await.map_err(Error::of_store)?;
            if let Some(store) = service.inner.store.catalogue().key_stores.get(&id)
                && let Some(spec) = service.inner.estate.spec(&store.cluster)
            {
                let pins = service.inner.store.pins(&id).await.map_err(Error::of_store)?;
                service.inner.estate.pins.replace(&id, &pins, spec.login_tries);
            }
            tracing::info!(key_store = %id, name = ?input.new_name, cluster = ?input.cluster_id,
                pin = input.password.is_some(), hsms = ?input.hsm_ids, "key store updated");
            Ok(())
        })
        .await
    }

    async fn change_of(&self, id: &KeyStoreId, input: &UpdateKeyStoreInput) -> Result<KeyStoreChange, Error> {
        let store = self.store_with_id(id.as_str())?;
        if input.new_name.is_none() && input.password.is_none() && input.cluster_id.is_none() {
            return Err(Error::validation("Specify at least one of a new name, a password and a cluster id."));
        }
        if input.password.is_none() && !input.hsm_ids.is_empty() {
            return Err(Error::validation("HSM ids say for which HSMs a password is; specify the password too."));
        }
        if let Some(name) = &input.new_name {
            validate::key_store_name(name)?;
        }
        if input.password.is_some() || input.cluster_id.is_some() {
            // Before HSMs are looked at, which takes time. The metadata has the last word.
            if store.state.next(Event::Change) == Next::Refused {
                return Err(Error::of_store(crate::store::Error::State(store.state)));
            }
        }
        let cluster = input.cluster_id.as_deref().map(validate::cluster_id).transpose()?;
        let target = cluster.as_ref().unwrap_or(&store.cluster);
        let mut pins = Vec::new();
        if cluster.is_some() || input.password.is_some() {
            let spec = self.inner.estate.spec(target).ok_or_else(|| Error::no_cluster(target.as_str()))?;
            if cluster.is_some() {
                let anchor = TrustAnchor::from_pem(&store.trust_anchor)
                    .map_err(|error| Error::internal(&format!("the trust anchor cannot be read: {error}")))?;
                self.inspect(&spec, &anchor, Exception::CloudHsmClusterNotRelated).await?;
            }
            if let Some(password) = &input.password {
                validate::pin(password)?;
                let all: BTreeSet<&HsmId> = spec.hsms.iter().map(|hsm| &hsm.hsm).collect();
                let named: Result<Vec<HsmId>, Error> =
                    input.hsm_ids.iter().map(|id| validate::hsm_id("hsmIds", id)).collect();
                let named = named?;
                if let Some(stranger) = named.iter().find(|hsm| !all.contains(hsm)) {
                    return Err(Error::validation(format!("HSM '{stranger}' is not in the configuration of {target}")));
                }
                let hsms = if named.is_empty() { all.into_iter().cloned().collect() } else { named };
                pins = self.pins_given(&spec, id, &hsms, password)?;
            }
        }
        Ok(KeyStoreChange { name: input.new_name.clone(), cluster, pins })
    }
}
