//! ResealPins: seals every stored PIN under the seal key of the configuration, after that was replaced.

use std::sync::Arc;

use super::{Call, Error, Service};
use crate::cluster::kmsuser::reseal;
use crate::model::exception::Exception;
use crate::model::operation::Operation;
use crate::store;

impl Service {
    /// All PINs or none; how many there were.
    pub async fn reseal_pins(&self, call: &Call) -> Result<u64, Error> {
        let service = self.clone();
        self.on_one(call, Operation::ResealPins, async move {
            let seals = Arc::clone(&service.inner.estate.seals.load());
            let resealed = service
                .inner
                .store
                .reseal_pins(move |key_store, record, sealed| reseal(&seals, key_store, record, sealed));
            let resealed = resealed.await.map_err(|error| match error {
                store::Error::Contradiction(why) => Error::lasting(
                    Exception::Validation,
                    format!(
                        "{why}; name the key that sealed it among seal.former, have the daemon read it (SIGHUP), and \
                             try again"
                    ),
                ),
                other => Error::of_store(other),
            })?;
            tracing::info!(resealed, "PINs were sealed anew");
            Ok(resealed)
        })
        .await
    }
}
