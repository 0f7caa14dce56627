//! `keystorectl audit show`

use audit::files::{Place, Unreadable};
use audit::layout::FULL;
use audit::log::EVENT_BYTES;
use audit::look::{self, Bounds, Filter, LookError, Way};
use audit::read::Records;
use clap::Args;
use proto::v1::{AuditFilter, ListAuditRecordsRequest};
use serde::Serialize;

use super::Log;
use super::record::Shown;
use super::tail::{PAGE, end, newest};
use crate::Context;
use crate::failure::Failure;
use crate::printer::Report;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    log: Log,
    /// The record's number, or the id of its event: all records of an event are shown
    #[arg(value_name = "SEQ|EVENT-ID")]
    which: String,
}

#[derive(Serialize)]
struct Event {
    records: Vec<Shown>,
}

impl Report for Event {
    fn text(&self) -> String {
        let texts: Vec<String> = self.records.iter().map(Report::text).collect();
        texts.join("\n")
    }
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let which = &arguments.which;
    let records = match arguments.log.place()? {
        Some(place) => of_files(&place, which)?,
        None => of_service(context, which).await?,
    };
    if records.is_empty() {
        return Err(Failure::local(format!("the log has no record {which}")));
    }
    context.printer.report(&Event { records })
}

fn of_files(place: &Place, which: &str) -> Result<Vec<Shown>, Failure> {
    match which.parse::<u64>() {
        Ok(number) => {
            let unreadable = |error: Unreadable| Failure::local(format!("cannot read {error}"));
            let mut records = Records::from(place, number).map_err(unreadable)?;
            let found = records.next().map_err(unreadable)?;
            Ok(found.map(|record| Shown::new(record.number, record.bytes)).into_iter().collect())
        }
        Err(_) => event(place, which),
    }
}

async fn of_service(context: &Context, which: &str) -> Result<Vec<Shown>, Failure> {
    let client = context.connection.connect().await?;
    match which.parse::<u64>() {
        Ok(number) => {
            let request = ListAuditRecordsRequest { from: Some(number), limit: Some(1), ..Default::default() };
            let records = client.list_audit_records(request).await?.records;
            Ok(records.iter().map(|record| Shown::new(record.number, &record.record)).collect())
        }
        Err(_) => {
            let filter = AuditFilter { event_id: which.to_owned(), ..AuditFilter::default() };
            let (mut found, _) = newest(&client, &filter, usize::MAX).await?;
            found.reverse();
            Ok(found)
        }
    }
}

/// The records of an event, which follow closely on each other; the newest are looked at first.
pub(super) fn event(place: &Place, id: &str) -> Result<Vec<Shown>, Failure> {
    let failed = |error: LookError| Failure::local(error.to_string());
    let end = end(place).map_err(|error| failed(error.into()))?;
    let filter = Filter { event: Some(id.to_owned()), ..Filter::default() };
    let bounds = Bounds { looked_at: FULL as usize, ..PAGE };
    let (mut found, mut bytes, mut next) = (Vec::new(), 0, Some(Way::back(end)));
    while let Some(way) = next {
        let page = look::look(place, &filter, way, end, bounds).map_err(failed)?;
        if page.records.is_empty() && !found.is_empty() {
            break;
        }
        bytes += page.records.iter().map(|(_, record)| record.len()).sum::<usize>();
        if bytes > EVENT_BYTES {
            return Err(Failure::local(format!("the log has more records of {id} than an event has: verify the log")));
        }
        found.extend(page.records.iter().map(|(number, bytes)| Shown::new(*number, bytes)));
        next = page.next;
    }
    found.reverse();
    Ok(found)
}
