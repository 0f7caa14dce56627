//! Notices when no HSM of a zone serves any more, and when one does again: by each change of a member's health, so that
//! nothing is too short to be seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use super::dispatch::Dispatcher;
use super::happened::Zones;
use super::identity::Identities;
use super::member::Member;
use super::port::Port;
use model::clock::Clock;
use model::id::{ClusterId, Zone};
use model::lock::MutexExt as _;
use supervisor::State;

/// Has it noted what becomes of the zones of these members, in the place of those that the cluster had before.
pub(super) fn keep<P: Port>(
    dispatcher: &Dispatcher<P>,
    cluster: &ClusterId,
    identities: &Arc<Identities>,
    clock: &Clock,
    goes_on: bool,
) {
    let look = Arc::new(Look {
        members: dispatcher.members.iter().map(Arc::downgrade).collect(),
        noted: identities.happened.zones_of(cluster, goes_on),
        identities: Arc::clone(identities),
        clock: clock.clone(),
        turn: Mutex::default(),
    });
    for member in &dispatcher.members {
        let look = Arc::clone(&look);
        member.is_watched_by(move || look.now());
    }
    look.now();
}

struct Look<P> {
    /// They have this.
    members: Vec<Weak<Member<P>>>,
    noted: Zones,
    identities: Arc<Identities>,
    clock: Clock,
    /// Held from the look to its note, so that they are noted in the order of what was seen.
    turn: Mutex<()>,
}

impl<P: Port> Look<P> {
    fn now(&self) {
        let _turn = self.turn.lock_anyway();
        let members: Vec<_> = self.members.iter().filter_map(Weak::upgrade).collect();
        let mut zones: BTreeMap<&str, Vec<&Arc<Member<P>>>> = BTreeMap::new();
        // Who is not used any more is not lost.
        for member in members.iter().filter(|member| member.port.status().state != State::Stopped) {
            member.zone.names().for_each(|zone| zones.entry(zone).or_default().push(member));
        }
        for (zone, members) in zones {
            let serves = members.iter().any(|member| member.is_serving());
            let why = || members.iter().map(|member| member.why()).collect::<Vec<_>>().join("; ");
            self.identities.happened.zone_is(&self.noted, &Zone::from(zone), serves, self.clock.unix_millis(), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fake::Bench;
    use super::super::happened::What;
    use super::*;

    fn told(identities: &Identities) -> Vec<String> {
        let (happened, lost) = identities.happened.take();
        assert_eq!(lost, 0);
        let words = |what: What| match what {
            What::ZoneLost { why, .. } => format!("lost {why}"),
            What::ZoneBack { .. } => "back".to_owned(),
            other => panic!("{other:?}"),
        };
        happened.into_iter().map(|one| format!("{} {}", one.zone, words(one.what))).collect()
    }

    #[tokio::test]
    async fn what_is_back_before_anybody_looks_was_lost_all_the_same() {
        let bench = Bench::new(2, None, Duration::from_secs(1));
        bench.until("both serve", || bench.dispatcher.members.iter().all(|member| member.is_serving())).await;
        let (identities, cluster) = (Arc::<Identities>::default(), ClusterId::from("cluster-abcdefghijk"));
        keep(&bench.dispatcher, &cluster, &identities, &bench.clock, false);
        assert_eq!(told(&identities), Vec::<String>::new());
        let (member, fake) = (&bench.dispatcher.members[0], &bench.members[0]);
        let serves = async |serves: bool| {
            fake.set_state(if serves { State::Serving } else { State::Down }, Some("unplugged"));
            bench.until("it is seen", || member.is_serving() == serves).await;
        };
        for _ in 0..2 {
            serves(false).await;
            serves(true).await;
        }
        let lost = "zone-a lost a: unplugged";
        assert_eq!(told(&identities), [lost, "zone-a back", lost, "zone-a back"]);
        fake.set_state(State::Stopped, None);
        bench.until("it is stopped", || !member.is_serving()).await;
        assert_eq!(told(&identities), Vec::<String>::new(), "what is not used any more is not lost");
    }
}
