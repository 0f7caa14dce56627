//! The only way to keys, for operations on items: admission, key, permission, state, act, record, all of it once more,
//! result.
//!
//! The act runs in a task of its own. A caller that leaves, or whose deadline passes, ends its waiting only; what has
//! reached a token is recorded all the same.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join_all;

use crate::core::Core;
use crate::core::access::allowed;
use crate::core::admission::Permit;
use crate::core::budget::{Taken, used_up};
use crate::core::hsm_cluster::HsmCluster;
use crate::core::keyring::{Entry, Found, Keyring, Target, Usable};
use crate::core::recorder::Ending;
use crate::core::validate;
use crate::{Error, RequestContext};
use auth::rule::Rules;
use cluster::Failed;
use cluster::item::{Answers, ItemOperation, Keyed};
use model::context::EncryptionContext;
use model::id::{KeyId, KeyVersionId};
use model::operation::Operation;
use telemetry::fault;
use telemetry::watchdog::Task;

/// What tells one operation on items from another. Unary calls are batches of one.
pub(crate) trait DataOperation: Clone + Send + Sync + 'static {
    /// An item as it comes.
    type Input: Send + 'static;
    /// What a cluster is asked to do with it.
    type Work: ItemOperation;
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
    fn prepare(&self, access: &KeyAccess<'_>, item: Self::Input) -> Result<Prepared<ItemOf<Self>>, Error>;
    /// Makes the caller's result.
    fn finish(&self, entry: &Entry, version: &Usable, answer: AnswerOf<Self>) -> Self::Output;
}

/// An item as it travels to a worker.
pub(crate) type ItemOf<V> = <<V as DataOperation>::Work as ItemOperation>::Item;
/// What comes back for it.
pub(crate) type AnswerOf<V> = <<V as DataOperation>::Work as ItemOperation>::Output;

/// An item that may be done.
pub(crate) struct Prepared<I> {
    /// The key version that it is done with.
    pub(crate) target: Target,
    /// What was allowed: it is asked for again before the result is given out.
    pub(crate) context: EncryptionContext,
    pub(crate) keyed: Keyed<I>,
}

/// Leads from key references to keys that the caller may use.
pub(crate) struct KeyAccess<'a> {
    core: &'a Core,
    keyring: &'a Keyring,
    rules: &'a Rules,
    call: &'a RequestContext,
    operation: Operation,
    /// The ARN of the last key that was asked for, if it was refused.
    last: Cell<Option<Arc<str>>>,
}

impl<'a> KeyAccess<'a> {
    pub(crate) fn new(
        core: &'a Core,
        keyring: &'a Keyring,
        rules: &'a Rules,
        call: &'a RequestContext,
        operation: Operation,
    ) -> Self {
        Self { core, keyring, rules, call, operation, last: Cell::new(None) }
    }
}

impl KeyAccess<'_> {
    /// The key that a request names.
    pub(crate) fn reference(&self, text: &str) -> Result<KeyId, Error> {
        self.core.key_named(self.operation, text, &self.keyring.catalogue)
    }

    /// The key with this id, if the caller may do this with it in its present state.
    pub(crate) fn open(&self, id: KeyId, context: Option<&EncryptionContext>) -> Result<&Entry, Error> {
        Ok(self.find(id, context)?.entry)
    }

    /// Whether there is such a key, for callers who may do this with it.
    pub(crate) fn knows(&self, id: KeyId, context: Option<&EncryptionContext>) -> Result<bool, Error> {
        let entry = self.keyring.key(id);
        self.allowed(id, entry, context)?;
        Ok(entry.is_some())
    }

    fn find(&self, id: KeyId, context: Option<&EncryptionContext>) -> Result<Found<'_>, Error> {
        let found = self.keyring.find(id);
        self.allowed(id, found.as_ref().map(|found| found.entry), context)?;
        let found = found.ok_or_else(|| self.unknown(id))?;
        let allowed = self.operation.spec().allowed_states;
        if allowed.contains(&found.entry.state) { Ok(found) } else { Err(found.entry.refusal(allowed)) }
    }

    /// The rules are asked about the ARN, whether there is such a key or not.
    fn allowed(&self, id: KeyId, entry: Option<&Entry>, context: Option<&EncryptionContext>) -> Result<(), Error> {
        let ask = |arn: &str| allowed(self.rules, self.call, self.operation, arn, context);
        let Some(entry) = entry else {
            let arn: Arc<str> = self.core.scope().key_arn(id).into();
            let allowed = ask(&arn);
            self.last.set(Some(arn));
            return allowed;
        };
        let allowed = ask(&entry.arn);
        // Leaves the counts of the entry alone, which all processors read, as long as nothing is refused.
        if allowed.is_err() || !self.operation.spec().allowed_states.contains(&entry.state) {
            self.last.set(Some(Arc::clone(&entry.arn)));
        }
        allowed
    }

    /// The current version of the key that a request names.
    pub(crate) fn current(&self, text: &str, context: &EncryptionContext) -> Result<(Target, &Usable), Error> {
        let found = self.find(self.reference(text)?, Some(context))?;
        found.current().ok_or_else(|| found.entry.refusal(&[]))
    }

    /// A version of a key by its number; `None` where the key has none of that number.
    pub(crate) fn numbered(
        &self,
        version: KeyVersionId,
        context: &EncryptionContext,
    ) -> Result<Option<(Target, &Usable)>, Error> {
        Ok(self.find(version.key, Some(context))?.numbered(version.version))
    }

    pub(crate) fn unknown(&self, id: KeyId) -> Error {
        Error::no_key(&self.core.scope().key_arn(id))
    }
}

