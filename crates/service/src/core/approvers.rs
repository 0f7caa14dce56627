//! How many could approve calls: too few are found by waiting otherwise.
//!
//! Of the principals only those are asked who have a policy that allows to approve anything at all, and what they may is
//! kept for a moment: whoever looks at one approval again and again has nobody asked again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Core;
use super::approval::{Votes, faces};
use super::directory::all_managed;
use crate::RequestContext;
use auth::peer::Principal;
use auth::request::{Interface, NO_RESOURCE};
use model::id::{PolicyName, PrincipalId};
use model::lock::MutexExt as _;
use model::operation::Operation;
use store::Catalogue;
use store::access::{Approval, Holder};

/// For so many ARNs it is kept who may approve what is about them.
const KEPT: usize = 64;
/// Conditions may depend on the time, so that it is found anew after this.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// Who may approve what, as it was found a moment ago.
#[derive(Default)]
pub(crate) struct Approvers {
    found: Mutex<VecDeque<Found>>,
    /// How often a principal was asked what it may.
    asked: AtomicU64,
}

struct Found {
    resource: Box<str>,
    /// What it was found in.
    catalogue: Arc<Catalogue>,
    administrators: BTreeSet<String>,
    at: Instant,
    who: Arc<BTreeSet<PrincipalId>>,
}

impl Approvers {
    /// How often a principal was asked.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Votes<'_> {
    /// How many could still approve it: persons other than who asked and than those whose votes count.
    pub(crate) fn left(&self, approval: &Approval, counting: &BTreeSet<PrincipalId>) -> usize {
        let catalogue = &self.keyring.catalogue;
        let out = counting.iter().chain([&approval.request.requester]);
        let out: BTreeSet<PrincipalId> = out.flat_map(|one| faces(catalogue, approval, one)).collect();
        self.approvers_but(&out, &approval.request.resource)
    }

    /// Principals, and administrators who are none, who may approve what is about this ARN.
    fn approvers_but(&self, out: &BTreeSet<PrincipalId>, resource: &str) -> usize {
        let catalogue = &self.keyring.catalogue;
        let is_out = |name: &str| out.contains(&PrincipalId::from(name));
        let who = self.approvers(resource);
        let principals = who.iter().filter_map(|id| catalogue.principal(id)).filter(|principal| {
            let known_as_one = principal.identities.iter().any(|one| is_out(&one.name));
            !out.contains(&principal.id) && !known_as_one
        });
        let administrators = self
            .authority
            .administrators
            .iter()
            .filter(|name| !is_out(name.as_str()) && catalogue.principal_known_as(name.as_str()).is_none());
        principals.count() + administrators.count()
    }

    /// The principals who may approve what is about this ARN.
    fn approvers(&self, resource: &str) -> Arc<BTreeSet<PrincipalId>> {
        let (kept, now) = (self.core.approvers_found(), self.core.clock().now());
        let (catalogue, administrators) = (&self.keyring.catalogue, &self.authority.administrators);
        let holds = |found: &Found| {
            now.saturating_duration_since(found.at) < KEPT_FOR
                && found.administrators == *administrators
                && !catalogue.access_changed_since(&found.catalogue)
        };
        {
            let mut all = kept.found.lock_anyway();
            all.retain(holds);
            if let Some(known) = all.iter().find(|found| *found.resource == *resource) {
                return Arc::clone(&known.who);
            }
        }
        let who = self.candidates().into_iter().filter(|id| {
            kept.asked.fetch_add(1, Ordering::Relaxed);
            self.may_approve(id, resource)
        });
        let who: Arc<BTreeSet<PrincipalId>> = Arc::new(who.collect());
        let (catalogue, administrators) = (Arc::clone(catalogue), administrators.clone());
        let (resource, at) = (resource.into(), now);
        let found = Found { resource, catalogue, administrators, at, who: Arc::clone(&who) };
        let mut all = kept.found.lock_anyway();
        if all.len() >= KEPT {
            all.pop_front();
        }
        all.push_back(found);
        who
    }

    /// The principals for whom it is worth to be asked: administrators, and those who have a policy, be it by a group, with a
    /// statement that allows to approve something.
    fn candidates(&self) -> BTreeSet<PrincipalId> {
        let (catalogue, directory) = (&self.keyring.catalogue, &self.keyring.directory);
        let permission = Operation::Approve.spec().permission;
        let names = all_managed().iter().map(|managed| &managed.name);
        let names = names.chain(catalogue.policies_after(None).map(|policy| &policy.name));
        let allowing = |name: &&PolicyName| directory.policy(name).is_some_and(|policy| policy.may_allow(permission));
        let mut all = BTreeSet::new();
        for holder in names.filter(allowing).flat_map(|name| catalogue.holders_after(name, None)) {
            match holder {
                Holder::Principal(id) => drop(all.insert(id.clone())),
                Holder::Group(name) => {
                    all.extend(catalogue.members_after(name, None).map(|member| member.id.clone()));
                }
            }
        }
        let administrators = self.authority.administrators.iter();
        all.extend(administrators.filter_map(|name| catalogue.principal_known_as(name)).map(|one| one.id.clone()));
        all
    }
}

impl Core {
    /// How many may approve calls whatever these are about. Policies that allow it for some ARNs only are not counted.
    pub(crate) fn approvers(&self) -> usize {
        let (keyring, authority) = (self.keyring(), self.authority());
        // Nobody calls: it is looked at when the daemon begins, and when the configuration is read again.
        let call = RequestContext {
            principal: Principal::new(""),
            source: None,
            user_agent: None,
            tls: None,
            interface: Interface::Grpc,
            request_id: "".into(),
            deadline: self.clock().now(),
            charge: None,
            trace: Arc::default(),
        };
        Votes::new(self, &keyring, &authority, &call).approvers_but(&BTreeSet::new(), NO_RESOURCE)
    }
}
