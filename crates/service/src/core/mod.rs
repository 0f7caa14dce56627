//! What every use case stands on: the one way to keys, admission, budgets, keyring, and the parts they are built over.
//!
//! [`Core`] is handed to a use case that needs no more than this; what also works on durable procedures takes a
//! [`Lifecycle`](crate::lifecycle::Lifecycle).

pub(crate) mod access;
pub(crate) mod access_key;
pub(crate) mod admission;
pub(crate) mod approval;
mod approvers;
pub mod audit_key;
pub(crate) mod audit_keys;
pub mod audit_reader;
pub mod audit_recorder;
pub(crate) mod authority;
pub(crate) mod budget;
pub mod cluster_registry;
pub(crate) mod data_operation;
pub(crate) mod decisions;
pub(crate) mod directory;
pub(crate) mod error;
pub(crate) mod grant_token;
pub(crate) mod granted;
pub(crate) mod hsm_cluster;
pub(crate) mod hsm_room;
pub(crate) mod key_access;
pub(crate) mod key_store;
pub(crate) mod keyring;
mod log_recorder;
pub(crate) mod meant;
pub(crate) mod naming;
mod noted;
pub(crate) mod notes;
pub mod observer;
pub(crate) mod page;
pub(crate) mod pin_record;
pub(crate) mod pipeline;
pub(crate) mod proposal;
pub(crate) mod rate;
pub mod recorder;
mod refusals;
pub(crate) mod release;
pub(crate) mod repeated;
pub(crate) mod room;
pub(crate) mod service_event;
mod shares;
mod single;
mod strangers;
pub(crate) mod turned_away;
pub(crate) mod usage;
pub(crate) mod validate;
mod waiting;

use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

pub use self::log_recorder::LogRecorder;

use self::access_key::AccessUses;
use self::admission::Admission;
use self::approval::Approvals;
use self::approvers::Approvers;
use self::audit_reader::AuditLog;
use self::authority::Authority;
use self::budget::Budgets;
use self::cluster_registry::ClusterRegistry;
use self::directory::Compiled;
use self::keyring::Keyrings;
use self::observer::Observer;
use self::rate::{RateLimits, Rates};
use self::recorder::{Recorder, Records};
use self::repeated::Turns;
use self::service_event::ServiceEvents;
use self::strangers::Strangers;
use self::turned_away::TurnedAway;
use self::usage::Usages;
use crate::Error;
use auth::policy::Policy;
use model::clock::Clock;
use model::exception::Exception;
use model::id::{KeyReferenceError, PrincipalId, Scope};
use model::limits::Quotas;
use model::lock::RwLockExt as _;
use store::access::Holder;
use store::{AccessError, AccessQuota, Store};

/// How requests are admitted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What every ARN carries.
    pub scope: Scope,
    /// Most items in work at once over all callers; past it a call is refused with ThrottlingException.
    pub items_in_work: usize,
    /// Most of those that one principal may have.
    pub items_in_work_per_principal: usize,
    /// How much there may be of keys and what belongs to them.
    pub quotas: Quotas,
}

/// The parts, and the way to keys over them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Core {
    inner: Arc<Inner>,
}

struct Inner {
    scope: Scope,
    store: Store,
    registry: ClusterRegistry,
    clock: Clock,
    observer: Arc<dyn Observer>,
    records: Records,
    /// The audit log as callers read it.
    audit_log: AuditLog,
    /// What the service did by itself, and is not on record yet.
    events: ServiceEvents,
    /// Refusals of those who proved to be nobody.
    strangers: Mutex<Strangers>,
    /// Calls of others that were turned away and have no record of their own.
    turned_away: Mutex<TurnedAway>,
    authority: ArcSwap<Authority>,
    approvals: ArcSwap<Approvals>,
    approvers: Approvers,
    rates: ArcSwap<Rates>,
    /// Of keys for which no policy was put.
    default_policy: Compiled,
    admission: Arc<Admission>,
    quotas: Quotas,
    tasks: TaskTracker,
    keyring: Keyrings,
    budgets: Budgets,
    usages: Usages,
    access_uses: AccessUses,
    /// Held for reading while it is seen that nothing has changed since the last look at permission, state and store, so
    /// that the result is given out.
    release_lock: RwLock<()>,
    /// Held by a change of who may do what, from the look at whether it is allowed to its being on record.
    access_turn: tokio::sync::Mutex<()>,
    /// Held by calls that others have approved, and that may come again.
    repetitions: Turns,
}

