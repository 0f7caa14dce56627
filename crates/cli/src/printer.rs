//! All output. Results go to standard output, everything else to standard error.
//!
//! **Invariant:** what a terminal would obey in text from outside (names, descriptions, messages) is shown instead.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{Cell, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use super::failure::{Exit, Failure};
use super::receipts::{self, Receipts};
use model::key_store::ConnectionErrorCode;
use model::text;

/// A result that is shown either way.
pub(super) trait Report: Serialize {
    /// For a person: lines or a table, without a newline at the end.
    fn text(&self) -> String;
}

/// Prints text or JSON, as the user wants it.
pub(super) struct Printer {
    json: bool,
    receipts: Receipts,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json, receipts: Receipts::default() }
    }

    /// The same, which tells of these.
    pub(super) fn with_receipts(self, receipts: Receipts) -> Self {
        Self { receipts, ..self }
    }

    /// True when the output is JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Prints a result.
    pub(super) fn report(&self, report: &impl Report) -> Result<(), Failure> {
        let shown = if self.json {
            let json = serde_json::to_string_pretty(report).map_err(|error| Failure::local(error.to_string()))?;
            text::shown_json(&self.with_receipts_in(json)).into_owned()
        } else {
            text::shown_lines(&report.text()).into_owned()
        };
        self.bytes(format!("{shown}\n").as_bytes())
    }

    /// A document with the receipts that nobody was told of, where it is one that can have more members.
    fn with_receipts_in(&self, json: String) -> String {
        if !json.ends_with('}') {
            return json;
        }
        match &self.receipts.taken()[..] {
            [] => json,
            receipts => receipts::with_records(&json, receipts).unwrap_or(json),
        }
    }

    /// Tells of the receipts that stand in no document.
    pub(super) fn last_receipts(&self) {
        if self.json {
            let rest = self.with_receipts_in("{}".to_owned());
            if rest != "{}" {
                eprint_line(&text::shown_json(&rest));
            }
            return;
        }
        for receipt in self.receipts.taken() {
            eprint_line(&text::shown(&receipt.line()));
        }
    }

    /// Prints a result that is bytes, as they are.
    #[allow(clippy::unused_self, reason = "there is one way to standard output")]
    pub(super) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            // Whoever closed the pipe has seen enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::local(format!("cannot write to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Tells a person what is going on. Silent with JSON.
    pub(super) fn note(&self, note: impl Display) {
        if !self.json {
            eprint_line(&note.to_string());
        }
    }

    /// Prints why it failed and returns the exit code.
    pub(super) fn failure(&self, failure: &Failure) -> ExitCode {
        self.trouble(failure);
        failure.exit.into()
    }

    /// Prints what failed, of something that goes on all the same. Also with JSON.
    pub(super) fn trouble(&self, failure: &Failure) {
        eprint_line(&self.failure_text(failure));
    }

    fn failure_text(&self, failure: &Failure) -> String {
        if self.json {
            let error = json!({ "error": {
                "exit_code": failure.exit as u8,
                "exception": failure.exception,
                "connection_error_code": failure.connection_error.map(ConnectionErrorCode::name),
                "code": failure.code.map(client::Code::name),
                "retryable": failure.exit == Exit::Retryable,
                "message": failure.message,
                "request_id": failure.request_id,
                "approval_id": failure.approval_id,
                "hint": failure.hint,
            }});
            return text::shown_json(&self.with_receipts_in(format!("{error:#}"))).into_owned();
        }
        let name = failure.exception.as_deref().or(failure.connection_error.map(ConnectionErrorCode::name));
        // A status without a word, which another program than keystored gives: its code says more than nothing.
        let name = name.or(failure.code.filter(|_| failure.message.is_empty()).map(client::Code::name));
        let mut lines = match (name, failure.message.is_empty()) {
            (Some(name), true) => format!("error: {}", text::shown(name)),
            (Some(name), false) => format!("error: {}: {}", text::shown(name), text::shown(&failure.message)),
            (None, _) => format!("error: {}", text::shown(&failure.message)),
        };
        // Who mends the call has no use for it; who looks into the service's log has.
        if (failure.exit == Exit::Retryable || failure.was_broken_off())
            && let Some(id) = &failure.request_id
        {
            lines.push_str("\nrequest id: ");
            lines.push_str(&text::shown(id));
        }
        if let Some(hint) = &failure.hint {
            lines.push_str("\nhint: ");
            lines.push_str(&text::shown(hint));
        }
        for receipt in self.receipts.taken() {
            lines.push('\n');
            lines.push_str(&text::shown(&receipt.line()));
        }
        lines
    }

    /// A progress bar over bytes on standard error, invisible with JSON and where nobody watches.
    pub(super) fn progress(&self, bytes: u64) -> ProgressBar {
        self.bar(bytes, "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left")
    }

    /// The same over anything that is counted.
    pub(super) fn counter(&self) -> ProgressBar {
        self.bar(0, "{bar:40} {human_pos}/{human_len} {per_sec} {eta} left")
    }

    fn bar(&self, length: u64, template: &str) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(length);
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// Columns that a table with texts in it keeps to.
const WIDTH: u16 = 110;

