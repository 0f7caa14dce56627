//! What has to hold for a change, looked at in its transaction.

use super::Names;
use crate::engine::Connection;
use crate::engine::value::{Value, values};
use crate::log::ID_BYTES;
use crate::{AccessError, AccessQuota, Error};
use model::id::{GroupName, PolicyName, PrincipalId};

/// Whose something is that there may be so many of in all.
pub(super) const INSTALLATION: &str = "the installation";

/// A statement with its parameters.
pub(super) type Asked = (&'static str, Vec<Value>);

/// Whether a name fits into the change log.
pub(super) fn fits(name: &str) -> Result<(), AccessError> {
    if name.len() <= ID_BYTES { Ok(()) } else { Err(AccessError::NameTooLong(name.chars().take(ID_BYTES).collect())) }
}

/// Whether there may be one more of something, of which a statement tells how many there are.
pub(super) async fn has_room(
    database: &mut Connection,
    quota: AccessQuota,
    of: &str,
    most: usize,
    (count, values): Asked,
) -> Result<(), Error> {
    let (count,): (i64,) = database.one(count, values).await?;
    if usize::try_from(count).unwrap_or(usize::MAX) < most { Ok(()) } else { Err(too_many(quota, of, most)) }
}

pub(super) fn too_many(quota: AccessQuota, of: &str, most: usize) -> Error {
    AccessError::TooMany { quota, of: of.to_owned(), most }.into()
}

/// Whether a statement, whose first column is text, finds something.
pub(super) async fn finds(database: &mut Connection, (sql, values): Asked) -> Result<bool, Error> {
    Ok(database.optional::<(String,)>(sql, values).await?.is_some())
}

pub(super) async fn principal_is_there(database: &mut Connection, id: &PrincipalId) -> Result<(), Error> {
    let asked = ("SELECT id FROM principals WHERE id = $1", values![id.as_str()]);
    if finds(database, asked).await? { Ok(()) } else { Err(AccessError::NoPrincipal(id.clone()).into()) }
}

pub(super) async fn has_group(database: &mut Connection, name: &GroupName) -> Result<bool, Error> {
    finds(database, ("SELECT name FROM groups WHERE name = $1", values![name.as_str()])).await
}

pub(super) async fn group_is_there(database: &mut Connection, name: &GroupName) -> Result<(), Error> {
    if has_group(database, name).await? { Ok(()) } else { Err(AccessError::NoGroup(name.clone()).into()) }
}

pub(super) async fn has_policy(database: &mut Connection, name: &PolicyName) -> Result<bool, Error> {
    finds(database, ("SELECT name FROM identity_policies WHERE name = $1", values![name.as_str()])).await
}

pub(super) async fn policy_is_there(database: &mut Connection, name: &PolicyName) -> Result<(), Error> {
    if has_policy(database, name).await? { Ok(()) } else { Err(AccessError::NoPolicy(name.clone()).into()) }
}

/// Whether those whom a policy names are still who they were when their ids were looked up.
pub(super) async fn names_hold(database: &mut Connection, names: &Names) -> Result<(), Error> {
    for (arn, id) in names {
        let asked = ("SELECT id FROM principals WHERE arn = $1 AND id = $2", values![arn, id.as_str()]);
        if !finds(database, asked).await? {
            return Err(AccessError::PrincipalChanged(arn.clone()).into());
        }
    }
    Ok(())
}
