//! Known-answer safety: what a token gave is looked at by another one before it is given out.
//!
//! A token that answers wrongly says that all is well, so no error class catches it. A ciphertext whose plaintext is
//! known is opened again, in another zone where there is one; a plaintext can be had from a second zone and compared.
//! Who was wrong is told by the key's proof; whoever it is becomes suspect, and its probe decides what follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dispatch::Dispatcher;
use super::health::Observation;
use super::item::Done;
use super::member_operation::{Decrypt, MemberOperation, Task, Wraps};
use super::port::Port;
use super::proof::Outcome;
use super::route::{self, bit, bits};
use super::{Error, Failed, KeyRef};
use model::call_options::CallOptions;
use model::id::KeyVersionId;
use model::profile::VerifyWraps;
use model::secret::Secret;
use protocol::DecryptItem;

/// How often an item is done anew after it turned out wrong, within its deadline. One sound zone gives the right answer
/// in the second or third; beside one that lies now and then it can take longer.
const ROUNDS: usize = 20;

/// Who gave what, who looked at it, for which keys, and who of them was wrong.
type Blamed = BTreeMap<(usize, u64, Option<KeyVersionId>, Option<KeyVersionId>), usize>;

/// What the second look came to.
enum Look {
    /// It opens to what was wrapped.
    Right,
    /// It does not; this member is to blame, as far as can be told.
    Wrong(usize),
    /// Nobody could look.
    Unknown(Error),
}

impl<P: Port> Dispatcher<P> {
    /// Does each item, and gives out none that does not open again where the setting asks for that.
    pub(super) async fn wrap<V: Wraps>(
        &self,
        tasks: Vec<Task<V::Item>>,
        options: CallOptions,
    ) -> Vec<Result<Done<V::Output>, Failed>> {
        let verified = match self.verify.wraps {
            VerifyWraps::All => true,
            VerifyWraps::DataKeys => V::VERIFIED_BY_DEFAULT,
            VerifyWraps::None => false,
        };
        if !verified {
            return self.run::<V>(tasks, options).await;
        }
        let mut tasks = tasks;
        let mut results: Vec<Option<Result<Done<V::Output>, Failed>>> = tasks.iter().map(|_| None).collect();
        let mut sent = vec![false; tasks.len()];
        let mut left: Vec<usize> = (0..tasks.len()).collect();
        for _ in 0..ROUNDS {
            let asked = left.iter().map(|at| tasks[*at].clone()).collect();
            let made = self.run::<V>(asked, options).await;
            let mut to_open = Vec::with_capacity(made.len());
            for (at, made) in std::mem::take(&mut left).into_iter().zip(made) {
                sent[at] |= made.as_ref().map_or_else(|failed| failed.sent, |_| true);
                match made {
                    Ok(made) => to_open.push((at, made)),
                    Err(failed) if one_sided(&failed.error) && widen(&mut tasks[at]) => left.push(at),
                    Err(Failed { error, .. }) => results[at] = Some(Err(Failed { error, sent: sent[at] })),
                }
            }
            let looks = self.look::<V>(&tasks, &to_open, options).await;
            for ((at, made), look) in to_open.into_iter().zip(looks) {
                match look {
                    Look::Right => results[at] = Some(Ok(made)),
                    Look::Unknown(error) => results[at] = Some(Err(error.into())),
                    Look::Wrong(place) => {
                        self.avoid(&mut tasks[at], place);
                        left.push(at);
                    }
                }
            }
            if left.is_empty() {
                break;
            }
        }
        let none = || Err(disagreement().into());
        results.into_iter().map(|result| result.unwrap_or_else(none)).collect()
    }

