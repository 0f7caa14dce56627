//! The only way to keys: admission, key, permission, state, act, all of it once more, result.
//!
//! The act runs in a task of its own. A caller that leaves, or whose deadline passes, ends its waiting only; what has
//! reached a token is recorded all the same.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{BoxFuture, join_all};

use crate::core::admission::Permit;
use crate::core::budget::{Taken, used_up};
use crate::core::hsm_cluster::HsmCluster;
use crate::core::keyring::{Entry, Found, Keyring, Target, Usable};
use crate::core::{Call, Core, Error, validate};
use auth::peer::Principal;
use auth::rule::{Verdict, decide};
use cluster::Failed;
use model::call_options::CallOptions;
use model::exception::Exception;
use model::id::{KeyId, KeyVersionId};
use model::operation::{Operation, Plane, Resource};
use store::Key;
use telemetry::fault;
use telemetry::sampled::{self, Line};
use telemetry::watchdog::Task;

/// What tells one operation on items from another. Unary calls are batches of one.
pub(crate) trait DataOperation: Clone + Send + Sync + 'static {
    /// An item as it comes.
    type Input: Send + 'static;
    /// An item as the cluster wants it.
    type Task: Send + 'static;
    /// What the cluster answers.
    type Raw: Send + 'static;
    /// An item's result.
    type Output: Send + 'static;

    fn operation(&self) -> Operation;
    /// The parameter whose bytes [`limits::BATCH_BYTES`](model::limits::BATCH_BYTES) bounds.
    fn payload_field(&self) -> &'static str;
    /// Those bytes, of one item.
    fn payload_bytes(&self, item: &Self::Input) -> usize;
    /// Each item takes one encryption of its key version's budget.
    fn encrypts(&self) -> bool;
    /// Checks an item and makes it ready; decides everything that can be decided before an HSM.
    fn prepare(&self, access: &KeyAccess<'_>, item: Self::Input) -> Result<(Target, Self::Task), Error>;
    /// Does it.
    fn act<'a>(
        &self,
        hsm_cluster: &'a dyn HsmCluster,
        tasks: Vec<Self::Task>,
        options: CallOptions,
    ) -> BoxFuture<'a, Vec<Result<Self::Raw, Failed>>>;
    /// Makes the caller's result.
    fn finish(&self, entry: &Entry, version: &Usable, raw: Self::Raw) -> Self::Output;
}

/// Leads from key references to keys that the caller may use.
pub(crate) struct KeyAccess<'a> {
    core: &'a Core,
    keyring: &'a Keyring,
    principal: &'a Principal,
    operation: Operation,
}

impl KeyAccess<'_> {
    /// The key that a request names.
    pub(crate) fn reference(&self, text: &str) -> Result<KeyId, Error> {
        validate::key_reference(text)?;
        Ok(self.core.inner.scope.parse_key_reference(text)?)
    }

    /// The key with this id, if the caller may do this with it in its present state.
    pub(crate) fn open(&self, id: KeyId) -> Result<&Entry, Error> {
        Ok(self.find(id)?.entry)
    }

    fn find(&self, id: KeyId) -> Result<Found<'_>, Error> {
        let found = self.keyring.find(id).ok_or_else(|| self.unknown(id))?;
        allowed(self.principal, self.operation, Some(id))?;
        if self.operation.spec().allowed_states.contains(&found.entry.state) {
            Ok(found)
        } else {
            Err(found.entry.refusal())
        }
    }

    /// The current version of the key that a request names.
    pub(crate) fn current(&self, text: &str) -> Result<(Target, &Usable), Error> {
        let found = self.find(self.reference(text)?)?;
        found.current().ok_or_else(|| found.entry.refusal())
    }

    /// A version of a key by its number; `None` where the key has none of that number.
    pub(crate) fn numbered(&self, version: KeyVersionId) -> Result<Option<(Target, &Usable)>, Error> {
        Ok(self.find(version.key)?.numbered(version.version))
    }

    /// Whether there is such a key.
    pub(crate) fn knows(&self, id: KeyId) -> bool {
        self.keyring.key(id).is_some()
    }

    pub(crate) fn unknown(&self, id: KeyId) -> Error {
        Error::no_key(&self.core.inner.scope.key_arn(id))
    }
}

/// Items that one cluster has to do, and where their results belong.
struct Share<T> {
    hsm_cluster: Arc<dyn HsmCluster>,
    tasks: Vec<T>,
    places: Vec<usize>,
}

