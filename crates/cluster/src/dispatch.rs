//! Carries items to members and their answers back: the thin I/O around [`super::route`] and [`super::failover`].
//!
//! A single item is one request, without a task of its own. A batch is cut into parts that run side by side; items of a
//! part that fail in one member are asked for in another, and only they.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::failover::{self, AttemptLog, Step};
use super::item::Done;
use super::last_resort_proof::Arrival;
use super::member::{KeySuspicion, Member};
use super::member_operation::{MemberOperation, Task};
use super::port::Port;
use super::proof::{Outcome, Proofs};
use super::removal::Exclusions;
use super::route::{self, Lean, Order, bit, bits};
use super::{Error, Failed, KeyRef, Settings, Verify, usual};
use model::call_options::CallOptions;
use model::clock::Clock;
use model::id::KeyVersionId;
use protocol::{CHUNK_ITEMS, Class, Fault, Op};
use supervisor::{CallError, KeysInUse};

/// A part of a batch keeps a session busy for no longer than this: other sessions take the rest.
const PART: Duration = Duration::from_millis(10);

/// How much more one member may have to do than another one, before keys move that workers have copies of: so much
/// work, so many items for each session, and a quarter of its queue.
const ALIKE: Duration = Duration::from_millis(40);
const ALIKE_ITEMS: usize = 8 * CHUNK_ITEMS;
/// The same for a single item, whose caller waits for it alone.
const ALIKE_SINGLE: (Duration, usize) = (Duration::from_micros(500), 4);

/// Worries that wait for one member's monitor at most.
const MOST_CONCERNS: usize = 1_024;

/// The members and what is known about them.
pub(super) struct Dispatcher<P> {
    /// In the order of the configuration.
    pub members: Vec<Arc<Member<P>>>,
    /// Who must not be used for which key.
    pub exclusions: Exclusions,
    /// Whose fault an unclear failure is.
    pub proofs: Proofs,
    /// What time it is.
    pub clock: Clock,
    /// When a second member is asked.
    pub hedge_after: Duration,
    /// What is checked in another zone before it is given out.
    pub verify: Verify,
    /// Members that replicate their keys by themselves: what one of them does not find may be on its way.
    pub replicating: u64,
    /// Whose turn it is among members that are alike.
    turn: AtomicUsize,
    /// Whether it matters to which member a single item goes; nothing where no member keeps copies.
    in_use: Option<KeysInUse>,
}

/// An item without a result so far.
struct Left {
    /// Its place in the caller's list.
    place: u32,
    /// Its key; none for random bytes.
    key: Option<Arc<KeyRef>>,
    /// The key of what it opens, where it has two.
    source: Option<Arc<KeyRef>>,
    /// Members where one of them turned out not to be, during this call.
    absent: u64,
    /// Members that say it is the caller's fault ...
    refused: u64,
    /// ... and what follows if that is so.
    refusal: Option<Error>,
}

impl Left {
    fn new<I>(place: u32, task: Task<I>) -> (Self, I) {
        let Task { key, source, item, within: _ } = task;
        (Self { place, key, source, absent: 0, refused: 0, refusal: None }, item)
    }

    fn keys(&self) -> impl Iterator<Item = &Arc<KeyRef>> {
        self.key.iter().chain(&self.source)
    }

    /// The key that a fault is about.
    fn key_of(&self, fault: &Fault) -> Option<&Arc<KeyRef>> {
        if fault.at_source { self.source.as_ref() } else { self.key.as_ref() }
    }
}

/// Items that travel together.
struct Chunk {
    left: Vec<Left>,
    op: Arc<Op>,
    /// Members that hold the keys of all of them and are not excluded.
    usable: u64,
    /// Members that the items may be put to at all.
    within: u64,
    /// Who is asked first; otherwise the best at the time.
    first: Option<usize>,
}

type Answers<T> = Vec<(u32, Result<Done<T>, Failed>)>;

