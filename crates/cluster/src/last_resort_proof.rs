//! The last resort where nobody is left to ask: a member in which a key is not used may have been wrong for a moment
//! only, and its monitor looks again only in a moment. So the key is proven there once more, now; and where it may be on its
//! way, because the member's module has its keys in several HSMs, again and again for as long as that may take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::KeyRef;
use super::dispatch::Dispatcher;
use super::failover::AttemptLog;
use super::port::Port;
use super::proof::Outcome;
use super::route::bits;
use model::call_options::CallOptions;
use model::profile::Topology;

/// The first pause before it is looked whether a key has come, each further one twice as long, up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(800));

/// How long a call goes on asking for a key that is on its way.
pub(super) struct Arrival {
    until: Option<Instant>,
    pause: Duration,
}

impl Default for Arrival {
    fn default() -> Self {
        Self { until: None, pause: PAUSES.0 }
    }
}

impl<P: Port> Dispatcher<P> {
    /// Waits for a moment where some of the members that `missed` a key may still get it, and has them asked once more; false
    /// where there is none, or where the time has passed that it may take, or that the caller has.
    pub(super) async fn arrives(
        &self,
        missed: u64,
        arrival: &mut Arrival,
        attempts: &mut AttemptLog,
        options: CallOptions,
    ) -> bool {
        let coming = self.serving(missed & self.replicating);
        if coming == 0 || attempts.late {
            return false;
        }
        let now = self.clock.now();
        let until = *arrival.until.get_or_insert_with(|| {
            let settles = bits(coming).filter_map(|place| self.members[place].replication()).map(Topology::settles);
            options.deadline.min(now + settles.max().unwrap_or_default())
        });
        if now + arrival.pause >= until {
            return false;
        }
        tokio::time::sleep(arrival.pause).await;
        arrival.pause = (2 * arrival.pause).min(PAUSES.1);
        bits(coming).for_each(|place| attempts.may_have_it_by_now(place));
        true
    }

    /// Waits until members that may have had too much to do, or met a bad ciphertext, open the proof of one of these keys, for
    /// a moment at most. Who does is asked again: what it says then is said of the ciphertext.
    pub(super) async fn settle(&self, keys: &[Arc<KeyRef>], attempts: &mut AttemptLog, options: CallOptions) {
        let mut each: Vec<&Arc<KeyRef>> = keys.iter().collect();
        each.sort_unstable_by_key(|key| key.version);
        each.dedup_by_key(|key| key.version);
        let each = &each;
        let settled = join_all(bits(attempts.unsettled).map(|place| async move {
            let member = &self.members[place];
            let proven = each.iter().map(|key| self.proofs.settle(member, key, &self.clock, options.deadline));
            // What the others are to it, it says when it is asked again.
            join_all(proven).await.contains(&Outcome::Opens).then_some(place)
        }));
        for place in settled.await.into_iter().flatten() {
            attempts.settled(place);
        }
    }

    /// Proves these keys where they are excluded among `open`, and admits them where that succeeds. Whoever can be used
    /// for all of them then.
    pub(super) async fn prove_as_last_resort(&self, keys: &[Arc<KeyRef>], open: u64, options: CallOptions) -> u64 {
        let mut excluded: Vec<(usize, &Arc<KeyRef>)> = Vec::new();
        for key in keys {
            let places = self.serving(self.placed(Some(key)) & self.exclusions.of(key.version).any() & open);
            for place in bits(places) {
                if !excluded.iter().any(|(at, known)| *at == place && known.version == key.version) {
                    excluded.push((place, key));
                }
            }
        }
        join_all(excluded.into_iter().map(|(place, key)| async move {
            let member = &self.members[place];
            if self.proofs.recheck(member, key, &self.clock, options.deadline).await == Outcome::Opens {
                tracing::info!(hsm = %member.hsm, key = %key.version, "the key opens its proof ciphertext again");
                self.exclusions.admit(key.version, place);
            }
        }))
        .await;
        let all = keys.iter().map(|key| self.usable(Some(key)));
        all.reduce(|usable, one| usable & one).unwrap_or(0)
    }
}
