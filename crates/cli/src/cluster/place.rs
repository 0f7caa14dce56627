//! What the commands of the ceremony share: the configuration, the folder, and how the ceremony is watched and broken
//! off.

use std::path::{Path, PathBuf};

use clap::Args;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::failure::{Exit, Failure};
use crate::interruption;
use crate::{Context, parse};
use config::{self, Cluster, Config, Hsm};

/// Where the ceremony is carried out.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The daemon's configuration, which names the cluster's HSMs
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Folder of the ceremony: it keeps the key of the cluster's authority and the wrapped copies of the cluster's
    /// wrapping key. Yours, never the daemon's
    #[arg(long, value_name = "DIR")]
    pub(super) folder: PathBuf,
    /// Cluster of the configuration [default: the only one]
    #[arg(long, value_name = "ID", value_parser = parse::cluster_id)]
    cluster: Option<String>,
}

impl Place {
    /// Reads the configuration and finds the cluster in it.
    pub(super) fn read(&self) -> Result<(Config, Cluster), Failure> {
        let config = config::load(&self.config)?;
        let cluster = match &self.cluster {
            Some(wanted) => config.clusters.iter().find(|cluster| cluster.id.as_str() == wanted),
            None => config.clusters.first().filter(|_| config.clusters.len() == 1),
        };
        let cluster = cluster.cloned().ok_or_else(|| self.no_cluster(&config))?;
        Ok((config, cluster))
    }

    fn no_cluster(&self, config: &Config) -> Failure {
        let all: Vec<&str> = config.clusters.iter().map(|cluster| cluster.id.as_str()).collect();
        let file = self.config.display();
        match (&self.cluster, all.is_empty()) {
            (_, true) => Failure::local(format!("{file} names no cluster")),
            (Some(wanted), false) => Failure::usage(format!("{file} has no cluster {wanted}"))
                .with_hint(format!("it has {}", all.join(", "))),
            (None, false) => Failure::usage(format!("{file} has several clusters: {}", all.join(", ")))
                .with_hint("give --cluster ID"),
        }
    }

    /// The folder, whatever directory the operator stands in.
    pub(super) fn folder(&self) -> Result<PathBuf, Failure> {
        std::path::absolute(&self.folder).map_err(|error| Failure::local(format!("{}: {error}", self.folder.display())))
    }
}

/// An HSM of the cluster.
pub(super) fn hsm<'a>(cluster: &'a Cluster, wanted: &str) -> Result<&'a Hsm, Failure> {
    cluster.hsms.iter().find(|hsm| hsm.id.as_str() == wanted).ok_or_else(|| {
        let all: Vec<&str> = cluster.hsms.iter().map(|hsm| hsm.id.as_str()).collect();
        Failure::usage(format!("{wanted} is no HSM of {} in the configuration", cluster.id))
            .with_hint(format!("its HSMs are {}", all.join(", ")))
    })
}

/// Makes this process fit to hold PINs and the key of an authority, and to keep the HSMs for itself. What workers and
/// their modules have to say goes to standard error, in the form that the configuration gives to the daemon's log.
pub(super) fn get_ready(context: &Context, config: &Config) -> Result<(), Failure> {
    telemetry::init_log(config.log.json, "warn");
    guard_memory()?;
    if let Some(owner) = ceremony::state_dir(config)? {
        context.printer.note(format!(
            "note: {} belongs to user {owner}; a daemon that runs as that user will not be able to open the lock files \
             that are made in it now: better carry the ceremony out as that user",
            config.state_dir.display()
        ));
    }
    // After the state directory, which it may be, or be in.
    Ok(ceremony::lock_dir(config)?)
}

/// No core dump shows what this process holds, and no other process of the user looks into it.
fn guard_memory() -> Result<(), Failure> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)
        .and_then(|()| rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| Failure::local(format!("the memory of this process cannot be guarded: {error}")))
}

/// Does a part of the ceremony until it ends or the operator ends it. Workers that are left behind finish the call in
/// hand and leave.
pub(super) async fn interruptible<T>(part: impl Future<Output = Result<T, ceremony::Error>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = interruption() => {
            Err(Failure::new(Exit::Interrupted, "interrupted").with_hint("the same command goes on from where it stopped"))
        }
        done = part => Ok(done?),
    }
}

/// A path as a person can paste it behind a command.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
