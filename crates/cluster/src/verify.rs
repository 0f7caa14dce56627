//! Known-answer safety: what a token gave is looked at by another one before it is given out.
//!
//! A token that answers wrongly says that all is well, so no error class catches it. A ciphertext whose plaintext is
//! known is opened again, in another zone where there is one; a plaintext can be had from a second zone and compared.
//! Who was wrong is told by the key's proof; whoever it is becomes suspect, and its probe decides what follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dispatch::{Dispatcher, Done};
use super::health::Observation;
use super::member_operation::{Decrypt, Task, Wraps};
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

/// Who gave what, who looked at it, for which key, and who of them was wrong.
type Blamed = BTreeMap<(usize, u64, KeyVersionId), usize>;

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
    ) -> Vec<Result<V::Output, Failed>> {
        let verified = match self.verify.wraps {
            VerifyWraps::All => true,
            VerifyWraps::DataKeys => V::MAKES_DATA_KEYS,
            VerifyWraps::None => false,
        };
        if !verified {
            return self.run::<V>(tasks, options).await;
        }
        let mut tasks = tasks;
        let mut results: Vec<Option<Result<V::Output, Failed>>> = tasks.iter().map(|_| None).collect();
        let mut sent = vec![false; tasks.len()];
        let mut left: Vec<usize> = (0..tasks.len()).collect();
        for _ in 0..ROUNDS {
            let asked = left.iter().map(|at| tasks[*at].clone()).collect();
            let made = self.run_placed::<V>(asked, options).await;
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
                    Look::Right => results[at] = Some(Ok(made.output)),
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

    /// Opens each ciphertext again. The looks are in the order of `made`.
    async fn look<V: Wraps>(
        &self,
        tasks: &[Task<V::Item>],
        made: &[(usize, Done<V::Output>)],
        options: CallOptions,
    ) -> Vec<Look> {
        let task = |(at, made): &(usize, Done<V::Output>), anybody: bool| {
            let Task { key, item, .. } = &tasks[*at];
            let (sealed, _) = V::known(item, &made.output);
            let (version, placed) = key.as_ref().map_or((None, 0), |key| (Some(key.version), self.usable(Some(key))));
            let within = if anybody { u64::MAX } else { self.elsewhere(placed, made.place).unwrap_or(u64::MAX) };
            let (aad, iv, sealed) = (V::aad(item).clone(), sealed.iv, sealed.sealed.clone());
            Some(Task { key: key.clone(), item: DecryptItem { key: version?, aad, iv, sealed }, within })
        };
        let mut opened = self.ask_again(made.iter().filter_map(|made| task(made, false)).collect(), options).await;
        // Whoever was to look has gone meanwhile, or says nothing: anybody may.
        let silent = places(&opened, silent);
        let asked = silent.iter().filter_map(|at| task(&made[*at], true)).collect();
        let answers = self.open(asked, options).await;
        silent.into_iter().zip(answers).for_each(|(at, answer)| opened[at] = answer);
        let (mut looks, mut blamed) = (Vec::with_capacity(made.len()), Blamed::new());
        for ((at, made), opened) in made.iter().zip(opened) {
            let Task { key, item, .. } = &tasks[*at];
            let (_, plaintext) = V::known(item, &made.output);
            looks.push(match (opened, key) {
                (Ok(opened), _) if opened.output.expose() == plaintext.expose() => Look::Right,
                (Ok(opened), Some(key)) => {
                    Look::Wrong(self.blame(&mut blamed, made.place, bit(opened.place), key, options).await)
                }
                (Err(Error::BadCiphertext), Some(key)) => {
                    let lookers = self.elsewhere(self.usable(Some(key)), made.place).unwrap_or(0);
                    Look::Wrong(self.blame(&mut blamed, made.place, lookers, key, options).await)
                }
                (Err(error), _) => Look::Unknown(error),
                (Ok(_), None) => Look::Unknown(disagreement()),
            });
        }
        looks
    }

    /// Opens each item, in two zones where the setting asks for that, and gives out what both say.
    pub(super) async fn unwrap(
        &self,
        tasks: Vec<Task<DecryptItem>>,
        options: CallOptions,
    ) -> Vec<Result<Secret, Failed>> {
        if !self.verify.unwraps {
            return self.run::<Decrypt>(tasks, options).await;
        }
        let mut tasks = tasks;
        let failed = |error: Error| Err(error.into());
        let mut results: Vec<Option<Result<Secret, Failed>>> = tasks.iter().map(|_| None).collect();
        let mut left: Vec<usize> = (0..tasks.len()).collect();
        for _ in 0..ROUNDS {
            let first = self.open(left.iter().map(|at| tasks[*at].clone()).collect(), options).await;
            let mut to_compare = Vec::new();
            for (at, opened) in std::mem::take(&mut left).into_iter().zip(first) {
                match opened {
                    Ok(opened) => match self.second(&tasks[at], opened.place) {
                        Some(second) => to_compare.push((at, opened, second)),
                        // There is no other zone now.
                        None => results[at] = Some(Ok(opened.output)),
                    },
                    Err(error) if one_sided(&error) && widen(&mut tasks[at]) => left.push(at),
                    Err(error) => results[at] = Some(failed(error)),
                }
            }
            let second = self.ask_again(to_compare.iter().map(|(_, _, task)| task.clone()).collect(), options).await;
            let mut blamed = Blamed::new();
            for ((at, first, task), second) in to_compare.into_iter().zip(second) {
                let wrong = match (second, tasks[at].key.clone()) {
                    (Ok(second), _) if second.output.expose() == first.output.expose() => {
                        results[at] = Some(Ok(first.output));
                        continue;
                    }
                    (Err(error), _) if silent(&error) => {
                        results[at] = Some(Ok(first.output));
                        continue;
                    }
                    (Err(Error::BadCiphertext), Some(key)) => {
                        self.blame(&mut blamed, first.place, task.within, &key, options).await
                    }
                    (Err(error), _) => {
                        results[at] = Some(failed(error));
                        continue;
                    }
                    (Ok(second), Some(key)) => {
                        self.blame(&mut blamed, second.place, bit(first.place), &key, options).await
                    }
                    (Ok(_), None) => continue,
                };
                self.avoid(&mut tasks[at], wrong);
                left.push(at);
            }
            if left.is_empty() {
                break;
            }
        }
        results.into_iter().map(|result| result.unwrap_or_else(|| failed(disagreement()))).collect()
    }

    /// Opens items in members that can. Who had one that was not opened does not matter here.
    async fn open(&self, tasks: Vec<Task<DecryptItem>>, options: CallOptions) -> Vec<Result<Done<Secret>, Error>> {
        let opened = self.run_placed::<Decrypt>(tasks, options).await;
        opened.into_iter().map(|opened| opened.map_err(|failed| failed.error)).collect()
    }

    /// Has items opened a second time: not with all of the time that is left, because where the others say nothing,
    /// whoever gave the first answer has to do. Who has only much to do gets all of it.
    async fn ask_again(&self, tasks: Vec<Task<DecryptItem>>, options: CallOptions) -> Vec<Result<Done<Secret>, Error>> {
        let mut opened = self.open(tasks.clone(), self.patient(tasks.len(), options)).await;
        let busy = places(&opened, |error| matches!(error, Error::Busy | Error::WouldMissDeadline(_)));
        let asked = busy.iter().map(|at| tasks[*at].clone()).collect();
        let answers = self.open(asked, options).await;
        busy.into_iter().zip(answers).for_each(|(at, answer)| opened[at] = answer);
        opened
    }

    /// The same item for another zone.
    fn second(&self, task: &Task<DecryptItem>, place: usize) -> Option<Task<DecryptItem>> {
        let other = self.other_zones(self.usable(task.key.as_deref()), place);
        (other != 0).then(|| Task { within: other, ..task.clone() })
    }

    /// Who is wrong where two members do not agree about a key: found out once for all items of a call.
    async fn blame(
        &self,
        blamed: &mut Blamed,
        gave: usize,
        lookers: u64,
        key: &Arc<KeyRef>,
        options: CallOptions,
    ) -> usize {
        let case = (gave, lookers, key.version);
        if let Some(place) = blamed.get(&case) {
            return *place;
        }
        let place = self.find_out(gave, lookers, key, options).await;
        blamed.insert(case, place);
        place
    }

    /// Two members do not agree. One that cannot open the key's proof is wrong, and not used for this key until it can;
    /// where all can, the one that gave the answer is taken to be. It is suspect: its probes tell more. `lookers` are
    /// those of whom one contradicts it.
    async fn find_out(&self, gave: usize, lookers: u64, key: &Arc<KeyRef>, options: CallOptions) -> usize {
        for place in bits(lookers & route::all(self.members.len()) & !bit(gave)).chain([gave]) {
            // What was known of it is from before.
            self.proofs.forget(place, key.version);
            match self.proofs.check(&self.members[place], key, &self.clock, options.deadline).await {
                Outcome::Broken => {
                    self.note_broken(place, key);
                    return place;
                }
                // Who cannot even be asked now is not believed against one who can.
                Outcome::Absent | Outcome::Unknown if place != gave => return place,
                Outcome::Opens | Outcome::Absent | Outcome::Unknown => {}
            }
        }
        let why = format!("another zone contradicts what it gave for the key {}", key.version);
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
        let placed = task.key.as_ref().map_or(u64::MAX, |key| key.placed.0);
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
        let others = bits(usable).filter(|other| self.members.get(*other).is_some_and(|member| member.zone != *zone));
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
