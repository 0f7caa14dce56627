//! The change log: what each revision has changed, written in the transaction that changes it.
//!
//! It is a ring of [`SLOTS`] rows in the database. Whoever keeps a catalogue knows to which [`Position`] it follows, and
//! asks for what came after; who has fallen behind further than the ring reaches back is told so and reads everything.
//! Entries say what has changed and not how: the rows themselves are read anew.

use super::Error;
use super::change::Transaction;
use super::engine::Connection;
use super::engine::value::values;
use super::load::{key_id, unreadable};
use model::id::{ApprovalId, GrantId, GroupName, KeyId, KeyStoreId, PolicyName, PrincipalId};

/// Rows of the ring, as the migration makes them. A key takes half a dozen until it is Enabled.
pub(super) const SLOTS: i64 = 1024;

/// Bytes of an id in the ring, for which the migrations have made room in every row: one that is no longer needs none on
/// a full disk.
pub(super) const ID_BYTES: usize = 128;

/// What the catalogue shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entity {
    /// A key, with its versions and their placements.
    Key(KeyId),
    /// A key store.
    KeyStore(KeyStoreId),
    /// The versions of this key, which may be gone itself, that no token must hold any more.
    Destroyed(KeyId),
    /// A principal, with its identities, access keys, tags, groups and attached policies.
    Principal(PrincipalId),
    /// A group, with its attached policies. Who is in it is the principals'.
    Group(GroupName),
    /// An identity policy. To whom it is attached is the holders'.
    Policy(PolicyName),
    /// A grant. One that goes with its key has no entry: the key's end is its own.
    Grant(GrantId),
    /// A request that others have to approve, with their votes.
    Approval(ApprovalId),
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) entity: Entity,
    /// It is not there any more.
    pub(super) gone: bool,
}

/// How far a catalogue follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The revision.
    pub(super) revision: u64,
    /// The end of the log at that revision.
    pub(super) end: i64,
}

impl Entity {
    fn name(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::KeyStore(_) => "key store",
            Self::Destroyed(_) => "destroyed",
            Self::Principal(_) => "principal",
            Self::Group(_) => "group",
            Self::Policy(_) => "policy",
            Self::Grant(_) => "grant",
            Self::Approval(_) => "approval",
        }
    }

    fn id(&self) -> String {
        match self {
            Self::Key(id) | Self::Destroyed(id) => id.to_string(),
            Self::KeyStore(id) => id.as_str().to_owned(),
            Self::Principal(id) => id.as_str().to_owned(),
            Self::Group(name) => name.as_str().to_owned(),
            Self::Policy(name) => name.as_str().to_owned(),
            Self::Grant(id) => id.as_str().to_owned(),
            Self::Approval(id) => id.as_str().to_owned(),
        }
    }

    /// Whether it has a part in who may do what. A key's policy is the key's own, and an approval is asked for when it is
    /// used.
    pub(super) fn is_access(&self) -> bool {
        matches!(self, Self::Principal(_) | Self::Group(_) | Self::Policy(_) | Self::Grant(_))
    }

    fn from_row(name: &str, id: &str) -> Result<Self, Error> {
        match name {
            "key" => Ok(Self::Key(key_id(id)?)),
            "key store" => Ok(Self::KeyStore(KeyStoreId::from(id))),
            "destroyed" => Ok(Self::Destroyed(key_id(id)?)),
            "principal" => Ok(Self::Principal(PrincipalId::from(id))),
            "group" => Ok(Self::Group(GroupName::from(id))),
            "policy" => Ok(Self::Policy(PolicyName::from(id))),
            "grant" => Ok(Self::Grant(GrantId::from(id))),
            "approval" => Ok(Self::Approval(ApprovalId::from(id))),
            other => Err(unreadable("entity", other)),
        }
    }
}

/// Where the database is.
pub(super) async fn position(database: &mut Connection) -> Result<Position, Error> {
    let (value, end): (i64, i64) = database.one("SELECT value, log_end FROM revision WHERE id = 1", values![]).await?;
    let revision = u64::try_from(value).map_err(|_| unreadable("revision", &value.to_string()))?;
    Ok(Position { revision, end })
}

/// Writes what a transaction has changed, from the end of the log on.
pub(super) async fn write(database: &mut Connection, revision: i64, end: i64, changes: &[Change]) -> Result<(), Error> {
    let next = end.saturating_add(i64::try_from(changes.len()).unwrap_or(i64::MAX));
    // More than the ring holds would write over itself: then it says nothing, which whoever follows notices.
    let kept = if next - end > SLOTS { &[] } else { changes };
    for (position, change) in (end..).zip(kept) {
        let Change { entity, gone } = change;
        database
            .execute(
                "UPDATE changes SET position = $1, revision = $2, entity = $3, id = $4, gone = $5 WHERE slot = $6",
                values![position, revision, entity.name(), entity.id(), *gone, position % SLOTS],
            )
            .await?;
    }
    database.execute("UPDATE revision SET log_end = $1 WHERE id = 1", values![next]).await?;
    Ok(())
}

/// Goes on at a revision that no entry leads to: whoever follows reads everything.
pub(super) async fn break_off(transaction: &mut Transaction, revision: i64) -> Result<(), Error> {
    let moved = "UPDATE revision SET value = $1, log_end = log_end + $2 WHERE id = 1";
    transaction.execute(moved, values![revision, SLOTS + 1]).await?;
    Ok(())
}

/// What has changed from one position to another one; `None` where the log does not lead from the one to the other.
pub(super) async fn between(
    database: &mut Connection,
    from: Position,
    to: Position,
) -> Result<Option<Vec<Change>>, Error> {
    let count = to.end - from.end;
    if !(1..=SLOTS).contains(&count) {
        return Ok(None);
    }
    // The ring may go on at its beginning.
    let first = from.end % SLOTS;
    let rows: Vec<(i64, i64, String, String, bool)> = database
        .all(
            "SELECT position, revision, entity, id, gone FROM changes \
             WHERE (slot >= $1 AND slot < $2) OR slot < $3 ORDER BY position",
            values![first, first + count, first + count - SLOTS],
        )
        .await?;
    let mut changes = Vec::with_capacity(rows.len());
    let (mut end, mut revision) = (from.end, i64::try_from(from.revision).unwrap_or(i64::MAX));
    for (position, of, entity, id, gone) in rows {
        let same = of == revision && !changes.is_empty();
        if position != end || !(same || of == revision + 1) {
            return Ok(None);
        }
        (end, revision) = (end + 1, of);
        // Those of before there was access have blanks behind them.
        changes.push(Change { entity: Entity::from_row(&entity, id.trim_end_matches(' '))?, gone });
    }
    let leads = end == to.end && u64::try_from(revision).is_ok_and(|revision| revision == to.revision);
    Ok(leads.then_some(changes))
}
