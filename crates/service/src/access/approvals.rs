//! Approvals: what waits for the word of others, shown to them, approved, refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::access::Named;
use crate::core::approval::{Person, Votes, faces, operation_named};
use crate::core::page::{self, Bounds};
use crate::core::{Core, validate};
use crate::{Error, Page, RequestContext, Service};
use auth::request::NO_RESOURCE;
use model::id::{ApprovalId, PrincipalId};
use model::operation::Operation;
use store::AccessError;
use store::Catalogue;
use store::access::{Approval, ApprovalState, Vote};

/// How an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalStanding {
    /// Others have to approve it.
    Waiting,
    /// Enough have approved it: the call can be made again.
    Approved,
    /// The call was carried out, or was refused for another reason when it was made again.
    Used,
    /// Somebody has refused it, or whoever asked has taken it back.
    Refused,
    /// Its time is over.
    Expired,
}

/// A vote as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteView {
    /// The ARN of who voted; an administrator who is no principal by the name of its certificate.
    pub voter: String,
    /// For it, or against it.
    pub approves: bool,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    /// Whether the vote counts at this moment: the permission to give it may be gone.
    pub counts: bool,
}

/// An approval as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalView {
    /// Its id.
    pub id: ApprovalId,
    /// Who made the call: an ARN, the name of an administrator's certificate, or the id of a principal who is gone.
    pub requester: String,
    /// The operation's name.
    pub operation: String,
    /// The ARN of what it is about.
    pub resource: String,
    /// The parameters, without secrets.
    pub description: String,
    /// Stands for the whole call, secrets included: 64 hexadecimal digits.
    pub digest: String,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Likewise; not to be approved or used from then on.
    pub expires_at: i64,
    /// So many others have to approve it.
    pub needed: u32,
    /// So many have whose votes count.
    pub given: u32,
    /// So many others could approve it still; told where one approval is shown.
    pub could: Option<u32>,
    /// How it stands.
    pub standing: ApprovalStanding,
    /// Who has voted.
    pub votes: Vec<VoteView>,
}

impl Service {
    /// Lists approvals in the order of their ids: those that wait, or all that are remembered.
    pub async fn list_approvals(
        &self,
        call: &RequestContext,
        all: bool,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<ApprovalView>, Error> {
        let (of_task, marker, said) = (call.clone(), marker.to_owned(), marker.to_owned());
        let resource = Named::nothing().asking(move |_, say| say.flag("all", all).page(limit, &said));
        let read = move |core: &Core| {
            let limit = validate::page_limit(limit)?;
            let after = page::after('v', &marker, |text| Some(ApprovalId::from(text)))?;
            let (catalogue, now) = (core.store().catalogue(), core.clock().unix_millis());
            let show = |approval: &&Arc<Approval>| {
                let wanted = all || approval.is_open(now).is_ok();
                wanted.then(|| (core.shown_approval(&of_task, approval), approval.description.len()))
            };
            let approvals = catalogue.approvals_after(after.as_ref());
            Ok(page::sift('v', approvals, Bounds::details(limit), |one| one.id.clone(), show))
        };
        self.core.on_catalogue(call, Operation::ListApprovals, resource, read).await
    }

    /// Shows an approval. Whoever asked for it may look at it as well.
    pub async fn describe_approval(&self, call: &RequestContext, id: &str) -> Result<ApprovalView, Error> {
        let (operation, of_task, id) = (Operation::DescribeApproval, call.clone(), ApprovalId::from(id));
        let resource = self.core.of_approval(&id);
        let read = move |core: &Core| Ok(core.shown_whole(&of_task, &*core.approval(&id)?));
        self.core.on_catalogue(call, operation, resource, read).await
    }

    /// Approves a call of somebody else. `digest` is the one that was shown.
    pub async fn approve(&self, call: &RequestContext, id: &str, digest: &str) -> Result<ApprovalView, Error> {
        let (core, of_task, id, digest) =
            (self.core.clone(), call.clone(), ApprovalId::from(id), digest.to_ascii_lowercase());
        let said = digest.clone();
        let resource = self.core.of_approval(&id).asking(move |_, say| say.text("digest", &said));
        let work = async move {
            let approval = core.approval(&id)?;
            let voter = core.voter(&of_task, &approval)?;
            if digest != shown_digest(&approval) {
                return Err(Error::validation(format!(
                    "digest: it is not that of approval {id}; look at what it is for, and give the digest that is shown \
                     there, all 64 digits of it"
                )));
            }
            core.cast(&id, &voter, Vote::Approve).await?;
            tracing::warn!(principal = of_task.principal.as_str(), approval = %id,
                operation = approval.request.operation, resource = approval.request.resource, "a call was approved");
            Ok(core.shown_whole(&of_task, &*core.approval(&id)?))
        };
        self.core.on_one(call, Operation::Approve, resource, work).await
    }

    /// Ends an approval for good. Whoever asked for it takes it back so.
    pub async fn refuse_approval(&self, call: &RequestContext, id: &str) -> Result<(), Error> {
        let (core, of_task, id) = (self.core.clone(), call.clone(), ApprovalId::from(id));
        let resource = self.core.of_approval(&id);
        let work = async move {
            let approval = core.approval(&id)?;
            // Whoever takes its own back has no vote.
            if let Ok(voter) = core.voter(&of_task, &approval)
                && approval.is_open(core.clock().unix_millis()).is_ok()
            {
                core.cast(&id, &voter, Vote::Refuse).await?;
            }
            core.store().refuse_approval(&id).await.map_err(|error| core.of_store(error))?;
            tracing::warn!(principal = of_task.principal.as_str(), approval = %id,
                operation = approval.request.operation, resource = approval.request.resource, "a call was refused");
            Ok(())
        };
        self.core.on_one(call, Operation::RefuseApproval, resource, work).await
    }
}

impl Core {
    /// What an approval is about, whether there is such an approval or not.
    fn of_approval(&self, id: &ApprovalId) -> Named {
        let catalogue = self.store().catalogue();
        let arn = catalogue.approval(id).map_or(NO_RESOURCE, |approval| &approval.request.resource);
        Named::other(arn).of_approval(id.clone()).named_by("approvalId", id.as_str())
    }

