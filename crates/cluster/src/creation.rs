//! Making keys, placing, proving and destroying them. The order of the steps, and what is recorded between them, is the
//! service's; here is one step in one member.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout_at;

use super::dispatch::Dispatcher;
use super::failover::AttemptLog;
use super::health::Observation;
use super::member::Member;
use super::member_operation::{Decrypt, Encrypt, MemberOperation, fault_of};
use super::port::Port;
use super::route;
use super::{Error, Kept, Proof, proof};
use model::id::{KeyVersionId, Zone};
use model::profile::Topology;
use protocol::{Class, Fault, Op, Reply};
use supervisor::{CallError, State, Status};

/// How often a step that is harmless to repeat is tried in one member.
const TRIES: u32 = 3;
/// The shortest pause before a step is tried again where the member seems ready.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest between two looks at a key that is on its way.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

impl<P: Port> Dispatcher<P> {
    /// Members in which keys can be made and placed; an error when they are in fewer than two zones.
    pub(super) fn reachable_for_creation(&self) -> Result<Vec<usize>, Error> {
        let mut reachable = Vec::with_capacity(self.members.len());
        let mut missing = Vec::new();
        for member in &self.members {
            let status = member.port.status();
            if can_create(member, &status) {
                reachable.push(member.place);
            } else {
                let why = (status.state == State::Serving).then_some(match status.control_ready {
                    true => "it holds no cluster wrapping key",
                    false => "its control worker is not ready",
                });
                missing.push(member.sentence(why));
            }
        }
        let zones = Zone::count(reachable.iter().map(|place| &self.members[*place].zone));
        match (zones, missing.is_empty()) {
            (2.., _) => Ok(reachable),
            (_, false) => Err(Error::TooFewZones(missing.join("; "))),
            (_, true) => Err(Error::TooFewZones("all configured HSMs are in one zone: add one in another".to_owned())),
        }
    }

    /// Members whose control worker can be asked.
    pub(super) fn reachable(&self) -> Vec<usize> {
        let ready = |status: &Status| status.state == State::Serving && status.control_ready;
        self.members.iter().filter(|member| ready(&member.port.status())).map(|member| member.place).collect()
    }

    /// Makes a key in the least busy member that is ready. What is made is a session object until it is placed, so a
    /// member that fails leaves nothing behind and another may be asked.
    pub(super) async fn make_key(&self, deadline: Instant) -> Result<Bytes, Error> {
        let reachable = self.reachable_for_creation()?;
        let usable = reachable.into_iter().map(route::bit).fold(0, |mask, bit| mask | bit);
        let op = Arc::new(Op::MakeKey);
        let mut attempts = AttemptLog::default();
        let mut last = None;
        while let Some(place) = self.order(attempts.open(usable)).first() {
            let member = &self.members[place];
            attempts.ask(place);
            let fault = match member.port.call(Arc::clone(&op), deadline.into()).await {
                Ok(Reply::Blob(blob)) => return Ok(blob),
                Ok(other) => fault_of(other),
                Err(error) => {
                    attempts.unanswered(place, &error);
                    continue;
                }
            };
            self.note_fault(place, &fault, &mut attempts);
            last = Some(Error::Hsm { hsm: member.hsm.clone(), fault });
        }
        Err(last.unwrap_or_else(|| {
            attempts.verdict(
                usable,
                0,
                |place| self.members[place].port.status().refused,
                |place| {
                    let told = attempts.why.iter().find(|(of, _)| *of == place);
                    self.members[place].sentence(told.map(|(_, why)| why.as_str()))
                },
            )
        }))
    }

    /// Unwraps a blob as a version's token object. An object that is there already is left alone, so that a repetition
    /// after a lost answer does no harm.
    pub(super) async fn place(
        &self,
        place: usize,
        version: KeyVersionId,
        label: &str,
        blob: &Bytes,
        deadline: Instant,
    ) -> Result<(), Error> {
        let op = Op::Place { key: version, label: label.to_owned(), blob: blob.clone() };
        self.done(place, op, deadline).await?;
        self.forget(place, version);
        Ok(())
    }

    /// Makes a version's token object. One that is there already is left alone, as in [`Self::place`]. Where a try may have made
    /// it and nobody knows, it has the time to show up before there is another one, and then both of them have it, so that
    /// [`Self::confirm_in_place`] sees what there is.
    pub(super) async fn make_in_place(
        &self,
        place: usize,
        version: KeyVersionId,
        label: &str,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.done(place, Op::MakeInPlace { key: version, label: label.to_owned() }, deadline).await?;
        self.forget(place, version);
        Ok(())
    }

    /// Makes sure that a version's token object is the only one, and never was elsewhere.
    pub(super) async fn confirm_in_place(
        &self,
        place: usize,
        version: KeyVersionId,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.done(place, Op::ConfirmInPlace(version), deadline).await
    }

