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

pub(crate) use crate::core::data_operation::{DataOperation, Prepared, Used, answers_of};
pub(crate) use crate::core::shares::Clusters;

use crate::core::Core;
use crate::core::access::Said;
use crate::core::admission::Permit;
use crate::core::authority::{Authority, Judge, in_words};
use crate::core::budget::{Taken, used_up};
use crate::core::data_operation::{AnswerOf, ItemOf};
use crate::core::error::version_removed_everywhere;
use crate::core::grant_token::TokenCheck;
use crate::core::key_access::KeyAccess;
use crate::core::keyring::{Entry, Keyring, Target};
use crate::core::noted::Noted;
use crate::core::rate::Rates;
use crate::core::recorder::{About, Ending};
use crate::core::release::{Looked, SLICE, TOGETHER};
use crate::core::shares::{ClustersOf, Share, share_of};
use crate::core::validate;
use crate::{Error, RequestContext};
use audit::event::Asked as Asks;
use cluster::Failed;
use cluster::item::{Done, Served};
use model::operation::Operation;
use telemetry::fault;
use telemetry::watchdog::Task;

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

/// What became of the items of a call.
struct Acted<'k, T> {
    /// Those that were allowed.
    asked: Vec<Option<Asked<'k>>>,
    /// Which HSM did it, by its place in the cluster.
    served: Vec<Option<Served>>,
    results: Vec<Result<T, Error>>,
}

impl<'k, T> Acted<'k, T> {
    fn with_room(room: usize) -> Self {
        let (asked, served) = (Vec::with_capacity(room), Vec::with_capacity(room));
        Self { asked, served, results: Vec::with_capacity(room) }
    }

    fn push(&mut self, asked: Option<Asked<'k>>, served: Option<Served>, result: Result<T, Error>) {
        self.asked.push(asked);
        self.served.push(served);
        self.results.push(result);
    }

    /// A fault ended it.
    fn broken_off(count: usize) -> Self {
        let mut acted = Self::with_room(count);
        (0..count).for_each(|_| acted.push(None, None, Err(Error::broken_off())));
        acted
    }
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
            Err(error) => return Err(self.turned_away(call, (operation, started), count, error).await),
        };

        let (core, call_of_task) = (self.clone(), call.clone());
        let work = Box::pin(async move {
            let call = &call_of_task;
            let authority = core.authority();
            let (mut refused, mut asks) = (BTreeSet::new(), Asks::new(kind.shape(), count));
            let mut reasons = Vec::new();
            let work = async {
                let (mut items, mut prepared) = (items.into_iter(), Vec::with_capacity(count));
                let mut tokens = TokenCheck::new(&core);
                while items.len() > 0 {
                    if !prepared.is_empty() {
                        tokio::task::yield_now().await;
                    }
                    let (judge, until) = (Judge::new(&core, &keyring, &authority, call), core.clock().now() + SLICE);
                    let some = at_once(&mut items, || core.clock().now() < until);
                    let some = some.inspect(|item| asks.note(kind.says(item)));
                    prepare(&judge, &kind, some, &mut tokens, &mut refused, &mut prepared);
                    add_reasons(&mut reasons, judge);
                }
                core.act(call, &kind, prepared).await
            };
            let Acted { asked, served, mut results } = guarded(work).await.unwrap_or_else(|| Acted::broken_off(count));
            asks.fill(count);
            let used = asked.iter().map(|asked| asked.as_ref().map(Asked::used)).zip(served);
            let (resources, caller) = (arns(&asked, refused), keyring.caller(&call.principal));
            let about = About::Items(Noted::new(asks, used));
            let decided_by = in_words(&reasons);
            let ending = Ending { caller, resources, about, decided_by, ..Ending::new(call, operation, started) };
            core.conclude(ending, &mut results, |from, results| {
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
    ) -> Acted<'k, V::Output> {
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
        let mut acted = Acted::with_room(room);
        for (begun, answer) in begun.into_iter().zip(answers) {
            match begun {
                Begun::Refused(asked, error) => acted.push(asked, None, Err(error)),
                Begun::Waits(asked) => {
                    let used = asked.used();
                    let done = answered(kind, used.target, answer);
                    let served = done.as_ref().ok().map(|done| done.served);
                    let result = done.map(|Done { output, .. }| {
                        for target in [Some(used.target), used.source].into_iter().flatten() {
                            target.entry.usage.note(used_at, kind.operation(), &call.request_id);
                        }
                        kind.finish(used, output)
                    });
                    acted.push(Some(asked), served, result);
                }
            }
        }
        acted
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

    /// The last look, for as long as others can do without their turn: what has come to be forbidden since `before` is
    /// withheld.
    fn withhold<T>(
        &self,
        call: &RequestContext,
        operation: Operation,
        before: (&Keyring, &Arc<Authority>),
        asked: &[Option<Asked<'_>>],
        results: &mut [Result<T, Error>],
    ) -> Looked {
        let (keyring, authority) = (self.keyring(), self.authority());
        // Nothing was changed meanwhile, as nearly always: what was decided still stands.
        if Arc::ptr_eq(&keyring.catalogue, &before.0.catalogue) && Arc::ptr_eq(&authority, before.1) {
            return Looked { results: results.len(), withheld: 0 };
        }
        let (judge, until) = (Judge::new(self, &keyring, &authority, call), self.clock().now() + SLICE);
        let mut all = asked.iter().zip(results);
        let (mut count, mut withheld) = (0, 0);
        for (asked, result) in at_once(&mut all, || self.clock().now() < until) {
            count += 1;
            if result.is_err() {
                continue;
            }
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
        Looked { results: count, withheld }
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

/// Some of the items: one, and others while there is time for them.
fn at_once<T>(items: &mut impl Iterator<Item = T>, has_time: impl Fn() -> bool) -> impl Iterator<Item = T> {
    let mut is_first = true;
    let next = move || if std::mem::take(&mut is_first) || has_time() { items.next() } else { None };
    std::iter::from_fn(next).take(TOGETHER)
}

/// Takes over why it was decided as it was, each reason once.
fn add_reasons(known: &mut Vec<Arc<str>>, judge: Judge<'_>) {
    for reason in judge.reasons() {
        if !known.contains(&reason) {
            known.push(reason);
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
        match failed.error {
            cluster::Error::KeyGone => {
                version_removed_everywhere(&entry.key, &entry.arn, version.reference.version.version)
            }
            error => Error::of_cluster(error, Some(&entry.arn)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_item_is_taken_whatever_it_costs_and_no_more_than_there_is_time_for() {
        let mut items = 0..3 * TOGETHER;
        assert_eq!(at_once(&mut items, || true).count(), TOGETHER);
        assert_eq!(at_once(&mut items, || false).collect::<Vec<_>>(), [TOGETHER]);
        let left = std::cell::Cell::new(2);
        assert_eq!(at_once(&mut items, || left.replace(left.get() - 1) > 0).count(), 3);
        assert_eq!(items.len(), 2 * TOGETHER - 4, "and none is lost");
    }
}
