//! Changes of calls that others have to approve: asking, voting, using once.

use super::checks::{INSTALLATION, has_room, principal_is_there, too_many};
use super::{Approval, ApprovalState, CLOCK_STEP_MILLIS, NewApproval, Request, Requested, Vote, load};
use crate::change::Transaction;
use crate::engine::Connection;
use crate::engine::value::values;
use crate::log::Entity;
use crate::reserve::Purpose;
use crate::{AccessError, AccessQuota, Error, Store};
use model::id::{ApprovalId, PrincipalId};

/// Votes that one approval may have: each is looked at with each other one whenever it is shown.
const VOTES: usize = if cfg!(test) { 4 } else { 256 };
/// Expired ones that one change clears: each of them is an entry in the change log.
const CLEARED_AT_ONCE: i64 = 64;
/// Of one requester, those that are over and have not expired, beyond which its oldest are cleared: whoever asks and takes
/// back again and again takes neither room nor memory from others, and drives nobody's out of the list.
const OVER_OF_ONE: i64 = if cfg!(test) { 2 } else { 64 };
/// In all, those that are over and have not expired, beyond which the oldest are cleared too.
const OVER: i64 = if cfg!(test) { 4 } else { 1_024 };

impl Store {
    /// Asks for a call to be approved, or finds what waits for the same call of the same principal. Expired ones are
    /// cleared on the way.
    pub async fn request_approval(&self, new: NewApproval) -> Result<Requested, Error> {
        let now = self.inner.clock.unix_millis();
        self.change(move |database| {
            Box::pin(async move {
                clear(database, new.request.requester.as_str(), now).await?;
                if let Some(id) = waiting(database, &new.request, now).await? {
                    return Ok(Requested::Existing(id));
                }
                let of = new.request.requester.as_str();
                let count = "SELECT COUNT(*) FROM approvals WHERE requester = $1 AND state = $2 AND expires_at > $3";
                let count = (count, values![of, ApprovalState::Waiting.name(), now]);
                has_room(database, AccessQuota::Approvals, of, new.most, count).await?;
                let count = "SELECT COUNT(*) FROM approvals WHERE state = $1 AND expires_at > $2";
                let count = (count, values![ApprovalState::Waiting.name(), now]);
                has_room(database, AccessQuota::Approvals, INSTALLATION, new.most_in_all, count).await?;
                let id = ApprovalId::random();
                database.changes(Entity::Approval(id.clone())).await?;
                insert(database, &id, &new, now).await?;
                remember(database, &id, &new.request.requester).await?;
                Ok(Requested::New(id))
            })
        })
        .await
    }

    /// Casts a principal's vote, or changes it, as long as the approval waits. [`AccessError::OwnRequest`] where it asked
    /// for it itself. A vote against it also on a full disk.
    pub async fn vote(&self, id: &ApprovalId, principal: &PrincipalId, vote: Vote) -> Result<(), Error> {
        self.cast(id, principal, true, vote).await
    }

    /// The same for an administrator who is no principal, by the name of its certificate.
    pub async fn vote_as_administrator(&self, id: &ApprovalId, identity: &str, vote: Vote) -> Result<(), Error> {
        self.cast(id, &PrincipalId::from(identity), false, vote).await
    }

    async fn cast(&self, id: &ApprovalId, voter: &PrincipalId, is_kept: bool, vote: Vote) -> Result<(), Error> {
        let (id, voter, now) = (id.clone(), voter.clone(), self.inner.clock.unix_millis());
        let purpose = match vote {
            Vote::Approve => Purpose::Ordinary,
            Vote::Refuse => Purpose::Restricting,
        };
        self.change_from_reserve(purpose, move |database| {
            let (id, voter) = (id.clone(), voter.clone());
            Box::pin(async move {
                let approval = there(database, &id).await?;
                approval.is_open(now)?;
                if approval.request.requester == voter {
                    return Err(AccessError::OwnRequest(id).into());
                }
                if is_kept {
                    principal_is_there(database, &voter).await?;
                }
                if !approval.votes.contains_key(&voter) && vote == Vote::Approve && approval.votes.len() >= VOTES {
                    return Err(too_many(AccessQuota::Votes, id.as_str(), VOTES));
                }
                database.changes(Entity::Approval(id.clone())).await?;
                let upsert = "INSERT INTO approval_votes (approval_id, voter, vote, voted_at) \
                              VALUES ($1, $2, $3, $4) ON CONFLICT (approval_id, voter) DO UPDATE SET \
                              vote = excluded.vote, voted_at = excluded.voted_at";
                database.execute(upsert, values![id.as_str(), voter.as_str(), vote.name(), now]).await?;
                // One against it stands in the way whoever it is from.
                if vote == Vote::Approve { remember(database, &id, &voter).await } else { Ok(()) }
            })
        })
        .await
    }

    /// Spends an approval for the call that it was given for: of any number of callers one succeeds. The error tells what
    /// is missing.
    ///
    /// Also on a full disk, since calls that restrict may need an approval; votes for one need room, so that there are few.
    pub async fn use_approval(&self, id: &ApprovalId, request: &Request) -> Result<(), Error> {
        let (id, request, now) = (id.clone(), request.clone(), self.inner.clock.unix_millis());
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let (id, request) = (id.clone(), request.clone());
            Box::pin(async move {
                // The votes that it has are those of principals who are there: others went with theirs.
                there(database, &id).await?.permits(&request, now)?;
                write_state(database, &id, ApprovalState::Used).await
            })
        })
        .await
    }

    /// Ends an approval for good, because it was taken back or turned down. A success without a change where it was
    /// before. Also on a full disk.
    pub async fn refuse_approval(&self, id: &ApprovalId) -> Result<(), Error> {
        let id = id.clone();
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let id = id.clone();
            Box::pin(async move {
                match there(database, &id).await?.state {
                    ApprovalState::Waiting => write_state(database, &id, ApprovalState::Refused).await,
                    ApprovalState::Refused => Ok(()),
                    ApprovalState::Used => Err(AccessError::ApprovalOver(id, ApprovalState::Used).into()),
                }
            })
        })
        .await
    }
}

