//! Text with `*` and `?`: whether it fits another text, in time that is bounded.
//!
//! A pattern is a row of pieces. What stands between two `*` is looked for from left to right and never looked for again:
//! the leftmost place is as good as any later one, because `*` takes whatever follows. So nothing is tried twice.

use std::borrow::Cow;

use memchr::memmem;

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// This text, and nothing in it has a meaning of its own.
    Text(Cow<'a, str>),
    /// `?`: one character.
    One,
    /// `*`: any characters, or none.
    Many,
}

/// Whether the pattern is all of the text. Case matters.
pub(super) fn fits(pattern: &[Piece<'_>], text: &str) -> bool {
    // Most patterns fail here, in a few nanoseconds.
    let begins = |piece: &Piece<'_>| if let Piece::Text(first) = piece { text.starts_with(&**first) } else { true };
    let ends = |piece: &Piece<'_>| if let Piece::Text(last) = piece { text.ends_with(&**last) } else { true };
    if !pattern.first().is_none_or(begins) || !pattern.last().is_none_or(ends) {
        return false;
    }
    let mut segments = pattern.split(|piece| matches!(piece, Piece::Many));
    let Some(first) = segments.next() else { return text.is_empty() };
    let Some(mut rest) = behind(first, text) else { return false };
    let Some(last) = segments.next_back() else { return rest.is_empty() };
    for segment in segments {
        let Some(found) = find(segment, rest) else { return false };
        rest = found;
    }
    let Some(end) = tail(rest, last.iter().map(chars).sum()) else { return false };
    behind(last, end) == Some("")
}

/// How many characters a piece takes. `*` is not asked.
fn chars(piece: &Piece<'_>) -> usize {
    match piece {
        Piece::Text(text) => text.chars().count(),
        Piece::One => 1,
        Piece::Many => 0,
    }
}

/// The last characters of a text, if there are so many.
fn tail(text: &str, chars: usize) -> Option<&str> {
    match chars.checked_sub(1) {
        None => Some(""),
        Some(before) => text.char_indices().rev().nth(before).map(|(at, _)| &text[at..]),
    }
}

/// What follows a segment that stands at the beginning of the text.
fn behind<'t>(segment: &[Piece<'_>], text: &'t str) -> Option<&'t str> {
    segment.iter().try_fold(text, |rest, piece| match piece {
        Piece::Text(text) => rest.strip_prefix(&**text),
        Piece::One => {
            let mut chars = rest.chars();
            chars.next().map(|_| chars.as_str())
        }
        Piece::Many => Some(rest),
    })
}

/// What follows the first place of a segment.
fn find<'t>(segment: &[Piece<'_>], text: &'t str) -> Option<&'t str> {
    match segment {
        [] => Some(text),
        // Both are UTF-8, so what is found begins and ends between characters.
        [Piece::Text(only)] => memmem::find(text.as_bytes(), only.as_bytes()).map(|at| &text[at + only.len()..]),
        // With `?` the places are tried one by one. A policy has a bound for what that may cost: `TRIED_CHARS`.
        [Piece::Text(first), ..] => {
            let (mut rest, first) = (text, memmem::Finder::new(first.as_bytes()));
            loop {
                rest = &rest[first.find(rest.as_bytes())?..];
                if let Some(found) = behind(segment, rest) {
                    return Some(found);
                }
                rest = &rest[rest.chars().next()?.len_utf8()..];
            }
        }
        _ => text.char_indices().find_map(|(at, _)| behind(segment, &text[at..])),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(pattern: &str) -> Vec<Piece<'_>> {
        let mut out = Vec::new();
        for part in pattern.split_inclusive(['*', '?']) {
            let (text, sign) = match part.strip_suffix('*') {
                Some(text) => (text, Some(Piece::Many)),
                None => part.strip_suffix('?').map_or((part, None), |text| (text, Some(Piece::One))),
            };
            if !text.is_empty() {
                out.push(Piece::Text(text.into()));
            }
            out.extend(sign);
        }
        out
    }

    fn matches(pattern: &str, text: &str) -> bool {
        fits(&pieces(pattern), text)
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "anything"),
            ("**", ""),
            ("a*", "a"),
            ("a*b", "ab"),
            ("a*b", "axxbxb"),
            ("*a*", "bab"),
            ("?", "é"),
            ("a?c", "abc"),
            ("*?", "ab"),
            ("?*?", "ab"),
            ("*ab?d*", "xabcabcd"),
            ("*aa", "aaa"),
            ("a*a", "aa"),
            ("ä*ß", "äöüß"),
            ("*é?", "éé€"),
            ("*aa?b*", "aaaxb"),
            ("*éé?b*", "éééxb"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", "A"),
            ("a", ""),
            ("?", ""),
            ("?", "ab"),
            ("a*a", "a"),
            ("a*b", "abc"),
            ("*a?", "a"),
            ("?*?", "a"),
            ("ab*ba", "aba"),
            ("*a*b*", "ba"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_bounded() {
        let text = "a".repeat(8_192);
        // With backtracking this would not end.
        for hostile in ["*a".repeat(16_000), format!("{}b", "a*".repeat(16_000)), format!("*{}b*", "a".repeat(8_000))] {
            assert!(!matches(&hostile, &text), "{}", &hostile[..20]);
        }
    }

    /// The plainest definition there is.
    fn oracle(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            (['*', more @ ..], _) => (0..=text.len()).any(|skip| oracle(more, &text[skip..])),
            (['?', more @ ..], [_, rest @ ..]) => oracle(more, rest),
            ([c, more @ ..], [d, rest @ ..]) => c == d && oracle(more, rest),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn it_is_what_the_definition_says(pattern in "[ab?*é]{0,8}", text in "[abé]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), oracle(&chars(&pattern), &chars(&text)));
        }
    }
}
