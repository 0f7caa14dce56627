//! `--receipt`: where the audit log has the records of a command's calls.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use client::Receipt;
use model::lock::MutexExt as _;
use serde::Serialize;

/// Of a command that makes more calls, the last ones are told.
const MOST: usize = 1_000;

/// Receipts that nobody was told of. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Receipts(Arc<Mutex<VecDeque<Receipt>>>);

/// One, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    log: String,
    first_record: u64,
    record_count: u32,
    request_id: Option<String>,
}

impl Receipts {
    /// What the client tells of them.
    pub(super) fn heard(&self) -> client::Receipts {
        let receipts = Arc::clone(&self.0);
        client::Receipts::new(move |receipt| {
            let mut receipts = receipts.lock_anyway();
            if receipts.len() == MOST {
                receipts.pop_front();
            }
            receipts.push_back(receipt);
        })
    }

    /// Those that there are.
    pub(super) fn taken(&self) -> Vec<Shown> {
        let receipts = std::mem::take(&mut *self.0.lock_anyway());
        let shown = |Receipt { log, first, count, request_id }| Shown {
            log,
            first_record: first,
            record_count: count,
            request_id,
        };
        receipts.into_iter().map(shown).collect()
    }
}

impl Shown {
    /// A line for a person.
    pub(super) fn line(&self) -> String {
        let Self { log, first_record: first, record_count: count, request_id } = self;
        let request = request_id.as_ref().map(|id| format!(", request id {id}")).unwrap_or_default();
        match count {
            0 | 1 => format!("audit record {first} of {log}{request}"),
            count => {
                let last = first.saturating_add(u64::from(*count) - 1);
                format!("audit records {first} to {last} of {log}{request}")
            }
        }
    }
}

/// A JSON document of an object with these in it; any other stays as it is.
pub(super) fn with_records(json: &str, receipts: &[Shown]) -> Option<String> {
    let open = json.strip_suffix('}')?.trim_end();
    let comma = if open.ends_with('{') { "" } else { "," };
    let records = serde_json::to_string(receipts).ok()?;
    Some(format!("{open}{comma}\n  \"audit_records\": {records}\n}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(count: u32, request_id: Option<&str>) -> Shown {
        let (log, request_id) = ("kms.example.com/audit".to_owned(), request_id.map(str::to_owned));
        Shown { log, first_record: 7, record_count: count, request_id }
    }

    #[test]
    fn a_person_is_told_which_records_and_of_which_call() {
        assert_eq!(shown(1, Some("r-1")).line(), "audit record 7 of kms.example.com/audit, request id r-1");
        assert_eq!(shown(3, None).line(), "audit records 7 to 9 of kms.example.com/audit");
    }

    #[test]
    fn they_stand_in_the_document_that_is_printed_anyway() {
        for (json, before) in [("{}", 0), ("{\n  \"key_id\": \"k\"\n}", 1)] {
            let with = with_records(json, &[shown(1, Some("r-1"))]).unwrap();
            let read: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&with).unwrap();
            assert_eq!((read.len(), &read["audit_records"][0]["first_record"]), (before + 1, &7.into()), "{with}");
        }
        assert_eq!(with_records("[]", &[]), None);
    }
}
