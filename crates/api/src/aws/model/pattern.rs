//! The model's patterns. They are Java's regular expressions, which AWS matches against a whole value.

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take, and its automaton while matching: the model's largest takes a tenth of it.
const COMPILED_BYTES: usize = 1 << 20;

/// One pattern, ready to match.
pub(super) struct Pattern {
    /// As the model has it, for messages.
    pub(super) source: String,
    regex: Regex,
}

impl Pattern {
    pub(super) fn new(source: String) -> Result<Self, String> {
        let regex = RegexBuilder::new(&format!(r"\A(?:{})\z", translated(&source)))
            .size_limit(COMPILED_BYTES)
            .dfa_size_limit(COMPILED_BYTES)
            .build()
            .map_err(|error| format!("the pattern {source}: {error}"))?;
        Ok(Self { source, regex })
    }

    /// Whether the whole of a text matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// Java's classes in the words of the crate `regex`, where they mean more: letters and digits of all scripts, and a dot
/// for every character but a line feed.
fn translated(source: &str) -> String {
    let mut out = String::with_capacity(source.len() * 2);
    let mut in_class = false;
    let mut letters = source.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('d') => out.push_str("[0-9]"),
                Some('s') => out.push_str(r"[\t\n\x0B\f\r ]"),
                escaped => out.extend(['\\'].into_iter().chain(escaped)),
            },
            '.' if !in_class => out.push_str(r"[^\n\r\u0085\u2028\u2029]"),
            _ => {
                in_class = letter == '[' || (in_class && letter != ']');
                out.push(letter);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_java() {
        let matches = |source: &str, text: &str| Pattern::new(source.to_owned()).unwrap().matches(text);
        for (source, good, bad) in [
            // The whole value, whether or not the pattern says so.
            ("[0-9]{12}", "123456789012", "1234567890123"),
            ("[\\w]+", "aZ_9", "naïve"),
            ("^[\\w+=,.@:/-]+$", "arn:aws:iam::1/a+b=c,d.e@f-g", "a b"),
            ("\\d+", "7", "٣"),
            ("^[a-zA-Z0-9:/_\\s.-]+$", "a b\tc.d-e", "a\u{a0}b"),
            // A `$` of Java's lets a line feed follow where it looks for a part; a whole value has none.
            ("^[a-f0-9]+$", "ff", "ff\n"),
            ("^a.+$", "ab", "a\r"),
            ("^a.+$", "ab", "a\u{2028}"),
            ("[\\u0020-\\u00FF]*", "", "\n"),
            ("[\\u0009\\u000A\\u000D\\u0020-\\u00FF]+", "\t{\r\n\u{ff}", "\u{100}"),
            ("^[a-zA-Z0-9-_.]+$", "a-b_c.d", "a+b"),
            ("^a$|^b$", "b", "ab"),
            ("x\\.y", "x.y", "x-y"),
        ] {
            assert!(matches(source, good), "{source} {good:?}");
            assert!(!matches(source, bad), "{source} {bad:?}");
        }
    }

    #[test]
    fn a_pattern_that_takes_much_room_is_refused() {
        assert!(Pattern::new("(a{1000}){1000}".to_owned()).is_err());
        assert!(Pattern::new("(".to_owned()).is_err());
    }
}
