//! Calls that others have to approve: between permission and act.
//!
//! The first call asks for an approval and is refused. The same call of the same principal, once enough others have
//! approved, spends the approval and is carried out. It is spent on record before anything is done, so that no crash
//! and no second call lets it run twice.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;

use super::Core;
use super::access::Named;
use super::authority::{Authority, Judge, Subject};
use super::keyring::Keyring;
use super::proposal::Proposal;
use super::repeated::Seen;
use crate::{Error, RequestContext};
use auth::policy::Parameters;
use auth::request::{Interface, NO_RESOURCE};
use model::clock::utc;
use model::exception::Exception;
use model::id::{ApprovalId, PrincipalId};
use model::limits;
use model::operation::Operation;
use store::access::{Approval, NewApproval, Request, Requested};
use store::{AccessError, Catalogue};

/// What the digests of calls are for.
const PURPOSE: &str = "keystored call to be approved v1";

/// Which calls others have to approve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvals {
    /// These operations; none unless configured.
    pub operations: Vec<Operation>,
    /// So many others have to approve a call.
    pub required: NonZeroU32,
    /// For so long a call can be approved and repeated.
    pub expires_after: Duration,
}

impl Default for Approvals {
    fn default() -> Self {
        let (required, expires_after) = (NonZeroU32::MIN.saturating_add(1), Duration::from_secs(3_600));
        Self { operations: Vec::new(), required, expires_after }
    }
}

/// Somebody who asks or votes: a principal, or an administrator who is none, by the name of its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Person {
    Principal(PrincipalId),
    Administrator(String),
}

impl Person {
    /// Who calls.
    pub(crate) fn of(judge: &Judge<'_>, call: &RequestContext) -> Result<Self, Error> {
        if let Some(principal) = judge.principal() {
            return Ok(Self::Principal(principal.id.clone()));
        }
        match judge.is_administrator() {
            true => Ok(Self::Administrator(call.principal.as_str().to_owned())),
            false => Err(judge.unmapped()),
        }
    }

    /// As the metadata have it.
    pub(crate) fn id(&self) -> PrincipalId {
        match self {
            Self::Principal(id) => id.clone(),
            Self::Administrator(name) => PrincipalId::from(name.as_str()),
        }
    }
}

/// Who somebody in the metadata is now: an administrator may have been mapped to a principal since.
pub(crate) fn as_of_now(catalogue: &Catalogue, id: &PrincipalId) -> PrincipalId {
    catalogue.principal_known_as(id.as_str()).map_or_else(|| id.clone(), |principal| principal.id.clone())
}

/// All that somebody who asked or voted was then and is now: principals, and the names by which they were and are known.
/// Who is mapped to a principal, or no longer is, stays one person.
pub(crate) fn faces(catalogue: &Catalogue, approval: &Approval, person: &PrincipalId) -> BTreeSet<PrincipalId> {
    let then = approval.identities.get(person).into_iter().flatten();
    let then = then.map(|name| PrincipalId::from(name.as_str())).chain([person.clone()]);
    let mut faces = BTreeSet::new();
    for face in then {
        let now = as_of_now(catalogue, &face);
        if let Some(principal) = catalogue.principal(&now) {
            faces.extend(principal.identities.iter().map(|one| PrincipalId::from(one.name.as_str())));
        }
        faces.extend([face, now]);
    }
    faces
}

/// Puts voters together who share a face with each other, or each with a third one.
fn persons<'a>(
    voters: impl Iterator<Item = (&'a PrincipalId, BTreeSet<PrincipalId>)>,
) -> Vec<(Vec<&'a PrincipalId>, BTreeSet<PrincipalId>)> {
    let mut persons: Vec<(Vec<&PrincipalId>, BTreeSet<PrincipalId>)> = Vec::new();
    for (voter, faces) in voters {
        let (same, others) = persons.into_iter().partition(|(_, of)| !of.is_disjoint(&faces));
        persons = others;
        let mut one = (vec![voter], faces);
        let same: Vec<(Vec<&PrincipalId>, BTreeSet<PrincipalId>)> = same;
        for (voters, faces) in same {
            one.0.extend(voters);
            one.1.extend(faces);
        }
        persons.push(one);
    }
    persons
}

