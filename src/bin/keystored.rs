//! The daemon, its development form, its check, backup and restore of its database, a new audit log, and (hidden) its
//! worker processes.
//!
//! Exit codes: 0 after an ordered shutdown, a good check, a backup or a restore; 1 when a check found something to mend
//! or a backup or a restore could not be made; 2 when something is wrong that starting again does not mend: the command
//! line, the configuration, a file that it names, a database that cannot be read; 3 when a restore has only told what
//! it would do; 75, which sysexits.h calls EX_TEMPFAIL, when the machine lets it down for the moment: a full or failing
//! disk, a port or a database that another process has, an address that is not there, too many open files, no memory.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use config::Config;
use keystored::server;
use keystored::server::{Addresses, Consent, Restored, UnknownAccessKeys};
use model::clock::Clock;
use model::outage::Outage;
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use telemetry::log::{self, Terminal};
use tokio::signal::unix::{SignalKind, signal};

/// SoftHSM allocates in every call; with this it is a quarter faster, and its threads don't wait for each other there.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Where a development daemon listens unless it is told otherwise.
const GRPC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7411);
const OPS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7412);
const AWS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7413);

/// How soon what could not be done beside serving is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// What threads that wait for a disk get at the end.
const LEAVE: Duration = Duration::from_secs(5);

/// Something is wrong that starting again does not mend.
const WRONG: u8 = 2;
/// It may be over by the next start.
const PASSING: u8 = 75;
/// A backup or a restore could not be made.
const NOT_MADE: u8 = 1;
/// A restore has only told what it would do.
const ONLY_TOLD: u8 = 3;

const EXIT_CODES: &str = "\
Exit codes:
  0   stopped in order, or nothing to mend
  1   check found something to mend, or a backup or a restore could not be made
  2   something is wrong that starting again does not mend: the command line, the configuration, a file that
      it names, a database that cannot be read
  3   restore has only told what it would do
  75  the machine lets it down for the moment: a full or failing disk, a port or a database that another
      process has, an address that this host does not have, too many open files, no memory";

/// Why the program ends, and with which code.
struct Failure {
    code: u8,
    message: String,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { code: WRONG, message }
    }
}

impl From<server::Error> for Failure {
    fn from(error: server::Error) -> Self {
        let code = if matches!(error, server::Error::Passing(_)) { PASSING } else { WRONG };
        Self { code, message: error.to_string() }
    }
}

impl From<provision::Error> for Failure {
    fn from(error: provision::Error) -> Self {
        let code = if matches!(error, provision::Error::Passing(_)) { PASSING } else { WRONG };
        Self { code, message: error.to_string() }
    }
}

/// What the system said, in a sentence.
fn failed(error: &std::io::Error, message: String) -> Failure {
    Failure { code: if Outage::of(error).is_some() { PASSING } else { WRONG }, message }
}

