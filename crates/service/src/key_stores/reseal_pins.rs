//! ResealPins: seals every stored PIN, every secret of an access key and the audit log's key under the seal key of the
//! configuration, after that was replaced.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::core::Core;
use crate::core::{access_key, audit_key};
use crate::{Error, RequestContext, Service};
use cluster::kmsuser::{record_of, reseal};
use model::exception::Exception;
use model::id::HsmId;
use model::operation::Operation;

/// What was sealed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// PINs.
    pub pins: u64,
    /// Secrets of access keys.
    pub access_keys: u64,
}

impl Service {
    /// All secrets of access keys or none, the audit log's key, and then all PINs or none; how many there were. A PIN of an HSM that is not in the configuration, under a key that is lost,
    /// stays as it is: nobody can give the HSM another one before it is back.
    pub async fn reseal_pins(&self, call: &RequestContext) -> Result<Resealed, Error> {
        let resource = self.core.arn_of(Operation::ResealPins, "").asking(|_, say| say);
        let core = self.core.clone();
        self.core.on_one(call, Operation::ResealPins, resource, async move {
            let access_keys = reseal_access_keys(&core).await?;
            let seals = Arc::clone(&core.registry().seals.load());
            let again = move |origin: &str, sealed: &[u8]| audit_key::resealed(&seals, origin, sealed);
            core.store().reseal_audit_key(again).await.map_err(|error| unsealed(error, " or begin a new log (keystored audit new-log)"))?;
            let seals = Arc::clone(&core.registry().seals.load());
            let specs = core.registry().specs();
            let configured: BTreeSet<HsmId> =
                specs.values().flat_map(|spec| spec.hsms.iter().map(|hsm| record_of(spec.pin_scope, &hsm.hsm))).collect();
            let left = Arc::new(AtomicU64::new(0));
            let resealed = core.store().reseal_pins({
                let left = Arc::clone(&left);
                move |key_store, record, sealed| match reseal(&seals, key_store, record, sealed) {
                    Err(why) if !configured.contains(record) => {
                        tracing::warn!(hsm = %record, why, "a PIN was left as it is; its HSM is not in the configuration");
                        left.fetch_add(1, Ordering::Relaxed);
                        Ok(Bytes::copy_from_slice(sealed))
                    }
                    resealed => resealed,
                }
            });
            let resealed = resealed.await.map_err(|error| unsealed(error, ""))?;
            let pins = resealed.saturating_sub(left.load(Ordering::Relaxed));
            tracing::info!(pins, access_keys, "PINs, secrets of access keys and the audit log's key were sealed anew");
            Ok(Resealed { pins, access_keys })
        })
        .await
    }
}

async fn reseal_access_keys(core: &Core) -> Result<u64, Error> {
    let seals = Arc::clone(&core.registry().seals.load());
    let resealed =
        core.store().reseal_access_keys(move |id, of, sealed| access_key::resealed(&seals, id, of, sealed)).await;
    resealed.map_err(|error| unsealed(error, " or, if it is lost, delete the access key,"))
}

/// What is sealed under a key that is not at hand stops everything.
fn unsealed(error: store::Error, or: &str) -> Error {
    match error {
        store::Error::Contradiction(why) => Error::permanent(
            Exception::Validation,
            format!(
                "{why}; name the key that sealed it among seal.former and have the daemon read it (SIGHUP),{or} and try \
                 again"
            ),
        ),
        other => Error::of_store(other),
    }
}
