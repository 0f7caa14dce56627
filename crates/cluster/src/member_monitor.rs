//! What goes on beside the calls, for each member: its supervisor's status is followed, a suspect is probed until it
//! is sound, a missing key is looked for a second time before it is reported, a broken one is proven again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::dispatch::Dispatcher;
use super::health::Observation;
use super::member::{KeySuspicion, Member};
use super::port::Port;
use super::proof::Outcome;
use super::{Health, KeyRef, Removal};
use model::id::KeyVersionId;
use model::profile::Topology;
use protocol::{Op, Reply};
use supervisor::{CallError, State};
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

/// How often a worry is looked into.
const EVERY: Duration = Duration::from_millis(250);
/// Patience with a probe and with a listing.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
const LIST_PATIENCE: Duration = Duration::from_secs(10);
/// A listing that fails so often leaves the worry undecided; the next call that misses the key brings it back.
const MOST_TRIES: u32 = 40;
/// Most keys that one monitor worries about.
const MOST_WORRIES: usize = 1_024;

/// Starts the monitors of all members. They end when the set is dropped or the supervisors are gone.
pub(super) fn keep<P: Port>(
    dispatcher: &Arc<Dispatcher<P>>,
    suspicions: Vec<mpsc::Receiver<KeySuspicion>>,
    removals: &mpsc::Sender<Removal>,
    watchdog: &Watchdog,
) -> JoinSet<()> {
    let mut monitors = JoinSet::new();
    for (member, suspicions) in dispatcher.members.iter().zip(suspicions) {
        let (followed, lapsing, hsm) = (Arc::clone(member), Arc::clone(member), member.hsm.to_string());
        // On panic: started again; meanwhile nothing is expected of the member.
        monitors.spawn(watchdog.clone().restarted(
            Task::Follow,
            hsm.clone(),
            move || lapsing.lapse(),
            move |heartbeat| follow(Arc::clone(&followed), heartbeat),
        ));
        let monitor = MemberMonitor {
            dispatcher: Arc::clone(dispatcher),
            member: Arc::clone(member),
            removals: removals.clone(),
            missing: BTreeMap::new(),
            broken: Vec::new(),
        };
        let (exclusions, place) = (Arc::clone(dispatcher), member.place);
        let kept = Arc::new(Mutex::new((monitor, suspicions)));
        // On panic: started again, with what it worried about but for what it had in hand.
        monitors.spawn(watchdog.clone().restarted(
            Task::Doubts,
            hsm,
            move || exclusions.exclusions.admit_absent(place),
            move |heartbeat| {
                let kept = Arc::clone(&kept);
                async move {
                    // Nobody else has it but a run before this one, which has let it go.
                    let (monitor, suspicions) = &mut *kept.lock().await;
                    monitor.run(suspicions, heartbeat).await;
                }
            },
        ));
    }
    monitors
}

/// Takes over each change of the supervisor's status. Apart from the monitor, whose listings take their time.
async fn follow<P: Port>(member: Arc<Member<P>>, heartbeat: Heartbeat) {
    let mut status = member.port.watch();
    loop {
        let current = Arc::clone(&status.borrow_and_update());
        member.follow(&current);
        if heartbeat.idle(status.changed()).await.is_err() {
            return;
        }
    }
}

struct MemberMonitor<P> {
    dispatcher: Arc<Dispatcher<P>>,
    member: Arc<Member<P>>,
    removals: mpsc::Sender<Removal>,
    /// Versions that a worker did not find.
    missing: BTreeMap<KeyVersionId, Missing>,
    /// Keys that did not open their proof.
    broken: Vec<Arc<KeyRef>>,
}

/// A version that a worker did not find.
#[derive(Clone, Copy)]
struct Missing {
    since: Instant,
    /// Looks that told nothing.
    tries: u32,
}

/// What a monitor does next.
enum Next {
    /// Somebody has a suspicion.
    KeySuspicion(KeySuspicion),
    /// The member became a suspect.
    Doubt,
    /// It still is one.
    Probe,
    /// Worries are looked into again.
    Look,
    /// Nobody can have a suspicion any more.
    End,
}

impl<P: Port> MemberMonitor<P> {
    async fn run(&mut self, suspicions: &mut mpsc::Receiver<KeySuspicion>, heartbeat: Heartbeat) {
        let at = tokio::time::Instant::from_std;
        let (mut looked, mut probed, mut jitter) = (self.dispatcher.clock.now(), self.dispatcher.clock.now(), 0);
        loop {
            let idle = self.missing.is_empty() && self.broken.is_empty();
            let suspect = self.member.pause(jitter);
            let probe = at(probed + suspect.unwrap_or_default());
            let next = async {
                tokio::select! {
                    suspicion = suspicions.recv() => suspicion.map_or(Next::End, Next::KeySuspicion),
                    () = self.member.doubt.notified() => Next::Doubt,
                    () = tokio::time::sleep_until(probe), if suspect.is_some() => Next::Probe,
                    () = tokio::time::sleep_until(at(looked + EVERY)), if !idle => Next::Look,
                }
            };
            match heartbeat.idle(next).await {
                Next::End => return,
                Next::KeySuspicion(suspicion) => {
                    self.take(suspicion);
                    while let Ok(suspicion) = suspicions.try_recv() {
                        self.take(suspicion);
                    }
                    self.look_for_missing(&heartbeat).await;
                    if idle {
                        looked = self.dispatcher.clock.now();
                    }
                }
                Next::Doubt => {
                    self.probe_suspect().await;
                    probed = self.dispatcher.clock.now();
                }
                Next::Probe => {
                    self.probe_suspect().await;
                    probed = self.dispatcher.clock.now();
                    jitter = uuid::Uuid::new_v4().into_bytes()[0];
                }
                Next::Look => {
                    self.look_for_missing(&heartbeat).await;
                    self.prove_broken(&heartbeat).await;
                    looked = self.dispatcher.clock.now();
                }
            }
        }
    }