/// A table with these headings. No line is broken.
pub(super) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    trimmed(&filled(headings, rows))
}

/// The same for rows with sentences in them, which are broken where the table would become too wide to read.
pub(super) fn wrapped_table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = filled(headings, rows);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    trimmed(&table)
}

fn filled(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.iter().map(|heading| Cell::new(heading.to_uppercase())));
    for row in rows {
        table.add_row(row.iter().map(|cell| text::shown(cell)));
    }
    table
}

/// Facts, each with its name before it. A fact without a value is left out.
pub(super) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in facts {
        if !value.is_empty() {
            table.add_row([name, &*text::shown(&value)]);
        }
    }
    trimmed(&table)
}

/// Without the padding at both ends of each line, which only disturbs copying.
fn trimmed(table: &Table) -> String {
    let lines: Vec<String> =
        table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A line, or several, to standard error.
pub(super) fn eprint_line(line: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{}", text::shown_lines(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_bare() {
        let text =
            table(&["key", "state"], [vec!["a".to_owned(), "Enabled".to_owned()], vec!["long".into(), "x".into()]]);
        assert_eq!(text, "KEY   STATE\na     Enabled\nlong  x");
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        let evil = "key\u{1b}]0;owned\u{7}\n\u{202e}drow";
        let told = r"key\u{1b}]0;owned\u{7}\n\u{202e}drow";
        assert_eq!(table(&["key"], [vec![evil.to_owned()]]), format!("KEY\n{told}"));
        assert_eq!(facts([("Key", evil.to_owned())]), format!("Key  {told}"));
        let failure = Failure { exception: Some(evil.to_owned()), ..Failure::usage(evil) }.with_hint(evil);
        let text = Printer::new(false).failure_text(&failure);
        assert_eq!(text, format!("error: {told}: {told}\nhint: {told}"));
        let json = Printer::new(true).failure_text(&failure);
        assert!(!json.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{json}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["error"]["message"], evil);
    }

    #[test]
    fn empty_facts_are_left_out() {
        assert_eq!(facts([("Key", "k".to_owned()), ("Description", String::new())]), "Key  k");
    }

    #[test]
    fn failures_say_what_to_do_next() {
        let failure = Failure { exception: Some("NotFoundException".to_owned()), ..Failure::usage("no key") }
            .with_hint("list them");
        assert_eq!(Printer::new(false).failure_text(&failure), "error: NotFoundException: no key\nhint: list them");
        let json: serde_json::Value = serde_json::from_str(&Printer::new(true).failure_text(&failure)).unwrap();
        assert_eq!(json["error"]["exception"], "NotFoundException");
        assert_eq!(json["error"]["exit_code"], Exit::Usage as u8);
        assert_eq!(json["error"]["hint"], "list them");
    }

    #[test]
    fn a_connect_that_failed_is_named_by_its_code() {
        let code = Some(ConnectionErrorCode::InvalidCredentials);
        let failure = Failure { connection_error: code, ..Failure::new(Exit::Refused, "in hsm-a") };
        assert_eq!(Printer::new(false).failure_text(&failure), "error: INVALID_CREDENTIALS: in hsm-a");
        let json: serde_json::Value = serde_json::from_str(&Printer::new(true).failure_text(&failure)).unwrap();
        assert_eq!(json["error"]["connection_error_code"], "INVALID_CREDENTIALS");
        assert_eq!(json["error"]["exception"], serde_json::Value::Null);
    }

    #[test]
    fn a_status_without_a_word_is_named_by_its_code() {
        let failure = Failure { code: Some(client::Code::Unimplemented), ..Failure::new(Exit::Refused, "") };
        assert_eq!(Printer::new(false).failure_text(&failure), "error: UNIMPLEMENTED");
    }

    #[test]
    fn sentences_are_broken_between_words() {
        let sentence = "word ".repeat(40).trim_end().to_owned();
        let text = wrapped_table(&["hsm", "reason"], [vec!["hsm-a".to_owned(), sentence]]);
        assert_eq!(text.matches("word").count(), 40, "{text}");
        assert!(text.lines().all(|line| line.len() <= usize::from(WIDTH)), "{text}");
    }

    #[test]
    fn an_exception_without_a_message_stands_alone() {
        let failure = Failure { exception: Some("InvalidCiphertextException".to_owned()), ..Failure::usage("") };
        assert_eq!(Printer::new(false).failure_text(&failure), "error: InvalidCiphertextException");
    }
}
