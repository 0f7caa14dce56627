//! Policy documents: read from files, and shown so that what is shown is the same policy.

use std::path::Path;

use crate::Context;
use crate::failure::Failure;
use crate::payload;
use model::limits::POLICY_BYTES;
use model::text;

/// Reads one from a file, or from standard input for `-`.
pub(crate) async fn read(context: &Context, file: &Path) -> Result<String, Failure> {
    let read = payload::read(context, file, POLICY_BYTES, "policy", "").await?;
    String::from_utf8(read.expose().to_vec()).map_err(|_| Failure::local(format!("{} is not text", file.display())))
}

/// As a person may see it. A JSON text holds control characters only between its parts, where blanks mean the same.
pub(crate) fn shown(document: &str) -> String {
    let lines: Vec<&str> = document.lines().map(str::trim_end).collect();
    text::shown_json(&lines.join("\n").replace('\t', "  ")).trim_end().to_owned()
}

/// What was done, and what is doubtful about it.
pub(crate) fn with_warnings(done: String, warnings: &[String]) -> String {
    let warnings = warnings.iter().map(|warning| format!("warning: {warning}"));
    [done].into_iter().chain(warnings).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_the_same_policy() {
        let document = "{\r\n\t\"Sid\": \"a\u{202e}b\",\t\"n\": [1]\n}\n";
        let shown = shown(document);
        assert_eq!(shown, "{\n  \"Sid\": \"a\\u202eb\",  \"n\": [1]\n}");
        assert_eq!(text::shown_lines(&shown), shown, "the printer leaves it as it is");
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parsed(&shown), parsed(document));
    }

    #[test]
    fn warnings_follow_what_was_done() {
        assert_eq!(with_warnings("Put mine".to_owned(), &[]), "Put mine");
        assert_eq!(with_warnings("Put mine".to_owned(), &["a".to_owned()]), "Put mine\nwarning: a");
    }
}
