//! Every task that lives for long is broken on purpose: it comes back and calls go on, or the process ends with a message
//! and the next one serves. The tasks are those that the code enumerates.

use std::os::unix::process::ExitStatusExt;

use proto::v1::{BatchEncryptRequest, ConnectionState, EncryptRequest};
use rustix::process::Signal;
use serde_json::Value;
use telemetry::watchdog::{Rule, Task};

use crate::harness::daemon::Site;
use crate::harness::faults::Faults;
use crate::harness::load::Load;
use crate::harness::manager::Manager;
use crate::harness::{Caller, Daemon, context, process, tool, wait};

/// What has a task pass the place where it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provoked {
    /// It passes by itself.
    ByItself,
    /// A start of the daemon.
    Starting,
    /// A connect.
    Connecting,
    /// A disconnect.
    Disconnecting,
}

/// Of whom a task that is started again is broken, and how.
fn provoked(task: Task) -> (&'static [&'static str], Provoked) {
    match task {
        Task::Health
        | Task::Certificates
        | Task::AwsCertificates
        | Task::CertificateEnds
        | Task::Reload
        | Task::Removals
        | Task::Keys
        | Task::Sampled
        | Task::Audit
        | Task::Disk => (&[""], Provoked::ByItself),
        Task::AuditSink => (&[" of json"], Provoked::ByItself),
        Task::Reconcile | Task::Follow | Task::Doubts | Task::LogKey | Task::Examination => {
            (&[" of hsm-a"], Provoked::ByItself)
        }
        Task::WorkerDriver => (&[" of hsm-a control worker", " of hsm-a data worker 0"], Provoked::ByItself),
        Task::Resume => (&[""], Provoked::Starting),
        Task::Launch => (&[" of hsm-a"], Provoked::Connecting),
        Task::Connect => (&[""], Provoked::Connecting),
        Task::Disconnect => (&[""], Provoked::Disconnecting),
        _ => panic!("{} is not started again", task.name()),
    }
}

fn ruled(rule: Rule) -> impl Iterator<Item = Task> {
    Task::ALL.iter().copied().filter(move |task| task.rule() == rule)
}

/// A daemon that takes orders, and what is needed to see that it serves.
struct Bench {
    daemon: Daemon,
    faults: Faults,
    caller: Caller,
    store: String,
    key: String,
    switched: String,
}

impl Bench {
    async fn start() -> Self {
        Self::start_in(Site::prepare().await).await
    }

    async fn start_in(site: Site) -> Self {
        site.audit(|audit| {
            let json = toml::Table::from_iter([("path".to_owned(), "audit.jsonl".into())]);
            audit.insert("json".to_owned(), json.into());
        });
        let faults = Faults::of(&site);
        let daemon = site.launch_with(&[(Faults::VARIABLE, faults.path())]);
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        daemon.connect_key_store(&caller).await;
        let store = caller.key_stores().await.remove(0).key_store_id;
        let key = caller.create_key("served all the time").await;
        let switched = caller.create_key("switched off and on").await;
        Self { daemon, faults, caller, store, key, switched }
    }

    fn metric(&self, series: &str) -> u64 {
        let (_, metrics) = self.daemon.ops("/metrics").unwrap();
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{series} is missing in\n{metrics}"))
    }

    fn restarts(&self, task: Task) -> u64 {
        self.metric(&format!("keystored_task_restarts_total{{task=\"{}\"}}", task.name()))
    }

    fn report(&self) -> (u16, Value) {
        let (code, body) = self.daemon.ops("/readyz").unwrap();
        (code, serde_json::from_str(&body).unwrap())
    }

    /// Calls are answered, and truthfully.
    async fn serves(&self, after: &str) {
        let Self { caller, switched, .. } = self;
        self.daemon.wait_until_healthy_for(caller).await;
        let ciphertext = caller.encrypt(switched, b"kept", &context(&[])).await.unwrap();
        caller.switch_key(switched, false).await.unwrap();
        let refused = caller.decrypt(&ciphertext, &context(&[])).await.unwrap_err();
        assert_eq!(refused.reason, "DisabledException", "after {after}: {refused:?}");
        caller.switch_key(switched, true).await.unwrap();
        assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept", "after {after}");
        assert_eq!(self.daemon.ops("/livez"), Some((200, "ok\n".to_owned())), "after {after}");
    }

    /// Killed workers are replaced, whichever task was broken before.
    async fn replaces_workers(&self) {
        for zone in &self.daemon.zones {
            self.daemon.replace_workers(&zone.name, &self.caller).await;
        }
    }

