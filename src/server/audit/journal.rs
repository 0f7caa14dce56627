//! What the service appends records to: the log where it is open, and a refusal where it is not. Refusals are counted.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use super::Audit;
use audit::log::{Appending, Class, Leaves, Log, NotAccepted, Position, Reason};
use model::lock::MutexExt as _;
use service::audit_recorder;

/// Where records are appended.
pub(crate) struct Journal {
    audit: Audit,
    /// Of the log. Another one is begun with the daemon stopped, so it stays when the log is opened anew.
    origin: OnceLock<Arc<str>>,
}

impl Journal {
    pub(super) fn new(audit: Audit) -> Self {
        Self { audit, origin: OnceLock::new() }
    }

    /// An append to the log, where that is open.
    fn counted(&self, append: impl FnOnce(&Log) -> Appending) -> Counted {
        let audit = &self.audit.0;
        let appending = match &*audit.opened.load() {
            Some(opened) => {
                self.origin.get_or_init(|| opened.origin.as_str().into());
                Ok(append(&opened.log))
            }
            None => Err(audit.closed.lock_anyway().why.clone().unwrap_or_default()),
        };
        // Nearly all are accepted at once.
        let accepted = appending.as_ref().is_ok_and(Appending::is_accepted);
        Counted { appending, refusals: (!accepted).then(|| Arc::clone(&audit.refusals)) }
    }
}

impl audit_recorder::Journal for Journal {
    type Appending = Counted;

    fn append(&self, leaves: Leaves, class: Class) -> Counted {
        self.counted(|log| log.append(leaves, class))
    }

    fn gather(&self, leaves: Leaves, class: Class) -> Counted {
        self.counted(|log| log.gather(leaves, class))
    }

    fn write_gathered(&self) {
        // Of a log that was closed meanwhile they were refused; who comes to one that is closed is refused at once.
        if let Some(opened) = &*self.audit.0.opened.load() {
            opened.log.write_gathered();
        }
    }

    fn origin(&self) -> Option<Arc<str>> {
        self.origin.get().cloned()
    }
}

/// An append that is counted where it is refused.
pub(crate) struct Counted {
    /// Or why the log is not open.
    appending: Result<Appending, String>,
    /// Where it may still be refused.
    refusals: Option<Arc<Refusals>>,
}

impl Future for Counted {
    type Output = Result<Position, NotAccepted>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = match &mut self.appending {
            Ok(appending) => std::task::ready!(Pin::new(appending).poll(context)),
            Err(why) => Err(NotAccepted::Trouble(Reason::Write(why.as_str().into()))),
        };
        if let (Err(refused), Some(refusals)) = (&ended, &self.refusals) {
            refusals.count(if self.appending.is_ok() { label(refused) } else { NOT_OPEN });
        }
        Poll::Ready(ended)
    }
}

/// The label of what is refused because the log is not open.
const NOT_OPEN: &str = "not_open";
/// Why a record is not accepted, as labels of a metric have it.
pub(super) const LABELS: [&str; 13] = [
    NOT_OPEN,
    "no_space",
    "read_only",
    "directory",
    "journal",
    "lost",
    "write",
    "sync",
    "heads",
    "behind",
    "busy",
    "timed_out",
    "closed",
];

fn label(refused: &NotAccepted) -> &'static str {
    match refused {
        NotAccepted::Trouble(reason) => match reason {
            Reason::NoSpace => "no_space",
            Reason::ReadOnly => "read_only",
            Reason::DirectoryGone | Reason::DirectoryReplaced => "directory",
            Reason::JournalGone | Reason::JournalReplaced | Reason::JournalAltered => "journal",
            Reason::Lost(_) => "lost",
            Reason::Write(_) => "write",
            Reason::Sync(_) => "sync",
            Reason::Tiles(_) => "heads",
            Reason::Behind => "behind",
        },
        NotAccepted::Busy => "busy",
        NotAccepted::TimedOut | NotAccepted::Unsynced => "timed_out",
        NotAccepted::Empty => "write",
        NotAccepted::Closed => "closed",
    }
}

/// How many records were refused, by reason.
#[derive(Default)]
pub(super) struct Refusals([AtomicU64; LABELS.len()]);

impl Refusals {
    fn count(&self, label: &str) {
        if let Some((_, count)) = LABELS.iter().zip(&self.0).find(|(known, _)| **known == label) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All of them, since the start.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LABELS.iter().zip(&self.0).map(|(label, count)| (*label, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_under_a_label_of_its_own() {
        let refusals = Refusals::default();
        let text = || "why".into();
        let reasons = [
            Reason::NoSpace,
            Reason::ReadOnly,
            Reason::DirectoryGone,
            Reason::JournalGone,
            Reason::Lost(3),
            Reason::Write(text()),
            Reason::Sync(text()),
            Reason::Tiles(text()),
            Reason::Behind,
        ];
        let all = reasons.map(NotAccepted::Trouble).into_iter();
        for refused in all.chain([NotAccepted::Busy, NotAccepted::TimedOut, NotAccepted::Closed]) {
            refusals.count(label(&refused));
        }
        refusals.count(NOT_OPEN);
        assert!(refusals.all().all(|(_, count)| count == 1), "{:?}", refusals.all().collect::<Vec<_>>());
    }
}