    fn take(&mut self, suspicion: KeySuspicion) {
        if self.missing.len() + self.broken.len() >= MOST_WORRIES {
            self.dispatcher.exclusions.admit(suspicion.key().version, self.member.place);
            return;
        }
        match suspicion {
            KeySuspicion::Absent(key) => {
                let missing = Missing { since: self.dispatcher.clock.now(), tries: 0 };
                self.missing.entry(key.version).or_insert(missing);
            }
            KeySuspicion::Broken(key) => self.broken.push(key),
        }
    }

    async fn probe_suspect(&self) {
        if self.member.health() != Health::Suspect {
            return;
        }
        match self.call(Op::Probe, PROBE_PATIENCE).await {
            Ok(Reply::Done) => self.member.observe(Observation::Succeeded, None),
            // A suspect that has too much to do stays one, and is asked again later.
            Ok(Reply::Failed(fault)) if fault.class.may_be_busy() => self.member.throttle(),
            Ok(Reply::Failed(fault)) => self.member.observe(Observation::FailedProbe, Some(fault.to_string())),
            Ok(_) | Err(CallError::Busy | CallError::WouldMissDeadline(_) | CallError::NotReady) => {}
            Err(error) => self.member.observe(Observation::FailedProbe, Some(format!("probe: {error}"))),
        }
    }

    /// A key counts as removed when the token is sound and lists its objects without this one; where the module has several
    /// HSMs behind it, when it still does so after all of them have had the time to. The listing is the control worker's, so
    /// one data worker that has gone blind does not make a removal.
    async fn look_for_missing(&mut self, heartbeat: &Heartbeat) {
        if self.missing.is_empty() {
            return;
        }
        let sound = matches!(self.call(Op::Probe, PROBE_PATIENCE).await, Ok(Reply::Done));
        let listed = match sound {
            true => self.call(Op::List, LIST_PATIENCE).await,
            false => Err(CallError::NotReady),
        };
        let Ok(Reply::Keys(present)) = listed else {
            let (exclusions, place) = (&self.dispatcher.exclusions, self.member.place);
            self.missing.retain(|version, Missing { tries, .. }| {
                *tries += 1;
                if *tries >= MOST_TRIES {
                    exclusions.admit(*version, place);
                }
                *tries < MOST_TRIES
            });
            return;
        };
        let settles = self.member.replication().map_or(Duration::ZERO, Topology::settles);
        let now = self.dispatcher.clock.now();
        let mut on_its_way = BTreeMap::new();
        while let Some((version, missing)) = self.missing.pop_first() {
            heartbeat.turn().await;
            if present.contains(&version) {
                tracing::warn!(hsm = %self.member.hsm, key = %version, "a worker missed a key that the token lists");
                self.dispatcher.exclusions.admit(version, self.member.place);
                continue;
            }
            // Another HSM behind the slot may show it, until all of them have had the time to.
            if now.saturating_duration_since(missing.since) < settles {
                on_its_way.insert(version, missing);
                continue;
            }
            tracing::error!(hsm = %self.member.hsm, zone = %self.member.zone, key = %version,
                "the key was removed in this HSM by somebody else; it is not used there any more");
            let removal = Removal { hsm: self.member.hsm.clone(), version };
            // A closed channel means that nobody records removals; the exclusion stands all the same.
            if timeout(LIST_PATIENCE, self.removals.send(removal)).await.is_err() {
                self.dispatcher.exclusions.admit(version, self.member.place);
            }
        }
        self.missing = on_its_way;
    }

    async fn prove_broken(&mut self, heartbeat: &Heartbeat) {
        for _ in 0..self.broken.len() {
            heartbeat.turn().await;
            // Stays in the list, behind all others, until it is decided on: one that is forgotten would stay excluded.
            self.broken.rotate_left(1);
            let Some(key) = self.broken.last().cloned() else { return };
            let (place, version) = (self.member.place, key.version);
            if self.dispatcher.exclusions.of(version).broken & super::route::bit(place) == 0 {
                self.broken.pop();
                continue;
            }
            let deadline = self.deadline(PROBE_PATIENCE);
            match self.dispatcher.proofs.check(&self.member, &key, &self.dispatcher.clock, deadline).await {
                Outcome::Opens => {
                    tracing::info!(hsm = %self.member.hsm, key = %version, "the key opens its proof ciphertext again");
                    self.dispatcher.exclusions.admit(version, place);
                    self.broken.pop();
                }
                Outcome::Broken | Outcome::Absent | Outcome::Busy | Outcome::Unknown => {}
            }
        }
    }

    async fn call(&self, op: Op, patience: Duration) -> Result<Reply, CallError> {
        if self.member.port.status().state == State::Stopped {
            return Err(CallError::NotReady);
        }
        let deadline = self.deadline(patience);
        self.member.port.call(Arc::new(op), deadline.into()).await
    }

    fn deadline(&self, patience: Duration) -> Instant {
        self.dispatcher.clock.now() + patience
    }
}