/// A key service for PKCS#11 HSMs with the key life of AWS KMS custom key stores.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 110, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon.
    Serve {
        /// Its configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Write the addresses (KEYSTORED_ADDRESS, KEYSTORED_OPS; of [aws] also AWS_ENDPOINT_URL_KMS and _STS) into this
        /// file once all ports are open.
        #[arg(long, value_name = "FILE")]
        env_file: Option<PathBuf>,
    },
    /// Run the daemon on SoftHSM tokens and certificates that it makes itself. For development, never for production.
    Dev {
        /// Where everything is kept.
        #[arg(long, value_name = "DIR", default_value = "dev")]
        dir: PathBuf,
        /// How many zones, one SoftHSM token each (at first 2). A directory keeps the number with which it was made.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=26))]
        zones: Option<u8>,
        /// Where gRPC listens, instead of what keystored.toml in the directory says (at first 127.0.0.1:7411); port 0
        /// takes a free one.
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// Where clients of AWS KMS are served, likewise (at first 127.0.0.1:7413).
        #[arg(long, value_name = "ADDR")]
        aws: Option<SocketAddr>,
        /// Where ops listens, likewise (at first 127.0.0.1:7412).
        #[arg(long, value_name = "ADDR")]
        ops: Option<SocketAddr>,
    },
    /// Try everything that a configuration names and say how to mend what is wrong.
    Check {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Copy the database into a new file, beside a running daemon or without one. Run it as the daemon's user.
    Backup {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The copy. Must not be there yet.
        #[arg(value_name = "TARGET")]
        target: PathBuf,
    },
    /// Put a copy of the database in the place of the one that is there, which is set aside. The daemon must be
    /// stopped.
    ///
    /// Tells first what will be different, for the database and for the tokens. Run it as the daemon's user.
    Restore {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The copy, as `keystored backup` has made it.
        #[arg(value_name = "SOURCE")]
        source: PathBuf,
        /// Do it without being asked. Without it, and without a terminal, it is only told what would be done (exit code
        /// 3).
        #[arg(long)]
        yes: bool,
        /// Access keys of which nobody knows whether they were taken away after the backup sign calls again. Without it
        /// they come back disabled.
        #[arg(long)]
        keep_access_keys: bool,
    },
    /// What is done with the audit log while the daemon is stopped; to look at it, there is `keystorectl audit`.
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// One HSM worker; started by the daemon, never by hand.
    #[command(hide = true)]
    HsmWorker {
        /// Whose; for people who look at a list of processes. The daemon tells the worker over its socket.
        hsm: Option<String>,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Begin a new log, with a key and a name of its own, in the place of one that cannot be written on. What there is of
    /// that is set aside and can be checked as before. Run it as the daemon's user.
    NewLog {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let clock = Clock::system();
    let ended = match Arguments::parse().command {
        Command::HsmWorker { .. } => worker::run(&clock),
        Command::Serve { config, env_file } => serve(&config, env_file.as_deref(), clock),
        Command::Dev { dir, zones, listen, aws, ops } => dev(dir, zones, [listen, aws, ops], clock),
        Command::Check { config } => check(&config, &clock),
        Command::Backup { config, target } => backup(&config, &target, &clock),
        Command::Audit { command: AuditCommand::NewLog { config } } => new_log(&config, &clock),
        Command::Restore { config, source, yes, keep_access_keys } => {
            restore(&config, &source, yes, keep_access_keys, &clock)
        }
    };
    let code = ended.unwrap_or_else(|Failure { code, message }| {
        log::last_words(&format!("keystored: {message}"));
        ExitCode::from(code)
    });
    log::flush(log::LAST_LINES);
    code
}

fn serve(file: &Path, env_file: Option<&Path>, clock: Clock) -> Result<ExitCode, Failure> {
    let config = read(file)?;
    let listening = |addresses: Addresses| {
        let Some(env_file) = env_file.map(Path::to_owned) else { return };
        // On panic: the daemon serves without the file, as after an error here.
        tokio::spawn(async move {
            let mut said = false;
            while let Err(error) = provision::write_addresses(&env_file, listening_of(addresses)) {
                again("where the daemon listens could not be written", &error, &mut said).await;
            }
        });
    };
    on_runtime(run(config, clock, listening))
}

/// Until what somebody may wait for is tried again, such as when the disk has room: says once what is in the way, and
/// waits. The daemon serves meanwhile.
async fn again(sentence: &str, error: &provision::Error, said: &mut bool) {
    if !std::mem::replace(said, true) {
        tracing::error!(%error, "{sentence}; it is tried again");
    }
    tokio::time::sleep(AGAIN).await;
}

fn dev(dir: PathBuf, zones: Option<u8>, listen: [Option<SocketAddr>; 3], clock: Clock) -> Result<ExitCode, Failure> {
    telemetry::init_log(false, "info");
    telemetry::panics::hear();
    guard_memory()?;
    let [grpc, aws, ops] = listen;
    let options = provision::Options {
        dir,
        zones: (b'a'..).take(zones.map_or(0, usize::from)).map(|letter| char::from(letter).to_string()).collect(),
        listen: [grpc.unwrap_or(GRPC), aws.unwrap_or(AWS), ops.unwrap_or(OPS)].map(|address| address.to_string()),
        worker: PathBuf::from("/proc/self/exe"),
        module: std::env::var_os("SOFTHSM2_MODULE").map(PathBuf::from),
    };
    let terminal = Arc::new(Terminal::open());
    let ended = on_runtime(async {
        let mut say = |step: &str| terminal.say(&format!("keystored dev: {step}"));
        let layout = provision::prepare(&options, &clock, &mut say).await?;
        let mut config = read(&layout.config)?;
        config.grpc.listen = grpc.unwrap_or(config.grpc.listen);
        listen_for_aws(&mut config, aws);
        config.ops = ops.unwrap_or(config.ops);
        let (me, scope) = (provision::administrator(), config.scope.clone());
        if !config.administrators.contains(&me) {
            // Written by an earlier version, or changed since.
            let file = layout.config.display();
            terminal.say(&format!(
                "keystored dev: {file} does not name {me:?} in `administrators`, so that the key store and the app cannot be \
                 made; write administrators = [{me:?}] before the first table and send SIGHUP"
            ));
        }
        let (clock_of_store, terminal, audit) = (clock.clone(), Arc::clone(&terminal), config.audit.dir.clone());
        let listening = move |addresses: Addresses| {
            // On panic: the daemon serves without its development key store.
            tokio::spawn(async move {
                let (mut made, mut said) = (false, false);
                let store = loop {
                    match provision::key_store::connect(&layout, addresses.grpc, &clock_of_store, &mut made).await {
                        Ok(store) => break store,
                        Err(error) => again("the development key store could not be made", &error, &mut said).await,
                    }
                };
                let listening = listening_of(addresses);
                while let Err(error) = provision::principal::app(&layout, listening, &scope).await {
                    again("the app's principal could not be made", &error, &mut said).await;
                }
                // Whoever waits for this file finds a key store that can be used.
                while let Err(error) = provision::principal::administrator(&layout, listening, &scope).await {
                    again("dev.env could not be written", &error, &mut said).await;
                }
                terminal.say(&welcome(&layout, addresses, &audit, &store));
            });
        };
        run(config, clock.clone(), listening).await
    });
    terminal.flush();
    ended
}

/// Has a development daemon listen for clients of AWS KMS where it is told to; its configuration may have been written by
/// an earlier version, which knew nothing of them.
fn listen_for_aws(config: &mut Config, aws: Option<SocketAddr>) {
    let Some(listen) = aws else { return };
    match &mut config.aws {
        Some(section) => section.listen = listen,
        None => {
            let config::Grpc { certificate, key, .. } = config.grpc.clone();
            config.aws =
                Some(config::Aws { listen, certificate, key, client_ca: None, hosts: Vec::new(), tls12: false });
        }
    }
}

fn listening_of(Addresses { grpc, aws, ops }: Addresses) -> provision::Listening {
    provision::Listening { grpc, aws, ops }
}

fn check(file: &Path, clock: &Clock) -> Result<ExitCode, Failure> {
    let config = read(file)?;
    telemetry::init_log(false, "warn");
    telemetry::panics::hear();
    guard_memory()?;
    on_runtime(async {
        let good = server::check(&config, clock, &mut std::io::stdout()).await;
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn read(file: &Path) -> Result<Config, Failure> {
    config::load(file).map_err(|error| match std::fs::read(file) {
        Err(cause) => failed(&cause, error.to_string()),
        Ok(_) => error.to_string().into(),
    })
}

fn backup(file: &Path, target: &Path, clock: &Clock) -> Result<ExitCode, Failure> {
    let config = read(file)?;
    telemetry::init_log(false, "warn");
    telemetry::panics::hear();
    guard_memory()?;
    on_runtime(async {
        let made = server::backup(&config, target, clock, &mut std::io::stdout()).await;
        made.map(|()| ExitCode::SUCCESS).map_err(not_made)
    })
}

fn new_log(file: &Path, clock: &Clock) -> Result<ExitCode, Failure> {
    let config = read(file)?;
    telemetry::init_log(false, "warn");
    telemetry::panics::hear();
    guard_memory()?;
    on_runtime(async {
        server::new_audit_log(&config, clock, &mut std::io::stdout()).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn restore(file: &Path, source: &Path, yes: bool, keep_access_keys: bool, clock: &Clock) -> Result<ExitCode, Failure> {
    let config = read(file)?;
    telemetry::init_log(false, "warn");
    telemetry::panics::hear();
    guard_memory()?;
    let mut ask = || {
        write!(std::io::stdout(), "\nRestore it? Type yes: ")?;
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok(answer.trim() == "yes")
    };
    let consent = match (yes, std::io::stdin().is_terminal()) {
        (true, _) => Consent::Given,
        (false, true) => Consent::Ask(&mut ask),
        (false, false) => Consent::Nobody,
    };
    let unknown = if keep_access_keys { UnknownAccessKeys::Keep } else { UnknownAccessKeys::Disable };
    on_runtime(async {
        match server::restore(&config, source, unknown, clock, consent, &mut std::io::stdout()).await {
            Ok(Restored::Done) => Ok(ExitCode::SUCCESS),
            Ok(Restored::Told) => Ok(ExitCode::from(ONLY_TOLD)),
            Err(error) => Err(not_made(error)),
        }
    })
}

fn not_made(error: server::Error) -> Failure {
    Failure { code: NOT_MADE, message: error.to_string() }
}

async fn run(config: Config, clock: Clock, listening: impl FnOnce(Addresses) + Send) -> Result<ExitCode, Failure> {
    telemetry::init_log(config.log.json, &config.log.filter);
    telemetry::panics::hear();
    guard_memory()?;
    let heard = |kind| signal(kind).map_err(|error| failed(&error, format!("signals cannot be heard: {error}")));
    // Caught, so that a file that may not grow any more fails the write and does not end the process.
    let _too_long = heard(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
    let (mut terminate, mut interrupt) = (heard(SignalKind::terminate())?, heard(SignalKind::interrupt())?);
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server::serve(config, clock, Box::pin(shutdown), Box::new(listening)).await?;
    Ok(ExitCode::SUCCESS)
}

fn on_runtime(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("keystored")
        .enable_all()
        .build()
        .map_err(|error| failed(&error, format!("the runtime cannot be made: {error}")))?;
    let outcome = runtime.block_on(work);
    // A thread that a disk does not answer is not waited for any longer.
    runtime.shutdown_timeout(LEAVE);
    outcome
}

/// PINs and plaintexts are in this process's memory: no core dump may carry them to a disk, no debugger read them.
fn guard_memory() -> Result<(), String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)
        .map_err(|error| format!("core dumps cannot be turned off: {error}"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| format!("the process cannot be made undumpable: {error}"))
}

fn welcome(layout: &provision::Layout, addresses: Addresses, audit: &Path, store: &str) -> String {
    let (env, app_env, audit) = (layout.env.display(), layout.app_env.display(), audit.display());
    let Addresses { grpc, aws, ops } = addresses;
    let aws = aws.map(|aws| format!("  AWS KMS      https://{aws}\n")).unwrap_or_default();
    format!(
        "
keystored dev is listening; {store}.
  gRPC (mTLS)  https://{grpc}
{aws}  ops (HTTP)   http://{ops}/readyz and /metrics
  audit log    {audit}
  variables    {env}: an administrator
               {app_env}: the principal app, which may use keys and nothing else

In another terminal:
  set -a; . {env}; set +a
  keystorectl key-store describe
  keystorectl key create --description 'my first key'
  keystorectl key list
  keystorectl whoami
  keystorectl --env-file {app_env} whoami
  keystorectl audit tail {audit}

Ctrl-C stops it; everything is kept in {}.",
        layout.dir.display()
    )
}