async fn there(database: &mut Connection, id: &ApprovalId) -> Result<Approval, Error> {
    load::approval(database, id).await?.ok_or_else(|| AccessError::NoApproval(id.clone()).into())
}

/// Puts on record by which names somebody who asks or approves is known now, in addition to what is known from before.
/// An administrator who is no principal is known by the name that it has there.
async fn remember(database: &mut Transaction, id: &ApprovalId, person: &PrincipalId) -> Result<(), Error> {
    let insert = "INSERT INTO approval_identities (approval_id, person, identity) \
                  SELECT $1, principal_id, identity FROM identities WHERE principal_id = $2 ON CONFLICT DO NOTHING";
    database.execute(insert, values![id.as_str(), person.as_str()]).await?;
    Ok(())
}

/// Ends what waits for calls of somebody who is gone. The calls cannot be made again.
pub(super) async fn end_requests(database: &mut Transaction, of: &PrincipalId) -> Result<(), Error> {
    let end = "UPDATE approvals SET state = $1 WHERE requester = $2 AND state = $3 RETURNING id";
    let names = values![ApprovalState::Refused.name(), of.as_str(), ApprovalState::Waiting.name()];
    let ended: Vec<(String,)> = database.all(end, names).await?;
    for (id,) in ended {
        database.changes(Entity::Approval(ApprovalId::from(id.as_str()))).await?;
    }
    Ok(())
}

async fn write_state(database: &mut Transaction, id: &ApprovalId, to: ApprovalState) -> Result<(), Error> {
    database.changes(Entity::Approval(id.clone())).await?;
    let update = "UPDATE approvals SET state = $1 WHERE id = $2";
    database.execute(update, values![to.name(), id.as_str()]).await?;
    Ok(())
}

/// Clears what has expired, and the oldest of too many that are over.
async fn clear(database: &mut Transaction, requester: &str, now: i64) -> Result<(), Error> {
    // Those that are ahead of a calendar that was set back are as good as expired.
    let expired = "DELETE FROM approvals WHERE id IN (SELECT id FROM approvals WHERE expires_at <= $1 \
                   OR created_at > $2 ORDER BY expires_at LIMIT $3) RETURNING id";
    let ahead = now.saturating_add(CLOCK_STEP_MILLIS);
    let mut cleared: Vec<(String,)> = database.all(expired, values![now, ahead, CLEARED_AT_ONCE]).await?;
    let own_over = "DELETE FROM approvals WHERE id IN (SELECT id FROM approvals WHERE requester = $1 AND state <> $2 \
                    ORDER BY created_at DESC, id LIMIT $3 OFFSET $4) RETURNING id";
    let own = values![requester, ApprovalState::Waiting.name(), CLEARED_AT_ONCE, OVER_OF_ONE];
    cleared.extend::<Vec<(String,)>>(database.all(own_over, own).await?);
    let over = "DELETE FROM approvals WHERE id IN \
                (SELECT id FROM approvals WHERE state <> $1 ORDER BY created_at DESC, id LIMIT $2 OFFSET $3) RETURNING id";
    let over = database.all(over, values![ApprovalState::Waiting.name(), CLEARED_AT_ONCE, OVER]).await?;
    cleared.extend::<Vec<(String,)>>(over);
    for (id,) in cleared {
        database.removes(Entity::Approval(ApprovalId::from(id.as_str()))).await?;
    }
    Ok(())
}

/// What waits for this call.
async fn waiting(database: &mut Connection, request: &Request, now: i64) -> Result<Option<ApprovalId>, Error> {
    let same = "SELECT id FROM approvals WHERE requester = $1 AND operation = $2 AND resource = $3 \
                AND parameters = $4 AND state = $5 AND expires_at > $6 AND created_at <= $7";
    let Request { requester, operation, resource, parameters } = request;
    let (waits, ahead) = (ApprovalState::Waiting.name(), now.saturating_add(CLOCK_STEP_MILLIS));
    let of = values![requester.as_str(), operation, resource, &parameters[..], waits, now, ahead];
    let row: Option<(String,)> = database.optional(same, of).await?;
    Ok(row.map(|(id,)| ApprovalId::from(id.as_str())))
}

async fn insert(database: &mut Connection, id: &ApprovalId, new: &NewApproval, now: i64) -> Result<(), Error> {
    let sql = "INSERT INTO approvals (id, requester, operation, resource, parameters, description, created_at, \
               expires_at, needed, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let Request { requester, operation, resource, parameters } = &new.request;
    let row = values![
        id.as_str(),
        requester.as_str(),
        operation,
        resource,
        &parameters[..],
        &new.description,
        now,
        now.saturating_add(i64::try_from(new.life.as_millis()).unwrap_or(i64::MAX)),
        new.needed.get(),
        ApprovalState::Waiting.name(),
    ];
    database.execute(sql, row).await?;
    Ok(())
}
