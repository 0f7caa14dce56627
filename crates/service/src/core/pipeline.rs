//! The only way to keys, for operations on items: rate, room, key, permission, state, act, record, all of it once more.
//!
//! The act runs in a task of its own. A caller that leaves, or whose deadline passes, ends its waiting only; what has
//! reached a token is recorded all the same.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};

use crate::core::Core;
use crate::core::access::Said;
use crate::core::admission::Permit;
use crate::core::authority::{Authority, Judge};
use crate::core::budget::{Taken, used_up};
use crate::core::grant_token::TokenCheck;
use crate::core::hsm_cluster::HsmCluster;
use crate::core::key_access::KeyAccess;
use crate::core::keyring::{Entry, Keyring, Target};
use crate::core::rate::Rates;
use crate::core::recorder::Ending;
use crate::core::release::TOGETHER;
use crate::core::validate;
use crate::{Error, Extras, RequestContext};
use cluster::Failed;
use cluster::item::{Done, ItemOperation, Keyed};
use model::call_options::CallOptions;
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
    /// What may come with an item.
    fn extras<'i>(&self, item: &'i mut Self::Input) -> &'i mut Extras;
    /// Each item takes one encryption of its key version's budget.
    fn encrypts(&self) -> bool;
    /// Checks an item and makes it ready, whose extras were looked at; decides everything that can be decided before an HSM.
    fn prepare<'k>(&self, access: &KeyAccess<'_, 'k>, item: Self::Input) -> Result<Prepared<'k, ItemOf<Self>>, Error>;
    /// Has items done.
    fn carry_out(
        &self,
        clusters: Clusters,
        items: Vec<Keyed<ItemOf<Self>>>,
        options: CallOptions,
    ) -> impl Future<Output = Vec<Result<Done<AnswerOf<Self>>, Failed>>> + Send {
        async move { answers_of::<Self::Work>(&*clusters.hsm_cluster, items, options).await }
    }
    /// Makes the caller's result.
    fn finish(&self, used: Used<'_>, answer: AnswerOf<Self>) -> Self::Output;
}

/// An item as it travels to a worker.
pub(crate) type ItemOf<V> = <<V as DataOperation>::Work as ItemOperation>::Item;
/// What comes back for it.
pub(crate) type AnswerOf<V> = <<V as DataOperation>::Work as ItemOperation>::Output;

/// An item that may be done.
pub(crate) struct Prepared<'k, I> {
    /// The key version that it is done with.
    pub(crate) target: Target<'k>,
    /// What was allowed: it is asked for again before the result is given out.
    pub(crate) said: Said,
    /// The same of the key that opens something, where there are two.
    pub(crate) source: Option<(Target<'k>, Said)>,
    /// Nothing is to be done.
    pub(crate) dry_run: bool,
    pub(crate) keyed: Keyed<I>,
}

/// The key that an item was done with, and the one that it was opened with where there are two.
#[derive(Clone, Copy)]
pub(crate) struct Used<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) source: Option<Target<'a>>,
}

/// Where items are done.
#[derive(Clone)]
pub(crate) struct Clusters {
    pub(crate) hsm_cluster: Arc<dyn HsmCluster>,
    /// That of what they open, where it is another one.
    pub(crate) source: Option<Arc<dyn HsmCluster>>,
}

/// The same, where the keyring has them: of each item, and counted references only of what is new.
#[derive(Clone, Copy)]
struct ClustersOf<'a> {
    hsm_cluster: &'a Arc<dyn HsmCluster>,
    source: Option<&'a Arc<dyn HsmCluster>>,
}

impl<'a> ClustersOf<'a> {
    fn of(target: Target<'a>, source: Option<Target<'a>>) -> Result<Self, Error> {
        let hsm_cluster = cluster_of(target)?;
        let source = source.map(cluster_of).transpose()?;
        Ok(Self { source: source.filter(|source| !Arc::ptr_eq(source, hsm_cluster)), hsm_cluster })
    }

