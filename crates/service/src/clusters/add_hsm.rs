//! AddHsm: brings a further HSM into a connected cluster.

use std::sync::Arc;

use crate::core::proposal::Proposal;
use crate::core::{Core, validate};
use crate::lifecycle::{AddHsmInput, AddedHsm, Lifecycle, newcomer, wrapped_key_is_sane};
use crate::{Error, RequestContext, Service};
use cluster::transport::Fingerprints;
use model::exception::Exception;
use model::id::KeyStoreId;
use model::limits;
use model::operation::Operation;

impl Service {
    /// Brings it in, or goes on with bringing it in. Filling it goes on when this has returned.
    pub async fn add_hsm(&self, call: &RequestContext, input: AddHsmInput) -> Result<AddedHsm, Error> {
        let input = Arc::new(input);
        let said = Arc::clone(&input);
        let proposal = move |_: &Core, say: Proposal| {
            say.text("hsmId", &said.hsm_id)
                .document("identityCertificate", &said.identity_certificate)
                .document("transportCertificate", &said.transport_certificate)
                .text("memberHsmId", &said.member_hsm_id)
                .secret("memberWrappedKey", Some(&said.member_wrapped_key))
                .secret("password", Some(said.password.expose()))
                .secret("wrappedKey", Some(&said.wrapped_key))
                .flag("wrapOnly", said.wrap_only)
        };
        let resource = self.core.arn_of(Operation::AddHsm, &input.cluster_id).asking(proposal);
        let looked = Arc::clone(&input);
        let resource = resource.if_before(move |core, _| checked(core, &looked).map(drop));
        let (core, lifecycle, principal) = (self.core.clone(), self.lifecycle.clone(), call.principal.clone());
        self.core
            .on_one(call, Operation::AddHsm, resource, async move {
                let principal = principal.as_str();
                let (hsm, member) = (validate::shown(&input.hsm_id), validate::shown(&input.member_hsm_id));
                let given = Fingerprints::given(&input.identity_certificate, &input.transport_certificate);
                let (identity_sha256, transport_sha256) = (given.identity, given.transport);
                let joins = !input.wrap_only;
                // Whoever comes here wants the cluster's wrapping key wrapped: each time, whatever comes of it, somebody
                // should look at who that was.
                match admit_hsm(&core, &lifecycle, &input).await {
                    Ok(added) => {
                        let wrapped = !added.wrapped_key.is_empty();
                        tracing::warn!(
                            principal,
                            hsm,
                            member,
                            identity_sha256,
                            transport_sha256,
                            wrapped,
                            joined = joins,
                            "AddHsm was carried out"
                        );
                        Ok(added)
                    }
                    Err(error) => {
                        let (exception, why) = (error.exception.name(), &error.message);
                        tracing::warn!(
                            principal,
                            hsm,
                            member,
                            identity_sha256,
                            transport_sha256,
                            exception,
                            why,
                            "AddHsm was refused or failed"
                        );
                        Err(error)
                    }
                }
            })
            .await
    }
}

async fn admit_hsm(core: &Core, lifecycle: &Lifecycle, input: &AddHsmInput) -> Result<AddedHsm, Error> {
    let store = checked(core, input)?;
    let _alone = core.registry().adding.lock().await;
    lifecycle.add_hsm_to_cluster(&store, input).await
}

/// The key store over the cluster, once all is looked at that is seen without a secret or an HSM. What may be otherwise by
/// the time the HSM is let in is looked at again then.
fn checked(core: &Core, input: &AddHsmInput) -> Result<KeyStoreId, Error> {
    for (name, pem) in
        [("identityCertificate", &input.identity_certificate), ("transportCertificate", &input.transport_certificate)]
    {
        validate::length(name, pem.len(), 1, limits::TRUST_ANCHOR_CHARS)?;
    }
    validate::pin(&input.password)?;
    let given = &input.wrapped_key;
    let sane = wrapped_key_is_sane;
    for (name, fits) in
        [("memberWrappedKey", sane(&input.member_wrapped_key)), ("wrappedKey", given.is_empty() || sane(given))]
    {
        if !fits {
            return Err(Error::validation(format!("{name} is no key wrapped by RSA-OAEP")));
        }
    }
    if input.wrap_only && !given.is_empty() {
        return Err(Error::validation("wrapOnly has the key wrapped, so wrappedKey cannot be given with it"));
    }
    let cluster = validate::cluster_id(&input.cluster_id)?;
    let hsm = validate::hsm_id("hsmId", &input.hsm_id)?;
    validate::hsm_id("memberHsmId", &input.member_hsm_id)?;
    let catalogue = core.store().catalogue();
    let store = catalogue.key_store_over(&cluster).ok_or_else(|| {
        Error::permanent(
            Exception::CustomKeyStoreInvalidState,
            format!(
                "there is no key store over {cluster}; an HSM that comes before that is a matter of the ceremony alone"
            ),
        )
    })?;
    newcomer(core, store, &hsm)?;
    Ok(store.id.clone())
}
