//! Text without its case, for names that policies and constraints compare so.

use std::borrow::Cow;

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

#[cfg(test)]
mod tests {
    use super::*;

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
