//! What happened to HSMs, for whoever keeps records of it. Kept here until it is asked for, so that nobody who handles an
//! HSM waits for a disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use model::id::{ClusterId, HsmId, Zone};
use model::lock::MutexExt as _;

/// Most that is kept. What comes on top of it is counted.
const MOST: usize = 256;

/// Something that happened to an HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When, in milliseconds since the Unix epoch.
    pub unix_millis: i64,
    /// The HSM.
    pub hsm: HsmId,
    /// Its zone.
    pub zone: Zone,
    /// Its cluster.
    pub cluster: ClusterId,
    /// What.
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
}

/// What happened and was not asked for yet.
#[derive(Debug, Default)]
pub struct Happenings(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Happened>,
    /// The last thing that happened to each HSM.
    last: BTreeMap<HsmId, What>,
    lost: u64,
}

impl Happenings {
    /// Takes note of something. An HSM that is refused for the same reason again and again is refused once.
    pub fn note(&self, happened: Happened) {
        let mut inner = self.0.lock_anyway();
        let again = inner.last.get(&happened.hsm) == Some(&happened.what) && matches!(happened.what, What::Refused(_));
        if again {
            return;
        }
        inner.last.insert(happened.hsm.clone(), happened.what.clone());
        if inner.waiting.len() < MOST {
            inner.waiting.push_back(happened);
        } else {
            inner.lost += 1;
        }
    }

    /// All that was not asked for before, in its order; and how much there was no room for.
    pub fn take(&self) -> (Vec<Happened>, u64) {
        let mut inner = self.0.lock_anyway();
        (inner.waiting.drain(..).collect(), std::mem::take(&mut inner.lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(hsm: &str, what: What) -> Happened {
        let cluster = ClusterId::parse("cluster-abcdefghijk").unwrap();
        Happened { unix_millis: 1, hsm: hsm.into(), zone: "a".into(), cluster, what }
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
}
