//! AddHsm: brings a further HSM into a connected cluster.

use super::lifecycle::wrapped_key_is_sane;
use super::{AddHsmInput, AddedHsm, Call, Error, Service, validate};
use crate::model::exception::Exception;
use crate::model::limits;
use crate::model::operation::Operation;

impl Service {
    /// Brings it in, or goes on with bringing it in. Filling it goes on when this has returned.
    pub async fn add_hsm(&self, call: &Call, input: AddHsmInput) -> Result<AddedHsm, Error> {
        let service = self.clone();
        self.on_one(call, Operation::AddHsm, async move {
            for (name, pem) in [
                ("identityCertificate", &input.identity_certificate),
                ("transportCertificate", &input.transport_certificate),
            ] {
                validate::length(name, pem.len(), 1, limits::TRUST_ANCHOR_CHARS)?;
            }
            validate::pin(&input.password)?;
            if !wrapped_key_is_sane(&input.member_wrapped_key) {
                return Err(Error::validation("memberWrappedKey is no key wrapped by RSA-OAEP"));
            }
            let cluster = validate::cluster_id(&input.cluster_id)?;
            validate::hsm_id("hsmId", &input.hsm_id)?;
            validate::hsm_id("memberHsmId", &input.member_hsm_id)?;
            let catalogue = service.inner.store.catalogue();
            let store = catalogue.key_stores.values().find(|store| store.cluster == cluster).cloned();
            let invalid = |why: String| Error::lasting(Exception::CustomKeyStoreInvalidState, why);
            let store = store.ok_or_else(|| {
                invalid(format!("there is no key store over {cluster}; an HSM that comes before that is a matter of the ceremony alone"))
            })?;
            let _alone = service.inner.estate.adding.lock().await;
            service.bring_in(&store.id, input).await
        })
        .await
    }
}
