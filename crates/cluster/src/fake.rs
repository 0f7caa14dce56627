//! Members for the tests of this crate: each does what its script says, and otherwise what a sound token would do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::dispatch::Dispatcher;
use super::item::Done;
use super::member_operation::{Decrypt, Encrypt, Task};
use super::port::Port;
use super::{Error, Failed, KeyRef, PlacementMask, Proof, Removal, Verify, member_monitor, proof};
use model::call_options::CallOptions;
use model::clock::Clock;
use model::id::{KeyId, KeyVersionId, Zone};
use model::profile::judgement::Judgement;
use model::profile::{KeysMade, Topology, TopologyKind, VerifyWraps};
use model::secret::Secret;
use protocol::{Class, DataKey, DecryptItem, EncryptItem, Fault, Op, Ready, Reply, Sealed};
use supervisor::{CallError, Settings, State, Status};
use telemetry::watchdog::Watchdog;

/// What a member does with a request.
pub(super) enum Act {
    /// What a sound token does.
    Well,
    /// Answers this.
    Say(Reply),
    /// Has this trouble.
    Fail(CallError),
    /// Has this trouble after a while.
    FailLate(Duration, CallError),
    /// Does well after a while.
    Slow(Duration),
    /// Does well once this is so.
    Once(Arc<dyn Fn() -> bool + Send + Sync>),
    /// Never answers.
    Hang,
}

type Script = Box<dyn Fn(&Op) -> Act + Send + Sync>;

#[derive(Clone)]
pub(super) struct Fake(Arc<Inner>);

struct Inner {
    settings: Settings,
    script: Mutex<Script>,
    calls: AtomicUsize,
    load: AtomicUsize,
    wait: Mutex<Duration>,
    status: watch::Sender<Arc<Status>>,
}

impl Fake {
    pub(super) fn new(name: &str, zone: &str) -> Self {
        Self::run_by(Settings::of_a_test(name, zone))
    }

    /// One whose workers keep copies of keys.
    pub(super) fn keeping_copies(name: &str, zone: &str) -> Self {
        Self::run_by(Settings { hot_copies: true, ..Settings::of_a_test(name, zone) })
    }

    /// One that stands in several zones by itself and makes its keys in place; they are wherever they are to be after this.
    pub(super) fn alone(name: &str, zones: &[&str], settles: Duration) -> Self {
        let mut settings = Settings::of_a_test(name, Zone::over(zones.iter().copied()).as_str());
        let settles_ms = u64::try_from(settles.as_millis()).unwrap();
        settings.capabilities.topology = Topology { kind: TopologyKind::SelfReplicating, settles_ms };
        settings.capabilities.keys.made = KeysMade::InPlace;
        Self::run_by(settings)
    }

    fn run_by(settings: Settings) -> Self {
        let (status, _) = watch::channel(Arc::new(status(State::Serving, None)));
        let (calls, load, wait) = Default::default();
        Self(Arc::new(Inner { settings, script: Mutex::new(Box::new(|_| Act::Well)), calls, load, wait, status }))
    }

    pub(super) fn script(&self, script: impl Fn(&Op) -> Act + Send + Sync + 'static) {
        *self.0.script.lock().unwrap() = Box::new(script);
    }

    pub(super) fn set_state(&self, state: State, reason: Option<&str>) {
        self.0.status.send_replace(Arc::new(status(state, reason)));
    }

    /// Shows what a worker has found.
    pub(super) fn show(&self, ready: Ready) {
        let ready = Some(Arc::new(ready));
        self.0.status.send_modify(|status| *status = Arc::new(Status { ready, ..Status::clone(status) }));
    }

    pub(super) fn set_load(&self, load: usize) {
        self.0.load.store(load, Ordering::Relaxed);
    }

    /// Sets how long its queue is.
    pub(super) fn set_wait(&self, wait: Duration) {
        *self.0.wait.lock().unwrap() = wait;
    }

    pub(super) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }
}

pub(super) fn status(state: State, reason: Option<&str>) -> Status {
    Status {
        state,
        reason: reason.map(str::to_owned),
        names_hsm: false,
        examined: None,
        code: None,
        refused: false,
        since: SystemTime::UNIX_EPOCH,
        ready: None,
        logged_in: None,
        proven: true,
        steps: Vec::new(),
        data_ready: u16::from(state == State::Serving),
        control_ready: state == State::Serving,
        control_failed: false,
        restarts: 0,
    }
}

