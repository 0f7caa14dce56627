//! Text without its case, for names that policies and constraints compare so.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The text in small letters, character by character.
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return text.into();
    }
    text.chars().flat_map(char::to_lowercase).collect::<String>().into()
}

/// Whether text is what has been folded to this.
pub(crate) fn folds_to(text: &str, folded: &str) -> bool {
    if text.is_ascii() {
        // What has other letters may fold to ASCII, but ASCII folds to nothing else.
        return text.eq_ignore_ascii_case(folded);
    }
    text.chars().flat_map(char::to_lowercase).eq(folded.chars())
}

/// Pairs by their names without case. Made once, since folding costs by each letter that somebody sends.
pub(crate) struct Folded<'a> {
    pairs: usize,
    /// No value where names that are one but for case have several.
    values: BTreeMap<Cow<'a, str>, Option<&'a str>>,
}

impl<'a> Folded<'a> {
    pub(crate) fn of(pairs: &'a BTreeMap<String, String>) -> Self {
        let mut values: BTreeMap<Cow<'a, str>, Option<&'a str>> = BTreeMap::new();
        for (name, value) in pairs {
            let known = values.entry(fold(name)).or_insert(Some(value));
            if *known != Some(value) {
                *known = None;
            }
        }
        Self { pairs: pairs.len(), values }
    }

    /// How many pairs there are, names that differ by case counted each.
    pub(crate) fn pairs(&self) -> usize {
        self.pairs
    }

    /// Whether a pair is among them, whose name is folded. If several names are its own but for case, each must have its
    /// value: whoever adds a pair must not get past a check by it.
    pub(crate) fn has(&self, folded: &str, value: &str) -> bool {
        self.values.get(folded).is_some_and(|known| *known == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_whatever_the_case_of_their_names() {
        let given = [("Ä", "1"), ("b", "2"), ("C", "3"), ("c", "3"), ("D", "4"), ("d", "5"), ("E", "6"), ("e", "7")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let folded = Folded::of(&given);
        assert_eq!(folded.pairs(), 8);
        for (name, value, there) in [
            ("ä", "1", true),
            ("ä", "2", false),
            ("b", "2", true),
            ("c", "3", true),
            ("d", "4", false),
            ("d", "5", false),
            ("e", "6", false),
            ("f", "", false),
        ] {
            assert_eq!(folded.has(name, value), there, "{name}={value}");
        }
    }

    #[test]
    fn folding_agrees_with_itself() {
        for (text, folded) in [("ABC", "abc"), ("ÄÖ", "äö"), ("\u{212a}ey", "key"), ("straße", "straße"), ("", "")]
        {
            assert_eq!(fold(text), folded);
            assert!(folds_to(text, folded), "{text}");
        }
        assert!(!folds_to("abc", "abd") && !folds_to("äb", "äc") && !folds_to("a", "ä"));
    }
}