    /// Has each ciphertext looked at. The looks are in the order of `made`.
    async fn look<V: Wraps>(
        &self,
        tasks: &[Task<V::Item>],
        made: &[(usize, Done<V::Output>)],
        options: CallOptions,
    ) -> Vec<Look> {
        let task = |(at, made): &(usize, Done<V::Output>), anybody: bool| {
            let task = &tasks[*at];
            let usable = self.usable_for(task.keys());
            let within = if anybody { u64::MAX } else { self.elsewhere(usable, made.place()).unwrap_or(u64::MAX) };
            let item = V::question(task.key.as_ref()?.version, &task.item, &made.output);
            Some(Task { key: task.key.clone(), source: task.source.clone(), item, within })
        };
        let asked = made.iter().filter_map(|made| task(made, false)).collect();
        let mut seen = self.ask_again::<V::Look>(asked, options).await;
        // Whoever was to look has gone meanwhile, or says nothing: anybody may.
        let silent = places(&seen, silent);
        let asked = silent.iter().filter_map(|at| task(&made[*at], true)).collect();
        let answers = self.open::<V::Look>(asked, options).await;
        silent.into_iter().zip(answers).for_each(|(at, answer)| seen[at] = answer);
        let (mut looks, mut blamed) = (Vec::with_capacity(made.len()), Blamed::new());
        for ((at, made), seen) in made.iter().zip(seen) {
            let task = &tasks[*at];
            let lookers = match seen {
                Ok(seen) if V::is_right(&task.item, &made.output, &seen.output) => {
                    looks.push(Look::Right);
                    continue;
                }
                Ok(seen) => bit(seen.place()),
                Err(Error::BadCiphertext) => self.elsewhere(self.usable_for(task.keys()), made.place()).unwrap_or(0),
                Err(error) => {
                    looks.push(Look::Unknown(error));
                    continue;
                }
            };
            looks.push(Look::Wrong(self.blame(&mut blamed, made.place(), lookers, task, options).await));
        }
        looks
    }

    /// Opens each item, in two zones where the setting asks for that, and gives out what both say.
    pub(super) async fn unwrap(
        &self,
        tasks: Vec<Task<DecryptItem>>,
        options: CallOptions,
    ) -> Vec<Result<Done<Secret>, Failed>> {
        match self.verify.unwraps {
            true => self.unwrap_twice(tasks, options).await,
            false => self.run::<Decrypt>(tasks, options).await,
        }
    }

    /// The same for what another cluster is to encrypt. A wrong plaintext would become a ciphertext that opens, so it is
    /// looked at where what is made is.
    pub(super) async fn take_out(
        &self,
        tasks: Vec<Task<DecryptItem>>,
        options: CallOptions,
    ) -> Vec<Result<Done<Secret>, Failed>> {
        match self.verify.wraps {
            VerifyWraps::All | VerifyWraps::DataKeys => self.unwrap_twice(tasks, options).await,
            VerifyWraps::None => self.unwrap(tasks, options).await,
        }
    }

    async fn unwrap_twice(
        &self,
        tasks: Vec<Task<DecryptItem>>,
        options: CallOptions,
    ) -> Vec<Result<Done<Secret>, Failed>> {
        let mut tasks = tasks;
        let failed = |error: Error| Err(error.into());
        let mut results: Vec<Option<Result<Done<Secret>, Failed>>> = tasks.iter().map(|_| None).collect();
        let mut left: Vec<usize> = (0..tasks.len()).collect();
        for _ in 0..ROUNDS {
            let first = self.open::<Decrypt>(left.iter().map(|at| tasks[*at].clone()).collect(), options).await;
            let mut to_compare = Vec::new();
            for (at, opened) in std::mem::take(&mut left).into_iter().zip(first) {
                match opened {
                    Ok(opened) => match self.second(&tasks[at], opened.place()) {
                        Some(second) => to_compare.push((at, opened, second)),
                        // There is no other zone now.
                        None => results[at] = Some(Ok(opened)),
                    },
                    Err(error) if one_sided(&error) && widen(&mut tasks[at]) => left.push(at),
                    Err(error) => results[at] = Some(failed(error)),
                }
            }
            let again = to_compare.iter().map(|(_, _, task)| task.clone()).collect();
            let second = self.ask_again::<Decrypt>(again, options).await;
            let mut blamed = Blamed::new();
            for ((at, first, task), second) in to_compare.into_iter().zip(second) {
                let (gave, lookers) = match second {
                    Ok(second) if second.output.expose() == first.output.expose() => {
                        results[at] = Some(Ok(first));
                        continue;
                    }
                    Err(error) if silent(&error) => {
                        results[at] = Some(Ok(first));
                        continue;
                    }
                    Err(Error::BadCiphertext) => (first.place(), task.within),
                    Err(error) => {
                        results[at] = Some(failed(error));
                        continue;
                    }
                    Ok(second) => (second.place(), bit(first.place())),
                };
                let wrong = self.blame(&mut blamed, gave, lookers, &task, options).await;
                self.avoid(&mut tasks[at], wrong);
                left.push(at);
            }
            if left.is_empty() {
                break;
            }
        }
        results.into_iter().map(|result| result.unwrap_or_else(|| failed(disagreement()))).collect()
    }

