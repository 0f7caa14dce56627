//! Records as they are shown, and what they are chosen by.

use serde::Serialize;
use serde_json::Value;

use crate::printer::Report;

/// A record as it is shown.
#[derive(Serialize)]
pub(super) struct Shown {
    pub(super) number: u64,
    /// As it stands in the log; a text where it is no JSON.
    pub(super) record: Value,
}

impl Shown {
    pub(super) fn new(number: u64, bytes: &[u8]) -> Self {
        let as_text = |_| Value::String(String::from_utf8_lossy(bytes).into_owned());
        Self { number, record: serde_json::from_slice(bytes).unwrap_or_else(as_text) }
    }

    /// A text of it, by the path of names to it.
    fn at(&self, path: &str) -> &str {
        self.record.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn event_id(&self) -> &str {
        self.at("/eventID")
    }

    pub(super) fn time(&self) -> &str {
        self.at("/eventTime")
    }

    fn resources(&self) -> impl Iterator<Item = &str> {
        let resources = self.record.pointer("/resources").and_then(Value::as_array);
        resources.into_iter().flatten().filter_map(|one| one.pointer("/ARN").and_then(Value::as_str))
    }

    /// Whose call it was: a principal of the policies, or who has none there, such as an administrator of the configuration,
    /// by the name of the certificate.
    fn who(&self) -> &str {
        let names = ["/userIdentity/arn", "/userIdentity/principalId", "/userIdentity/invokedBy"];
        names.map(|name| self.at(name)).into_iter().find(|name| !name.is_empty()).unwrap_or_default()
    }

    /// A line with what most look for.
    pub(super) fn line(&self) -> String {
        let outcome = match self.at("/errorCode") {
            "" => "ok",
            code => code,
        };
        let resources: Vec<&str> = self.resources().collect();
        let number = self.number.to_string();
        let words = [&number, self.time(), self.at("/eventName"), outcome, self.who(), &resources.join(",")];
        words.map(|word| if word.is_empty() { "-" } else { word }).join("  ")
    }
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

impl Outcome {
    fn of(code: &str) -> Self {
        match code {
            "" => Self::Ok,
            "AccessDenied" | "AccessDeniedException" => Self::Denied,
            _ => Self::Failed,
        }
    }
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
    pub(super) fn wants(&self, record: &Shown) -> bool {
        let ends = |whole: &str, end: &str| {
            whole.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with(['/', ':']))
        };
        let of = |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(is);
        of(&self.key, &|key| record.resources().any(|arn| ends(arn, key)))
            && of(&self.principal, &|principal| ends(record.who(), principal))
            && of(&self.operation, &|operation| record.at("/eventName").eq_ignore_ascii_case(operation))
            && self.outcome.is_none_or(|outcome| outcome == Outcome::of(record.at("/errorCode")))
            // Both are UTC with the same digits in the same places: they sort as texts do.
            && of(&self.since, &|since| record.time() >= since)
            && of(&self.until, &|until| record.time() < until)
    }

    /// Whether it is older than anything that is wanted.
    pub(super) fn is_before(&self, record: &Shown) -> bool {
        self.since.as_deref().is_some_and(|since| record.time() < since)
    }
}

/// The beginning of a time as records have it.
fn time(text: &str) -> Result<String, String> {
    const PATTERN: &str = "0000-00-00T00:00:00";
    let bare = text.strip_suffix('Z').unwrap_or(text);
    let fits = |(have, want): (char, char)| if want == '0' { have.is_ascii_digit() } else { have == want };
    let sound = bare.len() >= 10 && bare.len() <= PATTERN.len() && bare.chars().zip(PATTERN.chars()).all(fits);
    if sound { Ok(bare.to_owned()) } else { Err("write it like 2026-11-30 or 2026-11-30T12:00:00Z".to_owned()) }
}
