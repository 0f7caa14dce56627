//! One member as the data plane sees it: its port, its health in an atomic, and where its worries are taken to.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, mpsc};

use super::health::{self, Observation, Standing};
use super::port::Port;
use super::route::Gauge;
use super::statistics::Statistics;
use super::throttle::Throttle;
use super::{Health, KeyRef, MemberStatus, log_key};
use model::clock::Clock;
use model::id::{HsmId, Zone};
use model::lock::MutexExt as _;
use model::profile::Topology;
use supervisor::{State, Status};

/// A member that has not replied to anybody for so many times the hedge's delay is silent: with the usual 50 ms that
/// is more than a transient load of the machine, and less than the limit past which a worker is killed.
const HEDGES_TO_SILENCE: u32 = 3;

/// A key with which something is wrong in one member; its monitor looks into it.
#[derive(Debug)]
pub(super) enum KeySuspicion {
    /// A worker said that the object is gone.
    Absent(Arc<KeyRef>),
    /// The key does not open its proof ciphertext.
    Broken(Arc<KeyRef>),
}

impl KeySuspicion {
    /// Which key.
    pub(super) fn key(&self) -> &Arc<KeyRef> {
        match self {
            Self::Absent(key) | Self::Broken(key) => key,
        }
    }
}

pub(super) struct Member<P> {
    /// How it is reached.
    pub port: P,
    /// Its place in the configuration.
    pub place: usize,
    /// Its name.
    pub hsm: HsmId,
    /// Its zone, or its zones.
    pub zone: Zone,
    /// It is in the daemon's own zone.
    pub own: bool,
    /// To its monitor.
    pub suspicions: mpsc::Sender<KeySuspicion>,
    /// Wakes its monitor: it became suspect.
    pub doubt: Notify,
    /// What it has done.
    pub statistics: Arc<Statistics>,
    /// What signs heads of audit logs in it.
    pub log_key: log_key::Kept,
    capacity: usize,
    clock: Clock,
    /// The health for readers that must not wait; `CLEAN` says that a further success changes nothing.
    quick: AtomicU8,
    /// Replies so far; a member that is late while this stands still is silent.
    answers: AtomicU64,
    silence: Mutex<Option<Silence>>,
    standing: Mutex<Known>,
    /// Is told when it has begun to serve, or has stopped.
    watch: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Whether `throttle` has to be looked at.
    throttled: AtomicBool,
    throttle: Mutex<Option<Throttle>>,
}

/// A time without replies although somebody waits for one.
struct Silence {
    /// Replies before it.
    answers: u64,
    /// When the first of those who wait asked.
    since: Instant,
    /// When somebody last found it so.
    noted: Instant,
}

struct Known {
    standing: Standing,
    /// When its health last changed.
    since: SystemTime,
    reason: Option<String>,
}

const STARTING: u8 = 0;
const CLEAN: u8 = 1;
const COUNTING: u8 = 2;
const SUSPECT: u8 = 3;
const DOWN: u8 = 4;

impl<P: Port> Member<P> {
    pub(super) fn new(
        port: P,
        place: usize,
        own_zone: Option<&Zone>,
        clock: Clock,
        suspicions: mpsc::Sender<KeySuspicion>,
        statistics: Arc<Statistics>,
    ) -> Self {
        let settings = port.settings();
        let capacity = usize::from(settings.data_workers.max(1)) * usize::from(settings.sessions.max(1));
        let standing =
            Mutex::new(Known { standing: Standing::new(clock.now()), since: clock.calendar(), reason: None });
        Self {
            place,
            hsm: settings.hsm.clone(),
            own: own_zone.is_some_and(|own| settings.zone.covers(own)),
            zone: settings.zone.clone(),
            suspicions,
            doubt: Notify::new(),
            statistics,
            log_key: log_key::Kept::default(),
            capacity,
            clock,
            quick: AtomicU8::new(STARTING),
            answers: AtomicU64::new(0),
            silence: Mutex::new(None),
            standing,
            watch: OnceLock::new(),
            throttled: AtomicBool::new(false),
            throttle: Mutex::new(None),
            port,
        }
    }

