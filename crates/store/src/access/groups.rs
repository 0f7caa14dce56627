//! Changes of groups and of who is in them. A membership is the principal's: a change of one costs nothing for the others
//! of the group.

use super::checks::{INSTALLATION, finds, fits, group_is_there, has_group, has_room, principal_is_there};
use crate::engine::value::values;
use crate::log::Entity;
use crate::reserve::Purpose;
use crate::{AccessError, AccessQuota, Error, Store};
use model::id::{GroupName, PrincipalId};

impl Store {
    /// Makes a group without members, of which there may be so many: [`AccessError::GroupInUse`] where there is one of
    /// this name.
    pub async fn create_group(&self, name: &GroupName, most: usize) -> Result<(), Error> {
        let (name, now) = (name.clone(), self.inner.clock.unix_millis());
        self.change(move |database| {
            Box::pin(async move {
                fits(name.as_str())?;
                let count = ("SELECT COUNT(*) FROM groups", values![]);
                has_room(database, AccessQuota::Groups, INSTALLATION, most, count).await?;
                if has_group(database, &name).await? {
                    return Err(AccessError::GroupInUse(name).into());
                }
                database.changes(Entity::Group(name.clone())).await?;
                let insert = "INSERT INTO groups (name, created_at) VALUES ($1, $2)";
                database.execute(insert, values![name.as_str(), now]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Takes a group away, with its memberships and attachments: unlike AWS it needs not be empty. Also on a full disk.
    pub async fn delete_group(&self, name: &GroupName) -> Result<(), Error> {
        let name = name.clone();
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let name = name.clone();
            Box::pin(async move {
                group_is_there(database, &name).await?;
                let members = "SELECT principal_id FROM group_members WHERE group_name = $1";
                let members: Vec<(String,)> = database.all(members, values![name.as_str()]).await?;
                for (member,) in members {
                    database.changes(Entity::Principal(PrincipalId::from(member.as_str()))).await?;
                }
                database.removes(Entity::Group(name.clone())).await?;
                // What belongs to it goes with it by its foreign keys.
                database.execute("DELETE FROM groups WHERE name = $1", values![name.as_str()]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Takes a principal into a group; it may be in so many. A success without a change where it is in it.
    pub async fn add_member(&self, group: &GroupName, principal: &PrincipalId, most: usize) -> Result<(), Error> {
        let (group, principal) = (group.clone(), principal.clone());
        self.change(move |database| {
            Box::pin(async move {
                group_is_there(database, &group).await?;
                principal_is_there(database, &principal).await?;
                let is_in = "SELECT group_name FROM group_members WHERE principal_id = $1 AND group_name = $2";
                let both = values![principal.as_str(), group.as_str()];
                if finds(database, (is_in, both.clone())).await? {
                    return Ok(());
                }
                let of = principal.as_str();
                let count = ("SELECT COUNT(*) FROM group_members WHERE principal_id = $1", values![of]);
                has_room(database, AccessQuota::Memberships, of, most, count).await?;
                database.changes(Entity::Principal(principal.clone())).await?;
                let insert = "INSERT INTO group_members (principal_id, group_name) VALUES ($1, $2)";
                database.execute(insert, both).await?;
                Ok(())
            })
        })
        .await
    }

    /// Takes a principal out of a group: [`AccessError::NoMember`] where it is not in it. Also on a full disk.
    pub async fn remove_member(&self, group: &GroupName, principal: &PrincipalId) -> Result<(), Error> {
        let (group, principal) = (group.clone(), principal.clone());
        self.change_from_reserve(Purpose::Restricting, move |database| {
            let (group, principal) = (group.clone(), principal.clone());
            Box::pin(async move {
                database.changes(Entity::Principal(principal.clone())).await?;
                let delete = "DELETE FROM group_members WHERE principal_id = $1 AND group_name = $2";
                match database.execute(delete, values![principal.as_str(), group.as_str()]).await? {
                    0 => Err(AccessError::NoMember(group, principal).into()),
                    _ => Ok(()),
                }
            })
        })
        .await
    }
}
