//! The daemon of the section audit, as this program composes it of the same library as `keystored` does: with the audit log,
//! or with a recorder that accepts at once and keeps nothing. Nothing but the recorder differs. Its workers are this program
//! too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keystored::server::{self, Addresses};
use model::clock::Clock;
use provision::Listening;
use service::LogRecorder;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::daemon::{Daemon, Environment};
use super::load::{Kind, Load, WARM_UP};
use super::watch::pass;
use super::{Options, Outcome, ops, policies, said, workers};

/// Each of them is a mode of this program; a configuration and a file for addresses follow.
pub(super) const RECORDED: &str = "recorded-daemon";
pub(super) const UNRECORDED: &str = "unrecorded-daemon";
/// What threads that wait for a disk get at the end.
const LEAVE: Duration = Duration::from_secs(5);
/// What was left to be done after a load (heads, tiles, bundles to compress) is done when a daemon takes no more than this
/// of a processor in this time, and it is waited for that so often.
const LOOK: Duration = Duration::from_millis(100);
const AT_REST: Duration = Duration::from_millis(10);
const LOOKS: u32 = 100;
/// Syncs of the log, and the records that they were for.
const SYNCS: [&str; 2] = ["keystored_audit_syncs_total", "keystored_audit_records_synced_total"];

/// Serves until SIGTERM.
pub(super) fn run(arguments: &[OsString], clock: Clock) -> Outcome<()> {
    let [mode, config, env] = arguments else {
        return Err("a daemon takes a configuration and a file for its addresses".to_owned());
    };
    let config = config::load(Path::new(config)).map_err(said("reading the configuration"))?;
    telemetry::init_log(config.log.json, &config.log.filter);
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(said("starting the runtime"))?;
    let env = PathBuf::from(env);
    let listening = move |Addresses { grpc, aws, ops }| {
        if let Err(error) = provision::write_addresses(&env, Listening { grpc, aws, ops }) {
            eprintln!("{error}");
        }
    };
    let served = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(said("hearing signals"))?;
        let shutdown = Box::pin(async move {
            terminate.recv().await;
        });
        let serving = if mode == RECORDED {
            server::serve(config, clock, shutdown, Box::new(listening))
        } else {
            server::serve_recorded_by(config, clock, Arc::new(LogRecorder), shutdown, Box::new(listening))
        };
        serving.await.map_err(said("serving"))
    });
    runtime.shutdown_timeout(LEAVE);
    served
}

/// Where a log is, and when it is synced, as a configuration says it.
pub(super) struct Log<'a> {
    pub(super) sync: &'static str,
    /// In the daemon's own directory where none is given.
    pub(super) dir: Option<&'a TempDir>,
}

/// A daemon, and one who calls it.
pub(super) struct Side {
    daemon: Daemon,
    caller: Environment,
    load: Load,
}

/// What one measurement gave.
pub(super) struct Measured {
    /// Items a second.
    pub(super) rate: f64,
    /// Median microseconds of a call.
    pub(super) p50: f64,
    /// Microseconds of a processor that the daemon had for each item, until all that the item left to be done was done.
    pub(super) processor: f64,
    /// Records for each sync of the log; absent where the daemon does not say.
    pub(super) group: Option<f64>,
}

impl Side {
    /// Starts it in this mode. It is called by one whom ten and ten statements of policies let in, or by an administrator of
    /// the configuration, whom none binds; what each of them finds is the same.
    pub(super) fn start(
        dir: &Path,
        (mode, log, bound): (&str, &Log<'_>, bool),
        options: &Options,
        (runtime, clock): (&Runtime, &Clock),
    ) -> Outcome<Self> {
        let program = std::env::current_exe().map_err(said("finding this program"))?;
        let configure = |config: &mut toml::Table| {
            let audit = config.entry("audit").or_insert_with(|| toml::Table::new().into());
            let audit = audit.as_table_mut().ok_or("the configuration's audit log is no table")?;
            audit.insert("sync".to_owned(), log.sync.into());
            if let Some(dir) = log.dir {
                audit.insert("dir".to_owned(), dir.path().to_string_lossy().into_owned().into());
            }
            Ok(())
        };
        runtime.block_on(async {
            let first = Daemon::start_with(dir, clock, configure).await?;
            first.complete().await?;
            let (key, app) = policies::prepare(&first).await?;
            let daemon = first.again_as(&program, &[mode]).await?;
            daemon.complete().await?;
            let caller = if bound { daemon.now_of(app) } else { daemon.environment.clone() };
            let contexts = Some(policies::CONTEXTS);
            let load = Load { key, keys: 1, length: options.length, operation: "encrypt", contexts };
            Ok(Self { daemon, caller, load })
        })
    }

    /// Measures once, and waits until the daemon is at rest, so that nobody else pays for what this load has left.
    pub(super) fn measure(&self, kind: Kind, runtime: &Runtime) -> Outcome<Measured> {
        let (syncs, before) = (self.syncs()?, self.processor_time()?);
        let came = self.load.run(&self.caller, kind)?;
        runtime.block_on(self.rest())?;
        let items = came.rate * (self.load.length + WARM_UP).as_secs_f64();
        let took = self.processor_time()?.saturating_sub(before);
        let group = syncs
            .zip(self.syncs()?)
            .map(|([syncs, records], [more_syncs, more_records])| (more_records - records) / (more_syncs - syncs));
        Ok(Measured { rate: came.rate, p50: came.p50, processor: took.as_secs_f64() * 1e6 / items, group })
    }

    /// How it is called.
    pub(super) fn caller(&self) -> &Environment {
        &self.caller
    }

    /// The key that it is called with.
    pub(super) fn key(&self) -> &str {
        &self.load.key
    }

    fn syncs(&self) -> Outcome<Option<[f64; 2]>> {
        ops::counters(&self.daemon.environment, SYNCS)
    }

    /// What the daemon has had of a processor.
    pub(super) fn processor_time(&self) -> Outcome<Duration> {
        workers::processor_time(self.daemon.pid()).ok_or_else(|| "the daemon has gone".to_owned())
    }

    /// Waits until it is at rest.
    pub(super) async fn rest(&self) -> Outcome<()> {
        let mut before = self.processor_time()?;
        for _ in 0..LOOKS {
            pass(LOOK).await;
            let now = self.processor_time()?;
            if now.saturating_sub(before) <= AT_REST {
                break;
            }
            before = now;
        }
        Ok(())
    }
}
