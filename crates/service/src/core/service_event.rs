//! What the service does by itself, without anybody's call: recorded as AWS records its own acts.
//!
//! A record that is not accepted stops none of it: a key that is worn out is rotated and an HSM that came back is let in.
//! Such events wait, within bounds, and are recorded as soon as that is possible; how many wait, and how many there was no
//! room for, is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::core::Core;
use audit::event::{EventId, Fields, Value};
use cluster::happened::{Happened, What};
use model::lock::MutexExt as _;
use telemetry::sampled::{self, Line};

/// Most events that wait to be recorded.
pub(crate) const MOST: usize = 1_024;
/// What takes as long waits for a disk that does not answer: what is behind it is left to the next turn, and would wait for as long.
pub(super) const SLOW: Duration = Duration::from_secs(5);
/// What it is called that there was no room for some.
const LOST: &str = "EventsNotRecorded";

/// Something that the service did, or noticed.
#[derive(Clone, Debug)]
pub struct ServiceEvent {
    /// Its own id.
    pub id: EventId,
    /// When it was, in milliseconds since the Unix epoch.
    pub unix_millis: i64,
    /// AWS has it as well, by this name.
    pub kms: bool,
    /// What it was.
    pub name: &'static str,
    /// ARNs of what it was about.
    pub resources: Vec<Arc<str>>,
    /// The exception's name and the message, where it failed.
    pub failure: Option<(&'static str, String)>,
    /// What else is to be said.
    pub additional: Fields,
}

impl ServiceEvent {
    /// What AWS has, too.
    pub(crate) fn of_kms(unix_millis: i64, name: &'static str) -> Self {
        Self { kms: true, ..Self::ours(unix_millis, name) }
    }

    /// What AWS does not have.
    pub(crate) fn ours(unix_millis: i64, name: &'static str) -> Self {
        let (id, additional) = (EventId::new(unix_millis), Fields::new());
        Self { id, unix_millis, kms: false, name, resources: Vec::new(), failure: None, additional }
    }

    /// The same, about this.
    pub(crate) fn about(mut self, arn: impl Into<Arc<str>>) -> Self {
        self.resources.push(arn.into());
        self
    }

    /// The same, with this said.
    pub(crate) fn saying(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.additional.push(name, value.into());
        self
    }

    /// The same, of what failed.
    pub(crate) fn failed(self, code: &'static str, why: &str) -> Self {
        Self { failure: Some((code, why.to_owned())), ..self }
    }
}

/// Events that are to be recorded.
#[derive(Default)]
pub(crate) struct ServiceEvents {
    waiting: Mutex<VecDeque<ServiceEvent>>,
    /// There was no room for them.
    lost: AtomicU64,
    /// Those of them of which no event says how many they are yet.
    untold: AtomicU64,
    /// The last one that was handed over was not accepted.
    refused: AtomicBool,
    /// One at a time hands them over, so that they stand in their order.
    turn: tokio::sync::Mutex<()>,
}

impl Core {
    /// Has an event recorded. It is handed over by a task of its own; what is not accepted is tried again.
    pub(crate) fn happened(&self, event: ServiceEvent) {
        self.keep_event(event);
        let core = self.clone();
        // On panic: the next turn of what looks after keys hands over what is left.
        self.tasks().spawn(async move { core.record_events().await });
    }

    /// The same, for the next turn of what looks after keys.
    fn keep_event(&self, event: ServiceEvent) {
        let mut waiting = self.inner.events.waiting.lock_anyway();
        if waiting.len() < MOST {
            waiting.push_back(event);
        } else {
            drop(waiting);
            self.lose(1);
        }
    }

    fn lose(&self, events: u64) {
        self.inner.events.lost.fetch_add(events, Ordering::Relaxed);
        self.inner.events.untold.fetch_add(events, Ordering::Relaxed);
        if events > 0 && sampled::whole(Line::OwnFault, &"service events") {
            tracing::error!(events, "more happened than could wait to be recorded; the rest stands in this log alone");
        }
    }

