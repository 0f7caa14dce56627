//! What happened to HSMs, for whoever keeps records of it. Kept here until it is asked for, so that nobody who handles an
//! HSM waits for a disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use model::id::{ClusterId, HsmId, Zone};
use model::lock::MutexExt as _;

/// Most that is kept. What comes on top of it is counted.
const MOST: usize = 256;
/// So often is it told in one minute that a zone is lost or back. More of it is counted with what is told last.
const TURNS: u32 = 8;
const MINUTE: i64 = 60_000;

/// Something that happened to an HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When, in milliseconds since the Unix epoch.
    pub unix_millis: i64,
    /// The HSM; absent where it is about a zone.
    pub hsm: Option<HsmId>,
    /// Its zone.
    pub zone: Zone,
    /// Its cluster.
    pub cluster: ClusterId,
    /// What happened there.
    pub what: What,
}

/// What can happen to an HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its control worker was let in: it proved to be the one that the ceremony certified, and took kmsuser's PIN.
    Admitted,
    /// It did not prove to be that one; why.
    Refused(String),
    /// kmsuser's PIN was rotated in it.
    PinRotated,
    /// No HSM of the zone serves any more.
    ZoneLost {
        /// What its HSMs say of themselves.
        why: String,
        /// How often it was back and lost before, since it was told.
        left_out: u64,
    },
    /// One does again.
    ZoneBack {
        /// How often it was lost and back before, since it was told.
        left_out: u64,
    },
}

/// The zones of a cluster, for whoever follows them. Who began to do so last is believed.
#[derive(Debug)]
pub struct Zones {
    cluster: ClusterId,
    number: u64,
}

/// What happened and was not asked for yet.
#[derive(Debug, Default)]
pub struct Happenings(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Happened>,
    /// The last thing that happened to each HSM.
    last: BTreeMap<HsmId, What>,
    clusters: BTreeMap<ClusterId, Followed>,
    lost: u64,
}

/// What is known of the zones of a cluster.
#[derive(Debug, Default)]
struct Followed {
    /// Who follows them now.
    number: u64,
    zones: BTreeMap<Zone, Standing>,
}

/// How a zone is, from the first time on that it served.
#[derive(Debug)]
struct Standing {
    serves: bool,
    /// The number of the minute in which it was told last, and how often it was in it.
    told: (i64, u32),
}

impl Happenings {
    /// Takes note of something. An HSM that is refused for the same reason again and again is refused once.
    pub fn note(&self, happened: Happened) {
        let mut inner = self.0.lock_anyway();
        if let Some(hsm) = &happened.hsm {
            let again = inner.last.get(hsm) == Some(&happened.what) && matches!(happened.what, What::Refused(_));
            if again {
                return;
            }
            inner.last.insert(hsm.clone(), happened.what.clone());
        }
        inner.push(happened);
    }

    /// Whoever asks follows the zones of the cluster from now on. `goes_on`: what is known of them still counts.
    pub fn zones_of(&self, cluster: &ClusterId, goes_on: bool) -> Zones {
        let mut inner = self.0.lock_anyway();
        let followed = inner.clusters.entry(cluster.clone()).or_default();
        followed.number += 1;
        if !goes_on {
            followed.zones.clear();
        }
        Zones { cluster: cluster.clone(), number: followed.number }
    }

    /// Takes note of how a zone is. What has never served is not lost.
    pub fn zone_is(&self, of: &Zones, zone: &Zone, serves: bool, unix_millis: i64, why: impl FnOnce() -> String) {
        let mut inner = self.0.lock_anyway();
        let Some(followed) = inner.clusters.get_mut(&of.cluster).filter(|known| known.number == of.number) else {
            return;
        };
        let Some(standing) = followed.zones.get_mut(zone) else {
            if serves {
                followed.zones.insert(zone.clone(), Standing { serves, told: (0, 0) });
            }
            return;
        };
        if standing.serves == serves {
            return;
        }
        standing.serves = serves;
        let minute = unix_millis.div_euclid(MINUTE);
        standing.told = if standing.told.0 == minute { (minute, standing.told.1 + 1) } else { (minute, 1) };
        let often = standing.told.1 > TURNS;
        let told = |known: &&mut Happened| {
            known.what.left_out().is_some() && known.zone == *zone && known.cluster == of.cluster
        };
        let waiting = if often { inner.waiting.iter_mut().rev().find(told) } else { None };
        let what =
            |left_out| if serves { What::ZoneBack { left_out } } else { What::ZoneLost { why: why(), left_out } };
        match waiting {
            Some(known) => {
                known.unix_millis = unix_millis;
                known.what = what(known.what.left_out().unwrap_or(0) + 1);
            }
            None => {
                let (cluster, zone) = (of.cluster.clone(), zone.clone());
                inner.push(Happened { unix_millis, hsm: None, zone, cluster, what: what(0) });
            }
        }
    }

