//! Decisions that are kept, where they are the same for every request of a principal for an action with a key.
//!
//! They belong to one keyring and end with it: whatever a decision depends on (principals and their groups and tags,
//! policies, keys and their aliases and tags, grants) is a part of that keyring, and a change of any of it makes another
//! one, which begins with none. So nothing that is kept can be out of date.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use super::granted::OfGrantee;
use auth::policy::Policy;
use model::id::{KeyId, PolicyName, PrincipalId};
use model::limits;
use model::lock::RwLockExt as _;
use store::access::Principal;

/// Decisions that each principal may have kept, whatever others have.
const OWN: usize = 16;
/// Decisions that all of them may have kept beside those.
const COMMONS: usize = 65_536;
/// Of which one may have so many.
const SHARE: usize = 8_192;
/// Reasons that are kept of one principal.
const REASONS: usize = 1_024;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// Nothing allows it.
    Denied,
    /// A statement denies it.
    DeniedExplicitly,
}

/// What is known of an action with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// The same is decided each time, for the reason at this place.
    Always(Decision, usize),
    /// What is decided depends on the request.
    ByRequest,
}

/// What holds for one principal, looked up once per keyring.
pub(crate) struct Standing {
    pub(crate) principal: Arc<Principal>,
    /// Those that could be read.
    pub(crate) policies: Vec<Arc<Policy>>,
    /// The names of those that could not. They may deny anything.
    pub(crate) unreadable: Vec<PolicyName>,
    pub(crate) grants: OfGrantee,
    kept: RwLock<HashMap<(KeyId, &'static str), Kept>>,
    /// Why, in words: there are as many as statements and grants that decide.
    reasons: RwLock<Vec<Arc<str>>>,
    commons: Arc<AtomicUsize>,
}

/// The decisions that are kept with one keyring.
pub(crate) struct Decisions {
    standings: RwLock<HashMap<PrincipalId, Arc<Standing>>>,
    /// How many more there is room for in common.
    commons: Arc<AtomicUsize>,
}

impl Default for Decisions {
    fn default() -> Self {
        Self { standings: RwLock::default(), commons: Arc::new(AtomicUsize::new(COMMONS)) }
    }
}

impl Decisions {
    /// What holds for a principal, as it was looked up before or is now.
    pub(crate) fn standing(
        &self,
        principal: &Arc<Principal>,
        look_up: impl FnOnce() -> (Vec<Arc<Policy>>, Vec<PolicyName>, OfGrantee),
    ) -> Arc<Standing> {
        if let Some(known) = self.standings.read_anyway().get(&principal.id) {
            return Arc::clone(known);
        }
        let (policies, unreadable, grants) = look_up();
        let (principal, commons) = (Arc::clone(principal), Arc::clone(&self.commons));
        let new = Standing {
            principal,
            policies,
            unreadable,
            grants,
            kept: RwLock::default(),
            reasons: RwLock::default(),
            commons,
        };
        let mut standings = self.standings.write_anyway();
        if standings.len() >= limits::PRINCIPALS {
            return Arc::new(new);
        }
        let id = new.principal.id.clone();
        Arc::clone(standings.entry(id).or_insert_with(|| Arc::new(new)))
    }
}

impl Standing {
    /// What is known of an action with a key.
    pub(crate) fn kept(&self, of: (KeyId, &'static str)) -> Option<Kept> {
        self.kept.read_anyway().get(&of).copied()
    }

    /// Keeps what came to be known, where there is room: who fills it has its own decisions made anew, and nobody else's.
    pub(crate) fn keep(&self, of: (KeyId, &'static str), what: Kept) {
        let mut kept = self.kept.write_anyway();
        if kept.contains_key(&of) || kept.len() >= OWN + SHARE {
            return;
        }
        let taken = |left: usize| left.checked_sub(1);
        if kept.len() < OWN || self.commons.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok() {
            kept.insert(of, what);
        }
    }

    /// The place of a reason, which is kept if there is room.
    pub(crate) fn reason_at(&self, reason: &str) -> usize {
        let mut reasons = self.reasons.write_anyway();
        let known = reasons.iter().position(|known| **known == *reason);
        known.unwrap_or_else(|| {
            if reasons.len() < REASONS {
                reasons.push(reason.into());
                return reasons.len() - 1;
            }
            REASONS
        })
    }

    /// The reason at this place; `None` where there was no room for it.
    pub(crate) fn reason(&self, at: usize) -> Option<Arc<str>> {
        self.reasons.read_anyway().get(at).cloned()
    }

    /// How many decisions are kept.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.kept.read_anyway().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(of: &Decisions, name: &str) -> Arc<Standing> {
        let principal = Principal {
            id: name.into(),
            arn: format!("arn:aws:iam::111122223333:user/{name}").into(),
            description: String::new(),
            created_at: 0,
            identities: Vec::new(),
            tags: [].into(),
            groups: [].into(),
            policies: [].into(),
            access_keys: Vec::new(),
        };
        of.standing(&Arc::new(principal), Default::default)
    }

    #[test]
    fn nobody_takes_the_room_of_others() {
        let decisions = Decisions::default();
        let what = Kept::Always(Decision::Allowed, 0);
        let fill =
            |standing: &Standing| (0..2 * SHARE).for_each(|_| standing.keep((KeyId::random(), "kms:Encrypt"), what));
        let anna = standing(&decisions, "anna");
        fill(&anna);
        assert_eq!(anna.count(), OWN + SHARE);
        for greedy in 1..COMMONS / SHARE {
            fill(&standing(&decisions, &greedy.to_string()));
        }
        let bert = standing(&decisions, "bert");
        fill(&bert);
        assert_eq!(bert.count(), OWN, "the commons are used up");
        let key = KeyId::random();
        bert.keep((key, "kms:Encrypt"), what);
        assert_eq!(bert.kept((key, "kms:Encrypt")), None);
        assert!(Arc::ptr_eq(&bert, &standing(&decisions, "bert")));
    }

    #[test]
    fn a_decision_is_of_one_key_and_action() {
        let decisions = Decisions::default();
        let (anna, bert) = (standing(&decisions, "anna"), standing(&decisions, "bert"));
        let (key, other) = (KeyId::random(), KeyId::random());
        anna.keep((key, "kms:Encrypt"), Kept::ByRequest);
        anna.keep((key, "kms:Decrypt"), Kept::Always(Decision::DeniedExplicitly, anna.reason_at("so")));
        assert_eq!((anna.reason_at("other"), anna.reason_at("so")), (1, 0));
        assert_eq!((anna.reason(1).as_deref(), anna.reason(2)), (Some("other"), None));
        assert_eq!(anna.kept((key, "kms:Encrypt")), Some(Kept::ByRequest));
        assert_eq!(anna.kept((key, "kms:Decrypt")), Some(Kept::Always(Decision::DeniedExplicitly, 0)));
        assert_eq!((anna.kept((other, "kms:Encrypt")), bert.kept((key, "kms:Encrypt"))), (None, None));
    }
}
