//! The daemon's audit logs: the sealed key of the one that is written, and the newest head of it that was noted. No
//! catalogue shows them: who asks is the daemon at its start.

use bytes::Bytes;

use crate::change::Transaction;
use crate::engine::Connection;
use crate::engine::value::values;
use crate::{Error, Store};

/// An audit log.
#[derive(Clone, PartialEq, Eq)]
pub struct AuditLog {
    /// Which of the daemon's, from 1.
    pub number: u32,
    /// What it is called in its checkpoints.
    pub origin: String,
    /// The seed of its key, sealed for its origin; absent where another log came after it.
    pub sealed: Option<Bytes>,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// The newest head that was noted.
    pub head: Option<AuditHead>,
}

/// How many records a log had at a moment, and the root hash over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// How many records there were.
    pub size: u64,
    /// Of the tree over them.
    pub root: [u8; 32],
}

/// An audit log that is to be begun.
#[derive(Clone)]
pub struct NewAuditLog {
    /// What it is called.
    pub origin: String,
    /// The seed of its key, sealed.
    pub sealed: Bytes,
    /// The log before it, which is written no more; absent where there was none.
    pub after: Option<u32>,
}

impl Store {
    /// The log that is written, if one was begun.
    pub async fn audit_log(&self) -> Result<Option<AuditLog>, Error> {
        Ok(self.audit_logs().await?.pop())
    }

    /// All of them, the one that is written last.
    pub async fn audit_logs(&self) -> Result<Vec<AuditLog>, Error> {
        self.read(|database| Box::pin(all(database))).await
    }

    /// Begins one. The key of the one before it is forgotten, so that nobody signs in its name any more.
    pub async fn begin_audit_log(&self, new: NewAuditLog) -> Result<(), Error> {
        let now = self.inner.clock.unix_millis();
        self.change(move |database| {
            Box::pin(async move {
                let NewAuditLog { origin, sealed, after } = new;
                let last = all(database).await?.pop().map(|log| log.number);
                if last != after {
                    return Err(Error::Contradiction("another audit log was begun meanwhile".to_owned()));
                }
                database.execute("UPDATE audit_logs SET sealed = NULL", values![]).await?;
                let number = last.unwrap_or(0).saturating_add(1);
                let log = AuditLog { number, origin, sealed: Some(sealed), created_at: now, head: None };
                put(database, &log).await
            })
        })
        .await
    }

    /// Notes the newest head of the log that is written. One that is not newer changes nothing.
    pub async fn note_audit_head(&self, number: u32, head: AuditHead) -> Result<(), Error> {
        self.change(move |database| {
            Box::pin(async move {
                let size = i64::try_from(head.size).unwrap_or(i64::MAX);
                let note = "UPDATE audit_logs SET size = $1, root = $2 WHERE number = $3 AND size < $1";
                database.execute(note, values![size, &head.root, i64::from(number)]).await?;
                Ok(())
            })
        })
        .await
    }

    /// Replaces the sealed key by what `reseal` makes of it; how many there were. `reseal` is told the origin.
    pub async fn reseal_audit_key<F>(&self, reseal: F) -> Result<u64, Error>
    where
        F: Fn(&str, &[u8]) -> Result<Bytes, String> + Send + Sync + 'static,
    {
        self.change(move |database| {
            Box::pin(async move {
                let mut resealed = 0;
                for log in all(database).await? {
                    let Some(sealed) = &log.sealed else { continue };
                    let again = reseal(&log.origin, sealed)
                        .map_err(|why| Error::Contradiction(format!("the key of the audit log: {why}")))?;
                    let update = "UPDATE audit_logs SET sealed = $1 WHERE number = $2";
                    database.execute(update, values![&again[..], i64::from(log.number)]).await?;
                    resealed += 1;
                }
                Ok(resealed)
            })
        })
        .await
    }
}

type Row = (i64, String, Option<Vec<u8>>, i64, i64, Option<Vec<u8>>);

/// In their order.
pub(crate) async fn all(database: &mut Connection) -> Result<Vec<AuditLog>, Error> {
    let select = "SELECT number, origin, sealed, created_at, size, root FROM audit_logs ORDER BY number";
    let rows: Vec<Row> = database.all(select, values![]).await?;
    rows.into_iter().map(of_row).collect()
}

fn of_row((number, origin, sealed, created_at, size, root): Row) -> Result<AuditLog, Error> {
    let damaged = || Error::Contradiction(format!("the audit log {number} of the database is damaged"));
    let head = match root {
        None => None,
        Some(root) => {
            let root = root.try_into().map_err(|_| damaged())?;
            Some(AuditHead { size: u64::try_from(size).map_err(|_| damaged())?, root })
        }
    };
    let number = u32::try_from(number).map_err(|_| damaged())?;
    Ok(AuditLog { number, origin, sealed: sealed.map(Bytes::from), created_at, head })
}

async fn put(database: &mut Transaction, log: &AuditLog) -> Result<(), Error> {
    let AuditLog { number, origin, sealed, created_at, head } = log;
    let size = head.map_or(0, |head| i64::try_from(head.size).unwrap_or(i64::MAX));
    let root = head.as_ref().map(|head| &head.root);
    let insert =
        "INSERT INTO audit_logs (number, origin, sealed, created_at, size, root) VALUES ($1, $2, $3, $4, $5, $6)";
    let row = values![i64::from(*number), origin, sealed.as_ref(), *created_at, size, root];
    database.execute(insert, row).await?;
    Ok(())
}

/// Has these in the place of all that there are.
pub(crate) async fn replace(database: &mut Transaction, logs: &[AuditLog]) -> Result<(), Error> {
    database.execute("DELETE FROM audit_logs", values![]).await?;
    for log in logs {
        put(database, log).await?;
    }
    Ok(())
}

/// What is sealed is not shown.
impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, origin, sealed: _, created_at, head } = self;
        let mut shown = f.debug_struct("AuditLog");
        shown.field("number", number).field("origin", origin).field("created_at", created_at).field("head", head);
        shown.finish_non_exhaustive()
    }
}