    /// Waits until a task was started again.
    fn is_back(&self, task: Task, before: u64, order: &str) {
        wait::until(&format!("{order}: it is started again"), wait::LONG, || {
            (self.restarts(task) > before).then_some(())
        });
        self.daemon.wait_until_logged("a task broke off and is started again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_panics_comes_back_and_calls_go_on() {
    come_back("panic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_stands_still_comes_back_and_calls_go_on() {
    come_back("stall").await;
}

async fn come_back(kind: &str) {
    let bench = Bench::start().await;
    let Bench { daemon, faults, caller, store, key, .. } = &bench;
    let mut broken = 0;
    let load = Load::start(caller, key, 4);
    for task in ruled(Rule::Restarted).filter(|task| provoked(*task).1 == Provoked::ByItself) {
        for who in provoked(task).0 {
            let before = bench.restarts(task);
            let order = order(faults, kind, task, who);
            faults.taken();
            load.passes(50).await;
            bench.is_back(task, before, &order);
            bench.serves(&order).await;
            broken += 1;
        }
    }
    bench.replaces_workers().await;
    load.passes(50).await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls} round trips failed: {:?}", failures.len(), failures.first());

    for task in ruled(Rule::Restarted) {
        let (whose, way) = provoked(task);
        for who in whose.iter().filter(|_| matches!(way, Provoked::Connecting | Provoked::Disconnecting)) {
            let before = bench.restarts(task);
            let ordered = (way == Provoked::Disconnecting).then(|| order(faults, kind, task, who));
            caller.disconnect(store).await.unwrap();
            let order = ordered.unwrap_or_else(|| order(faults, kind, task, who));
            let seen = caller.connect(store).await.unwrap();
            assert_eq!(seen.connection_state(), ConnectionState::Connected, "{order}: {seen:?}\n{}", daemon.log_tail());
            bench.is_back(task, before, &order);
            bench.serves(&order).await;
            broken += 1;
        }
    }
    bench.replaces_workers().await;
    // Whoever looks some time later sees nothing of it but the count.
    wait::until("the trouble is past", wait::LONG, || (bench.report().1["status"] == "ready").then_some(()));
    assert_eq!(broken, 21);
}

fn order(faults: &Faults, kind: &str, task: Task, who: &str) -> String {
    let order = format!("{kind} {}{who}", task.name());
    faults.order(&order);
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_has_to_finish_is_finished_although_its_task_breaks() {
    let bench = Bench::start().await;
    // A key that is begun and not finished, so that there is something to take up.
    bench.faults.order("panic creation");
    let failure = bench.caller.try_create_key("taken up", "a token").await.unwrap_err();
    assert_eq!((failure.reason.as_str(), bench.faults.is_taken()), ("KMSInternalException", true), "{failure:?}");
    let Bench { daemon, faults, .. } = bench;
    let mut site = daemon.terminate().1;
    for task in ruled(Rule::Restarted).filter(|task| provoked(*task).1 == Provoked::Starting) {
        order(&faults, "panic", task, "");
        let daemon = site.launch_with(&[(Faults::VARIABLE, faults.path())]);
        faults.taken();
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        daemon.wait_until_healthy_for(&caller).await;
        let key = caller.try_create_key("taken up", "a token").await.unwrap();
        caller.encrypt(&key.key_id, b"x", &context(&[])).await.unwrap();
        daemon.wait_until_logged("a task broke off and is started again");
        site = daemon.terminate().1;
    }
}

/// The Seen of a bad day: supervising tasks were lost one by one, killed workers were never replaced, and /readyz went on
/// saying healthy with two data workers where there were none.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_keeps_its_thread_is_not_believed_any_more() {
    let site = Site::prepare().await;
    site.configure_hsms(|_, hsm| drop(hsm.insert("workers".to_owned(), 1.into())));
    let bench = Bench::start_in(site).await;
    let Bench { daemon, faults, caller, key, .. } = &bench;
    faults.order("block worker-driver of hsm-a data worker 0");
    faults.taken();
    // With the task that would notice, the worker is gone too.
    daemon.zone("a").signal_workers(Signal::KILL);
    let hsm = wait::until("hsm-a is not believed to serve", wait::LONG, || {
        let (code, report) = bench.report();
        let hsm = report["hsms"].as_array()?.iter().find(|hsm| hsm["hsm"] == "hsm-a")?.clone();
        let said = report["reasons"].as_array()?.iter().any(|reason| {
            let reason = reason.as_str().unwrap_or_default();
            reason.contains("the task worker-driver of hsm-a data worker 0 has not turned for")
        });
        assert_eq!(code, 200, "the other zone answers: {report:#}");
        (said && hsm["health"] == "down").then_some(hsm)
    });
    assert_eq!(hsm["data_workers"], 0, "{hsm:#}");
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    for line in ["keystored_tasks_silent{task=\"worker-driver\"} 1", "keystored_degraded{reason=\"tasks\"} 1"] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    let ciphertext = caller.encrypt(key, b"the other zone", &context(&[])).await.unwrap();
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"the other zone");
    // It does not let go of its thread, so that only a restart helps.
    let livez = wait::until("/livez fails", wait::LONG, || daemon.ops("/livez").filter(|(code, _)| *code == 503));
    assert!(livez.1.contains("the task worker-driver of hsm-a data worker 0 has not turned for"), "{livez:?}");
}

/// A task that breaks again and again takes nothing but its own HSM away.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_breaks_again_and_again_costs_its_own_hsm_alone() {
    let bench = Bench::start().await;
    let Bench { faults, caller, key, .. } = &bench;
    let load = Load::start(caller, key, 4);
    faults.order("panic worker-driver of hsm-a data worker 0 always");
    wait::until("it broke four times", wait::LONG, || (bench.restarts(Task::WorkerDriver) >= 4).then_some(()));
    let said = "the task worker-driver of hsm-a data worker 0 broke off (it panicked at crates/telemetry/src/";
    wait::until("it is told", wait::LONG, || {
        let (code, report) = bench.report();
        assert_eq!(code, 200, "{report:#}");
        (report["status"] == "degraded" && report["reasons"].to_string().contains(said)).then_some(())
    });
    load.passes(100).await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls} round trips failed: {:?}", failures.len(), failures.first());
    std::fs::remove_file(faults.path()).unwrap();
    bench.serves("many panics").await;
    wait::until("the trouble is past", wait::LONG, || (bench.report().1["status"] == "ready").then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vital_task_that_panics_ends_the_process_with_a_message_and_the_next_one_serves() {
    let mut bench = Bench::start().await;
    for task in ruled(Rule::Vital) {
        let ciphertext = bench.caller.encrypt(&bench.key, b"kept", &context(&[])).await.unwrap();
        let Bench { daemon, faults, key, .. } = bench;
        let site = daemon.terminate().1;
        let manager = Manager::of(&site);
        let environment = [
            (Faults::VARIABLE, faults.path()),
            ("NOTIFY_SOCKET", manager.path()),
            // So that there is something to tell all the time.
            ("WATCHDOG_USEC", "200000"),
        ];
        let daemon = site.launch_with(&environment);
        daemon.wait_until_ready();
        daemon.wait_until_healthy_for(&daemon.caller().await).await;
        daemon.zones.iter().for_each(|zone| zone.keep_copies());
        let before = daemon.log().len();
        order(&faults, "panic", task, "");
        wait::until(&format!("{} breaks", task.name()), wait::LONG, || {
            // Read all the time, so that there is room for more.
            manager.hear_all();
            faults.is_taken().then_some(())
        });
        let log = daemon.site().path().join("daemon.log");
        let (status, site) = daemon.aborted();
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{}: {status:?}", task.name());
        let said = std::fs::read_to_string(log).unwrap()[before..].to_owned();
        let message = format!("keystored: the task {} broke off (it panicked at crates/telemetry/src/", task.name());
        assert!(said.contains(&message) && said.contains("the process ends, to be started again"), "{said}");

        let daemon = site.launch_with(&environment[..1]);
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        daemon.wait_until_healthy_for(&caller).await;
        assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept", "after {}", task.name());
        let store = caller.key_stores().await.remove(0).key_store_id;
        let switched = caller.create_key("after a crash").await;
        bench = Bench { daemon, faults, caller, store, key, switched };
        bench.serves(task.name()).await;
    }
}

/// Tasks of a worker in the daemon: the worker is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_task_that_serves_it_a_worker_is_replaced() {
    let bench = Bench::start().await;
    let Bench { daemon, faults, caller, key, .. } = &bench;
    let load = Load::start(caller, key, 4);
    for task in ruled(Rule::Worker) {
        match task {
            Task::Requests | Task::Replies => {
                order(faults, "panic", task, "");
                faults.taken();
            }
            Task::Admission => {
                order(faults, "panic", task, " of hsm-a");
                daemon.zone("a").signal_workers(Signal::KILL);
                faults.taken();
            }
            // Below: with no daemon around it, and in the worker itself.
            Task::Minder | Task::Session | Task::Writer | Task::Watch => continue,
            other => panic!("{} belongs to no worker", other.name()),
        }
        load.passes(50).await;
        bench.serves(task.name()).await;
    }
    bench.replaces_workers().await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls} round trips failed: {:?}", failures.len(), failures.first());
}