impl Core {
    /// Carries out an operation on items. The outer error is the whole call's.
    pub(crate) async fn on_items<V: DataOperation>(
        &self,
        call: &Call,
        kind: V,
        items: Vec<V::Input>,
    ) -> Result<Vec<Result<V::Output, Error>>, Error> {
        let (started, operation, count) = (self.inner.clock.now(), kind.operation(), items.len());
        let bytes = items.iter().map(|item| kind.payload_bytes(item)).sum();
        let admitted = validate::batch(count, bytes, kind.payload_field())
            .and_then(|()| self.inner.admission.admit(&call.principal, count))
            .and_then(|permit| if started < call.deadline { Ok(permit) } else { Err(Error::late()) });
        let permit = admitted.inspect_err(|error| {
            self.record_call(call, operation, started, &[(Some(error.exception), count.max(1))], Some(error));
        })?;

        let keyring = self.keyring();
        let access = KeyAccess { core: self, keyring: &keyring, principal: &call.principal, operation };
        let mut prepared = Vec::with_capacity(count);
        prepared.extend(items.into_iter().map(|item| kind.prepare(&access, item)));
        if prepared.iter().all(Result::is_err) {
            let results: Vec<Result<V::Output, Error>> =
                prepared.into_iter().filter_map(|item| item.err().map(Err)).collect();
            self.record_items(call, operation, started, &results);
            return Ok(results);
        }
        let (core, call_of_task) = (self.clone(), call.clone());
        self.detached(call, permit, async move {
            let results = core.act(&call_of_task, &kind, &keyring, prepared).await;
            core.record_items(&call_of_task, operation, started, &results);
            Ok(results)
        })
        .await
    }

    async fn act<V: DataOperation>(
        &self,
        call: &Call,
        kind: &V,
        keyring: &Keyring,
        prepared: Vec<Result<(Target, V::Task), Error>>,
    ) -> Vec<Result<V::Output, Error>> {
        let mut targets: Vec<Result<Target, Error>> = Vec::with_capacity(prepared.len());
        let mut shares: Vec<Share<V::Task>> = Vec::with_capacity(1);
        let room = prepared.len();
        for item in prepared {
            let placed = item.and_then(|(target, task)| Ok((target, task, pool_of(keyring, target)?)));
            let charged = match placed {
                Ok((target, ..)) if kind.encrypts() => self.charge(keyring, target).await.and(placed),
                other => other,
            };
            match charged {
                Ok((target, task, hsm_cluster)) => {
                    let share = share_of(&mut shares, hsm_cluster, room);
                    share.tasks.push(task);
                    share.places.push(targets.len());
                    targets.push(Ok(target));
                }
                Err(error) => targets.push(Err(error)),
            }
        }
        let mut raw: Vec<Option<Result<V::Raw, Failed>>> = Vec::with_capacity(room);
        raw.resize_with(room, || None);
        let answers = join_all(shares.into_iter().map(|share| async move {
            let Share { hsm_cluster, tasks, places } = share;
            (kind.act(&*hsm_cluster, tasks, call.options()).await, places)
        }));
        for (answers, places) in answers.await {
            for (answer, place) in answers.into_iter().zip(places) {
                raw[place] = Some(answer);
            }
        }
        if kind.encrypts() {
            give_back(keyring, &targets, &raw);
        }
        self.settle(call, kind, keyring, targets, raw)
    }

    /// Looks at permission, state and store once more, and makes the results. Nothing is awaited from that look to the
    /// end: a change that forbids a result is answered when all that were decided on before it have been given out.
    fn settle<V: DataOperation>(
        &self,
        call: &Call,
        kind: &V,
        keyring: &Keyring,
        targets: Vec<Result<Target, Error>>,
        raw: Vec<Option<Result<V::Raw, Failed>>>,
    ) -> Vec<Result<V::Output, Error>> {
        let _released = self.hold_release();
        let again = self.keyring();
        // Nothing was changed meanwhile, as nearly always: what was decided still stands.
        let unchanged = Arc::ptr_eq(&again.catalogue, &keyring.catalogue);
        let access = KeyAccess { core: self, keyring: &again, principal: &call.principal, operation: kind.operation() };
        targets
            .into_iter()
            .zip(raw)
            .map(|(target, raw)| {
                let (entry, version) = keyring.usable(target?)?;
                if !unchanged {
                    access.open(entry.key.id)?;
                }
                let raw = raw.ok_or_else(|| Error::internal("the cluster left an item without an answer"))?;
                let raw = raw.map_err(|failed| Error::of_cluster(failed.error, Some(&entry.arn)))?;
                Ok(kind.finish(entry, version, raw))
            })
            .collect()
    }

