//! A service to try things on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::fake::Fake;
use crate::core::cluster_registry::{ActiveCluster, ClusterRegistry};
use crate::core::hsm_cluster::Members;
use crate::core::observer::Observer;
use crate::{Call, CreateKeyInput, DecryptInput, EncryptInput, Error, KeyMetadata, Service, Settings};
use auth::peer::Principal;
use cluster::Removal;
use model::clock::Clock;
use model::exception::Exception;
use model::id::{KeyStoreId, Scope};
use model::operation::Operation;
use pki::seal::{SealKey, SealKeys};
use store::Store;
use telemetry::watchdog::Watchdog;

pub(super) struct Bench {
    _folder: tempfile::TempDir,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) key_store: KeyStoreId,
    pub(super) fake: Arc<Fake>,
    pub(super) seen: Arc<Seen>,
    pub(super) service: Service,
}

/// Everything that the observer was told.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) finished: Mutex<Vec<(Operation, Option<Exception>, usize)>>,
    pub(super) removed: Mutex<Vec<Removal>>,
}

impl Observer for Seen {
    fn finished(&self, operation: Operation, outcome: Option<Exception>, _took: Duration, items: usize) {
        self.finished.lock().unwrap().push((operation, outcome, items));
    }

    fn removed(&self, removal: &Removal) {
        self.removed.lock().unwrap().push(removal.clone());
    }
}

fn settings() -> Settings {
    let scope = Scope { partition: "aws".into(), region: "eu-central-1".into(), account: "111122223333".into() };
    Settings { scope, items_in_work: 2_000, items_in_work_per_principal: 1_500 }
}

impl Bench {
    /// Two zones.
    pub(super) async fn new() -> Self {
        Self::over(&["zone-a", "zone-b"]).await
    }

    pub(super) async fn over(zones: &[&str]) -> Self {
        let (folder, clock, fake) = (tempfile::tempdir().unwrap(), Clock::system(), Arc::new(Fake::over(zones)));
        let store = Store::open(&folder.path().join("keystored.db"), clock.clone()).await.unwrap();
        let cluster = fake.id.clone();
        let key_store = store.connected_key_store("main", &cluster).await;
        let seen = Arc::new(Seen::default());
        let registry = registry(&key_store, &fake);
        let service = Service::new(settings(), store.clone(), registry, clock.clone(), seen.clone());
        Self { _folder: folder, clock, store, key_store, fake, seen, service }
    }

    /// Another start of the daemon over the same metadata and HSMs.
    pub(super) fn restart(&mut self) {
        let (store, clock, seen) = (self.store.clone(), self.clock.clone(), self.seen.clone());
        self.service = Service::new(settings(), store, registry(&self.key_store, &self.fake), clock, seen);
    }

    pub(super) fn call(&self) -> Call {
        self.call_within(Duration::from_secs(30))
    }

    pub(super) fn call_within(&self, within: Duration) -> Call {
        Call { principal: Principal::new("cn:anna"), request_id: "r-1".into(), deadline: self.clock.now() + within }
    }

    pub(super) async fn create(&self) -> KeyMetadata {
        self.create_with("").await.unwrap()
    }

    pub(super) async fn create_with(&self, client_token: &str) -> Result<KeyMetadata, Error> {
        let input = CreateKeyInput { client_token: client_token.into(), ..CreateKeyInput::default() };
        self.service.create_key(&self.call(), input).await
    }

    pub(super) async fn encrypt(&self, item: EncryptInput) -> Result<Vec<u8>, Error> {
        let mut results = self.service.encrypt(&self.call(), vec![item]).await?;
        results.remove(0).map(|encrypted| encrypted.ciphertext)
    }

    pub(super) async fn decrypt(&self, item: DecryptInput) -> Result<Vec<u8>, Error> {
        let mut results = self.service.decrypt(&self.call(), vec![item]).await?;
        results.remove(0).map(|decrypted| decrypted.plaintext.expose().to_vec())
    }
}

/// One cluster in use, over HSMs that a test made up.
fn registry(key_store: &KeyStoreId, fake: &Arc<Fake>) -> ClusterRegistry {
    let seals = SealKeys::new(SealKey::test(), Vec::new());
    let watchdog = Watchdog::new(Clock::system());
    let registry =
        ClusterRegistry::new(Vec::new(), Arc::new(ArcSwap::from_pointee(seals)), mpsc::channel(1).0, watchdog);
    let members = Members::of(fake.clone());
    registry.put(ActiveCluster { key_store: key_store.clone(), members, running: None });
    registry
}

pub(super) fn context(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn plain(key_id: &str, plaintext: &[u8]) -> EncryptInput {
    EncryptInput { key_id: key_id.into(), plaintext: plaintext.to_vec().into(), context: context(&[]) }
}

pub(super) fn sealed(ciphertext: &[u8]) -> DecryptInput {
    DecryptInput { key_id: String::new(), ciphertext: ciphertext.to_vec().into(), context: context(&[]) }
}

pub(super) fn exception<T: std::fmt::Debug>(result: Result<T, Error>) -> Exception {
    result.unwrap_err().exception
}