/// A thread of a worker that panics: the worker ends, with the code that says so, and is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_panics_ends_its_worker() {
    for (task, order) in [
        (Task::Watch, "panic watch"),
        // In admission perhaps, where each costs one of the service's own tries, as any crash does.
        (Task::Writer, "panic writer"),
        // After admission.
        (Task::Session, "panic session at 12"),
    ] {
        let site = Daemon::start().await.terminate().1;
        site.configure_hsms(|index, hsm| {
            if index == 0 {
                hsm["env"].as_table_mut().unwrap().insert(Faults::VARIABLE.to_owned(), order.into());
            }
        });
        let daemon = site.launch();
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        let store = caller.key_stores().await.remove(0).key_store_id;
        wait::until(&format!("{order}: workers end and are started again"), wait::LONG, || {
            (daemon.log().matches("exit status: 70").count() >= 2).then_some(())
        });
        daemon.wait_until_logged("a fault in this program ended the worker");
        assert_eq!(caller.key_store(&store).await.connection_state(), ConnectionState::Connected, "{}", task.name());
        assert_eq!(daemon.ops("/readyz").map(|(code, _)| code), Some(200), "the other zone serves");
        daemon.terminate();
    }
}

/// `keystored check` has workers of its own, each with a task that watches over it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_nobody_watches_over_leaves() {
    let site = Site::prepare().await;
    let check = |order: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keystored"));
        command.env(Faults::VARIABLE, order).arg("check").arg("--config").arg(site.config_file());
        tool::run(&mut command)
    };
    let checked = check("panic minder");
    assert!(checked.code.is_some(), "it comes to an end: {checked:?}");
    for zone in site.zones(std::process::id()) {
        let lock = zone.lock_file(&site);
        wait::until("its workers have left", wait::LONG, || process::is_lock_free(&lock).then_some(()));
    }
    assert_eq!(check("").code, Some(0));
}

