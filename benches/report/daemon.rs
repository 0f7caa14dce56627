//! The real daemon over two SoftHSM zones of its own, as a child process.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use client::{Client, Credentials, Health, Settings};
use model::clock::Clock;
use model::secret::Secret;
use proto::v1::{ConnectionState, CreateKeyRequest, DescribeKeyStoresRequest, HsmHealth, HsmStatus, KeyStore};
use rustix::process::{Pid, Signal, kill_process};

use super::{Outcome, said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keystored");
/// Time that the daemon may take to serve.
const START: Duration = Duration::from_secs(60);
/// Keys that are asked for at once.
const CREATING: usize = 8;
/// After a key that could not be made, and how many in a row there may be.
const REFUSED: Duration = Duration::from_millis(200);
const MOST_REFUSED: usize = 800;

/// Variables that tell a client where to call and with which certificate.
pub(super) type Environment = BTreeMap<String, String>;

/// A running daemon.
pub(super) struct Daemon {
    child: Child,
    /// As in its dev.env.
    pub(super) environment: Environment,
    /// Its configuration.
    pub(super) config: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Makes two zones under `dir` and starts a daemon over them on ports that the system chooses.
    pub(super) async fn start(dir: &Path, clock: &Clock) -> Outcome<Self> {
        Self::start_with(dir, clock, |_| Ok(())).await
    }

    /// The same with a configuration that is changed before the daemon reads it.
    pub(super) async fn start_with(
        dir: &Path,
        clock: &Clock,
        change: impl FnOnce(&mut toml::Table) -> Outcome<()>,
    ) -> Outcome<Self> {
        let options = provision::Options {
            dir: dir.to_owned(),
            zones: vec!["a".to_owned(), "b".to_owned()],
            listen: [(); 3].map(|()| "127.0.0.1:0".to_owned()),
            worker: PathBuf::from(PROGRAM),
            module: None,
        };
        let layout = provision::prepare(&options, clock, &mut |_| {}).await.map_err(said("making the zones"))?;
        configure(&layout.config, |config| {
            // Sections make as many keys as they are told.
            let limits = config.entry("limits").or_insert_with(|| toml::Table::new().into());
            let limits = limits.as_table_mut().ok_or("the configuration's limits are no table")?;
            limits.insert("keys_per_key_store".to_owned(), 20_000.into());
            change(config)
        })?;
        let mut command = Command::new(PROGRAM);
        command.args([OsStr::new("dev"), OsStr::new("--dir"), dir.as_os_str()]);
        Self::launch(&mut command, &layout.env, layout.config, Environment::new()).await
    }

    /// Ends it and has this program be the daemon, in this mode, over the same zones, metadata and configuration, on other
    /// ports.
    pub(super) async fn again_as(self, program: &Path, mode: &[&str]) -> Outcome<Self> {
        let (config, known) = (self.config.clone(), self.environment.clone());
        drop(self);
        let env = config.with_file_name("again.env");
        let mut command = Command::new(program);
        command.args(mode).args([&config, &env]);
        Self::launch(&mut command, &env, config, known).await
    }

    /// Starts a daemon that writes to `env` where it listens, and waits until it serves. `known` is what that file does not
    /// say.
    async fn launch(command: &mut Command, env: &Path, config: PathBuf, known: Environment) -> Outcome<Self> {
        // One of an earlier daemon says where that one served.
        fs::remove_file(env).ok();
        let log_path = config.with_file_name("daemon.log");
        let log = File::create(&log_path).map_err(said("making the daemon's log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(said("sharing the daemon's log"))?)
            .stderr(log)
            .spawn()
            .map_err(said("starting the daemon"))?;
        let mut daemon = Self { child, environment: known, config, log: log_path.clone() };
        let ready = daemon.ready(env);
        match tokio::time::timeout(START, ready).await {
            Ok(Ok(environment)) => {
                daemon.environment = environment;
                Ok(daemon)
            }
            Ok(Err(error)) => Err(format!("{error}; its log:\n{}", read(&log_path))),
            Err(_) => Err(format!("the daemon does not serve within {START:?}; its log:\n{}", read(&log_path))),
        }
    }

    /// Why workers were taken out of service so far, as its log says it.
    pub(super) fn losses(&self) -> Vec<String> {
        let log = read(&self.log);
        let lost = log.lines().filter(|line| line.contains("the worker is taken out of service"));
        lost.filter_map(|line| Some(line.split_once("reason=")?.1.trim_matches('"').to_owned())).collect()
    }

    /// What the second client of a development daemon has in its app.env, which uses keys and does nothing else. Waits
    /// until it is there.
    pub(super) async fn app(&self) -> Outcome<Environment> {
        let file = self.config.with_file_name("app.env");
        let looking = async {
            let mut looks = tokio::time::interval(Duration::from_millis(50));
            loop {
                looks.tick().await;
                let environment = parse(&read(&file));
                if environment.contains_key("KEYSTORED_OPS") {
                    return environment;
                }
            }
        };
        tokio::time::timeout(START, looking).await.map_err(said("waiting for app.env"))
    }

    /// What somebody has to know who called the daemon that was there before this one.
    pub(super) fn now_of(&self, mut caller: Environment) -> Environment {
        for name in ["KEYSTORED_ADDRESS", "KEYSTORED_OPS"] {
            caller.extend(self.environment.get(name).map(|address| (name.to_owned(), address.clone())));
        }
        caller
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its configuration as it stands in the file.
    pub(super) fn configuration(&self) -> Outcome<toml::Table> {
        let text = fs::read_to_string(&self.config).map_err(said("reading the configuration"))?;
        text.parse().map_err(said("reading the configuration"))
    }

    /// Changes its configuration and has it read again.
    pub(super) fn reconfigure(&self, change: impl FnOnce(&mut toml::Table) -> Outcome<()>) -> Outcome<()> {
        configure(&self.config, change)?;
        self.signal(Signal::HUP);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    async fn ready(&mut self, env: &Path) -> Outcome<Environment> {
        let mut looks = tokio::time::interval(Duration::from_millis(50));
        loop {
            looks.tick().await;
            if let Some(status) = self.child.try_wait().map_err(said("looking at the daemon"))? {
                return Err(format!("the daemon has ended ({status})"));
            }
            let written = parse(&read(env));
            if !written.contains_key("KEYSTORED_OPS") {
                continue;
            }
            let mut environment = self.environment.clone();
            environment.extend(written);
            let Ok(client) = connect(&environment).await else { continue };
            if client.health().await == Ok(Health::Serving) {
                return Ok(environment);
            }
        }
    }

    /// Makes keys; their ids.
    pub(super) async fn create_keys(&self, count: usize) -> Outcome<Vec<String>> {
        let client = connect(&self.environment).await?.with_deadline(Some(START));
        let mut ids = Vec::with_capacity(count);
        let (mut pauses, mut refused) = (tokio::time::interval(REFUSED), 0);
        while ids.len() < count {
            let some = (0..CREATING.min(count - ids.len())).map(|_| client.create_key(CreateKeyRequest::default()));
            for key in futures_util::future::join_all(some).await {
                match key {
                    Ok(key) => {
                        ids.push(key.key_id);
                        refused = 0;
                    }
                    // A worker that something else keeps from the processor is taken for a hanging one, and no key is
                    // made while it is started again.
                    Err(_) if refused < MOST_REFUSED => refused += 1,
                    Err(error) => return Err(said("creating a key")(error)),
                }
            }
            if refused > 0 {
                pauses.reset();
                pauses.tick().await;
            }
        }
        Ok(ids)
    }

    /// Waits until all workers of all HSMs serve.
    pub(super) async fn complete(&self) -> Outcome<()> {
        let client = connect(&self.environment).await?;
        until(&client, &key_store(&client).await?, is_complete).await
    }

    /// Disconnects the key store and connects it again; how long the connecting takes. Returns when all workers
    /// of all HSMs serve.
    pub(super) async fn reconnect(&self, clock: &Clock) -> Outcome<Duration> {
        let client = connect(&self.environment).await?;
        let id = key_store(&client).await?;
        client.disconnect_key_store(&id).await.map_err(said("disconnecting the key store"))?;
        until(&client, &id, |store| store.connection_state() == ConnectionState::Disconnected).await?;
        let began = clock.now();
        client.connect_key_store(&id).await.map_err(said("connecting the key store"))?;
        until(&client, &id, |store| store.connection_state() == ConnectionState::Connected).await?;
        let took = clock.now() - began;
        // The further workers of each HSM come after CONNECTED; they would run beside what is measured next.
        until(&client, &id, is_complete).await?;
        Ok(took)
    }
}

/// The id of the only key store.
async fn key_store(client: &Client) -> Outcome<String> {
    let stores = client.describe_key_stores(DescribeKeyStoresRequest::default()).await;
    let stores = stores.map_err(said("describing the key store"))?.key_stores;
    Ok(stores.into_iter().next().ok_or("there is no key store")?.key_store_id)
}

fn is_complete(store: &KeyStore) -> bool {
    let complete = |hsm: &HsmStatus| hsm.health() == HsmHealth::Healthy && hsm.ready_workers == hsm.workers;
    store.hsms.iter().all(complete)
}

/// Looks at a key store until it is as wanted.
async fn until(client: &Client, id: &str, wanted: impl Fn(&KeyStore) -> bool) -> Outcome<()> {
    let looking = async {
        // Seldom enough to take nothing from what is waited for.
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        loop {
            looks.tick().await;
            let request = DescribeKeyStoresRequest { key_store_id: id.to_owned(), ..Default::default() };
            let found = client.describe_key_stores(request).await.map_err(said("describing the key store"))?;
            match found.key_stores.first() {
                Some(store) if store.connection_state() == ConnectionState::Failed => {
                    return Err(format!("the key store failed: {}", store.connection_error_message));
                }
                Some(store) if wanted(store) => return Ok(()),
                _ => {}
            }
        }
    };
    tokio::time::timeout(START, looking).await.map_err(said("waiting for the key store"))?
}

impl Drop for Daemon {
    /// An orderly end: its workers log out of their tokens.
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Changes a configuration's file.
fn configure(file: &Path, change: impl FnOnce(&mut toml::Table) -> Outcome<()>) -> Outcome<()> {
    let text = fs::read_to_string(file).map_err(said("reading the configuration"))?;
    let mut config: toml::Table = text.parse().map_err(said("reading the configuration"))?;
    change(&mut config)?;
    fs::write(file, config.to_string()).map_err(said("writing the configuration"))
}

/// A configuration's cluster.
pub(super) fn cluster(config: &mut toml::Table) -> Outcome<&mut toml::Table> {
    let cluster = config.get_mut("cluster").and_then(|clusters| clusters.as_array_mut()?.first_mut()?.as_table_mut());
    cluster.ok_or_else(|| "the configuration has no cluster".to_owned())
}

/// The entries of its HSMs.
pub(super) fn hsms(config: &mut toml::Table) -> Outcome<&mut Vec<toml::Value>> {
    let hsms = cluster(config)?.get_mut("hsm").and_then(toml::Value::as_array_mut);
    hsms.ok_or_else(|| "the configuration has no HSMs".to_owned())
}

/// The empty service, as a child process like the daemon.
pub(super) struct Empty {
    child: Child,
    stop: Option<ChildStdin>,
    /// The daemon's, but for the address.
    pub(super) environment: Environment,
}

impl Empty {
    /// Starts it with the daemon's certificates.
    pub(super) fn start(program: &Path, daemon: &Daemon) -> Outcome<Self> {
        Self::start_as("empty-service", program, daemon, "KEYSTORED_ADDRESS")
    }

    /// Starts that for AWS's clients, with the daemon's certificate and the one access key that the daemon's environment has.
    pub(super) fn start_aws(program: &Path, daemon: &Daemon) -> Outcome<Self> {
        Self::start_as("empty-aws", program, daemon, "AWS_ENDPOINT_URL_KMS")
    }

    fn start_as(mode: &str, program: &Path, daemon: &Daemon, variable: &str) -> Outcome<Self> {
        let mut child = Command::new(program)
            .args([OsStr::new(mode), daemon.config.as_os_str()])
            .envs(&daemon.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(said("starting the empty service"))?;
        let (stop, output) = (child.stdin.take(), child.stdout.take());
        let mut empty = Self { child, stop, environment: daemon.environment.clone() };
        let mut address = String::new();
        let output = output.ok_or("the empty service has no pipe")?;
        BufReader::new(output).read_line(&mut address).map_err(said("reading the empty service's address"))?;
        empty.environment.insert(variable.to_owned(), address.trim_end().to_owned());
        Ok(empty)
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.child.wait();
    }
}

/// A connection of its own.
pub(super) async fn connect(environment: &Environment) -> Outcome<Client> {
    let variable = |name: &str| environment.get(name).ok_or(format!("dev.env says nothing of {name}"));
    let file = |name: &str| fs::read(variable(name)?).map_err(said("reading a certificate"));
    let credentials = Credentials {
        authorities: file("KEYSTORED_CA")?,
        certificate: file("KEYSTORED_CERT")?,
        key: Secret::new(file("KEYSTORED_KEY")?),
    };
    let settings = Settings {
        address: variable("KEYSTORED_ADDRESS")?.clone(),
        credentials,
        connections: 1,
        connect_timeout: Duration::from_secs(5),
        deadline: Some(Duration::from_secs(5)),
    };
    Client::connect(&settings).await.map_err(said("connecting"))
}

/// Lines `NAME=VALUE`, with or without `export` and quotation marks.
fn parse(text: &str) -> Environment {
    let entry = |line: &str| {
        let (name, value) = line.trim().trim_start_matches("export ").split_once('=')?;
        Some((name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(entry).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