impl Core {
    pub(crate) fn new(
        settings: Settings,
        store: Store,
        registry: ClusterRegistry,
        clock: Clock,
        observer: Arc<dyn Observer>,
        recorder: Arc<dyn Recorder>,
    ) -> Self {
        let admission = Arc::new(Admission::new(settings.items_in_work, settings.items_in_work_per_principal));
        let rates = Rates::new(RateLimits::default(), &clock);
        let default_policy = directory::default_policy(&settings.scope);
        let inner = Inner {
            scope: settings.scope,
            store,
            registry,
            clock,
            observer,
            records: Records::new(recorder),
            audit_log: AuditLog::default(),
            events: ServiceEvents::default(),
            strangers: Mutex::default(),
            turned_away: Mutex::default(),
            authority: ArcSwap::default(),
            approvals: ArcSwap::default(),
            approvers: Approvers::default(),
            rates: ArcSwap::from_pointee(rates),
            default_policy,
            admission,
            quotas: settings.quotas,
            tasks: TaskTracker::new(),
            keyring: Keyrings::default(),
            budgets: Budgets::default(),
            usages: Usages::default(),
            access_uses: AccessUses::default(),
            release_lock: RwLock::default(),
            access_turn: tokio::sync::Mutex::default(),
            repetitions: Turns::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The name of the log that records stand in.
    pub(crate) fn audit_log(&self) -> Option<Arc<str>> {
        self.inner.records.log()
    }

    /// What every ARN carries.
    pub(crate) fn scope(&self) -> &Scope {
        &self.inner.scope
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn registry(&self) -> &ClusterRegistry {
        &self.inner.registry
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        &*self.inner.observer
    }

    /// How much there may be of keys and what belongs to them.
    pub(crate) fn quotas(&self) -> Quotas {
        self.inner.quotas
    }

    /// What a drain waits for.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// The policy of keys for which none was put.
    pub(crate) fn default_policy(&self) -> Option<&Arc<Policy>> {
        self.inner.default_policy.as_ref()
    }

    pub(crate) fn budgets(&self) -> &Budgets {
        &self.inner.budgets
    }

    pub(crate) fn usages(&self) -> &Usages {
        &self.inner.usages
    }

    pub(crate) fn approvers_found(&self) -> &Approvers {
        &self.inner.approvers
    }

    pub(crate) fn repetitions(&self) -> &Turns {
        &self.inner.repetitions
    }

    pub(crate) fn access_uses(&self) -> &AccessUses {
        &self.inner.access_uses
    }

    /// What the metadata said about a change of a key.
    pub(crate) fn of_store(&self, error: store::Error) -> Error {
        let scope = self.scope();
        match error {
            store::Error::KeyState(key, state) => Error::in_state(&scope.key_arn(key), state),
            store::Error::Rotating(key) => Error::permanent(
                Exception::Conflict,
                format!("{} is being rotated already; call again when that has ended", scope.key_arn(key)),
            ),
            store::Error::AliasInUse(name) => Error::permanent(
                Exception::AlreadyExists,
                format!("An alias with the name {} already exists", scope.alias_arn(name.as_str())),
            ),
            store::Error::NoAlias(name) => KeyReferenceError::UnknownAlias(scope.alias_arn(name.as_str())).into(),
            store::Error::TooManyAliases(key, most) => Error::permanent(
                Exception::LimitExceeded,
                format!(
                    "{} has {most} aliases, as many as a key may have; delete one of them, or have limits.aliases_per_key \
                     raised",
                    scope.key_arn(key)
                ),
            ),
            store::Error::MaterialDestroyed(key) => Error::permanent(
                Exception::KmsInvalidState,
                format!("the material of {} was destroyed, which nothing undoes.", scope.key_arn(key)),
            ),
            store::Error::Access(error) => {
                let message = self.names_arns(&error);
                let told = Error::of_store(store::Error::Access(error));
                Error { message: message.unwrap_or(told.message), ..told }
            }
            other => Error::of_store(other),
        }
    }

    /// What stands against a change, with the ARNs that principals have now instead of their ids.
    fn names_arns(&self, error: &AccessError) -> Option<String> {
        let catalogue = self.store().catalogue();
        let who = |id: &PrincipalId| catalogue.principal(id).map_or(id.to_string(), |known| known.arn.to_string());
        let holder = |holder: &Holder| match holder {
            Holder::Principal(id) => who(id),
            Holder::Group(name) => format!("the group {name}"),
        };
        Some(match error {
            AccessError::IdentityInUse(name, id) => {
                format!("{name} is an identity of {} already; remove it there first", who(id))
            }
            AccessError::NoIdentity(id, name) => {
                format!("{} has no identity {name}; its description lists them", who(id))
            }
            AccessError::NoAccessKey(id, key) => {
                format!("{} has no access key {key}; it may have been deleted", who(id))
            }
            AccessError::TooMany { quota: AccessQuota::AccessKeys, of, most } => format!(
                "{} has {most} access keys, as many as a principal may have; delete one first",
                who(&PrincipalId::from(of.as_str()))
            ),
            AccessError::NoMember(group, id) => format!("{} is no member of the group {group}", who(id)),
            AccessError::PolicyAttached(policy, to) => {
                format!("the policy {policy} is attached to {}; detach it everywhere before it is deleted", holder(to))
            }
            AccessError::NotAttached(policy, to) => format!("the policy {policy} is not attached to {}", holder(to)),
            AccessError::TooMany { quota: AccessQuota::Approvals, of, most } => format!(
                "{most} calls of {of} wait for approval, as many as may wait; take one back (`keystorectl approval refuse`) \
                 or wait until one expires"
            ),
            _ => return None,
        })
    }

    /// Waits until every result that was decided on before a change has been given out. A result that is decided on
    /// from now on sees the change. Quick: nothing is awaited while the lock is held.
    pub(crate) fn wait_for_releases(&self) {
        drop(self.inner.release_lock.write_anyway());
    }

    /// Held while a result is released by what was looked at last.
    pub(crate) fn hold_release(&self) -> RwLockReadGuard<'_, ()> {
        self.inner.release_lock.read_anyway()
    }

    /// Ends when every operation that has reached a token has been recorded, or after `within`.
    pub(crate) async fn drained(&self, within: Duration) {
        self.inner.tasks.close();
        if tokio::time::timeout(within, self.inner.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.inner.tasks.len(), "operations were still under way when the drain ended");
        }
    }
}
