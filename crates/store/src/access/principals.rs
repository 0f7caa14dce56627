//! Changes of principals: who is there, by which names they are known, their tags.

use std::collections::{BTreeMap, BTreeSet};

use super::NewPrincipal;
use super::approvals::end_requests;
use super::checks::{INSTALLATION, finds, has_room, principal_is_there, too_many};
use crate::change::Transaction;
use crate::engine::value::values;
use crate::log::Entity;
use crate::reserve::Purpose;
use crate::{AccessError, AccessQuota, Error, Store};
use model::id::{ApprovalId, PrincipalId};

impl Store {
    /// Makes a principal. Its id is a new one, also where there was one of this ARN before: nothing that was that one's is
    /// its own. [`AccessError::ArnInUse`] and [`AccessError::IdentityInUse`] where another one has what it is to have.
    pub async fn create_principal(&self, new: NewPrincipal) -> Result<PrincipalId, Error> {
        let now = self.inner.clock.unix_millis();
        self.change(move |database| {
            Box::pin(async move {
                let count = ("SELECT COUNT(*) FROM principals", values![]);
                has_room(database, AccessQuota::Principals, INSTALLATION, new.most, count).await?;
                if finds(database, ("SELECT id FROM principals WHERE arn = $1", values![&new.arn])).await? {
                    return Err(AccessError::ArnInUse(new.arn).into());
                }
                let id = PrincipalId::random();
                database.changes(Entity::Principal(id.clone())).await?;
                let insert = "INSERT INTO principals (id, arn, description, created_at) VALUES ($1, $2, $3, $4)";
                database.execute(insert, values![id.as_str(), &new.arn, &new.description, now]).await?;
                for identity in &new.identities {
                    insert_identity(database, &id, identity, now).await?;
                }
                insert_tags(database, &id, &new.tags).await?;
                Ok(id)
            })
        })
        .await
    }

    /// Takes a principal away, with its identities, access keys, tags, memberships, attachments and votes, and ends what
    /// waits for its calls. Grants in which it is named, and policies that name it, keep its id, which nobody else will
    /// have. Also on a full disk.
    pub async fn delete_principal(&self, id: &PrincipalId) -> Result<(), Error> {
        let id = id.clone();
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let id = id.clone();
            Box::pin(async move {
                principal_is_there(database, &id).await?;
                let voted = "SELECT approval_id FROM approval_votes WHERE voter = $1";
                let voted: Vec<(String,)> = database.all(voted, values![id.as_str()]).await?;
                for (approval,) in voted {
                    database.changes(Entity::Approval(ApprovalId::from(approval.as_str()))).await?;
                }
                end_requests(database, &id).await?;
                database.removes(Entity::Principal(id.clone())).await?;
                database.execute("DELETE FROM approval_votes WHERE voter = $1", values![id.as_str()]).await?;
                // What else belongs to it goes with it by its foreign keys.
                database.execute("DELETE FROM principals WHERE id = $1", values![id.as_str()]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Has a principal be known by a further name, of which it may have so many.
    pub async fn add_identity(&self, id: &PrincipalId, identity: &str, most: usize) -> Result<(), Error> {
        let (id, identity, now) = (id.clone(), identity.to_owned(), self.inner.clock.unix_millis());
        self.change(move |database| {
            Box::pin(async move {
                principal_is_there(database, &id).await?;
                let count = ("SELECT COUNT(*) FROM identities WHERE principal_id = $1", values![id.as_str()]);
                has_room(database, AccessQuota::Identities, id.as_str(), most, count).await?;
                database.changes(Entity::Principal(id.clone())).await?;
                insert_identity(database, &id, &identity, now).await
            })
        })
        .await
    }

    /// Has a principal be known by a name no more, be it the last one. Also on a full disk.
    pub async fn remove_identity(&self, id: &PrincipalId, identity: &str) -> Result<(), Error> {
        let (id, identity) = (id.clone(), identity.to_owned());
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let (id, identity) = (id.clone(), identity.clone());
            Box::pin(async move {
                principal_is_there(database, &id).await?;
                database.changes(Entity::Principal(id.clone())).await?;
                let delete = "DELETE FROM identities WHERE identity = $1 AND principal_id = $2";
                match database.execute(delete, values![&identity, id.as_str()]).await? {
                    0 => Err(AccessError::NoIdentity(id, identity).into()),
                    _ => Ok(()),
                }
            })
        })
        .await
    }

    /// Gives a principal tags; one of a name that it has already takes the other one's place.
    pub async fn tag_principal(
        &self,
        id: &PrincipalId,
        tags: &BTreeMap<String, String>,
        most: usize,
    ) -> Result<(), Error> {
        let (id, tags) = (id.clone(), tags.clone());
        self.change(move |database| {
            Box::pin(async move {
                principal_is_there(database, &id).await?;
                let had = "SELECT name FROM principal_tags WHERE principal_id = $1";
                let had: Vec<(String,)> = database.all(had, values![id.as_str()]).await?;
                let had: BTreeSet<String> = had.into_iter().map(|(name,)| name).collect();
                let further = tags.keys().filter(|name| !had.contains(*name)).count();
                // One that has more, because the quota was lowered, may change what it has.
                if further > 0 && had.len() + further > most {
                    return Err(too_many(AccessQuota::Tags, id.as_str(), most));
                }
                database.changes(Entity::Principal(id.clone())).await?;
                insert_tags(database, &id, &tags).await
            })
        })
        .await
    }

    /// Takes tags away from a principal. Those that it does not have are none.
    pub async fn untag_principal(&self, id: &PrincipalId, names: &BTreeSet<String>) -> Result<(), Error> {
        let (id, names) = (id.clone(), names.clone());
        self.change(move |database| {
            Box::pin(async move {
                principal_is_there(database, &id).await?;
                database.changes(Entity::Principal(id.clone())).await?;
                for name in &names {
                    let delete = "DELETE FROM principal_tags WHERE principal_id = $1 AND name = $2";
                    database.execute(delete, values![id.as_str(), name]).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

async fn insert_identity(database: &mut Transaction, id: &PrincipalId, identity: &str, now: i64) -> Result<(), Error> {
    let owner = "SELECT principal_id FROM identities WHERE identity = $1";
    if let Some((owner,)) = database.optional::<(String,)>(owner, values![identity]).await? {
        return Err(AccessError::IdentityInUse(identity.to_owned(), owner.as_str().into()).into());
    }
    let insert = "INSERT INTO identities (identity, principal_id, created_at) VALUES ($1, $2, $3)";
    database.execute(insert, values![identity, id.as_str(), now]).await?;
    Ok(())
}

async fn insert_tags(
    database: &mut Transaction,
    id: &PrincipalId,
    tags: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let upsert = "INSERT INTO principal_tags (principal_id, name, value) VALUES ($1, $2, $3) \
                  ON CONFLICT (principal_id, name) DO UPDATE SET value = excluded.value";
    for (name, value) in tags {
        database.execute(upsert, values![id.as_str(), name, value]).await?;
    }
    Ok(())
}
