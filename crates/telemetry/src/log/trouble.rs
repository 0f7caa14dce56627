//! Whether the log is in trouble, in words: for /readyz.

use std::time::Duration;

use super::queue::Look;

/// A write that lasts longer is one that nobody takes in. A disk that is busy may hold one up for a second.
const STALL: Duration = Duration::from_secs(2);
/// How long lost lines are trouble: one scrape of the metrics at Prometheus's usual 15 seconds sees it.
const RECENTLY: Duration = Duration::from_secs(15);

/// What is wrong, and what to do.
pub(super) fn sentence(look: &Look) -> Option<String> {
    if let Some(since) = look.in_hand.filter(|since| *since >= STALL) {
        return Some(format!(
            "the log takes no line: one has waited for {} s, {} with it, {} log lines were dropped since the start; see to \
             what reads standard error",
            since.as_secs(),
            look.waiting,
            look.dropped
        ));
    }
    if let Some(gap) = &look.untold {
        let why = look.error.as_deref().unwrap_or("they come faster than they are taken");
        return Some(format!(
            "{} log lines were dropped since {} ({why}); see to where standard error leads",
            gap.lines, gap.since
        ));
    }
    let lost = look.lost.filter(|lost| *lost < RECENTLY)?;
    Some(format!("log lines were dropped, the last one {} s ago; the log says where they are missing", lost.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::super::hand::Gap;
    use super::*;

    #[test]
    fn what_is_wrong_now_is_said_and_nothing_else() {
        let gap = || Some(Gap { lines: 3, since: "2026-01-02T03:04:05Z".to_owned() });
        let error = || Some("No space left on device".to_owned());
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        for (look, says) in [
            (Look::default(), &[][..]),
            (Look { dropped: 9, lost: Some(minute), ..Look::default() }, &[]),
            (Look { in_hand: Some(second), waiting: 9, ..Look::default() }, &[]),
            (
                Look { in_hand: Some(minute), waiting: 9, dropped: 4, untold: gap(), ..Look::default() },
                &["takes no line", "60 s", "9 with it", "4 log lines"],
            ),
            (
                Look { untold: gap(), error: error(), lost: Some(minute), ..Look::default() },
                &["3 log lines", "since 2026-01-02T03:04:05Z", "No space left"],
            ),
            (Look { untold: gap(), lost: Some(second), ..Look::default() }, &["faster"]),
            (Look { dropped: 9, lost: Some(second), ..Look::default() }, &["1 s ago"]),
        ] {
            let sentence = sentence(&look);
            assert_eq!(sentence.is_some(), !says.is_empty(), "{look:?}: {sentence:?}");
            for words in says {
                assert!(sentence.as_ref().unwrap().contains(words), "{words}: {sentence:?}");
            }
        }
    }
}
