//! The listeners with TLS: what they have in common, and their tasks.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::accept::{Accept, CountedAs, Signal, Strangers};
use super::pressure::Pressure;
use super::protocol::Protocol;
use super::tls::Tls;
use api::entry::budget::Budget;
use model::clock::Clock;
use telemetry::metrics::{Listener, Metrics};
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

/// What all of them are given.
pub(super) struct Common {
    /// One for all of them: who comes by two has what one gives.
    pub(super) budget: Arc<Budget>,
    /// How many connections each of them may have open.
    pub(super) connections: usize,
    pub(super) drain: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) pressure: Arc<Pressure>,
    pub(super) counted_as: CountedAs,
    pub(super) strangers: Strangers,
    pub(super) watchdog: Watchdog,
}

/// A listener that accepts.
pub(super) struct Running {
    of: Listener,
    tell: Arc<watch::Sender<Signal>>,
    accepting: JoinHandle<()>,
}

impl Common {
    /// Begins to accept, and to follow the certificate files; `lookers` has the task of the latter.
    pub(super) fn begin<P: Protocol>(
        &self,
        of: Listener,
        (listener, tls): (TcpListener, Arc<Tls>),
        protocol: P,
        lookers: &mut JoinSet<()>,
    ) -> Running {
        let (accepts, follows) = match of {
            Listener::Grpc => (Task::Accept, Task::Certificates),
            Listener::Aws => (Task::AwsAccept, Task::AwsCertificates),
        };
        let (tell, signals) = watch::channel(Signal { draining: false, generation: tls.current().generation });
        let tell = Arc::new(tell);
        // On panic: started again; it looks at the files anew.
        lookers.spawn(self.watchdog.clone().restarted(follows, "", || (), {
            let (tls, metrics, tell) = (Arc::clone(&tls), Arc::clone(&self.metrics), Arc::clone(&tell));
            move |heartbeat: Heartbeat| {
                let (tls, metrics, tell) = (Arc::clone(&tls), Arc::clone(&metrics), Arc::clone(&tell));
                let changed = move |generation| tell.send_modify(|signal| signal.generation = generation);
                async move { heartbeat.idle(tls.follow(&metrics, changed)).await }
            }
        }));
        let accept = Accept {
            listener: of,
            tls,
            protocol,
            budget: Arc::clone(&self.budget),
            connections: self.connections,
            drain: self.drain,
            metrics: Arc::clone(&self.metrics),
            clock: self.clock.clone(),
            pressure: Arc::clone(&self.pressure),
            counted_as: Arc::clone(&self.counted_as),
            strangers: Arc::clone(&self.strangers),
        };
        // On panic: the process ends (vital); no call would reach it any more.
        let accepting = tokio::spawn(self.watchdog.clone().vital(accepts, async move |heartbeat: Heartbeat| {
            heartbeat.idle(accept.run(listener, signals)).await;
        }));
        Running { of, tell, accepting }
    }
}

/// Has all of them drain at once, and waits until they have.
pub(super) async fn drain(running: Vec<Running>) {
    for Running { tell, .. } in &running {
        tell.send_modify(|signal| signal.draining = true);
    }
    for Running { of, accepting, .. } in running {
        if let Err(error) = accepting.await {
            tracing::error!(%error, listener = ?of, "a listener broke");
        }
    }
}
