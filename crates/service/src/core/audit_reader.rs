//! The audit log as it is read: what has it is given to the service, and reading it is bounded.
//!
//! Reading waits for the disk and decompresses, so it is done on threads for that, few at a time. Each caller has one turn at a
//! time, and turns are taken in the order in which they were asked for: who asks for much waits for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Core;
use crate::{Error, RequestContext};
use audit::look::{Bounds, Filter, Found, Way};
use model::exception::Exception;
use model::lock::MutexExt as _;

/// So many looks at once. Each holds a bundle of records, 16 MiB at most and most often some hundred KiB.
const AT_ONCE: usize = 2;
/// Callers whose turn is kept although they want nothing.
const IDLE: usize = 1_024;
/// The log's name where there is none.
const NO_LOG: &str = "none";

/// Why something of the log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// It is not there, or not yet.
    #[error("{0}")]
    None(String),
    /// The log's files cannot be read now.
    #[error("{0}")]
    Trouble(String),
}

/// Reads an audit log. What it gives is under a signed head: it keeps its number whatever happens, and can be proven. Its
/// methods may wait for the disk.
pub trait AuditReader: Send + Sync + 'static {
    /// Its name in ARNs.
    fn name(&self) -> &str;

    /// How many records the newest signed head is of; changes as heads are signed, a moment after that.
    fn signed(&self) -> watch::Receiver<u64>;

    /// How many it is of now; none where there is none.
    fn size(&self) -> Result<u64, NotRead>;

    /// The file of public keys.
    fn keys(&self) -> Result<String, NotRead>;

    /// The newest signed head, as it was signed.
    fn head(&self) -> Result<String, NotRead>;

    /// Looks for records below `end`.
    fn look(&self, filter: &Filter, way: Way, end: u64, bounds: Bounds) -> Result<Found, NotRead>;

    /// A proof that this record is in the log.
    fn proof(&self, number: u64) -> Result<String, NotRead>;

    /// A proof that the log has only grown since its head of so many records.
    fn growth(&self, since: u64) -> Result<String, NotRead>;
}

/// The log, and whose turn it is to read it.
pub(crate) struct AuditLog {
    reader: OnceLock<Arc<dyn AuditReader>>,
    at_once: Arc<Semaphore>,
    each: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
}

impl Default for AuditLog {
    fn default() -> Self {
        Self { reader: OnceLock::new(), at_once: Arc::new(Semaphore::new(AT_ONCE)), each: Mutex::default() }
    }
}

/// A caller's turn, until it is dropped.
struct Turn(#[allow(dead_code, reason = "held")] [OwnedSemaphorePermit; 2]);

impl AuditLog {
    /// Waits for a caller's turn. Absent where that cannot come any more, which does not happen: nothing is closed.
    async fn turn(&self, of: &str) -> Option<Turn> {
        let own = Arc::clone(&self.own(of)).acquire_owned().await.ok()?;
        // Everybody waits here once at most, in the order in which they came.
        let one = Arc::clone(&self.at_once).acquire_owned().await.ok()?;
        Some(Turn([one, own]))
    }

    fn own(&self, of: &str) -> Arc<Semaphore> {
        let mut each = self.each.lock_anyway();
        if let Some(own) = each.get(of) {
            return Arc::clone(own);
        }
        if each.len() >= IDLE {
            // Nobody can take one up while the map is locked, so one that only the map holds is at rest.
            each.retain(|_, own| Arc::strong_count(own) > 1);
        }
        Arc::clone(each.entry(of.into()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }
}

impl Core {
    /// From now on this is the audit log that callers read. Given once.
    pub(crate) fn set_audit_reader(&self, reader: Arc<dyn AuditReader>) {
        let _ = self.inner.audit_log.reader.set(reader);
    }

    /// The ARN of the audit log.
    pub(crate) fn audit_log_arn(&self) -> String {
        self.scope().audit_log_arn(self.inner.audit_log.reader.get().map_or(NO_LOG, |reader| reader.name()))
    }

    /// The audit log.
    pub(crate) fn audit_reader(&self) -> Result<Arc<dyn AuditReader>, Error> {
        let reader = self.inner.audit_log.reader.get().cloned();
        reader
            .ok_or_else(|| Error::permanent(Exception::UnsupportedOperation, "there is no audit log that can be read"))
    }

    /// Reads something of the audit log, when it is the caller's turn and before its deadline.
    pub(crate) async fn read_audit_log<T: Send + 'static>(
        &self,
        call: &RequestContext,
        read: impl FnOnce(&dyn AuditReader) -> Result<T, NotRead> + Send + 'static,
    ) -> Result<T, Error> {
        let reader = self.audit_reader()?;
        let keyring = self.keyring();
        let (of, _) = keyring.party(&call.principal);
        let left = call.deadline.saturating_duration_since(self.clock().now());
        let turn = tokio::time::timeout(left, self.inner.audit_log.turn(of)).await;
        let turn = turn.map_err(|_| {
            let message =
                "others read the audit log, and its turn did not come before the deadline; try again in a moment";
            Error::transient(Exception::Throttling, message)
        })?;
        // On panic: an internal error, and the turn is given back.
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read(&*reader)
        });
        let read = reading.await.map_err(|error| Error::internal(&format!("the audit log was not read: {error}")))?;
        read.map_err(|error| match error {
            NotRead::None(message) => Error::permanent(Exception::NotFound, message),
            NotRead::Trouble(message) => Error::transient(Exception::KmsInternal, message),
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn who_asks_for_much_waits_for_itself() {
        let log = AuditLog::default();
        let first = log.turn("anna").now_or_never().flatten().unwrap();
        let mut second = Box::pin(log.turn("anna"));
        assert!((&mut second).now_or_never().is_none(), "one has its turn");
        let bert = log.turn("bert").now_or_never().flatten().unwrap();
        let mut carl = Box::pin(log.turn("carl"));
        assert!((&mut carl).now_or_never().is_none(), "as many as may read do");
        drop(first);
        assert!((&mut second).now_or_never().is_none(), "carl was there before");
        assert!(carl.now_or_never().is_some());
        drop(bert);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn who_went_away_is_forgotten() {
        let log = AuditLog::default();
        let stays = log.turn("stays").now_or_never().flatten().unwrap();
        for number in 0..3 * IDLE {
            assert!(log.turn(&number.to_string()).now_or_never().is_some());
        }
        let each = log.each.lock().unwrap();
        assert!(each.len() <= IDLE && each.contains_key("stays"), "{} are kept", each.len());
        drop(stays);
    }
}
