//! A service to try things on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use super::fake::Fake;
use crate::core::cluster_registry::{ActiveCluster, ClusterRegistry, ClusterSpec};
use crate::core::hsm_cluster::{HsmCluster as _, Members};
use crate::core::observer::{Observer, RateLimit};
use crate::core::recorder::{Accepted, CallRecord, NotRecorded, Recorder, ServiceEvent};
use crate::{CreateKeyInput, DecryptInput, EncryptInput, Error, KeyMetadata, RequestContext, Service, Settings};
use auth::peer::Principal;
use auth::request::Interface;
use cluster::Removal;
use model::clock::Clock;
use model::exception::Exception;
use model::id::{ClusterId, KeyStoreId, PolicyName, PrincipalId, Scope};
use model::limits::Quotas;
use model::operation::Operation;
use model::profile::{PinScope, Rotation};
use pki::seal::{SealKey, SealKeys};
use store::access::{Holder, NewAttachment, NewPolicy, NewPrincipal};
use store::{NewKeyStore, Store};
use telemetry::watchdog::Watchdog;

pub(super) struct Bench {
    folder: tempfile::TempDir,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) key_store: KeyStoreId,
    pub(super) fake: Arc<Fake>,
    pub(super) seen: Arc<Seen>,
    pub(super) recorder: Arc<Kept>,
    pub(super) service: Service,
}

/// Everything that the observer was told.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) finished: Mutex<Vec<(Operation, Option<Exception>, usize)>>,
    pub(super) removed: Mutex<Vec<Removal>>,
    pub(super) throttled: Mutex<Vec<(RateLimit, usize)>>,
}

impl Observer for Seen {
    fn finished(&self, operation: Operation, outcome: Option<Exception>, _took: Duration, items: usize) {
        self.finished.lock().unwrap().push((operation, outcome, items));
    }

    fn throttled(&self, limit: RateLimit, requests: usize) {
        self.throttled.lock().unwrap().push((limit, requests));
    }

    fn removed(&self, removal: &Removal) {
        self.removed.lock().unwrap().push(removal.clone());
    }
}

/// A recorder that keeps records in memory, and is quick, or slow, or fails, or hangs, as a test has it.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) records: Mutex<Vec<CallRecord>>,
    pub(super) events: Mutex<Vec<ServiceEvent>>,
    pub(super) manner: Mutex<Manner>,
    /// Records that a slow recorder has been given.
    pub(super) waiting: watch::Sender<usize>,
    /// How many of them it may accept.
    pub(super) accepts: watch::Sender<usize>,
    /// Records that came as ones of many.
    pub(super) together: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Manner {
    #[default]
    Quick,
    /// Waits until it may.
    Slow,
    Fails,
    Hangs,
}

impl Kept {
    pub(super) fn is(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub(super) fn taken(&self) -> Vec<CallRecord> {
        std::mem::take(&mut *self.records.lock().unwrap())
    }

    /// Ends when a slow recorder has been given so many records.
    pub(super) async fn given(&self, records: usize) {
        self.waiting.subscribe().wait_for(|waiting| *waiting >= records).await.unwrap();
    }
}

impl Recorder for Kept {
    fn record(self: Arc<Self>, record: CallRecord) -> BoxFuture<'static, Accepted> {
        let manner = *self.manner.lock().unwrap();
        async move {
            match manner {
                Manner::Quick => {}
                Manner::Slow => {
                    let mut number = 0;
                    self.waiting.send_modify(|waiting| {
                        *waiting += 1;
                        number = *waiting;
                    });
                    self.accepts.subscribe().wait_for(|accepts| *accepts >= number).await.unwrap();
                }
                Manner::Fails => return Err(NotRecorded("the disk is gone".to_owned())),
                Manner::Hangs => std::future::pending().await,
            }
            self.records.lock().unwrap().push(record);
            Ok(None)
        }
        .boxed()
    }

    fn record_with_others(self: Arc<Self>, record: CallRecord) -> BoxFuture<'static, Accepted> {
        self.together.fetch_add(1, Ordering::Relaxed);
        self.record(record)
    }

    fn happened(self: Arc<Self>, event: ServiceEvent) -> BoxFuture<'static, Accepted> {
        let fails = *self.manner.lock().unwrap() == Manner::Fails;
        async move {
            if fails {
                return Err(NotRecorded("the disk is gone".to_owned()));
            }
            self.events.lock().unwrap().push(event);
            Ok(None)
        }
        .boxed()
    }
}