    /// Has this told from now on when it has begun to serve, or has stopped. There is one who wants to know.
    pub(super) fn is_watched_by(&self, watch: impl Fn() + Send + Sync + 'static) {
        let _ = self.watch.set(Box::new(watch));
    }

    /// Its health, without waiting.
    pub(super) fn health(&self) -> Health {
        match self.quick.load(Ordering::Relaxed) {
            STARTING => Health::Starting,
            CLEAN | COUNTING => Health::Healthy,
            SUSPECT => Health::Suspect,
            _ => Health::Down,
        }
    }

    /// It can be expected to answer.
    pub(super) fn is_serving(&self) -> bool {
        serves(self.health())
    }

    /// What routing needs.
    pub(super) fn gauge(&self) -> Gauge {
        Gauge {
            health: self.health(),
            own: self.own,
            load: self.port.load(),
            capacity: self.capacity,
            throttled: self.is_throttled(),
        }
    }

    /// It has said a moment ago that it has too much to do. One load where nobody has said so.
    pub(super) fn is_throttled(&self) -> bool {
        if !self.throttled.load(Ordering::Relaxed) {
            return false;
        }
        let throttle = self.throttle.lock_anyway();
        let holds = throttle.is_some_and(|throttle| throttle.holds(self.clock.now()));
        self.throttled.store(holds, Ordering::Relaxed);
        holds
    }

    /// Notes that it says so. Its health is not touched.
    pub(super) fn throttle(&self) {
        let now = self.clock.now();
        let mut throttle = self.throttle.lock_anyway();
        *throttle = Some(throttle.map_or_else(|| Throttle::first(now), |known| known.again(now)));
        self.throttled.store(true, Ordering::Relaxed);
    }

    /// Items for each session that it may have more than another member and still count as equally busy, for the sake
    /// of copies of keys; 0 where it keeps none.
    pub(super) fn alike(&self, time: Duration, most: usize) -> usize {
        let settings = self.port.settings();
        let items = self.port.items_in(time).min(most).min(settings.queue_items / self.capacity.max(1) / 4);
        if settings.hot_copies { items } else { 0 }
    }

    /// How it has its objects in several HSMs, where it does.
    pub(super) fn replication(&self) -> Option<&Topology> {
        Some(&self.port.settings().capabilities.topology).filter(|topology| topology.replicates())
    }

    /// Its queue is so long that a late answer says nothing about its health, and that more work would not help.
    pub(super) fn is_flooded(&self, hedge_after: Duration) -> bool {
        self.port.wait() > hedge_after / 2
    }

    /// Replies so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Notes that it replied, whatever it said.
    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes a success. The way that every call takes: one load where nothing changes.
    pub(super) fn succeeded(&self) {
        if self.quick.load(Ordering::Relaxed) != CLEAN {
            self.observe(Observation::Succeeded, None);
        }
    }

    /// Notes that one who asked at `asked`, when there had been `answers` replies, waits longer than `hedge_after`.
    ///
    /// That is a failure only when nobody had a reply for some time: a queue moves on, and a busy machine lets every
    /// process stand still for a moment.
    pub(super) fn late(&self, answers: u64, asked: Instant, hedge_after: Duration) {
        if self.answers() != answers || self.is_flooded(hedge_after) {
            return;
        }
        let now = self.clock.now();
        let mut silence = self.silence.lock_anyway();
        let since = match &*silence {
            // Between two late calls with a pause between them there was nobody to reply to.
            Some(known) if known.answers == answers && asked <= known.noted + hedge_after => known.since,
            _ => asked,
        };
        *silence = Some(Silence { answers, since, noted: now });
        drop(silence);
        let silent_for = now.saturating_duration_since(since);
        if silent_for >= hedge_after * HEDGES_TO_SILENCE {
            let why = format!("no reply for {} ms", silent_for.as_millis());
            self.observe(Observation::Failed, Some(why));
        }
    }

