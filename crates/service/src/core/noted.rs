//! What the record of a call on items says of each of them: what it asked for, with which key version and in which HSM it
//! was done, and what it came to.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Error;
use crate::core::data_operation::Used;
use crate::core::keyring::{Entry, Target};
use audit::event::{Asked, Done, Items, Key, NONE, Served};
use cluster::item::Served as Places;

/// So many key versions are looked through one by one; more than these are looked up.
const FEW: usize = 8;
/// So many failures before the last one are looked at for one that is the same.
const LOOK_BACK: usize = 4;

/// What is known of each item before its outcome is told.
pub(crate) struct Noted {
    asked: Arc<Asked>,
    keys: Arc<[Key]>,
    served: Arc<[Served]>,
    /// For each item that was come to.
    places: Vec<Done>,
}

/// Key versions and HSMs as they come up. All of them stay where they are while a call is in work, so that one is known by
/// its place in memory.
#[derive(Default)]
struct Tables {
    keys: Vec<Key>,
    key_at: Vec<usize>,
    found: HashMap<usize, u32>,
    served: Vec<Served>,
    served_at: Vec<(usize, u8)>,
}

impl Noted {
    /// Of items with what each was done, if it was.
    pub(crate) fn new<'k>(asked: Asked, items: impl Iterator<Item = (Option<Used<'k>>, Option<Places>)>) -> Self {
        let mut tables = Tables::default();
        let places = items.map(|(used, served)| tables.place(used, served)).collect();
        let (keys, served) = (tables.keys.into(), tables.served.into());
        Self { asked: Arc::new(asked), keys, served, places }
    }

    /// The items with their outcomes.
    pub(crate) fn items<T>(&self, results: &[Result<T, Error>]) -> Items {
        let mut failures: Vec<(&'static str, String)> = Vec::new();
        let mut failure = |error: &Error| {
            let name = error.exception.name();
            let same = |at: &usize| failures[*at].0 == name && failures[*at].1 == error.message;
            let known = (0..failures.len()).rev().take(LOOK_BACK).find(same);
            index(known.unwrap_or_else(|| {
                failures.push((name, error.message.clone()));
                failures.len() - 1
            }))
        };
        let failed: Vec<u32> = results.iter().map(|result| result.as_ref().err().map_or(NONE, &mut failure)).collect();
        let done = self.places.iter().zip(failed).map(|(place, failure)| Done { failure, ..*place });
        Items::new(Arc::clone(&self.asked), Arc::clone(&self.keys), Arc::clone(&self.served), failures, done)
    }
}

/// Nothing was done.
const NOTHING: Done = Done { key: NONE, source_key: NONE, served: NONE, source_served: NONE, failure: NONE };

impl Tables {
    fn place(&mut self, used: Option<Used<'_>>, places: Option<Places>) -> Done {
        let Some(Used { target, source }) = used else { return NOTHING };
        let opened_by = places.and_then(|places| places.opened_by);
        Done {
            key: self.key(target),
            source_key: source.map_or(NONE, |source| self.key(source)),
            served: places.map_or(NONE, |places| self.served(target.entry, places.member)),
            source_served: source.zip(opened_by).map_or(NONE, |(source, member)| self.served(source.entry, member)),
            failure: NONE,
        }
    }

    fn key(&mut self, Target { entry, version }: Target<'_>) -> u32 {
        let at = std::ptr::from_ref(version).addr();
        if self.key_at.last() == Some(&at) {
            return index(self.key_at.len() - 1);
        }
        let known = match self.key_at.len() {
            few if few < FEW => self.key_at.iter().position(|known| *known == at).map(index),
            _ => self.found.get(&at).copied(),
        };
        known.unwrap_or_else(|| {
            let place = index(self.keys.len());
            self.keys.push(Key {
                arn: Arc::clone(&entry.arn),
                version: version.reference.version.version,
                material: Arc::clone(&version.material_id),
                key_store: entry.key.key_store.clone(),
            });
            self.key_at.push(at);
            match self.key_at.len() {
                FEW => self.found = self.key_at.iter().copied().zip(0..).collect(),
                few if few < FEW => {}
                _ => drop(self.found.insert(at, place)),
            }
            place
        })
    }

    fn served(&mut self, entry: &Entry, member: u8) -> u32 {
        let Some(members) = &entry.members else { return NONE };
        let at = (members.hsms.as_ptr().addr(), member);
        let known = self.served_at.iter().position(|known| *known == at);
        let place = known.or_else(|| {
            let (hsm, zone) = members.hsms.get(usize::from(member))?.clone();
            self.served_at.push(at);
            self.served.push(Served { hsm, zone });
            Some(self.served.len() - 1)
        });
        place.map_or(NONE, index)
    }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NONE)
}
