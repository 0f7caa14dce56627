//! The supervisor over real workers and real tokens, without a daemon around it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::clock::Clock;
use model::profile::Profile;
use model::profile::examination::{Examined, Tried};
use model::profile::judgement::judge;
use model::secret::Secret;
use protocol::{CeremonyOp, Op, Reply, Role, Token};
use rustix::process::Signal;
use supervisor::{CallError, Hsm, KillLimits, Settings, State, Status, Worker};
use telemetry::watchdog::Watchdog;
use tempfile::TempDir;

use crate::harness::admission::known_pin;
use crate::harness::zone::Zone;
use crate::harness::{process, tool, wait};

const PIN: &str = "kmsuser-pin-1";

/// An HSM under test: a token of its own with a canary key.
struct Bench {
    _dir: TempDir,
    settings: Settings,
    zone: Zone,
    clock: Clock,
}

impl Bench {
    async fn prepare() -> Self {
        let dir = TempDir::with_prefix("keystored-test-").unwrap();
        let path = dir.path();
        let (conf, tokens) = (path.join("softhsm2.conf"), path.join("tokens"));
        fs::create_dir(&tokens).unwrap();
        let line =
            format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
        fs::write(&conf, line).unwrap();
        let init = ["--init-token", "--free", "--label", "bench", "--so-pin", "so-pin-1", "--pin", PIN];
        tool::run(Command::new("softhsm2-util").args(init).env("SOFTHSM2_CONF", &conf)).ok();

        let module = provision::find_module().expect("SoftHSM is there (make deps)");
        // Workers are told apart by it: those of all tests are children of one process.
        static BENCHES: AtomicUsize = AtomicUsize::new(0);
        let name = format!("hsm-bench-{}", BENCHES.fetch_add(1, Ordering::Relaxed));
        let settings = Settings {
            hsm: name.as_str().into(),
            zone: "t".into(),
            worker: PathBuf::from(env!("CARGO_BIN_EXE_keystored")),
            module: module.clone(),
            token: Token { label: "bench".into(), serials: Vec::new() },
            certificate: None,
            profile: Profile::SoftHsm,
            capabilities: config::capabilities(Profile::SoftHsm).unwrap(),
            environment: BTreeMap::from([
                ("SOFTHSM2_CONF".to_owned(), conf.display().to_string()),
                ("KEYSTORED_LOG_FILTER".to_owned(), "error".to_owned()),
            ]),
            data_workers: 2,
            sessions: 1,
            hot_copies: true,
            require_mlock: false,
            sandbox: None,
            queue_items: 64,
            queue_bytes: 1 << 20,
            kill: KillLimits { crypto: Duration::from_secs(5), ..KillLimits::default() },
            restart: (Duration::from_millis(20), Duration::from_millis(500)),
            start_timeout: Duration::from_secs(20),
            probe_every: Duration::from_millis(300),
            lock_file: path.join("hsm.lock"),
            lock_dir: path.to_owned(),
        };
        let zone = Zone {
            hsm: name,
            name: "t".into(),
            label: "bench".into(),
            pin_file: path.join("pin"),
            env: [("SOFTHSM2_CONF".to_owned(), conf.display().to_string())].into(),
            softhsm_conf: conf,
            module,
            daemon: std::process::id(),
        };
        let bench = Self { _dir: dir, settings, zone, clock: Clock::system() };
        let worker = Worker::start(&bench.settings, Role::Ceremony, &bench.clock).await.unwrap();
        assert_eq!(worker.ready().label, "bench");
        worker.login(Secret::new(PIN.into())).await.unwrap();
        let made = worker.call(Op::Ceremony(CeremonyOp::MakeCanary)).await;
        assert!(matches!(made, Ok(Reply::Done)), "{made:?}");
        worker.stop().await;
        assert!(bench.zone.workers().is_empty());
        bench
    }

    fn start(&self) -> Hsm {
        self.start_with(PIN)
    }

    fn start_with(&self, pin: &str) -> Hsm {
        let watchdog = Watchdog::new(self.clock.clone());
        Hsm::start(self.settings.clone(), known_pin(pin), Arc::new(()), self.clock.clone(), watchdog)
    }

    async fn start_whole(&self) -> Hsm {
        let hsm = self.start();
        whole(&hsm).await;
        hsm
    }

    async fn random(&self, hsm: &Hsm, within: Duration) -> Result<Reply, CallError> {
        hsm.call(Arc::new(Op::Random { length: 32 }), self.clock.now() + within).await
    }

    async fn assert_serves(&self, hsm: &Hsm) {
        let reply = self.random(hsm, wait::LONG).await;
        assert!(matches!(&reply, Ok(Reply::Random(bytes)) if bytes.len() == 32), "{reply:?}");
    }

    /// Stops each worker, and waits until every thread of it stands still.
    fn freeze(&self) -> Vec<u32> {
        let workers = self.zone.signal_workers(Signal::STOP);
        wait::until("the workers are stopped", wait::LONG, || {
            workers.iter().all(|pid| stands_still(*pid)).then_some(())
        });
        workers
    }

