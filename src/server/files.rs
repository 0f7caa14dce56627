//! Descriptors: how many the process may have, and how many of them clients may take.
//!
//! The soft limit is there for programs that use select(2), which this one does not: it is raised to the hard one, and
//! workers, whose modules may, get it back (`worker`). What workers, the database and the ops port need is kept back
//! from clients, so that no number of idle connections keeps a worker from being started again.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{accept, ops, pending};
use config::Config;

/// Descriptors of the process itself: standard streams, the runtime's, listeners, database with its journals, and what
/// is open for a moment (configuration, certificates, a connection that is refused). 25 were counted on an idle daemon,
/// without its workers.
const OWN: usize = 64;
/// An HSM's locks, and what the start of a worker needs for a moment.
const EACH_HSM: usize = 8;
/// A worker's socket, its standard error, the handle of its process and its share in the HSM's lock; one more, since
/// SIGHUP may bring further HSMs.
const EACH_WORKER: usize = 5;

/// The soft limit as the process found it, to be given back to workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found(pub(super) Option<u64>);

/// Raises the soft limit to the hard one. What cannot be raised is said; the rest goes by what is in force.
pub(super) fn raise() -> Found {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return Found(current);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => {
            tracing::debug!(from = ?current, to = ?maximum, "the soft limit on open files was raised to the hard one")
        }
        Err(error) => {
            tracing::warn!(%error, from = ?current, to = ?maximum, "the limit on open files cannot be raised")
        }
    }
    Found(current)
}

/// Descriptors while the daemon runs.
pub(super) struct Files {
    /// What workers get back.
    pub(super) found: Found,
    fit: Fit,
    /// What the configuration of the moment would keep back: SIGHUP may bring HSMs.
    needed: AtomicUsize,
}

impl Files {
    pub(super) fn new(found: Found, fit: Fit) -> Self {
        Self { found, fit, needed: AtomicUsize::new(fit.kept) }
    }

    /// The configuration was read again. How many connections may be open stays as it is.
    pub(super) fn reconfigured(&self, config: &Config) {
        self.needed.store(Fit::now(config).kept, Ordering::Relaxed);
        self.outgrown().inspect(|sentence| tracing::warn!("{sentence}"));
    }

    /// What does not fit now.
    pub(super) fn troubles(&self) -> Vec<String> {
        self.fit.sentence().into_iter().chain(self.outgrown()).collect()
    }

    fn outgrown(&self) -> Option<String> {
        let needed = self.needed.load(Ordering::Relaxed);
        let connections = self.fit.connections() * self.fit.listeners;
        let limit = usize::try_from(self.fit.limit?).ok()?;
        (connections + needed > limit).then(|| {
            format!(
                "the HSMs of the configuration need {needed} of {limit} open files, and {connections} are for clients: with that                  many, workers could not be started again; restart the daemon, which then lets fewer clients in, or raise the                  hard limit"
            )
        })
    }
}

/// How clients fit beside what the daemon itself needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// Connections as the configuration allows them, of each listener.
    wanted: usize,
    /// Listeners with clients.
    listeners: usize,
    /// Descriptors that are kept back from them.
    kept: usize,
    /// The limit on open files; absent where there is none.
    limit: Option<u64>,
}

impl Fit {
    /// Under the limit that is in force in this process.
    pub(super) fn now(config: &Config) -> Self {
        Self::under(config, getrlimit(Resource::Nofile).current)
    }

    /// Under the limit that a daemon started from here would have.
    pub(super) fn to_be(config: &Config) -> Self {
        Self::under(config, getrlimit(Resource::Nofile).maximum)
    }

    fn under(config: &Config, limit: Option<u64>) -> Self {
        let hsms = config.clusters.iter().flat_map(|cluster| &cluster.hsms);
        let workers = hsms.map(|hsm| EACH_HSM + EACH_WORKER * (usize::from(hsm.workers) + 1)).sum::<usize>();
        let listeners = 1 + usize::from(config.aws.is_some());
        let coming_and_going = pending::places(config.limits.connections, limit) + accept::MAKING_ROOM;
        let kept = OWN + ops::CONNECTIONS + listeners * coming_and_going + workers;
        Self { wanted: config.limits.connections, listeners, kept, limit }
    }

    /// How many connections each listener may have open at once.
    pub(super) fn connections(&self) -> usize {
        let Some(limit) = self.limit.and_then(|limit| usize::try_from(limit).ok()) else { return self.wanted };
        self.wanted.min(limit.saturating_sub(self.kept) / self.listeners)
    }

    /// What does not fit, with the remedy, where something does not.
    pub(super) fn sentence(&self) -> Option<String> {
        let (fits, limit) = (self.connections(), self.limit.unwrap_or(u64::MAX));
        let each = if self.listeners > 1 { " on each listener" } else { "" };
        (fits < self.wanted).then(|| {
            format!(
                "limits.connections allows {}{each}, but the limit of {limit} open files leaves room for {fits}{each} beside what workers, \
                 database and handshakes need ({}): no more are let in; raise the hard limit to {} (LimitNOFILE in the unit) or \
                 lower limits.connections",
                self.wanted,
                self.kept,
                self.listeners * self.wanted + self.kept
            )
        })
    }

    /// Why the daemon cannot serve at all, if it cannot.
    pub(super) fn refusal(&self) -> Option<String> {
        (self.connections() == 0).then(|| {
            format!(
                "the limit of {} open files leaves none for clients: workers, database and handshakes need {}; raise the hard \
                 limit to {} (LimitNOFILE in the unit)",
                self.limit.unwrap_or(u64::MAX),
                self.kept,
                self.listeners * self.wanted + self.kept
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(limit: Option<u64>) -> Fit {
        Fit { wanted: 1_024, listeners: 1, kept: 264, limit }
    }

    #[test]
    fn clients_get_what_is_not_kept_back() {
        for (limit, connections) in
            [(None, 1_024), (Some(65_536), 1_024), (Some(1_288), 1_024), (Some(1_287), 1_023), (Some(1_024), 760)]
        {
            assert_eq!(fit(limit).connections(), connections, "{limit:?}");
            assert_eq!(fit(limit).sentence().is_some(), connections < 1_024, "{limit:?}");
            assert_eq!(fit(limit).refusal(), None);
        }
        let says = fit(Some(1_024)).sentence().unwrap();
        assert!(says.contains("allows 1024") && says.contains("room for 760") && says.contains("to 1288"), "{says}");
        for limit in [0, 264] {
            assert_eq!(fit(Some(limit)).connections(), 0);
            assert!(fit(Some(limit)).refusal().unwrap().contains("LimitNOFILE"));
        }
    }

    #[test]
    fn two_listeners_share_what_is_left() {
        let two = |limit| Fit { wanted: 1_024, listeners: 2, kept: 300, limit };
        assert_eq!([None, Some(2_348), Some(1_300)].map(|limit| two(limit).connections()), [1_024, 1_024, 500]);
        let says = two(Some(1_300)).sentence().unwrap();
        assert!(says.contains("room for 500 on each listener") && says.contains("to 2348"), "{says}");
    }

    #[test]
    fn hsms_that_come_later_need_room_too() {
        let files = Files::new(Found(Some(1_024)), fit(Some(1_300)));
        assert_eq!(files.troubles(), Vec::<String>::new());
        files.needed.store(277, Ordering::Relaxed);
        let says = files.troubles().concat();
        assert!(says.contains("need 277 of 1300") && says.contains("1024 are for clients"), "{says}");
        assert_eq!(Files::new(Found(None), fit(None)).troubles(), Vec::<String>::new());
    }
}
