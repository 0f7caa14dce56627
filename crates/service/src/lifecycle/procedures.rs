//! Connects and disconnects that are under way, at most one of each for a key store.
//!
//! What they are about is on record, so that a start of the daemon goes on with it; and so does a procedure that a
//! fault in this program breaks off.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use model::id::KeyStoreId;
use model::lock::MutexExt as _;
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

/// The procedures of all key stores.
#[derive(Default)]
pub(crate) struct Procedures(Mutex<BTreeMap<KeyStoreId, Procedure>>);

#[derive(Default)]
struct Procedure {
    /// Breaks the connect off when it goes.
    _break_off: Option<DropGuard>,
    task: Option<JoinHandle<()>>,
}

impl Procedures {
    /// A connect begins; the token says when it is to be broken off.
    pub(super) fn begin(&self, id: &KeyStoreId) -> CancellationToken {
        let broken_off = CancellationToken::new();
        let _break_off = Some(broken_off.clone().drop_guard());
        self.lock().insert(id.clone(), Procedure { _break_off, task: None });
        broken_off
    }

    /// Breaks a connect off; its task, to be waited for.
    pub(super) fn break_off(&self, id: &KeyStoreId) -> Option<JoinHandle<()>> {
        self.lock().remove(id)?.task
    }

    /// Runs a procedure, to its end.
    pub(super) fn spawn<W>(
        &self,
        watchdog: &Watchdog,
        procedure: Task,
        id: &KeyStoreId,
        work: impl FnMut(Heartbeat) -> W + Send + 'static,
    ) where
        W: Future<Output = ()> + Send + 'static,
    {
        // On panic: started again; each step can be taken again, as after a crash.
        let task = tokio::spawn(watchdog.clone().restarted(procedure, id.to_string(), || (), work));
        self.lock().entry(id.clone()).or_default().task = Some(task);
    }

    /// Ends all that are under way, without waiting for what they are about: the daemon stops.
    pub(crate) fn end(&self) {
        for (_, procedure) in std::mem::take(&mut *self.lock()) {
            if let Some(task) = procedure.task {
                task.abort();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyStoreId, Procedure>> {
        self.0.lock_anyway()
    }
}