    /// Takes over what happened to HSMs and zones.
    pub(crate) fn take_happenings(&self) {
        let (happened, lost) = self.registry().identities.happened.take();
        happened.into_iter().for_each(|one| self.keep_event(self.of_hsm(one)));
        if lost > 0 {
            self.lose(lost);
        }
    }

    /// Hands over what waits, in its order, until something is not accepted; and then how much there was no room for.
    pub(crate) async fn record_events(&self) {
        let events = &self.inner.events;
        let _turn = events.turn.lock().await;
        loop {
            let next = events.waiting.lock_anyway().front().cloned();
            let Some(event) = next else { break };
            let begun = self.clock().now();
            if !self.is_event_accepted(event).await {
                return;
            }
            events.waiting.lock_anyway().pop_front();
            if self.clock().now().saturating_duration_since(begun) >= SLOW {
                return;
            }
        }
        let untold = events.untold.load(Ordering::Relaxed);
        if untold > 0 {
            let count = Value::Number(i64::try_from(untold).unwrap_or(i64::MAX));
            let event = ServiceEvent::ours(self.clock().unix_millis(), LOST).saying("count", count);
            if self.is_event_accepted(event).await {
                events.untold.fetch_sub(untold, Ordering::Relaxed);
            }
        }
    }

    async fn is_event_accepted(&self, event: ServiceEvent) -> bool {
        let name = event.name;
        let accepted = self.inner.records.accepted_event(event).await;
        self.inner.events.refused.store(accepted.is_err(), Ordering::Relaxed);
        if let Err(error) = &accepted
            && sampled::whole(Line::OwnFault, &"service event")
        {
            tracing::warn!(name, %error, "what the service did could not be recorded yet; it is tried again");
        }
        accepted.is_ok()
    }

    /// How many events wait to be recorded, and how many there was no room for since the daemon was started.
    pub(crate) fn unrecorded_events(&self) -> (usize, u64) {
        (self.inner.events.waiting.lock_anyway().len(), self.inner.events.lost.load(Ordering::Relaxed))
    }

    /// What is wrong with that, one sentence each. It ends when all of it is on record, or how much is not.
    pub(crate) fn troubles_of_events(&self) -> Vec<String> {
        let events = &self.inner.events;
        let (waiting, untold) = (events.waiting.lock_anyway().len(), events.untold.load(Ordering::Relaxed));
        let mut troubles = Vec::new();
        if waiting > 0 && events.refused.load(Ordering::Relaxed) {
            troubles.push(format!("{waiting} events of what the service did by itself wait for the audit log"));
        }
        if untold > 0 {
            troubles.push(format!(
                "{untold} events of what the service did by itself are not in the audit log, since too many waited for it; \
                 the daemon's log has them"
            ));
        }
        troubles
    }

    fn of_hsm(&self, Happened { unix_millis, hsm, zone, cluster, what }: Happened) -> ServiceEvent {
        let of_zone = |event: ServiceEvent, left_out: u64| {
            let catalogue = self.store().catalogue();
            let event = match catalogue.key_store_over(&cluster) {
                Some(store) => event.saying("customKeyStoreId", store.id.as_str()),
                None => event,
            };
            let left_out = i64::try_from(left_out).unwrap_or(i64::MAX);
            if left_out > 0 { event.saying("turnsLeftOut", Value::Number(left_out)) } else { event }
        };
        let event = match what {
            What::Admitted => ServiceEvent::ours(unix_millis, "HsmAdmitted"),
            What::Refused(why) => ServiceEvent::ours(unix_millis, "HsmRefused").failed("IdentityNotProven", &why),
            What::PinRotated => ServiceEvent::ours(unix_millis, "PinRotated"),
            What::ZoneLost { why, left_out } => {
                of_zone(ServiceEvent::ours(unix_millis, "ZoneLost").failed("NoHsmServes", &why), left_out)
            }
            What::ZoneBack { left_out } => of_zone(ServiceEvent::ours(unix_millis, "ZoneBack"), left_out),
        };
        let event = match &hsm {
            Some(hsm) => event.saying("hsm", hsm.as_str()),
            None => event,
        };
        event.saying("zone", zone.as_str()).saying("clusterId", cluster.as_str())
    }
}