/// Clusters of the configuration that no key store is over at the beginning.
pub(super) const SPARE: &str = "cluster-sparespare2";
pub(super) const FREE: &str = "cluster-freefreefr2";

/// Beginning of the ARNs of principals.
pub(super) const USERS: &str = "arn:aws:iam::111122223333:user";

/// Who calls where it does not matter who does.
fn anna() -> BTreeSet<String> {
    BTreeSet::from(["cn:anna".to_owned()])
}

/// A statement of an identity policy, for encryption contexts with these pairs.
pub(super) fn statement(effect: &str, action: &str, resource: &str, pairs: &[(&str, &str)]) -> String {
    let condition: Vec<String> =
        pairs.iter().map(|(name, value)| format!("\"kms:EncryptionContext:{name}\":\"{value}\"")).collect();
    let condition = match &condition[..] {
        [] => String::new(),
        pairs => format!(",\"Condition\":{{\"StringEquals\":{{{}}}}}", pairs.join(",")),
    };
    format!("{{\"Effect\":\"{effect}\",\"Action\":\"{action}\",\"Resource\":\"{resource}\"{condition}}}")
}

fn settings() -> Settings {
    let scope = Scope { partition: "aws".into(), region: "eu-central-1".into(), account: "111122223333".into() };
    Settings { scope, items_in_work: 2_000, items_in_work_per_principal: 1_500, quotas: Quotas::default() }
}

impl Bench {
    /// Two zones.
    pub(super) async fn new() -> Self {
        Self::over(&["zone-a", "zone-b"]).await
    }

    pub(super) async fn over(zones: &[&str]) -> Self {
        Self::by(Clock::system(), zones).await
    }

