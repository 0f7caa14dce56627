//! AddHsm: brings a further HSM into a connected cluster.

use super::lifecycle::wrapped_key_is_sane;
use super::{Call, Error, Service, validate};
use cluster::transport::Fingerprints;
use model::exception::Exception;
use model::limits;
use model::operation::Operation;
use model::secret::Secret;

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

impl Service {
    /// Brings it in, or goes on with bringing it in. Filling it goes on when this has returned.
    pub async fn add_hsm(&self, call: &Call, input: AddHsmInput) -> Result<AddedHsm, Error> {
        let (service, principal) = (self.clone(), call.principal.clone());
        self.on_one(call, Operation::AddHsm, async move {
            let principal = principal.as_str();
            let (hsm, member) = (validate::shown(&input.hsm_id), validate::shown(&input.member_hsm_id));
            let given = Fingerprints::given(&input.identity_certificate, &input.transport_certificate);
            let (identity_sha256, transport_sha256) = (given.identity, given.transport);
            let joins = !input.wrap_only;
            // Whoever comes here wants the cluster's wrapping key wrapped: each time, whatever comes of it, somebody
            // should look at who that was.
            match service.admit_hsm(input).await {
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

    async fn admit_hsm(&self, input: AddHsmInput) -> Result<AddedHsm, Error> {
        for (name, pem) in [
            ("identityCertificate", &input.identity_certificate),
            ("transportCertificate", &input.transport_certificate),
        ] {
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
        validate::hsm_id("hsmId", &input.hsm_id)?;
        validate::hsm_id("memberHsmId", &input.member_hsm_id)?;
        let catalogue = self.inner.store.catalogue();
        let store = catalogue.key_stores.values().find(|store| store.cluster == cluster).cloned();
        let store = store.ok_or_else(|| {
            Error::permanent(
                Exception::CustomKeyStoreInvalidState,
                format!(
                    "there is no key store over {cluster}; an HSM that comes before that is a matter of the ceremony alone"
                ),
            )
        })?;
        let _alone = self.inner.registry.adding.lock().await;
        self.add_hsm_to_cluster(&store.id, input).await
    }
}