    /// Has items done by members that can. Who had one that was not done does not matter here.
    async fn open<V: MemberOperation>(
        &self,
        tasks: Vec<Task<V::Item>>,
        options: CallOptions,
    ) -> Vec<Result<Done<V::Output>, Error>> {
        let opened = self.run::<V>(tasks, options).await;
        opened.into_iter().map(|opened| opened.map_err(|failed| failed.error)).collect()
    }

    /// Has items looked at a second time: not with all of the time that is left, because where the others say nothing,
    /// whoever gave the first answer has to do. Who has only much to do gets all of it.
    async fn ask_again<V: MemberOperation>(
        &self,
        tasks: Vec<Task<V::Item>>,
        options: CallOptions,
    ) -> Vec<Result<Done<V::Output>, Error>> {
        let mut opened = self.open::<V>(tasks.clone(), self.patient(tasks.len(), options)).await;
        let busy = places(&opened, |error| matches!(error, Error::Busy | Error::WouldMissDeadline(_)));
        let asked = busy.iter().map(|at| tasks[*at].clone()).collect();
        let answers = self.open::<V>(asked, options).await;
        busy.into_iter().zip(answers).for_each(|(at, answer)| opened[at] = answer);
        opened
    }

    /// The same item for another zone.
    fn second(&self, task: &Task<DecryptItem>, place: usize) -> Option<Task<DecryptItem>> {
        let other = self.other_zones(self.usable_for(task.keys()), place);
        (other != 0).then(|| Task { within: other, ..task.clone() })
    }

    /// Who is wrong where two members do not agree about an item: found out once for all items of a call with its keys.
    async fn blame<I>(
        &self,
        blamed: &mut Blamed,
        gave: usize,
        lookers: u64,
        task: &Task<I>,
        options: CallOptions,
    ) -> usize {
        let version = |key: &Option<Arc<KeyRef>>| key.as_ref().map(|key| key.version);
        let case = (gave, lookers, version(&task.key), version(&task.source));
        if let Some(place) = blamed.get(&case) {
            return *place;
        }
        let keys: Vec<_> = task.keys().collect();
        let place = self.find_out(gave, lookers, &keys, options).await;
        blamed.insert(case, place);
        place
    }

