//! `keystorectl audit show`

use audit::files::Place;
use audit::read::Records;
use clap::Args;
use serde::Serialize;

use super::Log;
use super::record::Shown;
use super::tail::{BLOCK, end};
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

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let place = arguments.log.place()?;
    let unreadable = |error: audit::files::Unreadable| Failure::local(format!("cannot read {error}"));
    let records = match arguments.which.parse::<u64>() {
        Ok(number) => {
            let mut records = Records::from(&place, number).map_err(unreadable)?;
            let found = records.next().map_err(unreadable)?;
            found.map(|record| Shown::new(record.number, record.bytes)).into_iter().collect()
        }
        Err(_) => event(&place, &arguments.which).map_err(unreadable)?,
    };
    if records.is_empty() {
        return Err(Failure::local(format!("the log has no record {}", arguments.which)));
    }
    context.printer.report(&Event { records })
}

/// The records of an event, which follow closely on each other; the newest are looked at first.
pub(super) fn event(place: &Place, id: &str) -> Result<Vec<Shown>, audit::files::Unreadable> {
    let mut before = end(place)?;
    let mut found: Vec<Shown> = Vec::new();
    while before > 0 {
        let first = (before - 1) / BLOCK * BLOCK;
        let mut records = Records::from(place, first)?;
        let mut here = Vec::new();
        while records.number() < before
            && let Some(record) = records.next()?
        {
            // Far cheaper than reading each as JSON.
            if contains(record.bytes, id.as_bytes()) {
                here.push(Shown::new(record.number, record.bytes));
            }
        }
        here.retain(|record| record.event_id() == id);
        if here.is_empty() && !found.is_empty() {
            break;
        }
        found.splice(..0, here);
        before = first;
    }
    Ok(found)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}