/// Looks at approvals as things are at one moment.
pub(crate) struct Votes<'a> {
    pub(super) core: &'a Core,
    pub(super) keyring: &'a Keyring,
    pub(super) authority: &'a Authority,
    /// What is known of those who voted: not from where.
    call: RequestContext,
}

impl<'a> Votes<'a> {
    pub(crate) fn new(core: &'a Core, keyring: &'a Keyring, authority: &'a Authority, call: &RequestContext) -> Self {
        // Votes are cast by gRPC, whatever the call comes by that asks for them.
        let interface = Interface::Grpc;
        let call = RequestContext { source: None, user_agent: None, tls: None, interface, ..call.clone() };
        Self { core, keyring, authority, call }
    }

    /// Those whose votes for it count: of each person one, of others than who asked, of who may still approve.
    pub(crate) fn counting(&self, approval: &Approval) -> BTreeSet<PrincipalId> {
        let catalogue = &self.keyring.catalogue;
        let requester = faces(catalogue, approval, &approval.request.requester);
        let voters = approval.votes.iter().filter(|(_, cast)| cast.vote == store::access::Vote::Approve);
        let counts = |voter: &&PrincipalId| self.may_approve(&as_of_now(catalogue, voter), &approval.request.resource);
        persons(voters.map(|(voter, _)| (voter, faces(catalogue, approval, voter))))
            .into_iter()
            .filter(|(_, faces)| faces.is_disjoint(&requester))
            .filter_map(|(voters, _)| voters.into_iter().find(counts).cloned())
            .collect()
    }

    pub(super) fn may_approve(&self, voter: &PrincipalId, resource: &str) -> bool {
        let Some(principal) = self.keyring.catalogue.principal(voter) else {
            return self.authority.is_administrator(voter.as_str());
        };
        if principal.identities.iter().any(|one| self.authority.is_administrator(&one.name)) {
            return true;
        }
        let judge = Judge::of_other(self.core, self.keyring, &self.call, principal);
        let permission = Operation::Approve.spec().permission;
        judge.allows(permission, Subject::Other(resource), Parameters::default()).is_ok()
    }
}

/// Whether the caller may do this with an approval. Whoever asked for it may look at it and take it back.
///
/// Identity policies decide, of keys as well: whoever may put a key's policy must not choose who approves that. A denial
/// reads the same whether there is such an approval or none.
pub(super) fn allows(
    judge: &Judge<'_>,
    call: &RequestContext,
    operation: Operation,
    id: &ApprovalId,
) -> Result<(), Error> {
    let catalogue = &judge.keyring().catalogue;
    let approval = catalogue.approval(id);
    if operation != Operation::Approve
        && let (Some(approval), Ok(caller)) = (approval, Person::of(judge, call))
        && as_of_now(catalogue, &approval.request.requester) == caller.id()
    {
        return Ok(());
    }
    let arn = approval.map_or(NO_RESOURCE, |approval| &approval.request.resource);
    let permission = operation.spec().permission;
    judge.allows(permission, Subject::Other(arn), Parameters::default()).map_err(|error| {
        let id = super::validate::shown(id.as_str());
        judge.denied_of(error, permission, &format!("what approval {id} is about"))
    })
}

impl Core {
    /// Which calls others have to approve.
    pub(crate) fn approvals(&self) -> Arc<Approvals> {
        self.inner.approvals.load_full()
    }

    /// Has other calls need approval from now on.
    pub(crate) fn set_approvals(&self, approvals: Approvals) {
        self.inner.approvals.store(Arc::new(approvals));
    }