    fn are(self, known: &Clusters) -> bool {
        Arc::ptr_eq(self.hsm_cluster, &known.hsm_cluster)
            && match (self.source, &known.source) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (a, b) => a.is_none() && b.is_none(),
            }
    }

    fn counted(self) -> Clusters {
        Clusters { hsm_cluster: Arc::clone(self.hsm_cluster), source: self.source.cloned() }
    }
}

/// An item that was looked at and found to be allowed.
struct Asked<'k> {
    target: Target<'k>,
    said: Said,
    source: Option<(Target<'k>, Said)>,
}

impl<'k> Asked<'k> {
    fn used(&self) -> Used<'k> {
        Used { target: self.target, source: self.source.as_ref().map(|(target, _)| *target) }
    }
}

/// What became of an item before an HSM.
enum Begun<'k> {
    /// Its answer is awaited.
    Waits(Asked<'k>),
    /// It is at its end.
    Refused(Option<Asked<'k>>, Error),
}

/// Items that are done together, and where their results belong.
struct Share<I> {
    clusters: Clusters,
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
        let (keyring, started, operation, count) = (self.keyring(), self.clock().now(), kind.operation(), items.len());
        let bytes = items.iter().map(|item| kind.payload_bytes(item)).sum();
        let admitted = validate::batch(count, bytes, kind.payload_field())
            .and_then(|()| self.in_rate(call, count))
            .and_then(|()| self.admit(&keyring, call, count))
            .and_then(|permit| if started < call.deadline { Ok(permit) } else { Err(Error::late()) });
        let permit = match admitted {
            Ok(permit) => permit,
            Err(error) => {
                let caller = keyring.caller(&call.principal);
                let ending = Ending { call, caller, operation, started, resources: Vec::new() };
                self.refused(ending, count, &error).await;
                return Err(error);
            }
        };

        let (core, call_of_task) = (self.clone(), call.clone());
        let work = Box::pin(async move {
            let call = &call_of_task;
            let authority = core.authority();
            let mut refused = BTreeSet::new();
            let work = async {
                let (mut items, mut prepared) = (items.into_iter(), Vec::with_capacity(count));
                let mut tokens = TokenCheck::new(&core);
                while items.len() > 0 {
                    if !prepared.is_empty() {
                        tokio::task::yield_now().await;
                    }
                    let (judge, some) = (Judge::new(&core, &keyring, &authority, call), items.by_ref().take(TOGETHER));
                    prepare(&judge, &kind, some, &mut tokens, &mut refused, &mut prepared);
                }
                core.act(call, &kind, prepared).await
            };
            let (asked, mut results) = guarded(work).await.unwrap_or_else(|| {
                let broken_off = |_| (None, Err(Error::broken_off()));
                (0..count).map(broken_off).unzip()
            });
            let (resources, caller) = (arns(&asked, refused), keyring.caller(&call.principal));
            core.conclude(Ending { call, caller, operation, started, resources }, &mut results, |from, results| {
                core.withhold(call, operation, (&keyring, &authority), &asked[from..], results)
            })
            .await;
            Ok(results)
        });
        self.detached(call, permit, work).await
    }

    async fn act<'k, V: DataOperation>(
        &self,
        call: &RequestContext,
        kind: &V,
        prepared: Vec<Result<Prepared<'k, ItemOf<V>>, Error>>,
    ) -> (Vec<Option<Asked<'k>>>, Vec<Result<V::Output, Error>>) {
        let room = prepared.len();
        let mut begun: Vec<Begun<'k>> = Vec::with_capacity(room);
        let mut shares: Vec<Share<ItemOf<V>>> = Vec::with_capacity(1);
        let rates = self.rates();
        for item in prepared {
            begun.push(match item {
                Err(error) => Begun::Refused(None, error),
                Ok(Prepared { target, said, source, dry_run, keyed }) => {
                    let asked = Asked { target, said, source };
                    match self.placed(asked.used(), kind.encrypts(), dry_run, &rates).await {
                        Ok(clusters) => {
                            let share = share_of(&mut shares, clusters, room);
                            share.items.push(keyed);
                            share.places.push(begun.len());
                            Begun::Waits(asked)
                        }
                        Err(error) => Begun::Refused(Some(asked), error),
                    }
                }
            });
        }
        let mut answers: Vec<Option<Result<Done<AnswerOf<V>>, Failed>>> = (0..room).map(|_| None).collect();
        let shares = shares.into_iter().map(|Share { clusters, items, places }| async move {
            (kind.carry_out(clusters, items, self.options(call)).await, places)
        });
        for (share, places) in join_all(shares).await {
            for (answer, place) in share.into_iter().zip(places) {
                answers[place] = Some(answer);
            }
        }
        let used_at = self.clock().unix_millis();
        let ended = begun.into_iter().zip(answers).map(|(begun, answer)| match begun {
            Begun::Refused(asked, error) => (asked, Err(error)),
            Begun::Waits(asked) => {
                let used = asked.used();
                // `served` is for the item's record: a place in `used.target.entry.members`, and `opened_by` in `used.source`'s.
                let result = answered(kind, used.target, answer).map(|Done { served: _, output }| {
                    for target in [Some(used.target), used.source].into_iter().flatten() {
                        target.entry.usage.note(used_at, kind.operation(), &call.request_id);
                    }
                    kind.finish(used, output)
                });
                (Some(asked), result)
            }
        });
        ended.unzip()
    }

    /// Where an item is done, after its encryption was taken of the budget.
    async fn placed<'k>(
        &self,
        Used { target, source }: Used<'k>,
        encrypts: bool,
        dry_run: bool,
        rates: &Rates,
    ) -> Result<ClustersOf<'k>, Error> {
        self.in_rate_of(rates, source.iter().chain([&target]).map(|used| &used.entry.key.key_store))?;
        let clusters = ClustersOf::of(target, source)?;
        if dry_run {
            let worn = encrypts && target.version.budget.is_used_up();
            return Err(if worn { used_up(&target.entry.arn) } else { Error::dry_run() });
        }
        if encrypts {
            self.charge(target).await?;
        }
        Ok(clusters)
    }

    /// The last look: what has come to be forbidden since `before` is withheld. Says how many results that are.
    fn withhold<T>(
        &self,
        call: &RequestContext,
        operation: Operation,
        before: (&Keyring, &Arc<Authority>),
        asked: &[Option<Asked<'_>>],
        results: &mut [Result<T, Error>],
    ) -> usize {
        let (keyring, authority) = (self.keyring(), self.authority());
        // Nothing was changed meanwhile, as nearly always: what was decided still stands.
        if Arc::ptr_eq(&keyring.catalogue, &before.0.catalogue) && Arc::ptr_eq(&authority, before.1) {
            return 0;
        }
        let judge = Judge::new(self, &keyring, &authority, call);
        let mut withheld = 0;
        for (asked, result) in asked.iter().zip(results).filter(|(_, result)| result.is_ok()) {
            let Some(Asked { target, said, source }) = asked else { continue };
            let look = |access: KeyAccess<'_, '_>, target: Target<'_>, said: &Said| {
                access.open(target.entry.key.id, said.parameters()).map(drop)
            };
            let mut access = KeyAccess::new(&judge, operation);
            if let Some((source, _)) = source {
                access = access.on_same_key(source.entry.key.id == target.entry.key.id);
            }
            let still = look(access, *target, said).and_then(|()| match source {
                Some((target, said)) => look(access.of_source(), *target, said),
                None => Ok(()),
            });
            if let Err(error) = still {
                *result = Err(error);
                withheld += 1;
            }
        }
        withheld
    }

    /// Takes one encryption of the target's budget; waits only where no reserved one is left.
    async fn charge(&self, Target { entry, version }: Target<'_>) -> Result<(), Error> {
        let budget = &version.budget;
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

    /// Runs `work` to its end and waits for it until the caller's deadline. Boxed by the caller, whose own future would
    /// hold it a second time for as long as it waits.
    pub(super) async fn detached<T: Send + 'static>(
        &self,
        call: &RequestContext,
        permit: Permit,
        work: BoxFuture<'static, Result<T, Error>>,
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

/// Checks items and makes them ready. `refused` gets the ARNs of keys of which something was refused.
fn prepare<'k, V: DataOperation>(
    judge: &Judge<'k>,
    kind: &V,
    items: impl Iterator<Item = V::Input>,
    tokens: &mut TokenCheck<'_>,
    refused: &mut BTreeSet<Arc<str>>,
    prepared: &mut Vec<Result<Prepared<'k, ItemOf<V>>, Error>>,
) {
    let noted = RefCell::default();
    let access = KeyAccess::new(judge, kind.operation()).noting(&noted);
    prepared.extend(items.map(|mut item| {
        let extras = kind.extras(&mut item);
        extras.check()?;
        let grant_tokens = std::mem::take(&mut extras.grant_tokens);
        let prepared = kind.prepare(&access, item)?;
        let source = prepared.source.as_ref().map(|(target, _)| *target);
        tokens.check(grant_tokens).inspect_err(|_| {
            [Some(prepared.target), source].into_iter().flatten().for_each(|target| access.note(target));
        })?;
        Ok(prepared)
    }));
    refused.extend(noted.take());
}

