//! How full the places for connections are, and who made room in them; what their calls hold.

use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Listener, Metrics};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabels {
    place: &'static str,
}

/// What connections share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// From being accepted to the end of the handshake, on a port with TLS.
    Handshake,
    /// Open connections of a port with TLS.
    Open,
    /// Connections of the ops port.
    Ops,
}

impl Places {
    const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Open => "open",
            Self::Ops => "ops",
        }
    }
}

/// Counted by the listeners.
pub(super) struct ShareMetrics {
    handshakes: Gauge,
    /// Those of each listener.
    handshakes_of: [AtomicI64; 2],
    waiting: Gauge,
    held_back: Counter,
    ops: Gauge,
    made_room: Family<PlaceLabels, Counter>,
    held: Gauge,
    not_fetched: Counter,
}

impl ShareMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let handshakes = Gauge::default();
        registry.register(
            "handshakes_in_progress",
            "Connections whose handshake is not over, those that have sent nothing yet included",
            handshakes.clone(),
        );
        let waiting = Gauge::default();
        registry.register("handshakes_waiting", "Those of them that wait for their turn", waiting.clone());
        let held_back = Counter::default();
        registry.register(
            "connections_held_back",
            "How often no connection was accepted for a moment, because all places for handshakes were in use",
            held_back.clone(),
        );
        let ops = Gauge::default();
        registry.register("ops_connections", "Open connections of the ops port", ops.clone());
        let made_room = Family::<PlaceLabels, Counter>::default();
        registry.register(
            "connections_made_room",
            "Connections that were ended to make room for others, by what there was no room left for",
            made_room.clone(),
        );
        for places in [Places::Handshake, Places::Open, Places::Ops] {
            drop(made_room.get_or_create(&PlaceLabels { place: places.name() }));
        }
        let held = Gauge::default();
        registry.register(
            "held_bytes",
            "What requests that are read, calls in work and answers that have not left take, a second ago at most",
            held.clone(),
        );
        let not_fetched = Counter::default();
        registry.register(
            "answers_not_fetched",
            "Answers that were cut off because their callers took nothing of them, or took room by them that others wanted",
            not_fetched.clone(),
        );
        let handshakes_of = Default::default();
        Self { handshakes, handshakes_of, waiting, held_back, ops, made_room, held, not_fetched }
    }
}

impl Metrics {
    /// So many connections of a listener have not finished their handshakes.
    pub fn handshakes_in_progress(&self, of: Listener, taken: usize) {
        let [grpc, aws] = &self.shares.handshakes_of;
        let mine = if of == Listener::Grpc { grpc } else { aws };
        mine.store(i64::try_from(taken).unwrap_or(i64::MAX), Ordering::Relaxed);
        let both = grpc.load(Ordering::Relaxed).saturating_add(aws.load(Ordering::Relaxed));
        self.shares.handshakes.set(both);
    }

    /// So many connections of the ops port are open.
    pub fn ops_connections(&self, taken: usize) {
        self.shares.ops.set(i64::try_from(taken).unwrap_or(i64::MAX));
    }

    /// One more handshake waits for its turn, or one less.
    pub fn handshake_waits(&self, waits: bool) {
        if waits {
            self.shares.waiting.inc();
        } else {
            self.shares.waiting.dec();
        }
    }

    /// No connection is accepted for a moment.
    pub fn held_back(&self) {
        self.shares.held_back.inc();
    }

    /// Calls hold so many bytes.
    pub fn held_bytes(&self, bytes: usize) {
        self.shares.held.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// So many answers were cut off.
    pub fn not_fetched(&self, answers: usize) {
        self.shares.not_fetched.inc_by(u64::try_from(answers).unwrap_or(u64::MAX));
    }

    /// A connection made room for another one.
    pub fn made_room(&self, places: Places) {
        self.shares.made_room.get_or_create(&PlaceLabels { place: places.name() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_and_who_made_room_can_be_read() {
        let metrics = Metrics::new();
        metrics.handshakes_in_progress(Listener::Grpc, 5);
        metrics.handshakes_in_progress(Listener::Aws, 2);
        metrics.ops_connections(2);
        [true, true, false].into_iter().for_each(|waits| metrics.handshake_waits(waits));
        metrics.held_back();
        metrics.made_room(Places::Open);
        metrics.held_bytes(4_096);
        metrics.not_fetched(3);
        let text = metrics.text();
        for line in [
            "keystored_handshakes_in_progress 7",
            "keystored_handshakes_waiting 1",
            "keystored_connections_held_back_total 1",
            "keystored_ops_connections 2",
            "keystored_held_bytes 4096",
            "keystored_answers_not_fetched_total 3",
            "keystored_connections_made_room_total{place=\"open\"} 1",
            "keystored_connections_made_room_total{place=\"handshake\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
