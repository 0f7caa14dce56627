//! Changes of grants. A key may have very many: none of them costs more because of the others.

use std::collections::BTreeMap;

use super::checks::{has_room, principal_is_there, too_many};
use super::{Grant, Granted, NewGrant};
use crate::engine::Connection;
use crate::engine::value::values;
use crate::keys::in_state;
use crate::log::{Entity, SLOTS};
use crate::reserve::Purpose;
use crate::{AccessError, AccessQuota, Admits, Error, Store};
use model::id::{GrantId, KeyId};
use model::limits;

/// Grants that go in one step with a key that is deleted: half of what the change log holds.
const AT_ONCE: i64 = SLOTS / 2;

impl Store {
    /// Makes a grant. Where it has a name and the key has one of this name and these parameters, it is that one; one of
    /// this name and other parameters is another grant, as in AWS.
    pub async fn create_grant(&self, new: NewGrant, admits: Admits) -> Result<Granted, Error> {
        let now = self.inner.clock.unix_millis();
        self.change(move |database| {
            Box::pin(async move {
                in_state(database, new.key, admits.states).await?;
                if !new.name.is_empty()
                    && let Some(id) = made_before(database, &new).await?
                {
                    return Ok(Granted::Existing(id));
                }
                let parties = [Some(&new.grantee), new.retiring.as_ref()].into_iter().flatten();
                for named in parties.filter(|party| party.account().is_none()) {
                    principal_is_there(database, named).await?;
                }
                of_grantee_has_room(database, &new).await?;
                let most = i64::try_from(admits.most).unwrap_or(i64::MAX);
                let counted = "UPDATE keys SET grant_count = grant_count + 1 WHERE id = $1 AND grant_count < $2";
                if database.execute(counted, values![new.key, most]).await? == 0 {
                    return Err(too_many(AccessQuota::Grants, &format!("key {}", new.key), admits.most));
                }
                let id = GrantId::random();
                database.changes(Entity::Grant(id.clone())).await?;
                insert(database, &id, &new, now).await?;
                Ok(Granted::New(id))
            })
        })
        .await
    }

    /// Takes a grant away, because it was revoked or because it was retired: [`AccessError::NoGrant`] where the key has
    /// none of this id. In whatever state the key is; also on a full disk.
    pub async fn remove_grant(&self, key: KeyId, id: &GrantId) -> Result<(), Error> {
        let id = id.clone();
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let id = id.clone();
            Box::pin(async move {
                database.removes(Entity::Grant(id.clone())).await?;
                match delete(database, key, &id).await? {
                    true => Ok(()),
                    false => Err(AccessError::NoGrant(key, id).into()),
                }
            })
        })
        .await
    }

    /// Takes grants away of a key whose material was given up until few are left, in steps: all at once would keep other
    /// changes waiting, and would need more room than the reserve has.
    pub(crate) async fn thin_out_grants(&self, key: KeyId) -> Result<(), Error> {
        let few = usize::try_from(AT_ONCE).unwrap_or(0);
        while self.catalogue().grant_count_of(key) > few {
            let removed = self.change_from_reserve(Purpose::Restricting, move |database| {
                Box::pin(async move {
                    let some = "SELECT grants.id FROM grants JOIN keys ON keys.id = grants.key_id \
                                WHERE grants.key_id = $1 AND keys.material_destroyed = 1 LIMIT $2";
                    let some: Vec<(String,)> = database.all(some, values![key, AT_ONCE]).await?;
                    for (id,) in &some {
                        let id = GrantId::from(id.as_str());
                        database.removes(Entity::Grant(id.clone())).await?;
                        delete(database, key, &id).await?;
                    }
                    Ok(some.len())
                })
            });
            if removed.await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// Takes a grant of a key away; whether there was one.
pub(crate) async fn delete(database: &mut Connection, key: KeyId, id: &GrantId) -> Result<bool, Error> {
    let done = database.execute("DELETE FROM grants WHERE id = $1 AND key_id = $2", values![id.as_str(), key]).await?;
    if done == 0 {
        return Ok(false);
    }
    database.execute("UPDATE keys SET grant_count = grant_count - 1 WHERE id = $1", values![key]).await?;
    Ok(true)
}

async fn made_before(database: &mut Connection, new: &NewGrant) -> Result<Option<GrantId>, Error> {
    let same = "SELECT id FROM grants WHERE key_id = $1 AND name = $2 AND parameters = $3";
    let row: Option<(String,)> = database.optional(same, values![new.key, &new.name, &new.parameters[..]]).await?;
    Ok(row.map(|(id,)| GrantId::from(id.as_str())))
}

/// Whether the grantee may have one more grant of the key. Whoever may make grants must not make the grantee's decisions
/// cost without end.
async fn of_grantee_has_room(database: &mut Connection, new: &NewGrant) -> Result<(), Error> {
    let count = "SELECT COUNT(*) FROM grants WHERE key_id = $1 AND grantee = $2";
    let (of, count) = (format!("key {}", new.key), (count, values![new.key, new.grantee.as_str()]));
    has_room(database, AccessQuota::GrantsOfGrantee, &of, limits::GRANTS_PER_GRANTEE, count).await
}

async fn insert(database: &mut Connection, id: &GrantId, new: &NewGrant, now: i64) -> Result<(), Error> {
    if new.operations.iter().any(|operation| operation.is_empty() || operation.contains(' ')) {
        return Err(Error::Contradiction(format!(
            "operations of a grant have names without blanks: {:?}",
            new.operations
        )));
    }
    let sql = "INSERT INTO grants (id, key_id, name, grantee, retiring, issuing_account, issuer, operations, \
               constraint_kind, parameters, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let row = values![
        id.as_str(),
        new.key,
        &new.name,
        new.grantee.as_str(),
        new.retiring.as_ref().map(|retiring| retiring.as_str()),
        &new.issuing_account,
        new.issuer.as_str(),
        new.operations.join(" "),
        new.constraint.as_ref().map(|constraint| constraint.kind.name()),
        &new.parameters[..],
        now,
    ];
    database.execute(sql, row).await?;
    let none = BTreeMap::new();
    for (name, value) in new.constraint.as_ref().map_or(&none, |constraint| &constraint.pairs) {
        let sql = "INSERT INTO grant_constraints (grant_id, name, value) VALUES ($1, $2, $3)";
        database.execute(sql, values![id.as_str(), name, value]).await?;
    }
    Ok(())
}

impl Grant {
    /// Whether it allows an operation, by its name.
    #[must_use]
    pub fn allows(&self, operation: &str) -> bool {
        self.operations.iter().any(|allowed| allowed == operation)
    }
}