    /// Two members do not agree. One that cannot open a key's proof is wrong, and not used for this key until it can;
    /// where all can, the one that gave the answer is taken to be. It is suspect: its probes tell more. `lookers` are
    /// those of whom one contradicts it.
    async fn find_out(&self, gave: usize, lookers: u64, keys: &[&Arc<KeyRef>], options: CallOptions) -> usize {
        let lookers = lookers & route::all(self.members.len()) & !bit(gave);
        let mut each = Vec::new();
        for place in bits(lookers).chain([gave]) {
            each.extend(keys.iter().map(|key| (place, *key)));
        }
        for (place, key) in each {
            // What was known of it is from before.
            self.proofs.forget(place, key.version);
            match self.proofs.check(&self.members[place], key, &self.clock, options.deadline).await {
                Outcome::Broken => {
                    self.note_broken(place, key);
                    return place;
                }
                // Who cannot even be asked now is not believed against one who can.
                Outcome::Absent | Outcome::Busy | Outcome::Unknown if place != gave => return place,
                Outcome::Opens | Outcome::Absent | Outcome::Busy | Outcome::Unknown => {}
            }
        }
        let named = keys.iter().map(|key| key.version.to_string()).collect::<Vec<_>>().join(" and ");
        let who = if lookers == 0 { "it does not open itself" } else { "another zone contradicts" };
        let why = format!("{who} what it gave for the key {named}");
        self.members[gave].observe(Observation::Broken, Some(why));
        gave
    }

    /// The first part of a second look.
    fn patient(&self, items: usize, options: CallOptions) -> CallOptions {
        let now = self.clock.now();
        let half = options.deadline.saturating_duration_since(now) / 2;
        let patience = if items == 1 { half.min(self.hedge_after * 2) } else { half };
        CallOptions { deadline: now + patience, ..options }
    }

    /// Has an item done by others than this member, as long as there are any.
    fn avoid<I>(&self, task: &mut Task<I>, place: usize) {
        let rest = task.within & !bit(place);
        let placed = task.keys().fold(u64::MAX, |placed, key| placed & key.placed.0);
        task.within = if rest & placed == 0 { u64::MAX } else { rest };
    }

    /// Whoever is best to look at what a member did: in another zone, else another HSM. `None`: there is only itself.
    fn elsewhere(&self, usable: u64, place: usize) -> Option<u64> {
        let zones = self.other_zones(usable, place);
        let hsms = self.serving(usable & !bit(place));
        [zones, hsms].into_iter().find(|mask| *mask != 0)
    }

    /// Members in other zones that serve.
    pub(super) fn other_zones(&self, usable: u64, place: usize) -> u64 {
        let zone = &self.members[place].zone;
        let apart = |other: &usize| self.members.get(*other).is_some_and(|member| member.zone.is_apart_from(zone));
        let others = bits(usable & !bit(place)).filter(apart);
        self.serving(others.map(bit).fold(0, |mask, bit| mask | bit))
    }

    pub(super) fn serving(&self, mask: u64) -> u64 {
        let serving = bits(mask).filter(|place| self.members.get(*place).is_some_and(|member| member.is_serving()));
        serving.map(bit).fold(0, |mask, bit| mask | bit)
    }
}

/// The places of those that failed in some way.
fn places<T>(answers: &[Result<T, Error>], how: impl Fn(&Error) -> bool) -> Vec<usize> {
    (0..answers.len()).filter(|at| answers[*at].as_ref().err().is_some_and(&how)).collect()
}

/// Lets anybody do an item again that was to be kept from some; false where anybody might.
fn widen<I>(task: &mut Task<I>) -> bool {
    std::mem::replace(&mut task.within, u64::MAX) != u64::MAX
}

/// It may be otherwise for others than those who were asked: only two zones can say that it is the caller's fault.
fn one_sided(error: &Error) -> bool {
    gone(error) || matches!(error, Error::BadCiphertext)
}

/// Nobody could, or they were not heard in time.
fn silent(error: &Error) -> bool {
    gone(error) || matches!(error, Error::DeadlineExceeded)
}

/// Nobody of those that were to look could.
fn gone(error: &Error) -> bool {
    matches!(error, Error::NoZone(_) | Error::Refused(_) | Error::KeyGone | Error::Hsm { .. } | Error::TooFewZones(_))
}

fn disagreement() -> Error {
    Error::NoZone(
        "the HSMs that answer contradict each other; see their states (keystorectl cluster status)".to_owned(),
    )
}

#[cfg(test)]
mod tests;