    /// Lets a call that is permitted go on if others need not approve it, or if they have, which that spends. Permission
    /// and state are looked at before somebody is asked, and again once it is spent. What it gives is to be held until the
    /// call has been carried out: one that repeats it waits for that, and finds it done.
    pub(super) async fn agreed(
        &self,
        call: &RequestContext,
        operation: Operation,
        named: &Named,
    ) -> Result<Option<MutexGuard<'_, ()>>, Error> {
        if !self.inner.approvals.load().operations.contains(&operation) {
            return Ok(None);
        }
        let rule = self.approvals();
        let Some(proposal) = named.proposal(self) else {
            return Err(Error::internal("nothing says what is to be approved"));
        };
        if proposal.is_free() {
            return Ok(None);
        }
        let turn = match self.seen_again(call, operation, named).await? {
            Seen::Done => return Ok(None),
            Seen::New(turn) => turn,
        };
        named.is_open(self, call, operation)?;
        if proposal.is_too_long() {
            let what =
                "the call has more parameters than can be shown to those who have to approve it; make several of it";
            return Err(Error::permanent(Exception::LimitExceeded, what));
        }
        self.spend(call, operation, &rule, named, &proposal).await?;
        named.is_open(self, call, operation)?;
        Ok(turn)
    }

    async fn spend(
        &self,
        call: &RequestContext,
        operation: Operation,
        rule: &Approvals,
        named: &Named,
        proposal: &Proposal,
    ) -> Result<(), Error> {
        let requester = self.judged(call, |judge| Person::of(judge, call))?.id();
        let (event, resource) = (operation.spec().event, &*named.arn);
        let parameters = proposal.digest();
        let parts = [requester.as_str().as_bytes(), event.as_bytes(), resource.as_bytes(), &parameters];
        let digests: Vec<[u8; 32]> = self.registry().seals.load().digests(PURPOSE, &parts).collect();
        let Some(newest) = digests.first() else {
            return Err(Error::internal("there is no seal key"));
        };
        let request = |parameters| Request {
            requester: requester.clone(),
            operation: event.to_owned(),
            resource: resource.to_owned(),
            parameters,
        };
        let known = self.same_call(digests.iter().map(|digest| request(*digest)));
        if let Some(approval) = &known {
            let standing = self.standing(call, approval, rule);
            if !standing.is_enough() {
                return Err(standing.refusal(approval));
            }
            return match self.store().use_approval(&approval.id, &approval.request).await {
                Ok(()) => {
                    let standing =
                        self.standing(call, self.store().catalogue().approval(&approval.id).unwrap_or(approval), rule);
                    // Somebody lost the right to approve while it was being spent, and it was spent after that.
                    if !standing.is_enough() {
                        return Err(standing.too_late(approval));
                    }
                    tracing::warn!(principal = call.principal.as_str(), approval = %approval.id, operation = event,
                        resource, by = ?standing.given, "a call that others have approved is carried out");
                    Ok(())
                }
                // Another call was quicker, or somebody has just refused.
                Err(store::Error::Access(error)) => Err(no_use(&error)),
                Err(error) => Err(self.of_store(error)),
            };
        }
        let new = NewApproval {
            request: request(*newest),
            description: proposal.words().to_owned(),
            life: rule.expires_after,
            needed: rule.required,
            most: limits::APPROVALS_PER_PRINCIPAL,
            most_in_all: limits::APPROVALS,
        };
        let asked = self.store().request_approval(new).await.map_err(|error| self.of_store(error))?;
        let (Requested::New(id) | Requested::Existing(id)) = asked;
        tracing::warn!(principal = call.principal.as_str(), approval = %id, operation = event, resource,
            "a call waits for the approval of others");
        let approval = self.store().catalogue().approval(&id).cloned();
        let approval = approval.ok_or_else(|| Error::internal("an approval that was asked for is not there"))?;
        Err(self.standing(call, &approval, rule).refusal(&approval))
    }

    /// What waits for one of these requests, which are one call under several keys.
    fn same_call(&self, requests: impl Iterator<Item = Request>) -> Option<Arc<Approval>> {
        let (catalogue, now) = (self.store().catalogue(), self.clock().unix_millis());
        let waiting = |request: Request| {
            let mut of = catalogue.approvals_of(&request.requester);
            of.find(|approval| approval.request == request && approval.is_open(now).is_ok()).cloned()
        };
        requests.into_iter().find_map(waiting)
    }

    fn standing(&self, call: &RequestContext, approval: &Approval, rule: &Approvals) -> Standing {
        let (keyring, authority) = (self.keyring(), self.authority());
        let given = Votes::new(self, &keyring, &authority, call).counting(approval);
        Standing { given, needed: approval.needed.max(rule.required.get()) }
    }
}

