//! Pages of lists. A marker names the last entry of the page before, so that it survives what is made or removed in
//! between.

use crate::Error;
use model::exception::Exception;

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next begins; absent on the last.
    pub next_marker: Option<String>,
}

/// Cuts a page out of entries that begin after the marker; `name` is what a marker remembers of an entry.
pub(crate) fn cut<T, N>(kind: char, entries: impl Iterator<Item = T>, limit: usize, name: impl Fn(&T) -> N) -> Page<T>
where
    N: ToString,
{
    let mut entries = entries.peekable();
    let items: Vec<T> = entries.by_ref().take(limit).collect();
    let more = entries.peek().is_some();
    let next_marker = items.last().filter(|_| more).map(|last| encode(kind, &name(last).to_string()));
    Page { items, next_marker }
}

/// What a marker remembers; `None` where there is no marker. `kind` keeps the lists' markers apart.
pub(crate) fn after<T>(kind: char, marker: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Error> {
    if marker.is_empty() {
        return Ok(None);
    }
    decode(kind, marker).as_deref().and_then(read).map(Some).ok_or_else(|| {
        Error::permanent(Exception::InvalidMarker, "the marker is none that this list gave; begin without one")
    })
}

fn encode(kind: char, name: &str) -> String {
    let digits = name.bytes().map(|byte| format!("{byte:02x}"));
    digits.fold(format!("{kind}1"), |marker, digits| marker + &digits)
}

fn decode(kind: char, marker: &str) -> Option<String> {
    let digits = marker.strip_prefix(kind)?.strip_prefix('1')?;
    let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    // Nothing that a list names is longer.
    if digits.len() > 256 || !digits.len().is_multiple_of(2) || !digits.as_bytes().iter().all(lower) {
        return None;
    }
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok());
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap() {
        let all: Vec<u32> = (0..10).collect();
        let (mut seen, mut marker) = (Vec::new(), String::new());
        loop {
            let start = after('k', &marker, |name| name.parse::<u32>().ok()).unwrap().map_or(0, |last| last + 1);
            let page = cut('k', all.iter().copied().filter(|entry| *entry >= start), 3, |entry| *entry);
            seen.extend(page.items);
            match page.next_marker {
                Some(next) => marker = next,
                None => break,
            }
        }
        assert_eq!(seen, all);
        assert!(cut('k', all.iter(), 10, |entry| **entry).next_marker.is_none());
    }

    #[test]
    fn foreign_markers_are_refused() {
        let good = encode('k', "7");
        assert_eq!(after('k', &good, |name| name.parse::<u32>().ok()).unwrap(), Some(7));
        for bad in ["k", "x", "7", "k1zz", "k13", "s137", "k1FF", "k1c3", "k1ü", &"k".repeat(1_000)] {
            let error = after('k', bad, |name| name.parse::<u32>().ok()).unwrap_err();
            assert_eq!(error.exception, Exception::InvalidMarker, "{bad}");
        }
    }
}
