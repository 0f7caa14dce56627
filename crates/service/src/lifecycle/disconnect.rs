//! Disconnecting a key store: new operations stop with the state on record; then those in flight are drained, the
//! workers log out and leave.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::{DisconnectStep, Lifecycle, transient};
use crate::core::service_event::ServiceEvent;
use model::id::KeyStoreId;
use model::key_store::{ConnectionState, Event};
use telemetry::watchdog::Task;

/// What operations in flight get to finish, and workers to log out.
const DRAIN: Duration = Duration::from_secs(10);

impl Lifecycle {
    /// Goes on with a store that is DISCONNECTING, in a task of its own, until it is DISCONNECTED.
    pub(super) fn disconnect_in_background(&self, id: &KeyStoreId) {
        let (lifecycle, disconnecting) = (self.clone(), id.clone());
        let mut connect = self.inner.procedures.break_off(id);
        // On panic: started again with the state that is on record.
        self.inner.procedures.spawn(&self.core.registry().watchdog, Task::Disconnect, id, move |heartbeat| {
            let (lifecycle, id, connect) = (lifecycle.clone(), disconnecting.clone(), connect.take());
            async move { heartbeat.idle(lifecycle.run_disconnect(&id, connect)).await }
        });
    }

    async fn run_disconnect(&self, id: &KeyStoreId, connect: Option<JoinHandle<()>>) {
        if let Some(connect) = connect {
            let _ = connect.await;
        }
        // A run before this one may have been broken off behind its record; by now the store may be connected again.
        if self.core.key_store(id).is_none_or(|store| store.state != ConnectionState::Disconnecting) {
            return;
        }
        transient(DisconnectStep::Stop, self.stop_hsms(id, DRAIN)).await;
        self.core.registry().take(id);
        let record = self.recorded(id, Event::DisconnectDone, None);
        match transient(DisconnectStep::RecordDisconnected, record).await {
            Ok(_) => {
                tracing::info!(key_store = %id, "the key store is disconnected");
                let event = ServiceEvent::ours(self.core.clock().unix_millis(), "KeyStoreDisconnected");
                self.core.happened(event.saying("customKeyStoreId", id.as_str()));
            }
            Err(error) => tracing::error!(key_store = %id, %error,
                "that the key store is disconnected could not be recorded; the next start does it again"),
        }
    }
}
