//! Disconnecting a key store: new operations stop with the state on record; then those in flight are drained, the workers
//! log out and leave.

use std::time::Duration;

use super::{DisconnectStep, passing};
use crate::model::id::KeyStoreId;
use crate::model::key_store::Event;
use crate::service::Service;

/// What operations in flight get to finish, and workers to log out.
const DRAIN: Duration = Duration::from_secs(10);

impl Service {
    /// Goes on with a store that is DISCONNECTING, in a task of its own, until it is DISCONNECTED.
    pub(super) fn disconnect_in_background(&self, id: &KeyStoreId) {
        let (service, id) = (self.clone(), id.clone());
        let connect = self.inner.procedures.break_off(&id);
        self.inner.procedures.spawn(&id.clone(), async move {
            if let Some(connect) = connect {
                let _ = connect.await;
            }
            passing(DisconnectStep::Stop, service.stop_hsms(&id, DRAIN)).await;
            service.inner.estate.take(&id);
            let record = service.recorded(&id, Event::DisconnectDone, None);
            match passing(DisconnectStep::RecordDisconnected, record).await {
                Ok(_) => tracing::info!(key_store = %id, "the key store is disconnected"),
                Err(error) => tracing::error!(key_store = %id, %error,
                    "that the key store is disconnected could not be recorded; the next start does it again"),
            }
        });
    }
}
