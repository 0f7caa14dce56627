//! What a procedure has come to must be recorded some time, however long the disk takes no writes: without it the key
//! store would be CONNECTING or DISCONNECTING until somebody restarts the daemon.

use std::time::Duration;

use super::Lifecycle;
use model::id::KeyStoreId;
use model::key_store::{ConnectionErrorCode, ConnectionState, Event};

/// The first pause, and the longest, before it is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Pauses that grow.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) const fn new() -> Self {
        Self(PAUSES.0)
    }

    /// Waits for the next one to pass.
    pub(super) async fn pass(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(PAUSES.1);
    }
}

impl Lifecycle {
    /// Has an event recorded: now, or as soon as the disk takes it. An error is a permanent one.
    pub(super) async fn recorded(
        &self,
        id: &KeyStoreId,
        event: Event,
        error: Option<(ConnectionErrorCode, String)>,
    ) -> Result<[ConnectionState; 2], store::Error> {
        let mut pauses = Pauses::new();
        loop {
            match self.core.store().advance_key_store(id, event, error.clone(), false).await {
                Err(error) if error.passes() => pauses.pass().await,
                outcome => return outcome,
            }
        }
    }
}