    /// Notes an observation and logs a change of health.
    pub(super) fn observe(&self, observation: Observation, why: Option<String>) {
        let now = self.clock.now();
        let mut known = self.standing.lock_anyway();
        let before = known.standing;
        let after = health::next(before, observation, now);
        known.standing = after;
        let quick = match after.health {
            Health::Starting => STARTING,
            Health::Healthy if after.is_clean() => CLEAN,
            Health::Healthy => COUNTING,
            Health::Suspect => SUSPECT,
            Health::Down => DOWN,
        };
        self.quick.store(quick, Ordering::Relaxed);
        match after.health {
            Health::Healthy => known.reason = None,
            _ if why.is_some() => known.reason = why,
            _ => {}
        }
        if before.health == after.health {
            return;
        }
        known.since = self.clock.calendar();
        let reason = known.reason.clone();
        drop(known);
        self.statistics.changed(before.health, after.health);
        let (hsm, zone) = (&self.hsm, &self.zone);
        match (after.health, reason) {
            _ if self.port.status().state == State::Stopped => tracing::info!(%hsm, %zone, "HSM is not used any more"),
            (Health::Healthy, _) => tracing::info!(%hsm, %zone, from = ?before.health, "HSM is healthy"),
            (health, Some(reason)) => {
                tracing::warn!(%hsm, %zone, from = ?before.health, to = ?health, %reason, "HSM changed its health");
            }
            (health, None) => {
                tracing::warn!(%hsm, %zone, from = ?before.health, to = ?health, "HSM changed its health");
            }
        }
        if after.health == Health::Suspect {
            self.doubt.notify_one();
        }
        if serves(before.health) != serves(after.health)
            && let Some(watch) = self.watch.get()
        {
            watch();
        }
    }

    /// Until it is probed again, if it is a suspect. `jitter` is any byte.
    pub(super) fn pause(&self, jitter: u8) -> Option<Duration> {
        let known = self.standing.lock_anyway();
        (known.standing.health == Health::Suspect).then(|| known.standing.pause(jitter))
    }

    /// Takes over what its supervisor says.
    pub(super) fn follow(&self, status: &Status) {
        self.observe(Observation::Supervisor(status.state), status.reason.clone());
    }

    /// What its supervisor says is not taken over at the moment: nobody knows how it is, and nothing is expected of it.
    pub(super) fn lapse(&self) {
        let why = "the task that follows its supervisor broke off by a fault in this program and is started again";
        self.observe(Observation::Supervisor(State::Down), Some(why.to_owned()));
    }

    /// Hands a worry to the monitor; false when it has too many already.
    pub(super) fn worry(&self, suspicion: KeySuspicion) -> bool {
        self.suspicions.try_send(suspicion).is_ok()
    }

    /// How it is, for people.
    pub(super) fn status(&self) -> MemberStatus {
        let status = self.port.status();
        let known = self.standing.lock_anyway();
        MemberStatus {
            hsm: self.hsm.clone(),
            zone: self.zone.clone(),
            health: known.standing.health,
            reason: known.reason.clone().map(|reason| match known.standing.quarantine() {
                pause if known.standing.health == Health::Suspect && !pause.is_zero() => {
                    format!("{reason}; it keeps failing, so it must have been sound for {pause:?} before it is asked first again")
                }
                _ => reason,
            }),
            since: known.since,
            in_place: self.port.settings().capabilities.keys.in_place(),
            data_workers: self.port.settings().data_workers,
            load: self.port.load(),
            capacity: self.capacity,
            statistics: self.statistics.read(),
            status,
        }
    }

    /// What it says of itself.
    pub(super) fn why(&self) -> String {
        let known = self.standing.lock_anyway().reason.clone();
        let reason = known.or_else(|| self.port.status().reason.clone());
        format!("{}: {}", self.hsm, reason.as_deref().unwrap_or("no reason known"))
    }

    /// One sentence about why it does not serve, for an error that names all members.
    pub(super) fn sentence(&self, why: Option<&str>) -> String {
        let status = self.status();
        let known = status.reason.or_else(|| status.status.reason.clone());
        let why = match (why, known) {
            (Some(why), Some(reason)) if why != reason => format!("{why} ({reason})"),
            (Some(why), _) => why.to_owned(),
            (None, Some(reason)) => reason,
            (None, None) => format!("it is {:?}", status.health).to_lowercase(),
        };
        format!("HSM {} in zone {}: {why}", self.hsm, self.zone)
    }
}

const fn serves(health: Health) -> bool {
    matches!(health, Health::Healthy | Health::Suspect)
}