    /// Descriptors of this process that hold the lock, the workers' own not counted.
    fn lock_descriptors(&self) -> usize {
        let entries = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == self.settings.lock_file)).count()
    }
}

/// Waits until the status is as wanted.
async fn status(hsm: &Hsm, what: &str, wanted: impl Fn(&Status) -> bool) -> Arc<Status> {
    let mut watch = hsm.watch();
    let seen = tokio::time::timeout(wait::LONG, watch.wait_for(|status| wanted(status))).await;
    match seen {
        Ok(status) => Arc::clone(&status.unwrap()),
        Err(_) => panic!("waited in vain until {what}: {:?}", hsm.status()),
    }
}

async fn whole(hsm: &Hsm) -> Arc<Status> {
    let workers = hsm.settings().data_workers;
    let whole = |status: &Status| status.data_ready == workers && status.control_ready && status.reason.is_none();
    status(hsm, "every worker is ready", whole).await
}

/// Waits until so many workers were started again, and every worker is ready.
async fn replaced(hsm: &Hsm, restarts: u64) {
    let workers = hsm.settings().data_workers;
    let replaced =
        |status: &Status| status.restarts == restarts && status.data_ready == workers && status.control_ready;
    status(hsm, "the workers are new", replaced).await;
}

fn stands_still(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().filter_map(Result::ok);
    let mut states = threads.map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
    states.all(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
}

fn gone(pids: &[u32]) {
    wait::until("the processes are gone and reaped", wait::LONG, || {
        pids.iter().all(|pid| !PathBuf::from(format!("/proc/{pid}")).exists()).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_serves_and_stops_and_leaves_nothing_behind() {
    let bench = Bench::prepare().await;
    let hsm = bench.start_whole().await;
    let status = hsm.status();
    assert_eq!(status.state, State::Serving);
    assert_eq!(status.ready.as_ref().map(|ready| ready.label.as_str()), Some("bench"));
    bench.assert_serves(&hsm).await;
    let keys = hsm.call(Arc::new(Op::List), bench.clock.now() + wait::LONG).await;
    assert!(matches!(&keys, Ok(Reply::Keys(keys)) if keys.is_empty()), "{keys:?}");
    assert_eq!(hsm.load(), 0);

    let workers = bench.zone.workers();
    assert_eq!(workers.len(), 3);
    hsm.stop(wait::LONG).await;
    gone(&workers);
    assert_eq!(hsm.status().state, State::Stopped);
    wait::until("the lock is free", wait::LONG, || (bench.lock_descriptors() == 0).then_some(()));
    assert!(matches!(bench.random(&hsm, wait::LONG).await, Err(CallError::NotReady)));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_are_replaced_and_leave_no_zombie_and_no_descriptor() {
    let bench = Bench::prepare().await;
    let hsm = bench.start_whole().await;
    for round in 1..=3 {
        let killed = bench.zone.signal_workers(Signal::KILL);
        gone(&killed);
        replaced(&hsm, 3 * round).await;
        assert_eq!(hsm.status().state, State::Serving);
        bench.assert_serves(&hsm).await;
    }
    // One for each worker that is kept; no more after nine processes than after three.
    wait::until("no descriptor is left behind", wait::LONG, || (bench.lock_descriptors() == 3).then_some(()));
    assert_eq!(bench.zone.workers().len(), 3);
    hsm.stop(wait::LONG).await;
}

/// What another look at the token finds than that of an admission.
#[tokio::test(flavor = "multi_thread")]
async fn what_contradicts_later_has_every_worker_leave() {
    let bench = Bench::prepare().await;
    let hsm = bench.start_whole().await;
    let sorted = || {
        let mut workers = bench.zone.workers();
        workers.sort_unstable();
        workers
    };
    let workers = sorted();
    let look = hsm.call(Arc::new(Op::Examine { sessions: 1 }), bench.clock.now() + wait::LONG).await;
    let Ok(Reply::Examined(found)) = look else { panic!("{look:?}") };
    let capabilities = &bench.settings.capabilities;
    hsm.examined(judge(capabilities, &found));
    assert_eq!(hsm.status().examined.as_ref().unwrap().contradiction(), None);
    bench.assert_serves(&hsm).await;
    assert_eq!(sorted(), workers, "what holds changes nothing");

    let well = judge(capabilities, &found);
    let otherwise = Examined { copy_object: Tried::Fails("it copies nothing any more".to_owned()), ..*found };
    hsm.examined(judge(capabilities, &otherwise));
    let told = hsm.status().examined.as_ref().unwrap().contradiction().unwrap();
    assert!(told.contains("calls.copy_object"), "{told}");
    gone(&workers);
    // Here each is let in all the same. None serves by that, and they say why.
    let why = |status: &Status| status.reason.as_deref().is_some_and(|reason| reason.contains("calls.copy_object"));
    status(&hsm, "why is told", |status| status.data_ready == 0 && !status.control_ready && why(status)).await;
    hsm.examined(well);
    whole(&hsm).await;
    bench.assert_serves(&hsm).await;
    hsm.stop(wait::LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_a_killed_worker_is_lost() {
    let mut bench = Bench::prepare().await;
    bench.settings.kill.crypto = wait::LONG;
    let hsm = bench.start_whole().await;
    let workers = bench.freeze();
    let call = tokio::spawn({
        let (hsm, deadline) = (hsm.clone(), bench.clock.now() + wait::LONG);
        async move { hsm.call(Arc::new(Op::Random { length: 32 }), deadline).await }
    });
    wait::until("the request is on its way", wait::LONG, || (hsm.load() > 0).then_some(()));
    for pid in &workers {
        process::signal(*pid, Signal::KILL);
    }
    assert!(matches!(call.await.unwrap(), Err(CallError::WorkerLost)));
    replaced(&hsm, 3).await;
    assert_eq!(hsm.load(), 0);
    bench.assert_serves(&hsm).await;
    hsm.stop(wait::LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_worker_is_killed_past_the_limit_and_replaced() {
    let mut bench = Bench::prepare().await;
    // It is waited for: no longer than the late call before it needs.
    bench.settings.kill.crypto = Duration::from_secs(2);
    let hsm = bench.start_whole().await;
    let stopped = bench.freeze();
    let late = bench.random(&hsm, Duration::from_millis(300)).await;
    assert!(
        matches!(late, Err(CallError::DeadlineExceeded { .. })),
        "the caller's deadline ends its waiting: {late:?}"
    );
    assert!(hsm.load() > 0, "but the operation is still in hand");
    let lost = bench.random(&hsm, wait::LONG).await;
    assert!(matches!(lost, Err(CallError::WorkerLost)), "{lost:?}");
    gone(&stopped);
    // Probes find the idle ones too.
    replaced(&hsm, 3).await;
    bench.assert_serves(&hsm).await;
    hsm.stop(wait::LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_goes_away_is_noticed_and_served_again_when_it_is_back() {
    let bench = Bench::prepare().await;
    let hsm = bench.start_whole().await;
    let taken = bench.zone.take_away();
    let down = status(&hsm, "the HSM is down", |status| status.state == State::Down && status.reason.is_some()).await;
    assert!(!down.control_ready || down.data_ready == 0, "{down:?}");
    assert!(matches!(bench.random(&hsm, wait::LONG).await, Err(CallError::NotReady)));
    taken.put_back();
    whole(&hsm).await;
    bench.assert_serves(&hsm).await;
    hsm.stop(wait::LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_waits_for_the_lock() {
    let bench = Bench::prepare().await;
    let first = bench.start_whole().await;
    let second = bench.start();
    let waits = status(&second, "the second one says why it waits", |status| status.reason.is_some()).await;
    assert_eq!(waits.state, State::Starting);
    assert!(waits.reason.as_ref().unwrap().contains("lock file"), "{waits:?}");
    assert_eq!(bench.zone.workers().len(), 3);
    first.stop(wait::LONG).await;
    whole(&second).await;
    second.stop(wait::LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_is_tried_once() {
    let bench = Bench::prepare().await;
    let hsm = bench.start_with("wrong");
    let refused = |status: &Status| status.reason.as_ref().is_some_and(|why| why.contains("refused kmsuser's PIN"));
    let down = status(&hsm, "the token has refused the PIN", refused).await;
    assert_eq!(down.state, State::Down);
    wait::until("no worker is left", wait::LONG, || bench.zone.workers().is_empty().then_some(()));
    // Longer than the longest pause before a restart.
    let mut watch = hsm.watch();
    watch.mark_unchanged();
    let again = tokio::time::timeout(bench.settings.restart.1 * 2, watch.wait_for(|status| status.restarts > 0)).await;
    assert!(again.is_err(), "{again:?}");
    assert!(bench.zone.workers().is_empty());
    hsm.stop(wait::LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_busy_at_once() {
    let mut bench = Bench::prepare().await;
    bench.settings.queue_items = 5;
    bench.settings.kill.crypto = wait::LONG;
    let hsm = bench.start_whole().await;
    let stopped = bench.freeze();
    for _ in 0..5 {
        assert!(matches!(
            bench.random(&hsm, Duration::from_millis(300)).await,
            Err(CallError::DeadlineExceeded { .. })
        ));
    }
    assert_eq!(hsm.load(), 5);
    assert!(matches!(bench.random(&hsm, wait::LONG).await, Err(CallError::Busy)));
    for pid in &stopped {
        process::signal(*pid, Signal::CONT);
    }
    wait::until("what was in the queue is done", wait::LONG, || (hsm.load() == 0).then_some(()));
    bench.assert_serves(&hsm).await;
    assert_eq!(hsm.status().restarts, 0, "late callers kill nobody");
    hsm.stop(wait::LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_not_there_is_said() {
    let mut bench = Bench::prepare().await;
    bench.settings.module = "/nonexistent/libhsm.so".into();
    let hsm = bench.start();
    let down = status(&hsm, "the HSM is down", |status| status.state == State::Down).await;
    assert!(down.reason.as_ref().unwrap().contains("/nonexistent/libhsm.so"), "{down:?}");
    hsm.stop(wait::LONG).await;
    assert_eq!(hsm.status().state, State::Stopped);
}
