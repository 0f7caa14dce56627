//! Breaking tasks on purpose, so that a test can see what becomes of each. Only in debug builds.
//!
//! `KEYSTORED_FAULTS` names a file in which a test orders one fault at a time, or is such an order itself:
//!
//! ```text
//! panic|stall|block TASK [of WHO] [at N | always]
//! ```
//!
//! The task panics, awaits for ever, or keeps its thread for ever: in a file once, at the next pass, and the file is
//! gone then; in the variable at the N-th pass. `always` breaks it at each pass.

use std::time::Duration;

use super::task::Task;

/// How long a turn of the watchdog is.
const TURN: Duration = Duration::from_secs(1);

/// How long a turn of the watchdog is; a tenth where a test orders faults, so that it need not wait for long.
#[must_use]
pub(super) fn turn() -> Duration {
    if ordered() { TURN / 10 } else { TURN }
}

/// A place that a task passes again and again. `who` says of which HSM, worker or key store it is.
pub async fn point(task: Task, who: &str) {
    if hit(task, who) {
        std::future::pending::<()>().await;
    }
}

/// The same where nothing can be awaited; whether it was to stall.
#[cfg(debug_assertions)]
#[allow(clippy::panic, reason = "it is what was asked for")]
pub fn hit(task: Task, who: &str) -> bool {
    match orders::taken(task, who) {
        None => false,
        Some(orders::Kind::Stall) => true,
        Some(orders::Kind::Panic) => panic!("ordered by a test: {} {who}", task.name()),
        Some(orders::Kind::Block) => loop {
            std::thread::sleep(TURN);
        },
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn hit(_task: Task, _who: &str) -> bool {
    false
}

#[cfg(debug_assertions)]
use orders::any as ordered;

#[cfg(not(debug_assertions))]
const fn ordered() -> bool {
    false
}

#[cfg(debug_assertions)]
mod orders {
    use std::path::Path;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Task;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Kind {
        Panic,
        Stall,
        Block,
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Order {
        kind: Kind,
        task: String,
        who: Option<String>,
        times: Times,
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Times {
        At(u64),
        Always,
    }

    fn parse(text: &str) -> Option<Order> {
        let (text, times) = match text.trim().rsplit_once(" at ") {
            Some((text, count)) => (text, Times::At(count.parse().ok()?)),
            None => match text.trim().strip_suffix(" always") {
                Some(text) => (text, Times::Always),
                None => (text.trim(), Times::At(1)),
            },
        };
        let (kind, rest) = text.split_once(' ')?;
        let kind = match kind {
            "panic" => Kind::Panic,
            "stall" => Kind::Stall,
            "block" => Kind::Block,
            _ => return None,
        };
        let (task, who) = match rest.split_once(" of ") {
            Some((task, who)) => (task, Some(who.to_owned())),
            None => (rest, None),
        };
        Some(Order { kind, task: task.to_owned(), who, times })
    }

    fn variable() -> Option<&'static str> {
        static VARIABLE: OnceLock<Option<String>> = OnceLock::new();
        VARIABLE.get_or_init(|| std::env::var("KEYSTORED_FAULTS").ok()).as_deref()
    }

    /// Whether a test may order faults.
    pub(in super::super) fn any() -> bool {
        variable().is_some()
    }

    /// The fault that was ordered for this task, and is taken with this.
    pub(super) fn taken(task: Task, who: &str) -> Option<Kind> {
        static PASSED: AtomicU64 = AtomicU64::new(0);
        let variable = variable()?;
        let mine = |order: &Order| order.task == task.name() && order.who.as_deref().is_none_or(|name| name == who);
        if let Some(order) = parse(variable) {
            let due = |order: &Order| match order.times {
                Times::At(count) => PASSED.fetch_add(1, Ordering::Relaxed) + 1 == count,
                Times::Always => true,
            };
            return Some(order).filter(mine).filter(due).map(|order| order.kind);
        }
        let file = Path::new(variable);
        let order = std::fs::read_to_string(file).ok().and_then(|text| parse(&text)).filter(mine)?;
        // Of several that come by at once, one takes it.
        let taken = order.times == Times::Always || std::fs::rename(file, file.with_extension("taken")).is_ok();
        taken.then_some(order.kind)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn orders_are_read() {
            let order = |kind, task: &str, who: Option<&str>, times| {
                Some(Order { kind, task: task.to_owned(), who: who.map(str::to_owned), times })
            };
            assert_eq!(parse("panic health\n"), order(Kind::Panic, "health", None, Times::At(1)));
            let worker = Some("hsm-a control worker");
            assert_eq!(
                parse("stall worker-driver of hsm-a control worker"),
                order(Kind::Stall, "worker-driver", worker, Times::At(1))
            );
            assert_eq!(parse("panic session at 20"), order(Kind::Panic, "session", None, Times::At(20)));
            assert_eq!(
                parse("block follow of hsm-a always"),
                order(Kind::Block, "follow", Some("hsm-a"), Times::Always)
            );
            for wrong in ["", "/a/file", "burn worker-driver", "panic"] {
                assert_eq!(parse(wrong), None, "{wrong}");
            }
        }
    }
}