    /// All that was not asked for before, in its order; and how much there was no room for.
    pub fn take(&self) -> (Vec<Happened>, u64) {
        let mut inner = self.0.lock_anyway();
        (inner.waiting.drain(..).collect(), std::mem::take(&mut inner.lost))
    }
}

impl Inner {
    fn push(&mut self, happened: Happened) {
        if self.waiting.len() < MOST {
            self.waiting.push_back(happened);
        } else {
            self.lost += 1;
        }
    }
}

impl What {
    /// How many turns of a zone it stands for beside its own; absent where it is about an HSM.
    const fn left_out(&self) -> Option<u64> {
        match self {
            Self::ZoneLost { left_out, .. } | Self::ZoneBack { left_out } => Some(*left_out),
            Self::Admitted | Self::Refused(_) | Self::PinRotated => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hsm: &str, what: What) -> Happened {
        let cluster = ClusterId::parse("cluster-abcdefghijk").unwrap();
        Happened { unix_millis: 1, hsm: Some(hsm.into()), zone: "a".into(), cluster, what }
    }

    #[test]
    fn a_refusal_that_repeats_is_one_and_what_is_kept_is_bounded() {
        let happenings = Happenings::default();
        let refused = |why: &str| of("hsm-a", What::Refused(why.to_owned()));
        for happened in [refused("x"), refused("x"), refused("y"), of("hsm-b", What::Refused("y".into()))] {
            happenings.note(happened);
        }
        happenings.note(of("hsm-a", What::Admitted));
        happenings.note(refused("y"));
        let (kept, lost) = happenings.take();
        assert_eq!((kept.len(), lost), (5, 0), "{kept:?}");
        assert_eq!(happenings.take(), (Vec::new(), 0));
        (0..MOST + 7).for_each(|_| happenings.note(of("hsm-a", What::PinRotated)));
        let (kept, lost) = happenings.take();
        assert_eq!((kept.len(), lost), (MOST, 7));
    }

    #[test]
    fn a_zone_that_comes_and_goes_is_told_so_often_a_minute_and_how_it_is_in_the_end() {
        let (happenings, zone) = (Happenings::default(), Zone::from("a"));
        let cluster = ClusterId::parse("cluster-abcdefghijk").unwrap();
        let zones = happenings.zones_of(&cluster, false);
        let is = |serves: bool, millis: i64| happenings.zone_is(&zones, &zone, serves, millis, || "gone".to_owned());
        is(false, 1);
        is(true, 1);
        assert_eq!(happenings.take().0, [], "what has never served is not lost");
        // Two changes each millisecond, and a look at each hundred of them.
        let (mut told, mut turns) = (Vec::new(), 0);
        for millis in 0..1_000 {
            is(false, millis);
            is(true, millis);
            turns += 2;
            if millis % 100 == 99 {
                told.extend(happenings.take().0);
            }
        }
        is(false, 1_000);
        told.extend(happenings.take().0);
        assert!(told.len() <= 8 + 11, "{}", told.len());
        let out: u64 = told.iter().filter_map(|one| one.what.left_out()).sum();
        assert_eq!(out + told.len() as u64, turns + 1, "none is forgotten");
        let lost = |left_out| What::ZoneLost { why: "gone".to_owned(), left_out };
        assert_eq!((told[0].what.clone(), told[1].what.clone()), (lost(0), What::ZoneBack { left_out: 0 }));
        assert_eq!(told.last().map(|one| (one.what.clone(), one.unix_millis)), Some((lost(0), 1_000)));
        // Who followed it before is not believed any more, and what is known goes on.
        let next = happenings.zones_of(&cluster, true);
        is(true, MINUTE);
        happenings.zone_is(&next, &zone, false, MINUTE, String::new);
        assert_eq!(happenings.take().0, []);
        happenings.zone_is(&next, &zone, true, MINUTE, String::new);
        assert_eq!(happenings.take().0.len(), 1);
        let anew = happenings.zones_of(&cluster, false);
        happenings.zone_is(&anew, &zone, false, MINUTE, String::new);
        assert_eq!(happenings.take().0, [], "another connect has it begin anew");
    }
}
