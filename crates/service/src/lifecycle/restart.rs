//! What a start of the daemon does with each key store: it goes on in the state that it had.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Lifecycle;
use crate::core::cluster_registry::ClusterSpec;
use model::key_store::ConnectionState;
use store::KeyStore;

impl Lifecycle {
    /// Takes every key store up in the state that it had. Returns at once; HSMs are not waited for. A connected store
    /// logs in again and rotates nothing.
    pub(crate) async fn start(&self) {
        let catalogue = self.core.store().catalogue();
        for store in catalogue.key_stores() {
            self.show_pins(store).await;
            match store.state {
                ConnectionState::Connected => self.log_in_again(store).await,
                ConnectionState::Connecting => self.connect_in_background(&store.id),
                ConnectionState::Disconnecting => self.disconnect_in_background(&store.id),
                ConnectionState::Disconnected | ConnectionState::Failed => {}
            }
        }
    }

    /// The configuration was read again: HSMs that went from it are stopped, those that came to it and have a PIN on
    /// record are started, and calls are hedged and verified as it says now. Everything else takes effect with the next
    /// connect.
    pub(crate) async fn reconfigure(&self, specs: Vec<ClusterSpec>) {
        self.core.registry().set_specs(specs);
        self.take_up_what_came_back().await;
        for active in self.core.registry().active().iter() {
            let _turn = self.core.registry().turn(&active.key_store).await;
            // What is so now: the turn may have been waited for.
            let in_use = self.core.registry().active_of(&active.key_store).and_then(|active| active.running);
            let (Some(store), Some(in_use)) = (self.core.key_store(&active.key_store), in_use) else { continue };
            if !matches!(store.state, ConnectionState::Connecting | ConnectionState::Connected) {
                continue;
            }
            let Some(spec) = self.core.registry().spec(&store.cluster) else {
                tracing::warn!(cluster = %store.cluster, "the cluster went from the configuration; it is used until its \
                    key store is disconnected");
                continue;
            };
            let joined = match self.joined(&store, &spec, in_use.admission.scope()).await {
                Ok(joined) => joined,
                Err((_, why)) => {
                    tracing::error!(cluster = %store.cluster, why, "the HSMs of the cluster stay as they are");
                    continue;
                }
            };
            let (running, mut gone) = (in_use.cluster.members(), Vec::new());
            let mut hsms = Vec::with_capacity(spec.hsms.len());
            for hsm in &spec.hsms {
                match running.iter().find(|running| running.settings().hsm == hsm.hsm) {
                    Some(running) => hsms.push(running.clone()),
                    None if !joined.contains(&hsm.hsm) => {}
                    None => {
                        tracing::info!(hsm = %hsm.hsm, zone = %hsm.zone, "an HSM came to the configuration");
                        hsms.push(self.start_hsm(hsm.clone(), &in_use.admission));
                    }
                }
            }
            gone.extend(running.iter().filter(|old| spec.hsm(&old.settings().hsm).is_none()).cloned());
            self.put_in_use(&store.id, &spec, in_use.admission.clone(), hsms);
            for hsm in gone {
                tracing::info!(hsm = %hsm.settings().hsm, "an HSM went from the configuration");
                self.core.registry().identities.release(&hsm.settings().hsm);
                self.core.registry().leave(async move { hsm.stop(super::connect::LEAVE).await });
            }
        }
    }

    /// Key stores whose cluster was not in the configuration before.
    async fn take_up_what_came_back(&self) {
        let stores: Vec<Arc<KeyStore>> = self.core.store().catalogue().key_stores().cloned().collect();
        for store in stores.iter().filter(|store| self.core.registry().active_of(&store.id).is_none()) {
            let _turn = self.core.registry().turn(&store.id).await;
            let Some(store) = self.core.key_store(&store.id) else { continue };
            if self.core.registry().spec(&store.cluster).is_none() {
                continue;
            }
            self.show_pins(&store).await;
            if store.state == ConnectionState::Connected && self.core.registry().active_of(&store.id).is_none() {
                self.log_in_again(&store).await;
            }
        }
    }

    async fn log_in_again(&self, store: &KeyStore) {
        match self.start_hsms(store).await {
            Ok(_) => tracing::info!(key_store = %store.id, name = store.name, "logging in again"),
            Err((code, why)) => {
                tracing::error!(key_store = %store.id, name = store.name, code = code.name(), why,
                    "the key store is CONNECTED, but its HSMs cannot be used");
            }
        }
    }

    /// Stops every HSM, as the daemon stops; the states of the key stores stay as they are.
    pub(crate) async fn stop(&self, within: Duration) {
        self.inner.procedures.end();
        let active = self.core.registry().active();
        let stopping = join_all(active.iter().map(|active| self.stop_hsms(&active.key_store, within)));
        tokio::join!(stopping, self.core.registry().left());
    }

    async fn show_pins(&self, store: &KeyStore) {
        if let Some(spec) = self.core.registry().spec(&store.cluster)
            && let Err((_, why)) = self.joined(store, &spec, spec.pin_scope).await
        {
            tracing::error!(key_store = %store.id, why, "what is known of the PINs cannot be read");
        }
    }
}