    /// With another clock.
    pub(super) async fn by(clock: Clock, zones: &[&str]) -> Self {
        let (folder, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::over(zones)));
        let store = Store::open(&folder.path().join("keystored.db"), clock.clone()).await.unwrap();
        let cluster = fake.id.clone();
        let key_store = store.connected_key_store("main", &cluster).await;
        let seen = Arc::new(Seen::default());
        let recorder = Arc::new(Kept::default());
        let registry = registry(&key_store, &fake);
        let service = Service::new(settings(), store.clone(), registry, clock.clone(), seen.clone(), recorder.clone());
        service.set_administrators(anna());
        Self { folder, clock, store, key_store, fake, seen, recorder, service }
    }

    /// A key store over the spare cluster, never connected.
    pub(super) async fn spare_key_store(&self) -> KeyStoreId {
        let (id, name, cluster, trust_anchor) = (KeyStoreId::random(), "spare".into(), SPARE.into(), anchor());
        let new = NewKeyStore { id, name, cluster, trust_anchor, pins: Vec::new(), maker: None };
        self.store.create_key_store(new).await.unwrap()
    }

    /// The same over metadata that were closed and opened again.
    pub(super) async fn reopen(self) -> Self {
        let Self { folder, clock, store, key_store, fake, seen, recorder, service } = self;
        drop(service);
        store.close().await;
        let store = Store::open(&folder.path().join("keystored.db"), clock.clone()).await.unwrap();
        let (registry, over) = (registry(&key_store, &fake), (store.clone(), clock.clone()));
        let service = Service::new(settings(), over.0, registry, over.1, seen.clone(), recorder.clone());
        service.set_administrators(anna());
        Self { folder, clock, store, key_store, fake, seen, recorder, service }
    }

    /// Another start of the daemon over the same metadata and HSMs.
    pub(super) fn restart(&mut self) {
        let (store, clock, seen) = (self.store.clone(), self.clock.clone(), self.seen.clone());
        self.service =
            Service::new(settings(), store, registry(&self.key_store, &self.fake), clock, seen, self.recorder.clone());
        self.may_everything();
    }

    /// Has the configuration describe the cluster in use, with its members and these HSMs.
    pub(super) fn configure(&self, further: &[supervisor::Settings]) {
        let members = self.fake.members().into_iter();
        let members = members.map(|(hsm, zone)| supervisor::Settings::of_a_test(hsm.as_str(), zone.as_str()));
        let used = ClusterSpec { hsms: members.chain(further.iter().cloned()).collect(), ..spec(self.fake.id.clone()) };
        let others = [SPARE, FREE].into_iter().map(|id| spec(id.into()));
        self.service.core.registry().set_specs(others.chain([used]).collect());
    }

    /// Has [`Self::call`] come from an administrator, as it does from the beginning.
    pub(super) fn may_everything(&self) {
        self.service.set_administrators(anna());
    }

    /// Has there be no administrator: whoever has no principal may do nothing.
    pub(super) fn may_nothing(&self) {
        self.service.set_administrators(BTreeSet::new());
    }

    /// Has [`Self::call`] come from a principal, `user/anna`, with these statements for an identity policy.
    pub(super) async fn may_only(&self, statements: &[String]) {
        let policy = PolicyName::from("only");
        let document = format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{}]}}", statements.join(","));
        let known = self.store.catalogue().principal_known_as("cn:anna").map(|anna| anna.id.clone());
        let id = match known {
            Some(id) => id,
            None => self.principal("anna").await,
        };
        self.store.put_policy(NewPolicy::new(&policy, &document)).await.unwrap();
        let holder = Holder::Principal(id);
        self.store.attach_policy(NewAttachment { policy, built_in: false, holder, most: 1 }).await.unwrap();
        self.may_nothing();
    }

    /// A principal of this name, known by the certificate of its name, without any policy.
    pub(super) async fn principal(&self, name: &str) -> PrincipalId {
        let identities = BTreeSet::from([format!("cn:{name}")]);
        let new = NewPrincipal { identities, ..NewPrincipal::new(&format!("{USERS}/{name}")) };
        self.store.create_principal(new).await.unwrap()
    }

    /// Where its metadata are.
    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(super) fn call(&self) -> RequestContext {
        self.call_within(Duration::from_secs(30))
    }

    pub(super) fn call_within(&self, within: Duration) -> RequestContext {
        self.call_of("cn:anna", within)
    }

    pub(super) fn call_of(&self, principal: &str, within: Duration) -> RequestContext {
        RequestContext {
            principal: Principal::new(principal),
            source: None,
            user_agent: None,
            tls: None,
            interface: Interface::Grpc,
            request_id: "r-1".into(),
            deadline: self.clock.now() + within,
            charge: None,
            trace: Arc::default(),
        }
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

/// A trust anchor that no other cluster is under.
pub(super) fn anchor() -> String {
    let authority = pki::identity::ClusterAuthority::generate(&FREE.into(), Clock::system().calendar()).unwrap();
    authority.certificate().to_owned()
}

/// A cluster of the configuration, without HSMs.
fn spec(id: ClusterId) -> ClusterSpec {
    let (hedge_after, verify) = (Duration::from_millis(50), cluster::Verify::default());
    ClusterSpec {
        settings: cluster::Settings { id, own_zone: None, hedge_after, verify },
        hsms: Vec::new(),
        pin_scope: PinScope::default(),
        rotation: Rotation::default(),
        login_tries: 3,
    }
}

/// One cluster in use, over HSMs that a test made up, and two that are not.
fn registry(key_store: &KeyStoreId, fake: &Arc<Fake>) -> ClusterRegistry {
    let seals = SealKeys::new(SealKey::test(), Vec::new());
    let watchdog = Watchdog::new(Clock::system());
    let specs = [SPARE, FREE].into_iter().map(|id| spec(id.into()));
    let registry =
        ClusterRegistry::new(specs.collect(), Arc::new(ArcSwap::from_pointee(seals)), mpsc::channel(1).0, watchdog);
    let members = Members::of(fake.clone());
    registry.put(ActiveCluster { key_store: key_store.clone(), members, running: None });
    registry
}

pub(super) fn context(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn plain(key_id: &str, plaintext: &[u8]) -> EncryptInput {
    EncryptInput { key_id: key_id.into(), plaintext: plaintext.to_vec().into(), ..EncryptInput::default() }
}

pub(super) fn sealed(ciphertext: &[u8]) -> DecryptInput {
    DecryptInput { ciphertext: ciphertext.to_vec().into(), ..DecryptInput::default() }
}

pub(super) fn exception<T: std::fmt::Debug>(result: Result<T, Error>) -> Exception {
    result.unwrap_err().exception
}