    /// Takes one encryption of the target's budget; waits only where no reserved one is left.
    async fn charge(&self, keyring: &Keyring, target: Target) -> Result<(), Error> {
        let (entry, Usable { budget, .. }) = keyring.usable(target)?;
        match budget.take() {
            Taken::Yes => Ok(()),
            Taken::YesRefill => {
                self.refill_in_background(budget);
                Ok(())
            }
            Taken::Never => Err(used_up(&entry.arn)),
            Taken::Short => self.take_slowly(budget, &entry.arn).await,
        }
    }

    /// Carries out an operation on one key, as [`Service::on_one`] does. `work` looks the key up by
    /// [`Service::opened`].
    pub(crate) async fn on_key<T: Send + 'static>(
        &self,
        call: &Call,
        operation: Operation,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.through(call, operation, Ok(()), work).await
    }

    /// The key that a request names, if the caller may do this with it in its present state.
    pub(crate) fn opened(&self, call: &Call, operation: Operation, key_id: &str) -> Result<Arc<Key>, Error> {
        let keyring = self.keyring();
        let access = KeyAccess { core: self, keyring: &keyring, principal: &call.principal, operation };
        Ok(Arc::clone(&access.open(access.reference(key_id)?)?.key))
    }

    /// Carries out an operation without items: admission and permission, `work` in a task of its own,
    /// permission once more. `work` itself sees to the state of what it works on, before and after.
    pub(crate) async fn on_one<T: Send + 'static>(
        &self,
        call: &Call,
        operation: Operation,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.through(call, operation, allowed(&call.principal, operation, None), work).await
    }

    async fn through<T: Send + 'static>(
        &self,
        call: &Call,
        operation: Operation,
        permitted: Result<(), Error>,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let started = self.inner.clock.now();
        let admitted = permitted.and_then(|()| self.inner.admission.admit(&call.principal, 1));
        let permit = admitted.inspect_err(|error| self.record_one(call, operation, started, Some(error)))?;
        let (core, call_of_task) = (self.clone(), call.clone());
        self.detached(call, permit, async move {
            let result = work.await;
            // An operation on a key asked the rules when it looked the key up.
            let result = match operation.spec().resource {
                Resource::Key => result,
                Resource::KeyStore | Resource::Account => {
                    result.and_then(|done| allowed(&call_of_task.principal, operation, None).map(|()| done))
                }
            };
            core.record_one(&call_of_task, operation, started, result.as_ref().err());
            result
        })
        .await
    }

    /// Carries out an operation that only reads the catalogue.
    pub(crate) fn on_catalogue<T>(
        &self,
        call: &Call,
        operation: Operation,
        read: impl FnOnce(&KeyAccess<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (started, keyring) = (self.inner.clock.now(), self.keyring());
        let access = KeyAccess { core: self, keyring: &keyring, principal: &call.principal, operation };
        let result = match operation.spec().resource {
            // Looking the key up asks the rules.
            Resource::Key => Ok(()),
            Resource::KeyStore | Resource::Account => allowed(&call.principal, operation, None),
        };
        let result =
            result.and_then(|()| self.inner.admission.admit(&call.principal, 1)).and_then(|_permit| read(&access));
        self.record_one(call, operation, started, result.as_ref().err());
        result
    }

    /// Runs `work` to its end and waits for it until the caller's deadline.
    async fn detached<T: Send + 'static>(
        &self,
        call: &Call,
        permit: Permit,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let underway = self.inner.tasks.token();
        // On panic: the caller gets an internal error; what was taken for the call is given back.
        let task = tokio::spawn(async move {
            // Given back when the work ends, not when its caller leaves: it is the HSMs that are being spared.
            let _held = (permit, underway);
            fault::point(Task::Work, "").await;
            work.await
        });
        let left = call.deadline.saturating_duration_since(self.inner.clock.now());
        match tokio::time::timeout(left, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(Error::internal(&format!("a task did not end: {error}"))),
            Err(_) => Err(Error::late()),
        }
    }

    fn record_items<T>(&self, call: &Call, operation: Operation, started: Instant, results: &[Result<T, Error>]) {
        // One outcome nearly always, a handful at most.
        let mut outcomes: Vec<(Option<Exception>, usize)> = Vec::with_capacity(1);
        for result in results {
            let outcome = result.as_ref().err().map(|error| error.exception);
            match outcomes.iter_mut().find(|(known, _)| *known == outcome) {
                Some((_, items)) => *items += 1,
                None => outcomes.push((outcome, 1)),
            }
        }
        let first = results.iter().find_map(|result| result.as_ref().err());
        self.record_call(call, operation, started, &outcomes, first);
    }

    fn record_one(&self, call: &Call, operation: Operation, started: Instant, error: Option<&Error>) {
        self.record_call(call, operation, started, &[(error.map(|error| error.exception), 1)], error);
    }

    /// Counts and logs the end of a call. Neither plaintext, ciphertext nor context is at hand here.
    fn record_call(
        &self,
        call: &Call,
        operation: Operation,
        started: Instant,
        outcomes: &[(Option<Exception>, usize)],
        first: Option<&Error>,
    ) {
        let took = self.inner.clock.now().saturating_duration_since(started);
        for (outcome, items) in outcomes {
            self.inner.observer.finished(operation, *outcome, took, *items);
        }
        let (spec, request_id, principal) = (operation.spec(), &*call.request_id, call.principal.as_str());
        let items: usize = outcomes.iter().map(|(_, items)| items).sum();
        let whole = |line| sampled::whole(line, &principal);
        match (spec.plane, first) {
            (Plane::Data, None) => tracing::trace!(request_id, principal, operation = spec.label, items, ?took, "done"),
            (_, Some(error)) if error.exception == Exception::KmsInternal => {
                // What an operator has to look into: the line before it, with the HSM or the cause, belongs to this
                // call.
                if whole(Line::OwnFault) {
                    tracing::warn!(
                        request_id,
                        principal,
                        operation = spec.label,
                        items,
                        ?took,
                        why = error.message,
                        "failed in the service itself"
                    );
                }
            }
            (Plane::Data, Some(error)) => {
                let failed: usize = outcomes.iter().filter(|(outcome, _)| outcome.is_some()).map(|(_, n)| n).sum();
                tracing::debug!(request_id, principal, operation = spec.label, items, failed, ?took,
                    exception = %error.exception, why = error.message, "failed");
            }
            (Plane::Control, None) if !whole(if operation.shows() { Line::Shown } else { Line::Changed }) => {}
            (Plane::Control, None) => tracing::info!(request_id, principal, operation = spec.label, ?took, "done"),
            (Plane::Control, Some(_)) if !whole(Line::Refused) => {}
            (Plane::Control, Some(error)) => {
                tracing::info!(request_id, principal, operation = spec.label, ?took,
                    exception = %error.exception, why = error.message, "refused");
            }
        }
    }
}

