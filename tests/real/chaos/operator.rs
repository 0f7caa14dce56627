//! What an operator does about a zone whose logins were refused, and that the service has left it to him.

use std::time::{Duration, Instant};

use proto::v1::{ConnectionState, UpdateKeyStoreRequest};

use super::checks::{self, RECOVERY, patience};
use super::kinds::Played;
use super::run::Run;
use super::schedule::{Phase, SAID, name};
use crate::harness::wait;

/// Failed logins in a row after which the service no longer tries, as it is set by default.
const TRIES: u32 = 3;

/// Logins in a zone, and how many of them its module refused.
pub(super) struct Logins {
    zone: usize,
    /// What people are told of a refusal.
    words: &'static str,
    calls: u64,
    refused: u64,
}

impl Logins {
    /// All so far, in each zone that a phase refuses.
    pub(super) fn in_refused(phase: &Phase, controls: &[Played]) -> Vec<Self> {
        phase.refusals().into_iter().map(|(zone, words)| Self::all(zone, words, controls)).collect()
    }

    fn all(zone: usize, words: &'static str, controls: &[Played]) -> Self {
        let control = &controls[zone];
        Self { zone, words, calls: control.calls("C_Login"), refused: control.injected("C_Login") }
    }

    /// Those that came after.
    pub(super) fn since(&self, controls: &[Played]) -> Self {
        let all = Self::all(self.zone, self.words, controls);
        Self { calls: all.calls - self.calls, refused: all.refused - self.refused, ..all }
    }
}

impl Run<'_> {
    /// Waits until the status says why a zone's workers are not started again.
    pub(super) async fn refusals_are_said(&self, phase: &Phase, began: Instant) {
        for (zone, words) in phase.refusals() {
            let hsm = &self.daemon.zones[zone].hsm;
            while !checks::reason(&self.caller, hsm).await.contains(words) {
                self.journal.check();
                if self.journal.clock.now() - began > patience(SAID) {
                    let states = checks::states(&self.caller).await;
                    panic!("after {:?} nothing says of zone {}: {words:?}\n{states}", patience(SAID), name(zone));
                }
                wait::pass(Duration::from_millis(10)).await;
            }
        }
    }

    /// Disconnects the key store, has the officer set kmsuser's PIN where it was refused, tells the service that he has,
    /// connects, and waits until all is well.
    pub(super) async fn operate(&mut self, spent: &[Logins]) {
        let told = self.caller.hsms().await.unwrap();
        for Logins { zone, words, calls, refused } in spent {
            let (zone, name) = (&self.daemon.zones[*zone], name(*zone));
            // One that was refused is not tried again, whichever worker comes.
            assert!(*refused <= 1 && calls == refused, "{calls} logins in zone {name}, {refused} of them refused");
            let hsm = told.iter().find(|hsm| hsm.hsm_id == zone.hsm).unwrap();
            assert!(hsm.reason.contains(words), "it goes on being told: {words:?}, {hsm:?}");
            assert_eq!(u64::from(TRIES - hsm.pin_tries_left), *refused, "tries that the service has spent: {hsm:?}");
            let flags = checks::flags(zone);
            let warns = ["count low", "final user PIN try", "locked"].iter().any(|warning| flags.contains(warning));
            assert!(!warns, "the token of zone {name} has counted a wrong PIN: {flags}");
        }
        let [store] = &self.caller.key_stores().await[..] else { panic!("this daemon has one key store") };
        let id = store.key_store_id.clone();
        self.journal.begin_closed();
        let store = self.caller.disconnect(&id).await.unwrap();
        assert_eq!(store.connection_state(), ConnectionState::Disconnected, "{store:?}");
        for Logins { zone, .. } in spent {
            let (zone, control) = (&self.daemon.zones[*zone], &self.controls[*zone]);
            zone.officer_sets(&zone.pin());
            control.pin_was_changed();
            let request = UpdateKeyStoreRequest {
                key_store_id: id.clone(),
                key_store_password: zone.pin(),
                hsm_ids: vec![zone.hsm.clone()],
                pin_was_reset: true,
                ..Default::default()
            };
            self.caller.update_key_store(request).await.unwrap();
        }
        let store = self.caller.connect(&id).await.unwrap();
        assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}");
        self.journal.end_closed();
        self.recovered(patience(RECOVERY)).await;
    }
}