impl<P: Port> Dispatcher<P> {
    /// Makes the dispatcher, and for each member the end of the channel on which its monitor hears of worries. Goes on
    /// with the tallies of `before`.
    pub(super) fn new(
        settings: &Settings,
        ports: Vec<P>,
        clock: Clock,
        before: &[Arc<Member<P>>],
    ) -> (Self, Vec<mpsc::Receiver<KeySuspicion>>) {
        let own_zone = settings.own_zone.as_ref();
        let (members, suspicions): (Vec<_>, Vec<_>) = ports
            .into_iter()
            .take(route::MAX_MEMBERS)
            .enumerate()
            .map(|(place, port)| {
                let (sender, receiver) = mpsc::channel(MOST_CONCERNS);
                let known = before.iter().find(|member| member.hsm == port.settings().hsm);
                let statistics = known.map(|member| Arc::clone(&member.statistics)).unwrap_or_default();
                let member = Member::new(port, place, own_zone, clock.clone(), sender, statistics);
                member.follow(&member.port.status());
                (Arc::new(member), receiver)
            })
            .unzip();
        let replicating = members.iter().filter(|member: &&Arc<Member<P>>| member.replication().is_some());
        let keep_copies = members.len() > 1 && members.iter().any(|member| member.port.settings().hot_copies);
        let dispatcher = Self {
            replicating: replicating.map(|member| bit(member.place)).fold(0, |mask, bit| mask | bit),
            members,
            exclusions: Exclusions::default(),
            proofs: Proofs::new(),
            clock,
            hedge_after: settings.hedge_after,
            verify: settings.verify,
            turn: AtomicUsize::new(0),
            in_use: keep_copies.then(KeysInUse::default),
        };
        (dispatcher, suspicions)
    }

    /// Does each item in some member that can, and says in which.
    pub(super) async fn run<V: MemberOperation>(
        &self,
        tasks: Vec<Task<V::Item>>,
        options: CallOptions,
    ) -> Vec<Result<Done<V::Output>, Failed>> {
        if let [_] = tasks[..] {
            let mut tasks = tasks;
            let Some(task) = tasks.pop() else { return Vec::new() };
            let (within, usable) = (task.within, self.usable_for(task.keys()) & task.within);
            let first = task.key.as_ref().and_then(|key| self.usual(usable, key.version));
            let (left, item) = Left::new(0, task);
            let chunk = Chunk { left: vec![left], op: Arc::new(V::op(vec![item])), usable, within, first };
            return self.drive::<V>(chunk, options).await.into_iter().map(|(_, answer)| answer).collect();
        }
        let masks: Vec<u64> = tasks.iter().map(|task| self.usable_for(task.keys()) & task.within).collect();
        let lean = |item: u32| {
            let key = tasks[item as usize].key.as_ref().map(|key| key.version);
            Lean { member: key, worker: key.map_or(0, KeyVersionId::spread) }
        };
        let asked = masks.iter().fold(0, |all, mask| all | mask);
        let serving = || self.members.iter().filter(|member| asked & bit(member.place) != 0 && member.is_serving());
        let most = serving().map(|member| member.port.items_in(PART)).min().unwrap_or(usize::MAX);
        let alike = serving().map(|member| member.alike(ALIKE, ALIKE_ITEMS)).min().unwrap_or(0);
        let parts = route::plan(&masks, most, alike, lean, self.next_turn(), |place| self.members[place].gauge());
        let mut tasks: Vec<Option<Task<V::Item>>> = tasks.into_iter().map(Some).collect();
        let mut answers: Vec<Option<Result<Done<V::Output>, Failed>>> = tasks.iter().map(|_| None).collect();
        let driven = parts.into_iter().map(|part| {
            let mut left = Vec::with_capacity(part.items.len());
            let mut items = Vec::with_capacity(part.items.len());
            let mut all = u64::MAX;
            for place in part.items {
                let Some(task) = tasks[place as usize].take() else { continue };
                all &= task.within;
                let (one, item) = Left::new(place, task);
                left.push(one);
                items.push(item);
            }
            let op = Arc::new(V::op(items));
            self.drive::<V>(Chunk { left, op, usable: part.mask, within: all, first: part.first }, options)
        });
        for (place, answer) in join_all(driven).await.into_iter().flatten() {
            answers[place as usize] = Some(answer);
        }
        // Each item is in one part and each part answers for each of its items.
        let none = || Err(Error::DeadlineExceeded.into());
        answers.into_iter().map(|answer| answer.unwrap_or_else(none)).collect()
    }

