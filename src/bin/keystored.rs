//! The daemon, its development form, its check, backup and restore of its database, and (hidden) its worker processes.
//!
//! Exit codes: 0 after an ordered shutdown, a good check, a backup or a restore, 1 when a check found something to mend or
//! a backup or a restore could not be made, 2 when the command line, the configuration, the database or a listener keeps
//! it from running, 3 when a restore has only told what it would do.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use keystored::config::Config;
use keystored::model::clock::Clock;
use keystored::server::{Addresses, Consent, Restored};
use keystored::{config, hsm, provision, server, telemetry};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tokio::signal::unix::{SignalKind, signal};

/// SoftHSM allocates in every call; with this it is a quarter faster, and its threads don't wait for each other there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Where a development daemon listens unless it is told otherwise.
const GRPC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7411);
const OPS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7412);

/// A key service for PKCS#11 HSMs with the key life of AWS KMS custom key stores.
#[derive(Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
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
        /// Write the addresses (KEYSTORED_ADDRESS, KEYSTORED_OPS) into this file once both ports are open.
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
    /// Put a copy of the database in the place of the one that is there, which is set aside. The daemon must be stopped.
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
    },
    /// One HSM worker; started by the daemon, never by hand.
    #[command(hide = true)]
    HsmWorker {
        /// Whose; for people who look at a list of processes. The daemon tells the worker over its socket.
        hsm: Option<String>,
    },
}

fn main() -> ExitCode {
    let clock = Clock::system();
    match Arguments::parse().command {
        Command::HsmWorker { .. } => hsm::worker::run(&clock),
        Command::Serve { config, env_file } => finish(serve(&config, env_file.as_deref(), clock)),
        Command::Dev { dir, zones, listen, ops } => finish(dev(dir, zones, listen, ops, clock)),
        Command::Check { config } => finish(check(&config, &clock)),
        Command::Backup { config, target } => finish(backup(&config, &target, &clock)),
        Command::Restore { config, source, yes } => finish(restore(&config, &source, yes, &clock)),
    }
}

fn finish(result: Result<ExitCode, String>) -> ExitCode {
    result.unwrap_or_else(|message| {
        eprintln!("keystored: {message}");
        ExitCode::from(2)
    })
}

fn serve(file: &Path, env_file: Option<&Path>, clock: Clock) -> Result<ExitCode, String> {
    let config = read(file)?;
    let listening = |addresses: Addresses| {
        let Some(env_file) = env_file else { return };
        if let Err(error) = provision::write_addresses(env_file, addresses.grpc, addresses.ops) {
            tracing::error!(%error, "the addresses could not be written");
        }
    };
    runtime()?.block_on(run(config, clock, listening))
}

fn dev(
    dir: PathBuf,
    zones: Option<u8>,
    listen: Option<SocketAddr>,
    ops: Option<SocketAddr>,
    clock: Clock,
) -> Result<ExitCode, String> {
    telemetry::init_log(false, "info");
    guard_memory()?;
    let options = provision::Options {
        dir,
        zones: (b'a'..).take(zones.map_or(0, usize::from)).map(|letter| char::from(letter).to_string()).collect(),
        listen: (listen.unwrap_or(GRPC).to_string(), ops.unwrap_or(OPS).to_string()),
        worker: PathBuf::from("/proc/self/exe"),
        module: std::env::var_os("SOFTHSM2_MODULE").map(PathBuf::from),
    };
    runtime()?.block_on(async {
        let mut say = |step: &str| println!("keystored dev: {step}");
        let layout = provision::prepare(&options, &clock, &mut say).await.map_err(|error| error.to_string())?;
        let mut config = read(&layout.config)?;
        config.grpc.listen = listen.unwrap_or(config.grpc.listen);
        config.ops = ops.unwrap_or(config.ops);
        let clock_of_store = clock.clone();
        let listening = move |addresses: Addresses| {
            tokio::spawn(async move {
                match provision::key_store::connect(&layout, addresses.grpc, &clock_of_store).await {
                    Ok(store) => {
                        // Whoever waits for this file finds a key store that can be used.
                        match provision::write_env(&layout, addresses.grpc, addresses.ops) {
                            Ok(()) => welcome(&layout, addresses, &store),
                            Err(error) => tracing::error!(%error, "dev.env could not be written"),
                        }
                    }
                    Err(error) => tracing::error!(%error, "the development key store could not be made"),
                }
            });
        };
        run(config, clock.clone(), listening).await
    })
}

fn check(file: &Path, clock: &Clock) -> Result<ExitCode, String> {
    let config = read(file)?;
    telemetry::init_log(false, "warn");
    guard_memory()?;
    let good = runtime()?.block_on(server::check(&config, clock, &mut std::io::stdout()));
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn backup(file: &Path, target: &Path, clock: &Clock) -> Result<ExitCode, String> {
    let config = read(file)?;
    telemetry::init_log(false, "warn");
    guard_memory()?;
    Ok(match runtime()?.block_on(server::backup(&config, target, clock, &mut std::io::stdout())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    })
}

fn restore(file: &Path, source: &Path, yes: bool, clock: &Clock) -> Result<ExitCode, String> {
    let config = read(file)?;
    telemetry::init_log(false, "warn");
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
    Ok(match runtime()?.block_on(server::restore(&config, source, clock, consent, &mut std::io::stdout())) {
        Ok(Restored::Done) => ExitCode::SUCCESS,
        Ok(Restored::Told) => ExitCode::from(3),
        Err(error) => failed(&error),
    })
}

fn failed(error: &server::Error) -> ExitCode {
    eprintln!("keystored: {error}");
    ExitCode::FAILURE
}

fn read(file: &Path) -> Result<Config, String> {
    config::load(file).map_err(|error| error.to_string())
}

async fn run(config: Config, clock: Clock, listening: impl FnOnce(Addresses) + Send) -> Result<ExitCode, String> {
    telemetry::init_log(config.log.json, &config.log.filter);
    guard_memory()?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server::serve(config, clock, Box::pin(shutdown), Box::new(listening)).await.map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("keystored")
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be made: {error}"))
}

/// PINs and plaintexts are in this process's memory: no core dump may carry them to a disk, no debugger read them.
fn guard_memory() -> Result<(), String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)
        .map_err(|error| format!("core dumps cannot be turned off: {error}"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| format!("the process cannot be made undumpable: {error}"))
}

fn welcome(layout: &provision::Layout, addresses: Addresses, store: &str) {
    let env = layout.env.display();
    let Addresses { grpc, ops } = addresses;
    // A terminal that has gone away must not end the daemon.
    let _ = writeln!(
        std::io::stdout(),
        "
keystored dev is listening; {store}.
  gRPC (mTLS)  https://{grpc}
  ops (HTTP)   http://{ops}/readyz and /metrics
  variables    {env}

In another terminal:
  set -a; . {env}; set +a
  keystorectl key-store describe
  keystorectl key create --description 'my first key'
  keystorectl key list

Ctrl-C stops it; everything is kept in {}.",
        layout.dir.display()
    );
}
