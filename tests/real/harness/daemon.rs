//! A daemon under test: the real program, in a directory of its own, on ports that the system chose.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Weak};

use proto::v1::{ConnectionState, HsmHealth};
use rustix::process::Signal;
use tempfile::TempDir;

use super::call::{Address, Caller};
use super::clients::ANYBODY;
use super::disk::Disk;
use super::wait;
use super::zone::Zone;
use super::{prepared, process, tool};

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_keystored");

/// What a daemon is started in: zones, certificates and configuration, made but not running.
pub(crate) struct Site {
    /// Removed when the site is dropped.
    dir: TempDir,
    pub(crate) layout: provision::Layout,
    /// The configuration that the daemon is given.
    pub(super) config: PathBuf,
    /// Where the daemon says on which ports it listens.
    pub(super) addresses: PathBuf,
    /// Under its state directory or its audit log, where one of them has a disk of its own.
    pub(super) disk: Option<Disk>,
}

impl Site {
    /// Makes two zones, `a` and `b`, through the code that `keystored dev` uses.
    pub(crate) async fn prepare() -> Self {
        Self::prepare_zones(2).await
    }

    /// Makes so many zones, `a`, `b` and so on.
    pub(crate) async fn prepare_zones(zones: u8) -> Self {
        let dir = TempDir::with_prefix("keystored-test-").unwrap();
        let layout = prepared::site(dir.path(), zones).await;
        // A copy, because tests change it; beside the original, because its paths are relative.
        let config = layout.dir.join("test.toml");
        fs::copy(&layout.config, &config).unwrap();
        let addresses = layout.dir.join("test.env");
        let site = Self { dir, layout, config, addresses, disk: None };
        // A sound worker must not be taken for a hanging one because tests, their load and other daemons want the
        // processor: unoptimised and on two cores, that may take longer than the 250 ms of a daemon by itself.
        site.kill_after(1_500);
        // Nor a call for one that is late: those over streams and AWS's interface bring no deadline, and 250 ms are none there.
        site.answer_within(20_000);
        // Tests look into tokens as other PKCS#11 clients do, with the PIN that they know.
        site.rotate(false);
        site.administrators(&ANYBODY);
        // Not on the disk of the metadata, which tests fill.
        site.audit(|audit| drop(audit.insert("dir".to_owned(), "audit".into())));
        site
    }

    /// The daemon's program, where it finds its disk.
    fn program(&self) -> Command {
        self.disk.as_ref().map_or_else(|| Command::new(PROGRAM), |disk| disk.command(PROGRAM))
    }

    /// Sets whether connecting rotates kmsuser's PIN, after which nobody but the daemon knows it.
    pub(crate) fn rotate(&self, rotate: bool) {
        self.configure(|config| {
            let cluster = config["cluster"][0].as_table_mut().unwrap();
            cluster.insert("rotation".to_owned(), if rotate { "connect" } else { "none" }.into());
        });
    }

    /// The cluster's id.
    pub(crate) fn cluster(&self) -> &str {
        self.layout.cluster.as_str()
    }

    /// customerCA.crt, PEM.
    pub(crate) fn trust_anchor(&self) -> String {
        fs::read_to_string(&self.layout.trust_anchor).unwrap()
    }

    /// kmsuser's PIN in each token until the first rotation.
    pub(crate) fn first_pin(&self) -> String {
        fs::read_to_string(&self.layout.pin).unwrap()
    }

    /// The operator's ceremony folder.
    pub(crate) fn ceremony(&self) -> PathBuf {
        self.layout.dir.join("ceremony")
    }

    /// Sets how long a worker may be busy with one encryption before it is killed, in milliseconds.
    pub(crate) fn kill_after(&self, crypto_ms: i64) {
        self.configure_hsms(|_, hsm| {
            hsm.insert("kill".to_owned(), toml::Table::from_iter([("crypto_ms".to_owned(), crypto_ms.into())]).into());
        });
    }

    /// Where everything is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The configuration as it stands in the file.
    pub(crate) fn config(&self) -> toml::Table {
        fs::read_to_string(&self.config).unwrap().parse().unwrap()
    }