/// What a cluster answers to a batch. Answers of another operation count as none.
pub(crate) async fn answers_of<O: ItemOperation>(
    hsm_cluster: &dyn HsmCluster,
    items: Vec<Keyed<O::Item>>,
    options: CallOptions,
) -> Vec<Result<Done<O::Output>, Failed>> {
    O::answers(hsm_cluster.carry_out(O::batch(items), options).await).unwrap_or_default()
}

/// What the cluster gave for an item, or why it gave nothing.
fn answered<V: DataOperation>(
    kind: &V,
    Target { entry, version }: Target<'_>,
    answer: Option<Result<Done<AnswerOf<V>>, Failed>>,
) -> Result<Done<AnswerOf<V>>, Error> {
    let answer = answer.ok_or_else(|| Error::internal("the cluster left an item without an answer"))?;
    answer.map_err(|failed| {
        // No worker has had it, so that it took nothing of what is safe.
        if kind.encrypts() && !failed.sent {
            version.budget.give_back();
        }
        Error::of_cluster(failed.error, Some(&entry.arn))
    })
}

/// The ARNs of the keys that were asked for, each once.
fn arns<'k>(asked: &[Option<Asked<'k>>], refused: BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
    let each = |Used { target, source }: Used<'k>| [Some(target), source];
    let place = |entry: &&Entry| std::ptr::from_ref::<Entry>(entry).addr();
    let mut entries: Vec<&Entry> = Vec::new();
    for Target { entry, .. } in asked.iter().flatten().map(Asked::used).flat_map(each).flatten() {
        // Most batches are of one key.
        if entries.last().is_none_or(|last| !std::ptr::eq(*last, entry)) {
            entries.push(entry);
        }
    }
    entries.sort_unstable_by_key(place);
    entries.dedup_by_key(|entry| place(entry));
    let used = entries.into_iter().map(|entry| Arc::clone(&entry.arn));
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

fn cluster_of<'k>(Target { entry, .. }: Target<'k>) -> Result<&'k Arc<dyn HsmCluster>, Error> {
    let members = entry.members.as_ref().ok_or_else(|| entry.refusal(&[]))?;
    Ok(&members.hsm_cluster)
}

fn share_of<'a, I>(shares: &'a mut Vec<Share<I>>, clusters: ClustersOf<'_>, room: usize) -> &'a mut Share<I> {
    let known = shares.iter().position(|share| clusters.are(&share.clusters)).unwrap_or(shares.len());
    if known == shares.len() {
        let (items, places) = (Vec::with_capacity(room), Vec::with_capacity(room));
        shares.push(Share { clusters: clusters.counted(), items, places });
    }
    &mut shares[known]
}
