//! ResealPins: seals every stored PIN under the seal key of the configuration, after that was replaced.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::core::proposal::Proposal;
use crate::{Error, RequestContext, Service};
use cluster::kmsuser::{record_of, reseal};
use model::exception::Exception;
use model::id::HsmId;
use model::operation::Operation;

impl Service {
    /// All PINs or none; how many there were. One of an HSM that is not in the configuration, under a key that is lost,
    /// stays as it is: nobody can give the HSM another one before it is back.
    pub async fn reseal_pins(&self, call: &RequestContext) -> Result<u64, Error> {
        let resource = self.core.arn_of(Operation::ResealPins, "").map(|named| named.asking(|_| Proposal::new()));
        let core = self.core.clone();
        self.core.on_one(call, Operation::ResealPins, resource, async move {
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
            let resealed = resealed.await.map_err(|error| match error {
                store::Error::Contradiction(why) => Error::permanent(
                    Exception::Validation,
                    format!(
                        "{why}; name the key that sealed it among seal.former, have the daemon read it (SIGHUP), and \
                             try again"
                    ),
                ),
                other => Error::of_store(other),
            })?;
            let resealed = resealed.saturating_sub(left.load(Ordering::Relaxed));
            tracing::info!(resealed, "PINs were sealed anew");
            Ok(resealed)
        })
        .await
    }
}