    /// Members of `mask` in the order in which they are to be asked now.
    pub(super) fn order(&self, mask: u64) -> Order {
        route::order(mask, self.next_turn(), |place| self.members[place].gauge())
    }

    /// Who of `usable` has met this key before, where many keys are in use and it has hardly more to do than another one.
    fn usual(&self, usable: u64, key: KeyVersionId) -> Option<usize> {
        self.in_use.as_ref().filter(|in_use| in_use.note(key))?;
        let serving = || bits(usable).map(|place| &self.members[place]).filter(|member| member.is_serving());
        if !serving().any(|member| member.port.settings().hot_copies) {
            return None;
        }
        let alike = |place: usize| self.members[place].alike(ALIKE_SINGLE.0, ALIKE_SINGLE.1);
        usual::member(usable, key, alike, |place| self.members[place].gauge())
    }

    fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Members that are meant to hold a key; all of them for what needs no key.
    pub(super) fn placed(&self, key: Option<&KeyRef>) -> u64 {
        key.map_or(u64::MAX, |key| key.placed.0) & route::all(self.members.len())
    }

    /// Those of them that are not excluded for it.
    pub(super) fn usable(&self, key: Option<&KeyRef>) -> u64 {
        let excluded = key.map_or(0, |key| self.exclusions.of(key.version).any());
        self.placed(key) & !excluded
    }

