//! What tests above this crate need of it.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "for tests")]

use bytes::Bytes;
use model::ciphertext::IV_BYTES;
use model::id::{ClusterId, KeyId, KeyStoreId, KeyVersionId};
use model::key::KeyState;
use model::key_store::Event;

use crate::change::touch_key;
use crate::reserve::Purpose;
use crate::versions::write_proof;
use crate::{Error, NewKeyStore, Store};

impl Store {
    /// A store of this name over this cluster in state CONNECTED.
    pub async fn connected_key_store(&self, name: &str, cluster: &ClusterId) -> KeyStoreId {
        let new = NewKeyStore {
            id: KeyStoreId::random(),
            name: name.to_owned(),
            cluster: cluster.clone(),
            trust_anchor: "PEM".to_owned(),
            pins: Vec::new(),
            maker: None,
        };
        let id = self.create_key_store(new).await.unwrap();
        for event in [Event::Connect, Event::ConnectSucceeded] {
            self.advance_key_store(&id, event, None, false).await.unwrap();
        }
        id
    }

    /// Puts a key into a state whatever it is in.
    pub async fn force_state(&self, key: KeyId, to: KeyState) -> Result<(), Error> {
        const ANY: &[KeyState] =
            &[KeyState::Creating, KeyState::Enabled, KeyState::Disabled, KeyState::PendingDeletion];
        self.set_state(key, ANY, to).await
    }

    /// Has a version that is unfinished have a proof all the same, as one has that an earlier release began.
    pub async fn keep_proof(&self, version: KeyVersionId, iv: &[u8; IV_BYTES], sealed: &Bytes) -> Result<(), Error> {
        let (iv, sealed) = (*iv, sealed.clone());
        self.change(move |database| {
            Box::pin(async move {
                touch_key(database, version.key).await?;
                write_proof(database, version, &iv, &sealed).await
            })
        })
        .await
    }

    /// Spends a part of the reserve, so that nothing else is recorded; on the disk of the tests, which has room, it
    /// must not come back by itself.
    pub fn spend_reserve(&self) {
        assert!(self.inner.reserve.release(Purpose::Restricting).unwrap());
        let file = self.inner.reserve.file();
        std::fs::remove_file(file).unwrap();
        std::fs::create_dir(file).unwrap();
    }

    /// Lets it come back.
    pub async fn free_reserve(&self) {
        std::fs::remove_dir(self.inner.reserve.file()).unwrap();
        self.tend().await;
        assert!(self.records());
    }
}
