//! What is noted of members when they fail: their health, their pauses, keys that are not asked for there.

use std::sync::Arc;

use super::KeyRef;
use super::dispatch::Dispatcher;
use super::failover::AttemptLog;
use super::health::Observation;
use super::member::KeySuspicion;
use super::port::Port;
use super::route::bit;
use protocol::{Class, Fault};

impl<P: Port> Dispatcher<P> {
    /// Books a member's own fault.
    pub(super) fn note_fault(&self, place: usize, fault: &Fault, attempts: &mut AttemptLog) {
        let why = fault.to_string();
        if fault.class.may_be_busy() {
            // It says itself that nothing is wrong with it.
            self.members[place].throttle();
            attempts.busy = true;
            attempts.blame(place, why);
            return;
        }
        self.members[place].statistics.failed();
        let seen = match fault.class {
            Class::Incompatible => Observation::Broken,
            _ => Observation::Failed,
        };
        self.members[place].observe(seen, Some(why.clone()));
        if matches!(fault.class, Class::Token | Class::Session) {
            attempts.second_chance(place);
        }
        attempts.blame(place, why);
    }

    /// Books that a member may have too much to do, or has met a bad ciphertext. Neither is its fault, and neither condemns
    /// a key.
    pub(super) fn note_unsettled(&self, place: usize, why: String, attempts: &mut AttemptLog) {
        self.members[place].throttle();
        attempts.unsettled |= bit(place);
        attempts.blame(place, why);
    }

    /// Books that a key does not open its own proof.
    pub(super) fn note_broken(&self, place: usize, key: &Arc<KeyRef>) {
        let why = format!("the key {} is not what it must be or is not used there", key.version);
        self.members[place].observe(Observation::Broken, Some(why));
        self.exclude(place, KeySuspicion::Broken(Arc::clone(key)));
    }

    /// Has a key not be asked for there until its monitor has looked into it.
    pub(super) fn exclude(&self, place: usize, suspicion: KeySuspicion) {
        let version = suspicion.key().version;
        let broken = matches!(suspicion, KeySuspicion::Broken(_));
        if self.exclusions.exclude(version, place, broken) && !self.members[place].worry(suspicion) {
            // Nobody would ever look into it, so the next call has to meet the trouble again.
            self.exclusions.admit(version, place);
        }
    }
}
