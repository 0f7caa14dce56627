//! How much may be in work at once, over all callers and for each; and what is still under way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use crate::core::Core;
use crate::core::keyring::Keyring;
use crate::{Error, RequestContext};
use model::call_options::{CallOptions, FlowId};
use model::exception::Exception;
use model::lock::RwLockExt as _;

/// Principals whose counter is kept although nothing of theirs is in work.
const IDLE_PRINCIPALS: usize = 1_024;

/// Counts items in work. Refuses at once; never queues.
pub(crate) struct Admission {
    most: usize,
    most_each: usize,
    in_work: AtomicUsize,
    /// Read on each call, written when a principal comes for the first time.
    each: RwLock<HashMap<Arc<str>, Arc<AtomicUsize>>>,
}

/// Items that count as in work until this is dropped.
pub(crate) struct Permit {
    admission: Arc<Admission>,
    own: Arc<AtomicUsize>,
    items: usize,
}

impl Admission {
    pub(crate) fn new(most: usize, most_each: usize) -> Self {
        Self { most, most_each, in_work: AtomicUsize::new(0), each: RwLock::default() }
    }

    /// Lets items of somebody in, or says with ThrottlingException that there are too many. The second name is shown.
    fn admit(self: &Arc<Self>, (of, shown): (&str, &str), items: usize) -> Result<Permit, Error> {
        let own = self.counter_of(of);
        if !add_within(&own, items, self.most_each) {
            return Err(throttled(format!(
                "{shown} has {} items in work, {} are allowed; wait for answers before sending more",
                own.load(Ordering::Relaxed),
                self.most_each,
            )));
        }
        if !add_within(&self.in_work, items, self.most) {
            own.fetch_sub(items, Ordering::Relaxed);
            return Err(throttled(format!("all {} places are taken; try again in a moment", self.most)));
        }
        Ok(Permit { admission: Arc::clone(self), own, items })
    }

    /// How many items are in work.
    pub(crate) fn in_work(&self) -> usize {
        self.in_work.load(Ordering::Relaxed)
    }

    fn counter_of(&self, of: &str) -> Arc<AtomicUsize> {
        if let Some(own) = self.each.read_anyway().get(of) {
            return Arc::clone(own);
        }
        let mut each = self.each.write_anyway();
        if each.len() >= IDLE_PRINCIPALS {
            // Nobody can take a counter up while the map is locked, so one that only the map holds is at rest.
            each.retain(|_, own| Arc::strong_count(own) > 1);
        }
        Arc::clone(each.entry(of.into()).or_default())
    }
}

impl Core {
    /// Lets items of a call in. A principal's certificates and access keys count together.
    pub(crate) fn admit(&self, keyring: &Keyring, call: &RequestContext, items: usize) -> Result<Permit, Error> {
        self.inner.admission.admit(keyring.party(&call.principal), items)
    }

    /// For the HSMs, whose time is shared among principals.
    pub(crate) fn options(&self, call: &RequestContext) -> CallOptions {
        // Whose work it is is no question of permission: a keyring that is about to be replaced will do.
        let keyring = self.inner.keyring.newest.load();
        CallOptions { deadline: call.deadline, flow: FlowId::of(keyring.party(&call.principal).0) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.own.fetch_sub(self.items, Ordering::Relaxed);
        self.admission.in_work.fetch_sub(self.items, Ordering::Relaxed);
    }
}

fn add_within(counter: &AtomicUsize, items: usize, most: usize) -> bool {
    let before = counter.fetch_add(items, Ordering::Relaxed);
    let fits = before.checked_add(items).is_some_and(|after| after <= most);
    if !fits {
        counter.fetch_sub(items, Ordering::Relaxed);
    }
    fits
}

fn throttled(message: String) -> Error {
    Error::new(Exception::Throttling, message, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_for_each_principal_and_for_all() {
        let admission = Arc::new(Admission::new(10, 6));
        let (anna, bert) = (("AIDAANNA", "anna"), ("AIDABERT", "bert"));
        let first = admission.admit(anna, 6).unwrap();
        let refused = admission.admit(anna, 1).err().unwrap();
        assert_eq!((refused.exception, refused.retryable), (Exception::Throttling, true));
        let second = admission.admit(bert, 4).unwrap();
        assert!(admission.admit(bert, 1).is_err(), "ten are in work");
        drop(first);
        drop(admission.admit(bert, 2).unwrap());
        drop(second);
        assert_eq!(admission.in_work.load(Ordering::Relaxed), 0);
        assert!(admission.admit(anna, usize::MAX).is_err());
        assert_eq!(admission.counter_of(anna.0).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn principals_that_went_away_are_forgotten() {
        let admission = Arc::new(Admission::new(10, 10));
        let stays = ("cn:stays", "cn:stays");
        let _permit = admission.admit(stays, 1).unwrap();
        for index in 0..3 * IDLE_PRINCIPALS {
            let name = format!("cn:{index}");
            drop(admission.admit((&name, &name), 1).unwrap());
        }
        let each = admission.each.read().unwrap();
        assert!(each.len() <= IDLE_PRINCIPALS && each.contains_key(stays.0), "{} are kept", each.len());
    }
}
