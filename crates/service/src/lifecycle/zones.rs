//! Notices when a zone is lost, and when it is back.

use std::collections::BTreeMap;

use super::Lifecycle;
use crate::core::service_event::ServiceEvent;
use cluster::Health;
use model::id::{KeyStoreId, Zone};

/// Whether each zone served when it was looked at last, from the first time on that it did.
pub(super) type Zones = BTreeMap<(KeyStoreId, Zone), bool>;

/// What became of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Lost,
    Back,
}

impl Lifecycle {
    /// Has it recorded which zones have stopped to serve since the last look, and which have begun again.
    pub(super) fn look_at_zones(&self, known: &mut Zones) {
        let active = self.core.registry().active();
        known.retain(|(key_store, _), _| active.iter().any(|active| active.key_store == *key_store));
        for active in active.iter() {
            let cluster = self.core.key_store(&active.key_store).map(|store| store.cluster.to_string());
            let statuses = active.members.hsm_cluster.status();
            let members = statuses.iter().map(|member| Member {
                name: member.hsm.as_str(),
                zone: &member.zone,
                health: member.health,
                reason: member.reason.as_deref(),
            });
            for (zone, turn, why) in turns(known, &active.key_store, members) {
                let now = self.core.clock().unix_millis();
                let event = match turn {
                    Turn::Lost => ServiceEvent::ours(now, "ZoneLost").failed("NoHsmServes", &why),
                    Turn::Back => ServiceEvent::ours(now, "ZoneBack"),
                };
                let event = event.saying("zone", zone.as_str()).saying("customKeyStoreId", active.key_store.as_str());
                self.core.happened(event.saying("clusterId", cluster.as_deref().unwrap_or_default()));
            }
        }
    }
}

/// What is to be known of an HSM.
#[derive(Clone, Copy)]
struct Member<'a> {
    name: &'a str,
    zone: &'a Zone,
    health: Health,
    reason: Option<&'a str>,
}

/// What has changed, with what its HSMs say of themselves.
fn turns<'a>(
    known: &mut Zones,
    key_store: &KeyStoreId,
    members: impl Iterator<Item = Member<'a>>,
) -> Vec<(Zone, Turn, String)> {
    let mut zones: BTreeMap<&Zone, Vec<Member<'_>>> = BTreeMap::new();
    for member in members {
        zones.entry(member.zone).or_default().push(member);
    }
    let mut turns = Vec::new();
    for (zone, members) in zones {
        let serves = members.iter().any(|member| matches!(member.health, Health::Healthy | Health::Suspect));
        let place = (key_store.clone(), zone.clone());
        let turn = match known.get(&place) {
            // It has still to be there for the first time.
            None if !serves => continue,
            None => None,
            Some(before) if *before == serves => None,
            Some(_) if serves => Some(Turn::Back),
            Some(_) => Some(Turn::Lost),
        };
        known.insert(place, serves);
        if let Some(turn) = turn {
            let words =
                |member: &Member<'_>| format!("{}: {}", member.name, member.reason.unwrap_or("no reason known"));
            turns.push((zone.clone(), turn, members.iter().map(words).collect::<Vec<_>>().join("; ")));
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_lost_when_none_of_its_hsms_serves_and_back_when_one_does() {
        let (mut known, key_store, zones) = (Zones::new(), KeyStoreId::from("cks-1"), ["a", "b"].map(Zone::from));
        let mut look = |health: [Health; 3]| {
            let members = health.into_iter().zip(["1", "2", "3"]).zip([&zones[0], &zones[0], &zones[1]]);
            let members = members.map(|((health, name), zone)| Member { name, zone, health, reason: Some("why") });
            turns(&mut known, &key_store, members)
                .into_iter()
                .map(|(zone, turn, why)| (zone.to_string(), turn, why))
                .collect::<Vec<_>>()
        };
        let lost = |zone: &str, why: &str| (zone.to_owned(), Turn::Lost, why.to_owned());
        use Health as H;
        // What has not been there yet is not lost.
        assert_eq!(look([H::Starting, H::Starting, H::Healthy]), []);
        assert_eq!(look([H::Healthy, H::Starting, H::Healthy]), []);
        assert_eq!(look([H::Down, H::Suspect, H::Healthy]), []);
        assert_eq!(look([H::Down, H::Down, H::Healthy]), [lost("a", "1: why; 2: why")]);
        assert_eq!(look([H::Down, H::Starting, H::Down]), [lost("b", "3: why")]);
        assert_eq!(look([H::Down, H::Suspect, H::Down]), [("a".to_owned(), Turn::Back, "1: why; 2: why".to_owned())]);
        assert_eq!(look([H::Healthy, H::Healthy, H::Down]), []);
    }
}