    /// Where the configuration is.
    pub(crate) fn config_file(&self) -> &Path {
        &self.config
    }

    /// Changes the configuration.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut toml::Table)) {
        let mut config = self.config();
        change(&mut config);
        fs::write(&self.config, config.to_string()).unwrap();
    }

    /// The configuration's entry for each HSM, changed in place.
    pub(crate) fn configure_hsms(&self, mut change: impl FnMut(usize, &mut toml::Table)) {
        self.configure(|config| {
            let clusters = config["cluster"].as_array_mut().unwrap();
            let hsms = clusters[0]["hsm"].as_array_mut().unwrap();
            for (index, hsm) in hsms.iter_mut().enumerate() {
                change(index, hsm.as_table_mut().unwrap());
            }
        });
    }

    /// The zones as the configuration describes them, for a daemon of this pid.
    pub(crate) fn zones(&self, daemon: u32) -> Vec<Zone> {
        let config = self.config();
        let hsms = config["cluster"][0]["hsm"].as_array().unwrap();
        let text = |value: &toml::Value| value.as_str().unwrap().to_owned();
        let path = |value: &toml::Value| self.path().join(value.as_str().unwrap());
        let env = |hsm: &toml::Value| -> BTreeMap<String, String> {
            hsm["env"].as_table().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
        };
        // One that stands in several is shown by all of them.
        let name = |hsm: &toml::Value| match hsm.get("zones").and_then(toml::Value::as_array) {
            Some(zones) => zones.iter().map(text).collect::<Vec<_>>().join("+"),
            None => text(&hsm["zone"]),
        };
        let zone = |hsm: &toml::Value| Zone {
            hsm: text(&hsm["id"]),
            name: name(hsm),
            label: text(&hsm["token_label"]),
            pin_file: self.path().join("credentials").join(format!("{}.pin", name(hsm))),
            softhsm_conf: env(hsm).get("SOFTHSM2_CONF").map(PathBuf::from).unwrap_or_default(),
            env: env(hsm),
            module: path(&hsm["module"]),
            daemon,
        };
        hsms.iter().map(zone).collect()
    }

    /// Starts the daemon without waiting for it.
    pub(crate) fn launch(self) -> Daemon {
        self.launch_with(&[])
    }

    pub(super) fn serve(&self) -> Command {
        let mut command = self.program();
        command.arg("serve").arg("--config").arg(&self.config).arg("--env-file").arg(&self.addresses);
        command
    }

    pub(super) fn spawn(self, mut command: Command) -> Daemon {
        let output = File::options().create(true).append(true).open(self.path().join("daemon.log")).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        self.spawn_as_it_is(command)
    }

    pub(super) fn spawn_as_it_is(self, mut command: Command) -> Daemon {
        let log = self.path().join("daemon.log");
        let _ = fs::remove_file(&self.addresses);
        command.stdin(Stdio::null());
        let child = command.spawn().unwrap();
        let guard = Guard::over(child.id());
        let zones = self.zones(child.id());
        Daemon { child, _guard: guard, log, zones, site: Some(self), stopped: false }
    }

    /// Starts the daemon, makes and connects its key store where there is none, and waits until every HSM is healthy with
    /// every worker ready.
    pub(crate) async fn start(self) -> Daemon {
        let daemon = self.launch();
        daemon.wait_until_ready();
        let caller = daemon.caller().await;
        daemon.connect_key_store(&caller).await;
        daemon
    }
}

/// A running daemon. Dropping it leaves no process behind, after a panic too.
pub(crate) struct Daemon {
    child: Child,
    _guard: Guard,
    log: PathBuf,
    /// Its zones, in the order of the configuration.
    pub(crate) zones: Vec<Zone>,
    site: Option<Site>,
    stopped: bool,
}

impl Daemon {
    /// A new daemon with two healthy zones.
    pub(crate) async fn start() -> Self {
        Site::prepare().await.start().await
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes and connects its key store where there is none, and waits until every HSM is healthy with every worker ready.
    pub(crate) async fn connect_key_store(&self, caller: &Caller) {
        if caller.key_stores().await.is_empty() {
            let store = caller.create_key_store("main", self.site()).await.unwrap();
            let store = caller.connect(&store).await.unwrap();
            assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}\n{}", self.log_tail());
        }
        self.wait_until_healthy_for(caller).await;
    }