/// An item whose answer is awaited.
struct Asked {
    target: Target,
    context: EncryptionContext,
}

/// Items that one cluster has to do, and where their results belong.
struct Share<I> {
    hsm_cluster: Arc<dyn HsmCluster>,
    items: Vec<Keyed<I>>,
    places: Vec<usize>,
}

impl Core {
    /// Carries out an operation on items. The outer error is the whole call's.
    pub(crate) async fn on_items<V: DataOperation>(
        &self,
        call: &RequestContext,
        kind: V,
        items: Vec<V::Input>,
    ) -> Result<Vec<Result<V::Output, Error>>, Error> {
        call.trace.take();
        let (started, operation, count) = (self.clock().now(), kind.operation(), items.len());
        let bytes = items.iter().map(|item| kind.payload_bytes(item)).sum();
        let admitted = validate::batch(count, bytes, kind.payload_field())
            .and_then(|()| self.inner.admission.admit(&call.principal, count))
            .and_then(|permit| if started < call.deadline { Ok(permit) } else { Err(Error::late()) });
        let permit = match admitted {
            Ok(permit) => permit,
            Err(error) => {
                self.refused(Ending { call, operation, started, resources: Vec::new() }, count, &error).await;
                return Err(error);
            }
        };

        let (core, call_of_task) = (self.clone(), call.clone());
        self.detached(call, permit, async move {
            let call = &call_of_task;
            let (keyring, rules) = (core.keyring(), core.rules());
            let mut refused = BTreeSet::new();
            let work = async {
                let prepared = core.prepared(call, &kind, (&keyring, &rules), items, &mut refused);
                core.act(call, &kind, &keyring, prepared).await
            };
            let (asked, mut results) = guarded(work).await.unwrap_or_else(|| {
                let broken_off = |_| (None, Err(Error::broken_off()));
                (0..count).map(broken_off).unzip()
            });
            let resources = arns(&keyring, &asked, refused);
            core.conclude(Ending { call, operation, started, resources }, &mut results, |results| {
                core.withhold(call, operation, (&keyring, &rules), &asked, results)
            })
            .await;
            Ok(results)
        })
        .await
    }

    /// Checks items and makes them ready. `refused` gets the ARNs of keys of which something was refused.
    fn prepared<V: DataOperation>(
        &self,
        call: &RequestContext,
        kind: &V,
        (keyring, rules): (&Keyring, &Rules),
        items: Vec<V::Input>,
        refused: &mut BTreeSet<Arc<str>>,
    ) -> Vec<Result<Prepared<ItemOf<V>>, Error>> {
        let access = KeyAccess::new(self, keyring, rules, call, kind.operation());
        let mut prepared = Vec::with_capacity(items.len());
        for item in items {
            let one = kind.prepare(&access, item);
            if one.is_err() {
                refused.extend(access.last.take());
            }
            prepared.push(one);
        }
        prepared
    }

    async fn act<V: DataOperation>(
        &self,
        call: &RequestContext,
        kind: &V,
        keyring: &Keyring,
        prepared: Vec<Result<Prepared<ItemOf<V>>, Error>>,
    ) -> (Vec<Option<Asked>>, Vec<Result<V::Output, Error>>) {
        let room = prepared.len();
        let mut asked: Vec<Result<Asked, Error>> = Vec::with_capacity(room);
        let mut shares: Vec<Share<ItemOf<V>>> = Vec::with_capacity(1);
        for item in prepared {
            let placed = item.and_then(|item| {
                let hsm_cluster = cluster_of(keyring, item.target)?;
                Ok((item, hsm_cluster))
            });
            let charged = match placed {
                Ok((item, hsm_cluster)) if kind.encrypts() => {
                    self.charge(keyring, item.target).await.map(|()| (item, hsm_cluster))
                }
                other => other,
            };
            match charged {
                Ok((Prepared { target, context, keyed }, hsm_cluster)) => {
                    let share = share_of(&mut shares, hsm_cluster, room);
                    share.items.push(keyed);
                    share.places.push(asked.len());
                    asked.push(Ok(Asked { target, context }));
                }
                Err(error) => asked.push(Err(error)),
            }
        }
        let mut answers: Vec<Option<Result<AnswerOf<V>, Failed>>> = Vec::with_capacity(room);
        answers.resize_with(room, || None);
        let shares = shares.into_iter().map(|share| async move {
            let Share { hsm_cluster, items, places } = share;
            (hsm_cluster.carry_out(V::Work::batch(items), call.options()).await, places)
        });
        for (share, places) in join_all(shares).await {
            for (answer, place) in of_kind::<V>(share).into_iter().zip(places) {
                answers[place] = Some(answer);
            }
        }
        let used_at = self.clock().unix_millis();
        let results = asked.iter().zip(answers).map(|(asked, answer)| {
            let (entry, version) = keyring.usable(asked.as_ref().map_err(Clone::clone)?.target)?;
            let answer = answer.ok_or_else(|| Error::internal("the cluster left an item without an answer"))?;
            let answer = answer.map_err(|failed| {
                // No worker has had it, so that it took nothing of what is safe.
                if kind.encrypts() && !failed.sent {
                    version.budget.give_back();
                }
                Error::of_cluster(failed.error, Some(&entry.arn))
            });
            let result = kind.finish(entry, version, answer?);
            entry.usage.note(used_at, kind.operation(), &call.request_id);
            Ok(result)
        });
        let results = results.collect();
        (asked.into_iter().map(Result::ok).collect(), results)
    }