/// What lives no longer than a call: the caller is told, and the next call is served.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_panics_is_answered_with_an_error() {
    let bench = Bench::start().await;
    let Bench { faults, caller, key, .. } = &bench;
    let internal = "KMSInternalException";
    for task in ruled(Rule::Call) {
        match task {
            Task::Handler | Task::Work => {
                order(faults, "panic", task, "");
                let failure = caller.encrypt(key, b"x", &context(&[])).await.unwrap_err();
                assert_eq!((failure.reason.as_str(), failure.code), (internal, tonic::Code::Internal), "{failure:?}");
            }
            Task::Creation => {
                order(faults, "panic", task, "");
                let failure = caller.try_create_key("made later", "its token").await.unwrap_err();
                assert_eq!(failure.reason, internal, "{failure:?}");
                // Not lost: the same call again has it made.
                let made = caller.try_create_key("made later", "its token").await.unwrap();
                caller.encrypt(&made.key_id, b"x", &context(&[])).await.unwrap();
            }
            Task::Refill => continue,
            other => panic!("{} is no call's", other.name()),
        }
        assert!(faults.is_taken());
        bench.serves(task.name()).await;
    }
}

/// Encryptions are reserved ahead of their use, again and again, although that breaks once.
#[tokio::test(flavor = "multi_thread")]
async fn encryptions_are_reserved_although_that_breaks_once() {
    let bench = Bench::start().await;
    let Bench { daemon, faults, key, .. } = bench;
    // A start reserves a small block, half of which can be used up.
    let site = daemon.terminate().1;
    let daemon = site.launch_with(&[(Faults::VARIABLE, faults.path())]);
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    for _ in 0..2 {
        order(&faults, "panic", Task::Refill, "");
        wait::until_async("a block is reserved", wait::LONG, async || {
            let item = EncryptRequest { key_id: key.clone(), plaintext: vec![1], ..Default::default() };
            let batch = BatchEncryptRequest { items: vec![item; 256] };
            let _ = caller.crypto.clone().batch_encrypt(caller.request(batch)).await;
            faults.is_taken().then_some(())
        })
        .await;
    }
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
}