impl Port for Fake {
    async fn call(&self, op: Arc<Op>, options: CallOptions) -> Result<Reply, CallError> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        if self.0.status.borrow().state != State::Serving {
            return Err(CallError::NotReady);
        }
        let act = (self.0.script.lock().unwrap())(&op);
        let answer = async {
            match act {
                Act::Well => Ok(well(&op)),
                Act::Say(reply) => Ok(reply),
                Act::Fail(error) => Err(error),
                Act::FailLate(pause, error) => {
                    tokio::time::sleep(pause).await;
                    Err(error)
                }
                Act::Slow(pause) => {
                    tokio::time::sleep(pause).await;
                    Ok(well(&op))
                }
                Act::Once(so) => {
                    while !so() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Ok(well(&op))
                }
                Act::Hang => std::future::pending().await,
            }
        };
        tokio::time::timeout_at(options.deadline.into(), answer)
            .await
            .unwrap_or(Err(CallError::DeadlineExceeded { sent: true }))
    }

    fn wait(&self) -> Duration {
        *self.0.wait.lock().unwrap()
    }

    fn items_in(&self, _: Duration) -> usize {
        usize::MAX
    }

    fn load(&self) -> usize {
        self.0.load.load(Ordering::Relaxed)
    }

    fn status(&self) -> Arc<Status> {
        Arc::clone(&self.0.status.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<Status>> {
        self.0.status.subscribe()
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn examined(&self, judgement: Judgement) {
        let examined = Some(Arc::new(judgement));
        self.0.status.send_modify(|status| *status = Arc::new(Status { examined, ..Status::clone(status) }));
    }
}

/// What a sound token does: here a ciphertext is the plaintext, and one that begins with `bad` does not open.
pub(super) fn well(op: &Op) -> Reply {
    let seal = |bytes: &[u8]| Sealed { iv: [0; 12], sealed: Bytes::copy_from_slice(bytes) };
    let open = |item: &DecryptItem| match item.sealed.starts_with(b"bad") {
        true => Err(Fault::own(Class::Ambiguous, "C_Decrypt", "general error")),
        false => Ok(Secret::new(item.sealed.to_vec())),
    };
    match op {
        Op::Encrypt(items) => Reply::Encrypted(items.iter().map(|item| Ok(seal(item.plaintext.expose()))).collect()),
        Op::Decrypt(items) => Reply::Decrypted(items.iter().map(open).collect()),
        Op::GenerateDataKey(items) => Reply::DataKeys(
            items
                .iter()
                .map(|item| {
                    let bytes = vec![7; usize::from(item.length)];
                    Ok(DataKey { sealed: seal(&bytes), plaintext: Secret::new(bytes) })
                })
                .collect(),
        ),
        Op::ReEncrypt(items) => Reply::ReEncrypted(
            items
                .iter()
                .map(|item| open(&item.source).map(|opened| seal(opened.expose())).map_err(Fault::of_source))
                .collect(),
        ),
        Op::Compare(items) => Reply::Compared(
            items.iter().map(|item| Ok(open(&item.source).map_err(Fault::of_source)? == open(&item.made)?)).collect(),
        ),
        Op::Random { length } => Reply::Random(Secret::new(vec![9; usize::from(*length)])),
        Op::MakeKey => Reply::Blob(Bytes::from_static(b"blob")),
        Op::List => Reply::Keys(Vec::new()),
        _ => Reply::Done,
    }
}

/// Every item of a request fails with this class.
pub(super) fn refuse_all(op: &Op, class: Class) -> Act {
    let fault = || Fault::own(class, "C_Test", "scripted");
    match op {
        Op::Encrypt(items) => Act::Say(Reply::Encrypted(items.iter().map(|_| Err(fault())).collect())),
        Op::Decrypt(items) => Act::Say(Reply::Decrypted(items.iter().map(|_| Err(fault())).collect())),
        Op::GenerateDataKey(items) => Act::Say(Reply::DataKeys(items.iter().map(|_| Err(fault())).collect())),
        Op::ReEncrypt(items) => Act::Say(Reply::ReEncrypted(items.iter().map(|_| Err(fault())).collect())),
        Op::Compare(items) => Act::Say(Reply::Compared(items.iter().map(|_| Err(fault())).collect())),
        Op::Random { .. } => Act::Say(Reply::Failed(fault())),
        _ => Act::Well,
    }
}

/// Scripted members with their monitors.
pub(super) struct Bench {
    pub dispatcher: Arc<Dispatcher<Fake>>,
    pub members: Vec<Fake>,
    pub removals: mpsc::Receiver<Removal>,
    pub clock: Clock,
    _monitors: JoinSet<()>,
}

impl Bench {
    /// One member in each of `zones` zones, `a`, `b` and so on; none of them is the daemon's own unless named.
    pub(super) fn new(zones: usize, own_zone: Option<&str>, hedge_after: Duration) -> Self {
        Self::verifying(zones, own_zone, hedge_after, Verify { wraps: VerifyWraps::None, unwraps: false })
    }

    /// The same, with answers that are looked at twice.
    pub(super) fn verifying(zones: usize, own_zone: Option<&str>, hedge_after: Duration, verify: Verify) -> Self {
        let names = ["a", "b", "c", "d"];
        let members = names[..zones].iter().map(|name| Fake::new(name, &format!("zone-{name}"))).collect();
        Self::of(members, own_zone, hedge_after, verify)
    }

    /// With these members.
    pub(super) fn of(members: Vec<Fake>, own_zone: Option<&str>, hedge_after: Duration, verify: Verify) -> Self {
        let own_zone = own_zone.map(Zone::from);
        let settings = super::Settings { id: "cluster-abcdefghijk".into(), own_zone, hedge_after, verify };
        let clock = Clock::system();
        let (sender, removals) = mpsc::channel(16);
        let (dispatcher, suspicions) = Dispatcher::new(&settings, members.clone(), clock.clone(), &[]);
        let dispatcher = Arc::new(dispatcher);
        let monitors = member_monitor::keep(&dispatcher, suspicions, &sender, &Watchdog::new(clock.clone()));
        Self { dispatcher, members, removals, clock, _monitors: monitors }
    }

    pub(super) fn within(&self, millis: u64) -> CallOptions {
        (self.clock.now() + Duration::from_millis(millis)).into()
    }

    pub(super) async fn encrypt(&self, keys: &[Arc<KeyRef>], millis: u64) -> Vec<Result<Sealed, Error>> {
        let tasks = keys.iter().enumerate().map(|(at, key)| {
            let plaintext = Secret::new(at.to_le_bytes().to_vec());
            Task::anywhere(Some(Arc::clone(key)), EncryptItem { key: key.version, aad: Bytes::new(), plaintext })
        });
        errors(self.dispatcher.run::<Encrypt>(tasks.collect(), self.within(millis)).await)
    }

    pub(super) async fn decrypt(&self, key: &Arc<KeyRef>, sealed: &[&[u8]], millis: u64) -> Vec<Result<Secret, Error>> {
        let tasks = sealed.iter().map(|sealed| {
            let (aad, sealed) = (Bytes::new(), Bytes::copy_from_slice(sealed));
            Task::anywhere(Some(Arc::clone(key)), DecryptItem { key: key.version, aad, iv: [0; 12], sealed })
        });
        errors(self.dispatcher.run::<Decrypt>(tasks.collect(), self.within(millis)).await)
    }

    pub(super) fn healths(&self) -> Vec<super::Health> {
        self.dispatcher.members.iter().map(|member| member.health()).collect()
    }

    /// Waits until a condition holds.
    pub(super) async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = self.within(60_000).deadline;
        while !condition() {
            assert!(self.clock.now() < deadline, "{what} did not come about");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A key that is in these members.
pub(super) fn key(placed: u64) -> Arc<KeyRef> {
    let version = KeyVersionId { key: KeyId::random(), version: 1 };
    let sealed = Bytes::copy_from_slice(proof::to_seal(version).plaintext.expose());
    Arc::new(KeyRef { version, placed: PlacementMask(placed), proof: Proof { iv: [0; 12], sealed } })
}

/// What came of each, or what is wrong with it, whoever did it or had it.
pub(super) fn errors<T>(answers: Vec<Result<Done<T>, Failed>>) -> Vec<Result<T, Error>> {
    let one = |answer: Result<Done<T>, Failed>| answer.map(|done| done.output).map_err(|failed| failed.error);
    answers.into_iter().map(one).collect()
}