/// Asks the rules.
pub(crate) fn allowed(principal: &Principal, operation: Operation, key: Option<KeyId>) -> Result<(), Error> {
    match decide(principal, operation, key) {
        Verdict::Allow(_) => Ok(()),
        Verdict::Deny(_) => Err(Error::permanent(
            Exception::AccessDenied,
            format!("{} is not authorized to perform {}", principal.as_str(), operation.spec().permission),
        )),
    }
}

/// Gives back to the budgets what was taken for items that no worker has had.
fn give_back<T>(keyring: &Keyring, targets: &[Result<Target, Error>], raw: &[Option<Result<T, Failed>>]) {
    for (target, raw) in targets.iter().zip(raw) {
        if let (Ok(target), Some(Err(Failed { sent: false, .. }))) = (target, raw)
            && let Ok((_, usable)) = keyring.usable(*target)
        {
            usable.budget.give_back();
        }
    }
}

fn pool_of(keyring: &Keyring, target: Target) -> Result<&Arc<dyn HsmCluster>, Error> {
    let (entry, _) = keyring.usable(target)?;
    let members = entry.members.as_ref().ok_or_else(|| entry.refusal())?;
    Ok(&members.hsm_cluster)
}

fn share_of<'a, T>(shares: &'a mut Vec<Share<T>>, hsm_cluster: &Arc<dyn HsmCluster>, room: usize) -> &'a mut Share<T> {
    let known = shares.iter().position(|share| Arc::ptr_eq(&share.hsm_cluster, hsm_cluster)).unwrap_or(shares.len());
    if known == shares.len() {
        let (tasks, places) = (Vec::with_capacity(room), Vec::with_capacity(room));
        shares.push(Share { hsm_cluster: Arc::clone(hsm_cluster), tasks, places });
    }
    &mut shares[known]
}