    /// Makes the proof ciphertext of a version.
    pub(super) async fn make_proof(
        &self,
        place: usize,
        version: KeyVersionId,
        deadline: Instant,
    ) -> Result<Proof, Error> {
        let reply = self.step(place, Encrypt::op(vec![proof::to_seal(version)]), deadline).await?;
        let sealed = self.single::<Encrypt>(place, reply)?;
        Ok(Proof { iv: sealed.iv, sealed: sealed.sealed })
    }

    /// Opens the proof ciphertext and compares.
    pub(super) async fn prove(
        &self,
        place: usize,
        version: KeyVersionId,
        proof: &Proof,
        deadline: Instant,
    ) -> Result<(), Error> {
        let reply = self.step(place, Decrypt::op(vec![proof::to_open(version, proof)]), deadline).await?;
        let bytes = self.single::<Decrypt>(place, reply)?;
        if proof::is_plaintext(version, &bytes) {
            return Ok(());
        }
        let detail = format!("the object of {version} opens its proof ciphertext to other bytes: it is not that key");
        Err(self.failed(place, Fault::own(Class::Ambiguous, "proof", detail)))
    }

    /// Destroys a version's object, and what the workers keep of it.
    pub(super) async fn destroy(&self, place: usize, version: KeyVersionId, deadline: Instant) -> Result<(), Error> {
        self.done(place, Op::Destroy(version), deadline).await?;
        // A worker that is not there to hear it has no copy either.
        match self.at(place)?.port.call(Arc::new(Op::Forget(vec![version])), deadline.into()).await {
            Ok(Reply::Done) | Err(CallError::NotReady | CallError::WorkerLost) => {}
            Ok(other) => return Err(self.failed(place, fault_of(other))),
            Err(error) => return Err(self.lost(place, &error)),
        }
        self.forget(place, version);
        Ok(())
    }

    /// Of several objects of a version, destroys those that do not open its proof, and says what is left.
    pub(super) async fn keep_proven(
        &self,
        place: usize,
        version: KeyVersionId,
        proof: &Proof,
        deadline: Instant,
    ) -> Result<Kept, Error> {
        let kept = match self.step(place, Op::KeepProven(proof::to_open(version, proof)), deadline).await? {
            Reply::Done => Kept::One,
            Reply::OneMaterial(objects) => Kept::OneMaterial(objects),
            other => return Err(self.failed(place, fault_of(other))),
        };
        self.forget(place, version);
        Ok(kept)
    }

    /// The versions that a token holds, read anew, each as often as there are objects of it. Only of a token whose canary works: one in trouble may list less
    /// than it holds, and that must not be taken for a removal.
    pub(super) async fn list(&self, place: usize, deadline: Instant) -> Result<Vec<KeyVersionId>, Error> {
        match self.step(place, Op::Probe, deadline).await? {
            Reply::Done => {}
            other => return Err(self.failed(place, fault_of(other))),
        }
        match self.step(place, Op::List, deadline).await? {
            Reply::Keys(keys) => Ok(keys),
            other => Err(self.failed(place, fault_of(other))),
        }
    }

    /// What was known about a version's object no longer holds.
    fn forget(&self, place: usize, version: KeyVersionId) {
        self.exclusions.admit(version, place);
        self.proofs.forget(place, version);
    }

    async fn done(&self, place: usize, op: Op, deadline: Instant) -> Result<(), Error> {
        match self.step(place, op, deadline).await? {
            Reply::Done => Ok(()),
            other => Err(self.failed(place, fault_of(other))),
        }
    }