    /// The same for all of an item's keys.
    pub(super) fn usable_for<'a>(&self, keys: impl Iterator<Item = &'a Arc<KeyRef>>) -> u64 {
        keys.fold(route::all(self.members.len()), |usable, key| usable & self.usable(Some(key)))
    }

    /// Asks one member after the other until each item has its answer or nobody is left to ask.
    async fn drive<V: MemberOperation>(&self, chunk: Chunk, options: CallOptions) -> Answers<V::Output> {
        let Chunk { mut left, mut op, mut usable, within, mut first } = chunk;
        let mut attempts = AttemptLog::default();
        let mut answers = Vec::with_capacity(left.len());
        let (mut last_resort, mut arrival) = (false, Arrival::default());
        loop {
            let Some(next) = first.take().or_else(|| self.order(attempts.open(usable)).first()) else {
                if std::mem::replace(&mut last_resort, true) {
                    let missed = left.iter().map(|item| self.missed(item)).fold(0, |all, one| all | one);
                    if !self.arrives(missed & within, &mut arrival, &mut attempts, options).await {
                        break;
                    }
                }
                let keys: Vec<_> = left.iter().flat_map(Left::keys).cloned().collect();
                self.settle(&keys, &mut attempts, options).await;
                let open = attempts.open(within & route::all(self.members.len()));
                usable = within & self.prove_as_last_resort(&keys, open, options).await;
                continue;
            };
            let (place, answer) = self.attempt(&op, next, usable, &mut attempts, options).await;
            attempts.sent |= answer.as_ref().map_or_else(CallError::was_sent, |_| true);
            let outputs = match answer.map(V::outputs) {
                Err(error) => {
                    attempts.unanswered(place, &error);
                    continue;
                }
                Ok(Ok(outputs)) if outputs.len() == left.len() => outputs,
                Ok(Ok(_)) => {
                    let fault = Fault::own(Class::Token, "reply", "the worker answered for another number of items");
                    self.note_fault(place, &fault, &mut attempts);
                    continue;
                }
                Ok(Err(fault)) => {
                    self.note_fault(place, &fault, &mut attempts);
                    continue;
                }
            };
            let again = self.sort::<V>(place, outputs, &mut left, &mut answers, &mut attempts, options).await;
            if left.is_empty() {
                return answers;
            }
            if left.len() < V::items(&op).len() {
                op = Arc::new(V::op(again.into_iter().filter_map(|at| V::items(&op).get(at).cloned()).collect()));
            }
        }
        for mut item in left {
            // Who had no time for it might have said otherwise.
            let unheard = attempts.late || attempts.is_busy() || attempts.hopeless.is_some();
            if let Some(refusal) = item.refusal.take().filter(|_| !unheard) {
                answers.push((item.place, Err(Failed { error: refusal, sent: attempts.sent })));
                continue;
            }
            let excluded = || item.keys().map(|key| self.exclusions.of(key.version));
            let gone = excluded().fold(item.absent, |gone, of| gone | of.absent);
            let broken = excluded().fold(0, |broken, of| broken | of.broken);
            let (missed, gone) = (gone & self.replicating, gone & !self.replicating);
            let placed = item.keys().fold(route::all(self.members.len()), |at, key| at & self.placed(Some(key)));
            if placed & !gone == 0 && item.source.is_some() {
                // Each of them may be there all the same, and which of them is not its own calls tell.
                let none = "no HSM has both keys; see where they are (keystorectl key describe)".to_owned();
                answers.push((item.place, Err(Failed { error: Error::NoZone(none), sent: attempts.sent })));
                continue;
            }
            let permanent = |place: usize| self.members[place].port.status().refused;
            let answer = attempts.verdict(placed, if item.key.is_some() { gone } else { 0 }, permanent, |place| {
                let told = attempts.why.iter().find(|(of, _)| *of == place).map(|(_, why)| why.as_str());
                let why = match () {
                    () if gone & bit(place) != 0 => Some("the key was removed there"),
                    () if missed & bit(place) != 0 => Some("it did not find the key, which may be on its way in it"),
                    () if broken & bit(place) != 0 => {
                        Some("the key there does not open its proof ciphertext, or the token does not use it")
                    }
                    () => told,
                };
                self.members[place].sentence(why)
            });
            answers.push((item.place, Err(Failed { error: answer, sent: attempts.sent })));
        }
        answers
    }

    /// Sorts one reply: what is done goes to `answers`, what is to be asked for elsewhere stays in `left`. Returns the
    /// places of the latter in the request.
    async fn sort<V: MemberOperation>(
        &self,
        place: usize,
        outputs: Vec<Result<V::Output, Fault>>,
        left: &mut Vec<Left>,
        answers: &mut Answers<V::Output>,
        attempts: &mut AttemptLog,
        options: CallOptions,
    ) -> Vec<usize> {
        let member = &self.members[place];
        if outputs.iter().all(Result::is_ok) {
            member.succeeded();
            let done = left.drain(..).zip(outputs).filter_map(|(item, output)| {
                let output = output.ok()?;
                Some((item.place, Ok(Done::by(place, output))))
            });
            answers.extend(done);
            return Vec::new();
        }
        let mut again = Vec::new();
        let mut unclear = Vec::new();
        let (mut failed, mut throttled) = (None, None);
        let items = std::mem::take(left);
        for (at, (mut item, output)) in items.into_iter().zip(outputs).enumerate() {
            let fault = match output {
                Ok(output) => {
                    answers.push((item.place, Ok(Done::by(place, output))));
                    continue;
                }
                Err(fault) => fault,
            };
            match failover::judge(fault.class, V::DECRYPTS || fault.at_source) {
                Step::Refuse => {
                    let hsm = member.hsm.clone();
                    match self.refuse(place, &mut item, Error::Hsm { hsm, fault }) {
                        Some(error) => answers.push((item.place, Err(error.into()))),
                        None => again.push((at, item)),
                    }
                }
                Step::Prove if item.key_of(&fault).is_some() => unclear.push((at, item, fault)),
                Step::Absent if item.key_of(&fault).is_some() => {
                    self.note_absent(place, &mut item, &fault, attempts);
                    again.push((at, item));
                }
                Step::Broken if item.key_of(&fault).is_some() => {
                    attempts.blame(place, fault.to_string());
                    if let Some(key) = item.key_of(&fault) {
                        self.note_broken(place, key);
                    }
                    again.push((at, item));
                }
                Step::Later => {
                    again.push((at, item));
                    throttled = Some(fault);
                }
                Step::Absent | Step::Broken | Step::Prove | Step::Elsewhere => {
                    again.push((at, item));
                    failed = Some(fault);
                }
            }
        }
        let proven = join_all(unclear.iter().map(|(_, item, fault)| async {
            match item.key_of(fault) {
                Some(key) => self.proofs.check(member, key, &self.clock, options.deadline).await,
                None => Outcome::Unknown,
            }
        }))
        .await;
        for ((at, mut item, fault), outcome) in unclear.into_iter().zip(proven) {
            match outcome {
                Outcome::Opens => {
                    if let Some(error) = self.refuse(place, &mut item, Error::BadCiphertext) {
                        answers.push((item.place, Err(error.into())));
                        continue;
                    }
                }
                Outcome::Broken => {
                    if let Some(key) = item.key_of(&fault) {
                        self.note_broken(place, key);
                    }
                }
                Outcome::Busy => self.note_unsettled(place, fault.to_string(), attempts),
                Outcome::Absent => self.note_absent(place, &mut item, &fault, attempts),
                Outcome::Unknown => attempts.blame(place, fault.to_string()),
            }
            again.push((at, item));
        }
        // Whoever is too busy for one item and fails at another is both.
        if let Some(fault) = &throttled {
            self.note_fault(place, fault, attempts);
        }
        match failed {
            Some(fault) => self.note_fault(place, &fault, attempts),
            None if again.is_empty() => member.succeeded(),
            None => {}
        }
        again.sort_unstable_by_key(|(at, _)| *at);
        let (places, items) = again.into_iter().unzip();
        *left = items;
        places
    }

    /// A member says that it is the caller's fault. That is so when another zone says it too, or none is there to ask:
    /// a token that fails now and then says such things of good items, and may have opened the proof in between.
    fn refuse(&self, place: usize, item: &mut Left, refusal: Error) -> Option<Error> {
        let zone = &self.members[place].zone;
        let known = bits(item.refused).any(|other| other != place && self.members[other].zone.is_apart_from(zone));
        item.refused |= bit(place);
        let usable = self.usable_for(item.keys()) & !item.absent;
        if known || self.other_zones(usable, place) == 0 {
            return Some(refusal);
        }
        item.refusal = Some(refusal);
        None
    }

    /// Members that are meant to have an item's keys, and did not find one of them.
    fn missed(&self, item: &Left) -> u64 {
        let of = |key: &Arc<KeyRef>| self.placed(Some(key)) & (item.absent | self.exclusions.of(key.version).absent);
        item.keys().map(of).fold(0, |missed, of| missed | of)
    }

    /// Records that an object is gone: excluded at once, reported when its monitor has looked twice.
    /// Another session of a member that replicates its keys may find it all the same.
    fn note_absent(&self, place: usize, item: &mut Left, fault: &Fault, attempts: &mut AttemptLog) {
        item.absent |= bit(place);
        if self.replicating & bit(place) != 0 {
            attempts.second_chance(place);
        }
        let Some(key) = item.key_of(fault) else { return };
        self.exclude(place, KeySuspicion::Absent(Arc::clone(key)));
    }
}
