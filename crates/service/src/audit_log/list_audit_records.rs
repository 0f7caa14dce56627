//! ListAuditRecords: records of the audit log, in pages, all or those that are looked for.

use crate::core::access::Named;
use crate::core::audit_reader::AuditReader;
use crate::core::proposal::Proposal;
use crate::core::{Core, page, validate};
use crate::{Error, RequestContext, Service};
use audit::look::{self, Bounds, Filter, Outcome, Way};
use model::limits;
use model::operation::Operation;

/// What a marker of this list begins with.
const KIND: char = 'l';

/// Which records are to be listed.
#[derive(Clone, Debug, Default)]
pub struct ListAuditRecordsInput {
    /// What they are looked for by.
    pub filter: Filter,
    /// Where to begin, and whether to go on or back from there; absent: with the first record, or with the newest one back.
    pub from: Option<u64>,
    /// The newest first.
    pub newest_first: bool,
    /// Most records of the page.
    pub limit: Option<u32>,
    /// Of the page before.
    pub marker: String,
}

/// A record of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number.
    pub number: u64,
    /// As it stands in the log.
    pub record: Vec<u8>,
}

/// A page of records.
#[derive(Clone, Debug)]
pub struct AuditRecords {
    /// In the order that was asked for.
    pub records: Vec<AuditRecord>,
    /// How many records the newest signed head is of.
    pub size: u64,
    /// Where the next page begins; absent on the last.
    pub next_marker: Option<String>,
}

impl Service {
    /// Lists records that a signed head is over.
    pub async fn list_audit_records(
        &self,
        call: &RequestContext,
        input: ListAuditRecordsInput,
    ) -> Result<AuditRecords, Error> {
        let (core, of_task, said) = (self.core.clone(), call.clone(), input.clone());
        let resource = Named::other(self.core.audit_log_arn()).asking(move |_, say| {
            let say = if said.newest_first { say.flag("newestFirst", true) } else { say };
            by(&said.filter, from(said.from, say)).page(said.limit, &said.marker)
        });
        let work = async move { core.listed_records(&of_task, input).await };
        self.core.on_one(call, Operation::ListAuditRecords, resource, work).await
    }
}

impl Core {
    async fn listed_records(&self, call: &RequestContext, input: ListAuditRecordsInput) -> Result<AuditRecords, Error> {
        let ListAuditRecordsInput { filter, from, newest_first, limit, marker } = input;
        let (filter, limit) = (checked(filter)?, validate::page_limit(limit)?);
        let after = page::after(KIND, &marker, |text| read_back(text, newest_first))?;
        let look = move |log: &dyn AuditReader| {
            let size = log.size()?;
            let way = match (after, newest_first) {
                (Some(next), _) => next,
                (None, false) => Way::On(from.unwrap_or(0)),
                (None, true) => Way::back(from.map_or(size, |from| from.saturating_add(1))),
            };
            Ok((size, log.look(&filter, way, size, bounds(limit))?))
        };
        let (size, found) = self.read_audit_log(call, look).await?;
        let next = found.next.map(|next| page::encode(KIND, &remembered(next)));
        let records = found.records.into_iter().map(|(number, record)| AuditRecord { number, record }).collect();
        Ok(AuditRecords { records, size, next_marker: next })
    }
}

/// What a marker remembers of where the next page begins.
fn remembered(next: Way) -> String {
    match next {
        Way::On(number) => number.to_string(),
        Way::Back { before, older } => format!("{before}/{older}"),
    }
}

/// The same, read back.
fn read_back(text: &str, newest_first: bool) -> Option<Way> {
    if newest_first {
        let (before, older) = text.split_once('/')?;
        Some(Way::Back { before: before.parse().ok()?, older: older.parse().ok()? })
    } else {
        text.parse().ok().map(Way::On)
    }
}

/// Where one page ends.
pub(super) fn bounds(records: usize) -> Bounds {
    Bounds {
        records,
        bytes: limits::LIST_DETAILS_BYTES,
        looked_at: limits::LIST_LOOKED_AT,
        read: limits::AUDIT_LOOK_BYTES,
    }
}

/// A filter that can be one.
pub(super) fn checked(filter: Filter) -> Result<Filter, Error> {
    let texts = [
        ("eventId", &filter.event),
        ("key", &filter.key),
        ("principal", &filter.principal),
        ("operation", &filter.operation),
    ];
    for (name, text) in texts {
        let chars = text.as_ref().map(|text| text.chars().count());
        chars.map_or(Ok(()), |chars| validate::length(name, chars, 1, limits::KEY_REFERENCE_CHARS))?;
    }
    let time = |name: &str, text: Option<String>| {
        let read = |text: String| {
            look::time(&text).ok_or_else(|| {
                let shown = validate::shown(&text);
                Error::validation(format!("{name}: write it like 2026-11-30 or 2026-11-30T12:00:00Z, not '{shown}'"))
            })
        };
        text.map(read).transpose()
    };
    Ok(Filter { since: time("since", filter.since)?, until: time("until", filter.until)?, ..filter })
}

/// What records are looked for by, for the record of the call.
pub(super) fn by(filter: &Filter, say: Proposal) -> Proposal {
    let outcome = filter.outcome.map(|outcome| match outcome {
        Outcome::Ok => "ok",
        Outcome::Denied => "denied",
        Outcome::Failed => "failed",
    });
    say.maybe("eventId", filter.event.as_deref())
        .maybe("key", filter.key.as_deref())
        .maybe("principal", filter.principal.as_deref())
        .maybe("operation", filter.operation.as_deref())
        .maybe("outcome", outcome)
        .maybe("since", filter.since.as_deref())
        .maybe("until", filter.until.as_deref())
}

/// Where it begins, likewise.
pub(super) fn from(number: Option<u64>, say: Proposal) -> Proposal {
    match number {
        Some(number) => say.in_record(|fields| fields.number("from", recorded(number))),
        None => say,
    }
}

/// The number of a record, as a record has it.
pub(super) fn recorded(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_remembers_what_the_look_has_found_so_far() {
        for way in [Way::On(0), Way::On(u64::MAX), Way::back(7), Way::Back { before: u64::MAX, older: 8_191 }] {
            let back = way != Way::On(0) && way != Way::On(u64::MAX);
            assert_eq!(read_back(&remembered(way), back), Some(way));
            assert_eq!(read_back(&remembered(way), !back), None, "it is one of the other direction");
        }
        assert_eq!(read_back("7/", true), None);
        assert_eq!(read_back("-1", false), None);
    }
}