    fn approval(&self, id: &ApprovalId) -> Result<Arc<Approval>, Error> {
        let known = self.store().catalogue().approval(id).cloned();
        known.ok_or_else(|| {
            let shown = ApprovalId::from(validate::shown(id.as_str()).as_str());
            self.of_store(AccessError::NoApproval(shown).into())
        })
    }

    /// Who votes: somebody else than asked, by whichever certificate.
    fn voter(&self, call: &RequestContext, approval: &Approval) -> Result<Person, Error> {
        let voter = self.judged(call, |judge| Person::of(judge, call))?;
        let catalogue = self.store().catalogue();
        let [own, asked] = [&voter.id(), &approval.request.requester].map(|one| faces(&catalogue, approval, one));
        if !own.is_disjoint(&asked) {
            return Err(self.of_store(AccessError::OwnRequest(approval.id.clone()).into()));
        }
        Ok(voter)
    }

    async fn cast(&self, id: &ApprovalId, voter: &Person, vote: Vote) -> Result<(), Error> {
        let done = match voter {
            Person::Principal(principal) => self.store().vote(id, principal, vote).await,
            Person::Administrator(name) => self.store().vote_as_administrator(id, name, vote).await,
        };
        done.map_err(|error| self.of_store(error))
    }

    /// With how many could approve it still, for which everybody is looked at.
    fn shown_whole(&self, call: &RequestContext, approval: &Approval) -> ApprovalView {
        let (keyring, authority) = (self.keyring(), self.authority());
        let votes = Votes::new(self, &keyring, &authority, call);
        let counting = votes.counting(approval);
        let left = votes.left(approval, &counting);
        let could = Some(u32::try_from(left).unwrap_or(u32::MAX));
        ApprovalView { could, ..self.shown_with(&keyring.catalogue, approval, &counting) }
    }

    fn shown_approval(&self, call: &RequestContext, approval: &Approval) -> ApprovalView {
        let (keyring, authority) = (self.keyring(), self.authority());
        let counting = Votes::new(self, &keyring, &authority, call).counting(approval);
        self.shown_with(&keyring.catalogue, approval, &counting)
    }

    /// An approval for which these votes count.
    fn shown_with(&self, catalogue: &Catalogue, approval: &Approval, counting: &BTreeSet<PrincipalId>) -> ApprovalView {
        let votes = approval.votes.iter().map(|(voter, cast)| {
            let approves = cast.vote == Vote::Approve;
            VoteView { voter: name_of(catalogue, voter), approves, at: cast.at, counts: counting.contains(voter) }
        });
        let Approval { id, request, description, created_at, expires_at, needed, state, .. } = approval;
        let given = u32::try_from(counting.len()).unwrap_or(u32::MAX);
        let needed = (*needed).max(self.approvals().required.get());
        let standing = match state {
            ApprovalState::Used => ApprovalStanding::Used,
            ApprovalState::Refused => ApprovalStanding::Refused,
            ApprovalState::Waiting if approval.is_open(self.clock().unix_millis()).is_err() => {
                ApprovalStanding::Expired
            }
            ApprovalState::Waiting if given >= needed && approval.against().is_none() => ApprovalStanding::Approved,
            ApprovalState::Waiting => ApprovalStanding::Waiting,
        };
        ApprovalView {
            votes: votes.collect(),
            id: id.clone(),
            requester: name_of(catalogue, &request.requester),
            operation: operation_named(&request.operation).to_owned(),
            resource: request.resource.clone(),
            description: description.clone(),
            digest: shown_digest(approval),
            created_at: *created_at,
            expires_at: *expires_at,
            needed,
            given,
            could: None,
            standing,
        }
    }
}

fn shown_digest(approval: &Approval) -> String {
    approval.request.parameters.iter().fold(String::with_capacity(64), |hex, byte| hex + &format!("{byte:02x}"))
}

fn name_of(catalogue: &Catalogue, id: &PrincipalId) -> String {
    catalogue.principal(id).map_or_else(|| id.to_string(), |principal| principal.arn.to_string())
}
