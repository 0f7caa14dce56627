//! Changes of identity policies and of the policies of keys, and of what is attached to whom.

use super::checks::{
    INSTALLATION, finds, fits, group_is_there, has_policy, has_room, names_hold, policy_is_there, principal_is_there,
};
use super::{Holder, NewAttachment, NewKeyPolicy, NewPolicy};
use crate::change::{Transaction, touch_key};
use crate::engine::value::values;
use crate::keys::in_state;
use crate::log::Entity;
use crate::reserve::Purpose;
use crate::{AccessError, AccessQuota, Error, Store};
use model::id::{GroupName, KeyId, PolicyName, PrincipalId};
use model::key::KeyState;

impl Store {
    /// Makes an identity policy, or puts it in the place of the one of its name, to whomever that is attached. In the
    /// place of another one also on a full disk, since it may take access away.
    pub async fn put_policy(&self, new: NewPolicy) -> Result<(), Error> {
        let now = self.inner.clock.unix_millis();
        let purpose = match self.catalogue().policy(&new.name) {
            Some(_) => Purpose::Restricting,
            None => Purpose::Ordinary,
        };
        self.change_from_reserve(purpose, move |database| {
            let new = new.clone();
            Box::pin(async move {
                fits(new.name.as_str())?;
                names_hold(database, &new.names).await?;
                if !has_policy(database, &new.name).await? {
                    let count = ("SELECT COUNT(*) FROM identity_policies", values![]);
                    has_room(database, AccessQuota::Policies, INSTALLATION, new.most, count).await?;
                }
                database.changes(Entity::Policy(new.name.clone())).await?;
                let name = new.name.as_str();
                let upsert = "INSERT INTO identity_policies (name, description, document, created_at, updated_at) \
                              VALUES ($1, $2, $3, $4, $4) ON CONFLICT (name) DO UPDATE SET \
                              description = excluded.description, document = excluded.document, \
                              updated_at = excluded.updated_at";
                database.execute(upsert, values![name, &new.description, &new.document, now]).await?;
                database.execute("DELETE FROM policy_names WHERE policy = $1", values![name]).await?;
                for (arn, id) in &new.names {
                    let insert = "INSERT INTO policy_names (policy, arn, principal_id) VALUES ($1, $2, $3)";
                    database.execute(insert, values![name, arn, id.as_str()]).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Takes an identity policy away: [`AccessError::PolicyAttached`] while it is attached to somebody. Also on a full
    /// disk.
    pub async fn delete_policy(&self, name: &PolicyName) -> Result<(), Error> {
        let name = name.clone();
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let name = name.clone();
            Box::pin(async move {
                policy_is_there(database, &name).await?;
                let attached = "SELECT principal_id, group_name FROM attachments WHERE policy = $1 LIMIT 1";
                let holder: Option<(Option<String>, Option<String>)> =
                    database.optional(attached, values![name.as_str()]).await?;
                if let Some((principal, group)) = holder {
                    let group = || Holder::Group(GroupName::from(group.as_deref().unwrap_or_default()));
                    let holder = principal.map(|id| Holder::Principal(PrincipalId::from(id.as_str())));
                    return Err(AccessError::PolicyAttached(name, holder.unwrap_or_else(group)).into());
                }
                database.removes(Entity::Policy(name.clone())).await?;
                database.execute("DELETE FROM identity_policies WHERE name = $1", values![name.as_str()]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Attaches a policy to a principal or to a group. A success without a change where it is.
    pub async fn attach_policy(&self, new: NewAttachment) -> Result<(), Error> {
        self.change(move |database| {
            Box::pin(async move {
                let NewAttachment { policy, built_in, holder, most } = new;
                fits(policy.as_str())?;
                let (is_attached, count, insert, of) = match &holder {
                    Holder::Principal(id) => {
                        principal_is_there(database, id).await?;
                        (
                            "SELECT policy FROM attachments WHERE policy = $1 AND principal_id = $2",
                            "SELECT COUNT(*) FROM attachments WHERE principal_id = $1",
                            "INSERT INTO attachments (policy, principal_id) VALUES ($1, $2)",
                            id.as_str(),
                        )
                    }
                    Holder::Group(name) => {
                        group_is_there(database, name).await?;
                        (
                            "SELECT policy FROM attachments WHERE policy = $1 AND group_name = $2",
                            "SELECT COUNT(*) FROM attachments WHERE group_name = $1",
                            "INSERT INTO attachments (policy, group_name) VALUES ($1, $2)",
                            name.as_str(),
                        )
                    }
                };
                let both = values![policy.as_str(), of];
                if finds(database, (is_attached, both.clone())).await? {
                    return Ok(());
                }
                if !built_in {
                    policy_is_there(database, &policy).await?;
                }
                has_room(database, AccessQuota::Attachments, of, most, (count, values![of])).await?;
                database.changes(entity(&holder)).await?;
                database.execute(insert, both).await?;
                Ok(())
            })
        })
        .await
    }

    /// Detaches a policy: [`AccessError::NotAttached`] where it is not attached to this holder. Also on a full disk.
    pub async fn detach_policy(&self, policy: &PolicyName, holder: &Holder) -> Result<(), Error> {
        let (policy, holder) = (policy.clone(), holder.clone());
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let (policy, holder) = (policy.clone(), holder.clone());
            Box::pin(async move {
                let (delete, of) = match &holder {
                    Holder::Principal(id) => {
                        ("DELETE FROM attachments WHERE policy = $1 AND principal_id = $2", id.as_str())
                    }
                    Holder::Group(name) => {
                        ("DELETE FROM attachments WHERE policy = $1 AND group_name = $2", name.as_str())
                    }
                };
                database.changes(entity(&holder)).await?;
                match database.execute(delete, values![policy.as_str(), of]).await? {
                    0 => Err(AccessError::NotAttached(policy, holder).into()),
                    _ => Ok(()),
                }
            })
        })
        .await
    }

    /// Puts a policy in the place of the one that a key has, where the key is in one of these states. Also on a full
    /// disk, since it may take access away.
    pub async fn put_key_policy(
        &self,
        key: KeyId,
        new: NewKeyPolicy,
        states: &'static [KeyState],
    ) -> Result<(), Error> {
        let now = self.inner.clock.unix_millis();
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let new = new.clone();
            Box::pin(async move {
                in_state(database, key, states).await?;
                touch_key(database, key).await?;
                write_key_policy(database, key, &new, now).await
            })
        })
        .await
    }
}

/// Writes the policy of a key whose change is recorded.
pub(crate) async fn write_key_policy(
    database: &mut Transaction,
    key: KeyId,
    new: &NewKeyPolicy,
    now: i64,
) -> Result<(), Error> {
    names_hold(database, &new.names).await?;
    let upsert = "INSERT INTO key_policies (key_id, document, updated_at) VALUES ($1, $2, $3) \
                  ON CONFLICT (key_id) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at";
    database.execute(upsert, values![key, &new.document, now]).await?;
    database.execute("DELETE FROM key_policy_names WHERE key_id = $1", values![key]).await?;
    for (arn, id) in &new.names {
        let insert = "INSERT INTO key_policy_names (key_id, arn, principal_id) VALUES ($1, $2, $3)";
        database.execute(insert, values![key, arn, id.as_str()]).await?;
    }
    Ok(())
}

/// What is attached is the holder's.
fn entity(holder: &Holder) -> Entity {
    match holder {
        Holder::Principal(id) => Entity::Principal(id.clone()),
        Holder::Group(name) => Entity::Group(name.clone()),
    }
}
