//! What an operator has happen to a key store: each event on record first, then what follows from it.

use super::{ConnectStep, DisconnectStep, Lifecycle, transient};
use crate::Error;
use model::id::KeyStoreId;
use model::key_store::{ConnectionState, Event};

impl Lifecycle {
    /// Begins to connect a store; does nothing where it is CONNECTING or CONNECTED already.
    pub(crate) async fn begin_connect(&self, id: &KeyStoreId) -> Result<(), Error> {
        let _turn = self.core.registry().turn(id).await;
        let Some(store) = self.core.key_store(id) else { return Err(Error::no_key_store(id.as_str())) };
        let record = self.core.store().advance_key_store(id, Event::Connect, None, self.rotates(&store.cluster));
        let [before, _] = transient(ConnectStep::RecordConnecting, record).await.map_err(Error::of_store)?;
        // Not what it was when it was looked at: a disconnect may have come to its end since.
        if before == ConnectionState::Disconnected {
            self.connect_in_background(id);
        }
        Ok(())
    }

    /// Begins to disconnect a store. When this returns, no operation with its keys succeeds any more.
    pub(crate) async fn begin_disconnect(&self, id: &KeyStoreId) -> Result<(), Error> {
        let _turn = self.core.registry().turn(id).await;
        let record = self.core.store().advance_key_store(id, Event::Disconnect, None, false);
        transient(DisconnectStep::RecordDisconnecting, record).await.map_err(Error::of_store)?;
        self.core.wait_for_releases();
        self.disconnect_in_background(id);
        Ok(())
    }
}