/// What the configuration calls an operation that the metadata have by its name in records.
pub(crate) fn operation_named(event: &str) -> &str {
    let known = Operation::ALL.iter().find(|operation| operation.spec().event == event);
    known.map_or(event, |operation| operation.name())
}

/// How many approve a call.
struct Standing {
    given: BTreeSet<PrincipalId>,
    needed: u32,
}

impl Standing {
    fn is_enough(&self) -> bool {
        self.given.len() >= usize::try_from(self.needed).unwrap_or(usize::MAX)
    }

    fn refusal(&self, Approval { id, request, expires_at, .. }: &Approval) -> Error {
        let (given, needed, until, operation) =
            (self.given.len(), self.needed, utc(*expires_at), operation_named(&request.operation));
        let others = if needed == 1 { "one other principal".to_owned() } else { format!("{needed} other principals") };
        let what = format!(
            "{operation} needs the approval of {others}: approval {id} waits for it until {until} and has {given} of \
             {needed}. They see it with 'keystorectl approval show {id}'; when they have approved it, make the same call \
             again by then"
        );
        Error { approval: Some(id.clone()), ..Error::permanent(Exception::AccessDenied, what) }
    }

    fn too_late(&self, Approval { id, .. }: &Approval) -> Error {
        let what = format!(
            "approval {id} was spent, and has {} of {} that it needs: somebody who had approved it may no longer do so. \
             Nothing was done; the same call asks for a new one",
            self.given.len(),
            self.needed
        );
        Error::permanent(Exception::AccessDenied, what)
    }
}

/// Why an approval cannot be spent after all.
fn no_use(error: &AccessError) -> Error {
    let what = format!("the approval of this call cannot be used: {error}. The same call asks for a new one");
    Error::permanent(Exception::AccessDenied, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_a_face_with_two_makes_them_one() {
        let of = |voters: &[(&'static str, &[&'static str])]| -> Vec<usize> {
            let voters: Vec<(PrincipalId, BTreeSet<PrincipalId>)> = voters
                .iter()
                .map(|(voter, faces)| (PrincipalId::from(*voter), faces.iter().map(|face| (*face).into()).collect()))
                .collect();
            let mut sizes: Vec<usize> = persons(voters.iter().map(|(voter, faces)| (voter, faces.clone())))
                .iter()
                .map(|(voters, _)| voters.len())
                .collect();
            sizes.sort_unstable();
            sizes
        };
        assert!(of(&[]).is_empty());
        let (one, two, three): (_, _, (_, &[&str])) =
            (("a", &["a", "x"][..]), ("b", &["b", "y"][..]), ("c", &["c", "z"]));
        assert_eq!(of(&[one, two, three]), [1, 1, 1]);
        let both = ("d", &["d", "x", "y"][..]);
        assert_eq!(of(&[one, two, both, three]), [1, 3]);
        assert_eq!(of(&[both, one, three, two]), [1, 3]);
        assert_eq!(of(&[one, three, ("e", &["x"]), two]), [1, 1, 2]);
    }
}
