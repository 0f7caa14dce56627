//! All output. Results go to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::{Cell, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use super::failure::{Exit, Failure};

/// A result that is shown either way.
pub(super) trait Report: Serialize {
    /// For a person: lines or a table, without a newline at the end.
    fn text(&self) -> String;
}

/// Prints text or JSON, as the user wants it.
pub(super) struct Printer {
    json: bool,
}

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// True when the output is JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Prints a result.
    pub(super) fn report(&self, report: &impl Report) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string_pretty(report).map_err(|error| Failure::local(error.to_string()))?
        } else {
            report.text()
        };
        self.bytes(format!("{text}\n").as_bytes())
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
        eprint_line(&self.failure_text(failure));
        failure.exit.into()
    }

    fn failure_text(&self, failure: &Failure) -> String {
        if self.json {
            let error = json!({ "error": {
                "exit_code": failure.exit as u8,
                "exception": failure.exception,
                "code": failure.code.map(crate::client::Code::name),
                "retryable": failure.exit == Exit::Retryable,
                "message": failure.message,
                "request_id": failure.request_id,
                "hint": failure.hint,
            }});
            return format!("{error:#}");
        }
        let mut text = match (&failure.exception, failure.message.is_empty()) {
            (Some(exception), true) => format!("error: {exception}"),
            (Some(exception), false) => format!("error: {exception}: {}", failure.message),
            (None, _) => format!("error: {}", failure.message),
        };
        // Who mends the call has no use for it; who looks into the service's log has.
        if failure.exit == Exit::Retryable
            && let Some(id) = &failure.request_id
        {
            text.push_str("\nrequest id: ");
            text.push_str(id);
        }
        if let Some(hint) = &failure.hint {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
        text
    }

    /// A progress bar over bytes on standard error, invisible with JSON and where nobody watches.
    pub(super) fn progress(&self, bytes: u64) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(bytes);
        let template = "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left";
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// A table with these headings.
pub(super) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(headings.iter().map(|heading| Cell::new(heading.to_uppercase())));
    for row in rows {
        table.add_row(row);
    }
    trimmed(&table)
}

/// Facts, each with its name before it. A fact without a value is left out.
pub(super) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in facts {
        if !value.is_empty() {
            table.add_row([name.to_owned(), value]);
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

fn eprint_line(text: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
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
    fn an_exception_without_a_message_stands_alone() {
        let failure = Failure { exception: Some("InvalidCiphertextException".to_owned()), ..Failure::usage("") };
        assert_eq!(Printer::new(false).failure_text(&failure), "error: InvalidCiphertextException");
    }
}