    /// The last look: what has come to be forbidden since `before` is withheld. Says how many results that are.
    fn withhold<T>(
        &self,
        call: &RequestContext,
        operation: Operation,
        before: (&Keyring, &Arc<Rules>),
        asked: &[Option<Asked>],
        results: &mut [Result<T, Error>],
    ) -> usize {
        let (keyring, rules) = (self.keyring(), self.rules());
        // Nothing was changed meanwhile, as nearly always: what was decided still stands.
        if Arc::ptr_eq(&keyring.catalogue, &before.0.catalogue) && Arc::ptr_eq(&rules, before.1) {
            return 0;
        }
        let access = KeyAccess::new(self, &keyring, &rules, call, operation);
        let mut withheld = 0;
        for (asked, result) in asked.iter().zip(results).filter(|(_, result)| result.is_ok()) {
            let Some(Asked { target, context }) = asked else { continue };
            let still = before.0.usable(*target).and_then(|(entry, _)| access.open(entry.key.id, Some(context)));
            if let Err(error) = still.map(drop) {
                *result = Err(error);
                withheld += 1;
            }
        }
        withheld
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

    /// Runs `work` to its end and waits for it until the caller's deadline.
    pub(super) async fn detached<T: Send + 'static>(
        &self,
        call: &RequestContext,
        permit: Permit,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let underway = self.tasks().token();
        // On panic: the caller gets an internal error; what was taken for the call is given back.
        let task = tokio::spawn(async move {
            // Given back when the work ends, not when its caller leaves: it is the HSMs that are being spared.
            let _held = (permit, underway);
            work.await
        });
        let left = call.deadline.saturating_duration_since(self.clock().now());
        match tokio::time::timeout(left, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(Error::internal(&format!("a task did not end: {error}"))),
            Err(_) => Err(Error::late()),
        }
    }
}

fn of_kind<V: DataOperation>(answers: Answers) -> Vec<Result<AnswerOf<V>, Failed>> {
    // Those of another operation count as none.
    V::Work::answers(answers).unwrap_or_default()
}

/// The ARNs of the keys that were asked for, each once.
fn arns(keyring: &Keyring, asked: &[Option<Asked>], refused: BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
    let mut targets: Vec<Target> = asked.iter().flatten().map(|asked| asked.target).collect();
    targets.sort_unstable_by_key(|target| target.entry());
    targets.dedup_by_key(|target| target.entry());
    let used = targets.into_iter().filter_map(|target| Some(Arc::clone(&keyring.usable(target).ok()?.0.arn)));
    if refused.is_empty() { used.collect() } else { used.chain(refused).collect::<BTreeSet<_>>().into_iter().collect() }
}

/// Does the work of a call; `None` where a fault broke it off, so that its end is put on record all the same.
pub(super) async fn guarded<T>(work: impl Future<Output = T>) -> Option<T> {
    let work = async {
        fault::point(Task::Work, "").await;
        work.await
    };
    // What a call leaves when it panics is given back by what it held.
    AssertUnwindSafe(work).catch_unwind().await.ok()
}

fn cluster_of(keyring: &Keyring, target: Target) -> Result<&Arc<dyn HsmCluster>, Error> {
    let (entry, _) = keyring.usable(target)?;
    let members = entry.members.as_ref().ok_or_else(|| entry.refusal(&[]))?;
    Ok(&members.hsm_cluster)
}

fn share_of<'a, I>(shares: &'a mut Vec<Share<I>>, hsm_cluster: &Arc<dyn HsmCluster>, room: usize) -> &'a mut Share<I> {
    let known = shares.iter().position(|share| Arc::ptr_eq(&share.hsm_cluster, hsm_cluster)).unwrap_or(shares.len());
    if known == shares.len() {
        let (items, places) = (Vec::with_capacity(room), Vec::with_capacity(room));
        shares.push(Share { hsm_cluster: Arc::clone(hsm_cluster), items, places });
    }
    &mut shares[known]
}