    /// Does one operation in one member. All that come here can be repeated there without harm, so the death of a
    /// worker is waited out, within the deadline, and a transient error too: SoftHSM has one for a moment whenever
    /// another process logs in to its token.
    ///
    /// A key that was made a moment ago may not be yet wherever a member keeps it that replicates its keys by itself: that
    /// is waited for as long as this may take there. So long is also waited before a key is made once more: what a try has
    /// made whose answer was lost may not be shown before that.
    async fn step(&self, place: usize, op: Op, deadline: Instant) -> Result<Reply, Error> {
        let member = self.at(place)?;
        let uses = matches!(op, Op::Encrypt(_) | Op::Decrypt(_) | Op::ConfirmInPlace(_));
        let makes = matches!(op, Op::MakeInPlace { .. });
        let settles = member.replication().map_or(Duration::ZERO, Topology::settles);
        let settled = (self.clock.now() + if uses { settles } else { Duration::ZERO }).min(deadline);
        let op = Arc::new(op);
        let mut status = member.port.watch();
        let (mut tries, mut pause) = (1, PAUSE);
        // An earlier try may have made the key.
        let mut in_doubt = false;
        loop {
            let error = match member.port.call(Arc::clone(&op), deadline.into()).await {
                Ok(reply) if fault_in(&reply).is_some_and(may_come) && self.clock.now() + pause < settled => {
                    member.answered();
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Ok(reply) if fault_in(&reply).is_some_and(may_pass) && tries < TRIES => {
                    member.answered();
                    tries += 1;
                    if makes {
                        in_doubt = true;
                        if !self.has_settled(settles, deadline).await {
                            return Ok(reply);
                        }
                    }
                    tokio::time::sleep_until((self.clock.now() + PAUSE).min(deadline).into()).await;
                    continue;
                }
                Ok(reply) => {
                    member.answered();
                    if in_doubt && matches!(reply, Reply::Done) && !self.has_settled(settles, deadline).await {
                        return Err(Error::DeadlineExceeded);
                    }
                    return Ok(reply);
                }
                Err(error) => error,
            };
            if matches!(error, CallError::WorkerLost) {
                member.observe(Observation::Failed, Some(error.to_string()));
            }
            let repeat = matches!(error, CallError::WorkerLost | CallError::NotReady) && tries < TRIES;
            tries += 1;
            if repeat && makes && error.was_sent() {
                in_doubt = true;
                if !self.has_settled(settles, deadline).await {
                    return Err(self.lost(place, &error));
                }
            }
            let pause = timeout_at((self.clock.now() + PAUSE).min(deadline).into(), status.changed());
            if !repeat || matches!(pause.await, Ok(Err(_))) {
                return Err(self.lost(place, &error));
            }
            let ready = status.wait_for(|status| can_create(member, status));
            if !matches!(timeout_at(deadline.into(), ready).await, Ok(Ok(_))) {
                return Err(self.lost(place, &error));
            }
        }
    }

    /// Waits until a member that replicates its keys by itself has had the time to have a new object everywhere; false, and
    /// no waiting, where there is not so much time.
    async fn has_settled(&self, settles: Duration, deadline: Instant) -> bool {
        if settles.is_zero() {
            return true;
        }
        let settled = self.clock.now() + settles;
        if settled >= deadline {
            return false;
        }
        tokio::time::sleep_until(settled.into()).await;
        true
    }

    /// The only output of a reply to a request with one item.
    fn single<V: MemberOperation>(&self, place: usize, reply: Reply) -> Result<V::Output, Error> {
        let outputs = V::outputs(reply).map_err(|fault| self.failed(place, fault))?;
        let [output] = <[_; 1]>::try_from(outputs)
            .map_err(|_| self.failed(place, Fault::own(Class::Token, "reply", "not one answer to one item")))?;
        output.map_err(|fault| self.failed(place, fault))
    }

    fn at(&self, place: usize) -> Result<&Arc<Member<P>>, Error> {
        self.members.get(place).ok_or_else(|| Error::NoZone(format!("the cluster has no HSM number {place}")))
    }

    fn failed(&self, place: usize, fault: Fault) -> Error {
        let hsm = self.members.get(place).map_or_else(|| "?".into(), |member| member.hsm.clone());
        Error::Hsm { hsm, fault }
    }

    fn lost(&self, place: usize, error: &CallError) -> Error {
        match error {
            CallError::Busy => Error::Busy,
            CallError::WouldMissDeadline(wait) => Error::WouldMissDeadline(*wait),
            CallError::DeadlineExceeded { .. } => Error::DeadlineExceeded,
            CallError::NotReady => Error::NoZone(match self.members.get(place) {
                Some(member) => member.sentence(Some("no worker is ready")),
                None => error.to_string(),
            }),
            CallError::WorkerLost => self.failed(place, Fault::own(Class::Token, "worker", error.to_string())),
        }
    }
}

/// The fault with which an operation failed: as a whole, or its only item.
fn fault_in(reply: &Reply) -> Option<&Fault> {
    fn only<T>(items: &[Result<T, Fault>]) -> Option<&Fault> {
        match items {
            [Err(fault)] => Some(fault),
            _ => None,
        }
    }
    match reply {
        Reply::Failed(fault) => Some(fault),
        Reply::Encrypted(items) => only(items),
        Reply::Decrypted(items) => only(items),
        _ => None,
    }
}

/// The same may succeed in a moment.
fn may_pass(fault: &Fault) -> bool {
    fault.class.may_be_busy() || matches!(fault.class, Class::Token | Class::Session)
}

/// The key may not be yet wherever it will be in a moment.
fn may_come(fault: &Fault) -> bool {
    matches!(fault.class, Class::Busy | Class::KeyAbsent | Class::KeyUnusable)
}

/// Keys can be made or placed by the control worker and proven by a data worker.
fn can_create<P: Port>(member: &Member<P>, status: &Status) -> bool {
    let in_place = member.port.settings().capabilities.keys.in_place();
    let wraps = status.logged_in.as_ref().is_none_or(|found| found.ceremony.wrapping);
    status.state == State::Serving && status.control_ready && (in_place || wraps)
}
