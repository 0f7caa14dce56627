//! A service to ask things of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::mpsc;

use super::input;
use crate::aws::error::Failure;
use crate::aws::operations::{CallExtras, answer};
use auth::peer::Principal;
use model::clock::Clock;
use model::id::{ClusterId, Scope};
use model::key::KeyState;
use model::limits::Quotas;
use pki::seal::{SealKey, SealKeys};
use service::cluster_registry::ClusterRegistry;
use service::observer::Unobserved;
use service::recorder::Recorder;
use service::{Interface, LogRecorder, RequestContext, Service, Settings};
use store::access::NewPrincipal;
use store::{Begun, NewKey, Store};
use telemetry::watchdog::Watchdog;

/// The ARN of whoever calls.
pub(in crate::aws) const ANNA: &str = "arn:aws:iam::111122223333:user/anna";

/// A key store that is connected by its record, and whose HSMs nobody uses: its keys are Unavailable.
pub(in crate::aws) struct Bench {
    _folder: tempfile::TempDir,
    clock: Clock,
    pub(in crate::aws) service: Service,
    /// The ids of two keys.
    pub(in crate::aws) keys: [String; 2],
    pub(super) key_store: String,
}

impl Bench {
    /// Anna is an administrator.
    pub(in crate::aws) async fn new() -> Self {
        Self::with(Arc::new(LogRecorder)).await
    }

    /// The same with records that are kept there.
    pub(in crate::aws) async fn with(recorder: Arc<dyn Recorder>) -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let store = Store::open(&folder.path().join("keystored.db"), clock.clone()).await.unwrap();
        let cluster = ClusterId::parse("cluster-abcdefghijk").unwrap();
        let key_store = store.connected_key_store("main", &cluster).await;
        let mut keys = Vec::new();
        for description in ["one", "two"] {
            let new = NewKey {
                key_store: key_store.clone(),
                description: description.to_owned(),
                tags: BTreeMap::new(),
                in_place: false,
                hsms: Vec::new(),
                most: 2,
            };
            let Begun::New(key) = store.begin_key(new, None).await.unwrap() else { panic!("a new key") };
            store.force_state(key, KeyState::Enabled).await.unwrap();
            keys.push(key.to_string());
        }
        let identities = BTreeSet::from(["cn:anna".to_owned()]);
        store.create_principal(NewPrincipal { identities, ..NewPrincipal::new(ANNA) }).await.unwrap();
        let scope = Scope { partition: "aws".into(), region: "eu-central-1".into(), account: "111122223333".into() };
        let settings =
            Settings { scope, items_in_work: 10, items_in_work_per_principal: 10, quotas: Quotas::default() };
        let seals = Arc::new(ArcSwap::from_pointee(SealKeys::new(SealKey::test(), Vec::new())));
        let registry = ClusterRegistry::new(Vec::new(), seals, mpsc::channel(1).0, Watchdog::new(clock.clone()));
        let observer = Arc::new(Unobserved);
        let service = Service::new(settings, store, registry, clock.clone(), observer, recorder);
        service.set_administrators(BTreeSet::from(["cn:anna".to_owned()]));
        let keys = keys.try_into().unwrap();
        Self { _folder: folder, clock, service, keys, key_store: key_store.to_string() }
    }

    pub(in crate::aws) fn call_of(&self, identity: &str) -> RequestContext {
        RequestContext {
            principal: Principal::new(identity),
            source: None,
            user_agent: None,
            tls: None,
            interface: Interface::Grpc,
            request_id: "r-1".into(),
            deadline: self.clock.now() + Duration::from_secs(30),
            charge: None,
            trace: Arc::default(),
        }
    }

    /// What somebody is answered; null where that is nothing.
    pub(super) async fn ask_as(&self, identity: &str, operation: &str, asked: &Value) -> Result<Value, Failure> {
        let (call, input) = (self.call_of(identity), input(operation, asked));
        let body = answer(&self.service, &call, operation, input, &CallExtras::default()).await?;
        Ok(if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
    }

    /// What Anna is answered.
    pub(super) async fn ask(&self, operation: &str, asked: Value) -> Value {
        let answered = self.ask_as("cn:anna", operation, &asked).await;
        answered.unwrap_or_else(|failure| panic!("{operation} {asked}: {failure:?}"))
    }

    /// What Anna is refused with.
    pub(super) async fn refused(&self, operation: &str, asked: Value) -> Failure {
        self.ask_as("cn:anna", operation, &asked).await.unwrap_err()
    }
}