    pub(crate) fn site(&self) -> &Site {
        self.site.as_ref().unwrap()
    }

    /// The zone with this name.
    pub(crate) fn zone(&self, name: &str) -> &Zone {
        self.zones.iter().find(|zone| zone.name == name).unwrap()
    }

    /// Where the daemon is and what a client needs, as keystorectl reads it; once the ports are open.
    pub(crate) fn environment(&self) -> Option<BTreeMap<String, String>> {
        let text = fs::read_to_string(&self.site().addresses).ok()?;
        let entry = |line: &str| {
            let (name, value) = line.trim().trim_start_matches("export ").split_once('=')?;
            Some((name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
        };
        let mut entries: BTreeMap<_, _> =
            text.lines().filter(|line| !line.starts_with('#')).filter_map(entry).collect();
        let client = ["KEYSTORED_CA", "KEYSTORED_CERT", "KEYSTORED_KEY"].map(str::to_owned);
        let files = self.site().layout.client.iter().map(|file| file.display().to_string());
        entries.extend(client.into_iter().zip(files));
        entries.contains_key("KEYSTORED_OPS").then_some(entries)
    }

    /// Waits until the ports are open and /readyz says yes.
    pub(crate) fn wait_until_ready(&self) {
        wait::until("the daemon is ready", wait::LONG, || {
            assert!(process::lives(self.pid()), "the daemon has gone:\n{}", self.log_tail());
            self.environment().filter(|_| self.ops("/readyz").is_some_and(|(code, _)| code == 200))
        });
    }

    /// Waits until every HSM is healthy and all of its data workers are ready. The control workers are ready then too, so
    /// that no login is under way anywhere.
    pub(crate) async fn wait_until_healthy_for(&self, caller: &Caller) {
        wait::until_async("every HSM is healthy", wait::LONG, async || {
            for zone in &self.zones {
                zone.repair();
            }
            let (_, report) = self.ops("/readyz")?;
            let report: serde_json::Value = serde_json::from_str(&report).ok()?;
            let control = report["hsms"].as_array()?.iter().filter(|hsm| hsm["control_worker"] == true).count();
            let sound = |hsm: &&proto::v1::HsmStatus| {
                hsm.health() == HsmHealth::Healthy && hsm.ready_workers == hsm.workers && hsm.workers > 0
            };
            let hsms = caller.hsms().await.ok()?;
            let data = hsms.iter().filter(sound).count();
            (control == self.zones.len() && data == self.zones.len()).then_some(())
        })
        .await;
    }

    /// Kills the workers of the zone's HSM, and waits until others serve in their place. Waiting for health alone is not
    /// enough: right after the kill the daemon may not have noticed it yet.
    pub(crate) async fn replace_workers(&self, zone: &str, caller: &Caller) {
        let zone = self.zone(zone);
        let killed = zone.signal_workers(Signal::KILL);
        wait::until("others have taken the place of killed workers", wait::LONG, || {
            zone.repair();
            let now = zone.workers();
            (now.len() == killed.len() && killed.iter().all(|pid| !now.contains(pid))).then_some(())
        });
        self.wait_until_healthy_for(caller).await;
    }

    /// Answer of the ops port: status code and body. `None` while nobody listens.
    pub(crate) fn ops(&self, path: &str) -> Option<(u16, String)> {
        let environment = self.environment()?;
        let address = environment["KEYSTORED_OPS"].trim_start_matches("http://").trim_end_matches('/').to_owned();
        let mut stream = TcpStream::connect(&address).ok()?;
        stream.set_read_timeout(Some(wait::LONG)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let code = answer.split_whitespace().nth(1)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        Some((code, body.unwrap_or_default()))
    }

    /// Where it is and what its development client shows it.
    pub(crate) fn address(&self) -> Address {
        let environment = self.environment().expect("the daemon listens");
        let file = |name: &str| fs::read_to_string(&environment[name]).unwrap();
        Address {
            url: environment["KEYSTORED_ADDRESS"].clone(),
            ca: file("KEYSTORED_CA"),
            certificate: file("KEYSTORED_CERT"),
            key: file("KEYSTORED_KEY"),
        }
    }

    /// The key of the authority that has issued the client's certificate.
    pub(crate) fn client_authority_key(&self) -> PathBuf {
        self.site().layout.client[0].with_extension("key")
    }

    /// A new connection.
    pub(crate) async fn caller(&self) -> Caller {
        match self.address().connect().await {
            Ok(caller) => caller,
            Err(error) => panic!("cannot connect: {error:?}\n{}", self.log_tail()),
        }
    }

    /// keystorectl against this daemon.
    pub(crate) fn keystorectl(&self, arguments: &[&str]) -> tool::Ran {
        tool::keystorectl(self.environment().expect("the daemon listens"), arguments)
    }

    /// Everything it and its workers have logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of that, without what a waiting test asks over and over.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().filter(|line| !line.contains(r#"operation="describe_key_stores""#)).collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// SIGHUP, then waits until its log says once more that it has done this.
    pub(crate) fn hang_up(&self, says: &str) {
        let before = self.log().matches(says).count();
        process::signal(self.pid(), Signal::HUP);
        wait::until("SIGHUP is heard", wait::LONG, || (self.log().matches(says).count() > before).then_some(()));
    }

    /// SIGTERM, then waits until it is gone.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Site) {
        let workers = process::children(self.pid());
        process::signal(self.pid(), Signal::TERM);
        let status = wait::until("the daemon has gone", wait::LONG, || self.child.try_wait().unwrap());
        for worker in workers {
            assert!(!process::lives(worker), "worker {worker} outlived its daemon:\n{}", self.log_tail());
        }
        self.stopped = true;
        (status, self.site.take().unwrap())
    }

    /// Waits until it has aborted and its workers have gone by themselves; how it ended.
    pub(crate) fn aborted(mut self) -> (ExitStatus, Site) {
        let status = wait::until("the daemon aborts", wait::LONG, || self.child.try_wait().unwrap());
        // Workers that were its children are nobody's now; each of them has its HSM's name in its arguments.
        let names: Vec<String> = self.zones.iter().map(|zone| zone.lock_file(self.site())).collect();
        for name in names {
            wait::until("an HSM's lock is free", wait::LONG, || process::is_lock_free(&name).then_some(()));
        }
        self.stopped = true;
        (status, self.site.take().unwrap())
    }

    /// SIGKILL to the daemon alone, then waits until its workers have gone by themselves.
    pub(crate) fn crash(mut self) -> Site {
        let workers = process::children(self.pid());
        process::signal(self.pid(), Signal::KILL);
        self.child.wait().unwrap();
        for worker in workers {
            wait::until("a worker has gone", wait::LONG, || (!process::lives(worker)).then_some(()));
        }
        self.stopped = true;
        self.site.take().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        if std::thread::panicking() {
            eprintln!("--- the daemon's log, at the end:\n{}\n---", self.log_tail());
        }
        for pid in process::family(self.pid()) {
            process::signal(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Kills the daemon when this very process dies, however it does: the pipe breaks then. Its workers follow it.
struct Guard(Child);

impl Guard {
    fn over(daemon: u32) -> Self {
        let script = format!("read -r _; kill -KILL {daemon}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: an interrupt typed at the tests' terminal must not end it first.
        Self(command.process_group(0).spawn().unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon that several tests use at once; for those that do nothing to its zones. Stopped after the last of them.
pub(crate) async fn shared() -> Arc<Daemon> {
    static SHARED: tokio::sync::Mutex<Weak<Daemon>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut slot = SHARED.lock().await;
    if let Some(daemon) = slot.upgrade() {
        return daemon;
    }
    let site = Site::prepare().await;
    // Nobody hangs in these tests.
    site.kill_after(3_000);
    let daemon = Arc::new(site.start().await);
    *slot = Arc::downgrade(&daemon);
    daemon
}
