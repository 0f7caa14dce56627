//! Pages of lists. A marker names the last entry of the page before, so that it survives what is made or removed in
//! between.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::Error;
use model::exception::Exception;
use model::limits;

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

/// The same of entries of which not all belong on the page: `show` makes what is shown of one, with its weight. A page
/// also ends when its weight has come to `weight`, or when so many entries were looked at; then it is short, or empty,
/// and another one follows.
pub(crate) fn sift<T, U, N>(
    kind: char,
    entries: impl Iterator<Item = T>,
    bounds: Bounds,
    name: impl Fn(&T) -> N,
    mut show: impl FnMut(&T) -> Option<(U, usize)>,
) -> Page<U>
where
    N: ToString,
{
    let Bounds { limit, weight, looked_at } = bounds;
    let mut entries = entries.peekable();
    let (mut items, mut so_far, mut looked, mut last) = (Vec::new(), 0, 0, None);
    while items.len() < limit && so_far < weight && looked < looked_at {
        let Some(entry) = entries.next() else { break };
        if let Some((item, weight)) = show(&entry) {
            items.push(item);
            so_far += weight;
        }
        looked += 1;
        last = Some(entry);
    }
    let more = entries.peek().is_some();
    let next_marker = last.filter(|_| more).map(|last| encode(kind, &name(&last).to_string()));
    Page { items, next_marker }
}

/// Where a page of [`sift`] ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Entries on it.
    pub(crate) limit: usize,
    /// What they weigh together; the one that comes to it is the last.
    pub(crate) weight: usize,
    /// Entries that were looked at for it.
    pub(crate) looked_at: usize,
}

impl Bounds {
    /// Those of a list that shows each entry whole.
    pub(crate) fn details(limit: usize) -> Self {
        Self { limit, weight: limits::LIST_DETAILS_BYTES, looked_at: limits::LIST_LOOKED_AT }
    }
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

/// A marker that remembers this. AWS's markers have at most 1,024 characters, and its clients send no longer ones back.
pub(crate) fn encode(kind: char, name: &str) -> String {
    format!("{kind}2{}", URL_SAFE_NO_PAD.encode(name))
}

fn decode(kind: char, marker: &str) -> Option<String> {
    let digits = marker.strip_prefix(kind)?.strip_prefix('2')?;
    // Nothing that a list names is longer than the key of a tag, of which a character may have four bytes.
    if digits.len() > 8 * limits::TAG_KEY_CHARS {
        return None;
    }
    String::from_utf8(URL_SAFE_NO_PAD.decode(digits).ok()?).ok()
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
    fn sifted_pages_follow_each_other_without_gap() {
        let listed = |limit, weight, looked_at| {
            let (mut seen, mut pages, mut start) = (Vec::new(), 0, 0);
            loop {
                let shown = |entry: &u32| entry.is_multiple_of(3).then_some((*entry, 10));
                let bounds = Bounds { limit, weight, looked_at };
                let page = sift('k', start..20_u32, bounds, |entry| *entry, shown);
                assert!(page.items.len() <= limit);
                seen.extend(page.items);
                pages += 1;
                let Some(marker) = page.next_marker else { return (seen, pages) };
                start = after('k', &marker, |name| name.parse::<u32>().ok()).unwrap().unwrap() + 1;
            }
        };
        let all: Vec<u32> = (0..20).step_by(3).collect();
        for (limit, weight, looked_at, pages) in
            [(100, 1_000, 100, 1), (2, 1_000, 100, 4), (100, 11, 100, 4), (100, 10, 100, 8), (100, 1_000, 1, 20)]
        {
            assert_eq!(listed(limit, weight, looked_at), (all.clone(), pages), "{limit} {weight} {looked_at}");
        }
    }

    #[test]
    fn foreign_markers_are_refused() {
        let good = encode('k', "7");
        assert_eq!(after('k', &good, |name| name.parse::<u32>().ok()).unwrap(), Some(7));
        for bad in [
            "k",
            "x",
            "7",
            "k137",
            "k2.",
            "k2N",
            "k2Nw==",
            "k2Nx",
            "s2Nw",
            "k2w3",
            "k2ü",
            &"k".repeat(1_000),
            &encode('k', &"7".repeat(8 * limits::TAG_KEY_CHARS)),
        ] {
            let error = after('k', bad, |name| name.parse::<u32>().ok()).unwrap_err();
            assert_eq!(error.exception, Exception::InvalidMarker, "{bad}");
        }
    }

    /// `MarkerType` of AWS's model.
    #[test]
    fn the_longest_name_has_a_marker_that_aws_would_take() {
        let name = "\u{20000}".repeat(limits::TAG_KEY_CHARS);
        let marker = encode('t', &name);
        assert!(marker.len() <= 1_024 && marker.bytes().all(|byte| byte.is_ascii_graphic()), "{}", marker.len());
        assert_eq!(after('t', &marker, |name| Some(name.to_owned())).unwrap(), Some(name));
    }
}
