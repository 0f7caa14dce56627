//! Records as they are shown, and what they are chosen by.

use audit::look::{self, Facts};
use proto::v1::{AuditFilter, AuditOutcome};
use serde::Serialize;
use serde_json::Value;

use crate::printer::Report;

/// A record as it is shown.
#[derive(Serialize)]
pub(super) struct Shown {
    pub(super) number: u64,
    /// As it stands in the log; a text where it is no JSON.
    pub(super) record: Value,
    #[serde(skip)]
    line: String,
}

impl Shown {
    pub(super) fn new(number: u64, bytes: &[u8]) -> Self {
        let as_text = |_| Value::String(String::from_utf8_lossy(bytes).into_owned());
        let record = serde_json::from_slice(bytes).unwrap_or_else(as_text);
        Self { number, record, line: line(number, &Facts::of(bytes)) }
    }

    /// A line with what most look for.
    pub(super) fn line(&self) -> &str {
        &self.line
    }
}

fn line(number: u64, facts: &Facts<'_>) -> String {
    let outcome = match facts.error_code() {
        "" => "ok",
        code => code,
    };
    let resources: Vec<&str> = facts.resources().collect();
    let number = number.to_string();
    let words = [&number, facts.time(), facts.event_name(), outcome, facts.who(), &resources.join(",")];
    words.map(|word| if word.is_empty() { "-" } else { word }).join("  ")
}

impl Report for Shown {
    fn text(&self) -> String {
        format!("{:#}", self.record)
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Outcome {
    /// It was done.
    Ok,
    /// The caller may not.
    Denied,
    /// It was refused or came to nothing for another reason.
    Failed,
}

/// Which records are wanted.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Filter {
    /// Only records about this key: its id or ARN, or another resource's ARN
    #[arg(long)]
    key: Option<String>,
    /// Only records of this principal: its ARN, or the end of it
    #[arg(long)]
    principal: Option<String>,
    /// Only records of this operation, such as Decrypt
    #[arg(long)]
    operation: Option<String>,
    /// Only records of calls that ended like this
    #[arg(long)]
    outcome: Option<Outcome>,
    /// Only records from this time on, UTC, such as 2026-11-30 or 2026-11-30T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) since: Option<String>,
    /// Only records before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<String>,
}

impl Filter {
    /// As files are looked through.
    pub(super) fn meant(&self) -> look::Filter {
        let Self { key, principal, operation, outcome, since, until } = self;
        let outcome = outcome.map(|outcome| match outcome {
            Outcome::Ok => look::Outcome::Ok,
            Outcome::Denied => look::Outcome::Denied,
            Outcome::Failed => look::Outcome::Failed,
        });
        look::Filter {
            event: None,
            key: key.clone(),
            principal: principal.clone(),
            operation: operation.clone(),
            outcome,
            since: since.clone(),
            until: until.clone(),
        }
    }

    /// As the service is asked.
    pub(super) fn wire(&self) -> AuditFilter {
        let Self { key, principal, operation, outcome, since, until } = self;
        let outcome = match outcome {
            None => AuditOutcome::Unspecified,
            Some(Outcome::Ok) => AuditOutcome::Ok,
            Some(Outcome::Denied) => AuditOutcome::Denied,
            Some(Outcome::Failed) => AuditOutcome::Failed,
        };
        let given = |text: &Option<String>| text.clone().unwrap_or_default();
        AuditFilter {
            key: given(key),
            principal: given(principal),
            operation: given(operation),
            outcome: outcome.into(),
            since: given(since),
            until: given(until),
            event_id: String::new(),
        }
    }
}

/// The beginning of a time as records have it.
fn time(text: &str) -> Result<String, String> {
    look::time(text).ok_or_else(|| "write it like 2026-11-30 or 2026-11-30T12:00:00Z".to_owned())
}
