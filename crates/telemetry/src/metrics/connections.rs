//! What becomes of connections and of the certificates behind them.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Metrics, SUCCESS};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// A listener with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// gRPC's.
    Grpc,
    /// That for clients of AWS KMS.
    Aws,
}

/// Counted by the listeners.
pub(super) struct ConnectionMetrics {
    open: Gauge,
    aws: Gauge,
    refused: Family<ReasonLabels, Counter>,
    ended: Counter,
    handshakes: Counter,
    reloads: Family<OutcomeLabels, Counter>,
}

impl ConnectionMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let open = Gauge::<i64, AtomicI64>::default();
        registry.register("connections", "Open gRPC connections", open.clone());
        let aws = Gauge::<i64, AtomicI64>::default();
        registry.register("aws_connections", "Open connections of clients of AWS KMS", aws.clone());
        let refused = Family::<ReasonLabels, Counter>::default();
        registry.register("connections_refused", "Connections that never came to a call, by reason", refused.clone());
        let ended = Counter::default();
        registry.register(
            "connections_ended",
            "Open connections ended because their client certificate was no longer good",
            ended.clone(),
        );
        let handshakes = Counter::default();
        registry.register("tls_handshakes", "TLS handshakes that succeeded", handshakes.clone());
        let reloads = Family::<OutcomeLabels, Counter>::default();
        registry.register("certificate_reloads", "Changes of certificate files, by outcome", reloads.clone());
        Self { open, aws, refused, ended, handshakes, reloads }
    }
}

impl Metrics {
    /// A handshake succeeded; the connection is open until the guard is dropped.
    #[must_use]
    pub fn connected(&self, of: Listener) -> Connected {
        self.connections.handshakes.inc();
        let open = match of {
            Listener::Grpc => &self.connections.open,
            Listener::Aws => &self.connections.aws,
        };
        open.inc();
        Connected(open.clone())
    }

    /// A connection never came to a call.
    pub fn refused(&self, reason: Refused) {
        let reason = match reason {
            Refused::Full => "full",
            Refused::MadeRoom => "made_room",
            Refused::Silent => "silent",
            Refused::Late => "handshake_timeout",
            Refused::Handshake => "handshake",
            Refused::NoCertificate => "no_certificate",
            Refused::UnknownCa => "unknown_ca",
            Refused::Certificate => "certificate",
            Refused::Mute => "no_http2",
        };
        self.connections.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// An open connection was ended because its client certificate was no longer good.
    pub fn ended(&self) {
        self.connections.ended.inc();
    }

    /// Certificate files changed, and the new ones were taken or not.
    pub fn reloaded(&self, taken: bool) {
        let outcome = if taken { SUCCESS } else { "refused" };
        self.connections.reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}

/// Why a connection never came to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many connections as are allowed were open.
    Full,
    /// The client kept others waiting for a place: it had sent nothing, or had not gone on with its handshake.
    MadeRoom,
    /// The client sent nothing.
    Silent,
    /// The client did not finish its handshake in time.
    Late,
    /// The handshake failed for another reason than those below: no TLS 1.3, no TLS at all, or the client left.
    Handshake,
    /// The client showed no certificate.
    NoCertificate,
    /// No client CA vouches for the client's certificate.
    UnknownCa,
    /// The client's certificate has ended, is not valid yet, is not for clients, or names nobody.
    Certificate,
    /// The client did not begin to speak HTTP/2 in time.
    Mute,
}

/// Counts an open connection until it is dropped.
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
