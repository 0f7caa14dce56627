//! Records of refused calls that wait for the recorder: so many in all, and each principal a share of them. Whoever has
//! more refused than the recorder takes does not keep others' records out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use model::lock::MutexExt as _;

/// Most that wait at once. What was admitted is bounded by admission.
const MOST: usize = 1_024;
/// Most of one principal.
const MOST_EACH: usize = 128;

/// How many wait, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    all: usize,
    of: HashMap<Arc<str>, usize>,
}

/// A record's place, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    waiting: Arc<Waiting>,
    of: Arc<str>,
}

impl Waiting {
    /// A place for a record of this principal's, if there is one. Where all are taken, whoever has none still gets one.
    pub(super) fn place(self: &Arc<Self>, of: &str) -> Option<Place> {
        let mut inner = self.0.lock_anyway();
        let own = inner.of.get(of).copied().unwrap_or(0);
        let room = if own == 0 { 2 * MOST } else { MOST };
        if own >= MOST_EACH || inner.all >= room {
            return None;
        }
        inner.all += 1;
        let of = inner.of.get_key_value(of).map_or_else(|| Arc::from(of), |(of, _)| Arc::clone(of));
        *inner.of.entry(Arc::clone(&of)).or_default() += 1;
        drop(inner);
        Some(Place { waiting: Arc::clone(self), of })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.waiting.0.lock_anyway();
        inner.all -= 1;
        if let Some(own) = inner.of.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                inner.of.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places_and_whoever_has_none_gets_one() {
        let waiting = Arc::new(Waiting::default());
        let take = |of: &str, most: usize| (0..most).map_while(|_| waiting.place(of)).collect::<Vec<_>>();
        let eve = take("eve", 5_000);
        assert_eq!(eve.len(), MOST_EACH);
        let mut held = vec![eve];
        for number in 1..MOST / MOST_EACH {
            held.push(take(&format!("attacker-{number}"), 5_000));
        }
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), MOST);
        let anna = take("anna", 5_000);
        assert_eq!(anna.len(), 1, "all are taken, and she had none");
        drop(held.remove(0));
        assert_eq!(take("anna", 5_000).len(), MOST_EACH - 1);
        drop((held, anna));
        let inner = waiting.0.lock().unwrap();
        assert_eq!((inner.all, inner.of.len()), (0, 0), "what has gone is forgotten");
    }

    #[test]
    fn there_is_an_end_however_many_they_are() {
        let waiting = Arc::new(Waiting::default());
        let held: Vec<_> = (0..10_000).filter_map(|number| waiting.place(&format!("cn:{number}"))).collect();
        assert_eq!(held.len(), 2 * MOST);
    }
}
