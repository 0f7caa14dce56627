//! `keystorectl audit tail`

use std::collections::VecDeque;
use std::time::Duration;

use audit::files::{Place, Unreadable};
use audit::prove;
use audit::read::Records;
use clap::Args;

use super::Log;
use super::record::{Filter, Shown};
use crate::failure::Failure;
use crate::{Context, interruption};
use model::text;

/// Records that are looked at together, the newest first.
pub(super) const BLOCK: u64 = 256;
/// Between two looks at what came.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    filter: Filter,
    /// How many of the last records; with --since all
    #[arg(short = 'n', long, default_value_t = 20)]
    lines: usize,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { log, filter, lines, follow } = arguments;
    let place = log.place()?;
    let unreadable = |error: Unreadable| Failure::local(format!("cannot read {error}"));
    let most = if filter.since.is_some() { usize::MAX } else { lines };
    let end = end(&place).map_err(unreadable)?;
    for record in last(&place, end, &filter, most).map_err(unreadable)? {
        print(context, &record)?;
    }
    if !follow {
        return Ok(());
    }
    let mut records = Records::from(&place, end).map_err(unreadable)?;
    let mut interrupted = std::pin::pin!(interruption());
    loop {
        while let Some(record) = records.next().map_err(unreadable)? {
            let record = Shown::new(record.number, record.bytes);
            if filter.wants(&record) {
                print(context, &record)?;
            }
        }
        tokio::select! {
            () = &mut interrupted => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// One line each, so that lines can be counted and searched.
fn print(context: &Context, record: &Shown) -> Result<(), Failure> {
    let line = if context.printer.json() {
        let json = serde_json::to_string(record).map_err(|error| Failure::local(error.to_string()))?;
        text::shown_json(&json).into_owned()
    } else {
        text::shown(&record.line()).into_owned()
    };
    context.printer.bytes(format!("{line}\n").as_bytes())
}

/// How many records there are.
pub(super) fn end(place: &Place) -> Result<u64, Unreadable> {
    // Up to the newest head they need not be read.
    let from = prove::checkpoint(place).map_or(0, |checkpoint| checkpoint.head().size);
    let mut records = Records::from(place, from)?;
    while records.next()?.is_some() {}
    Ok(records.number())
}

/// The last ones that are wanted.
pub(super) fn last(place: &Place, end: u64, filter: &Filter, most: usize) -> Result<VecDeque<Shown>, Unreadable> {
    let mut found = VecDeque::new();
    let mut before = end;
    while before > 0 && found.len() < most {
        let first = (before - 1) / BLOCK * BLOCK;
        let mut records = Records::from(place, first)?;
        let mut here = Vec::new();
        let mut all_before = true;
        while records.number() < before
            && let Some(record) = records.next()?
        {
            let record = Shown::new(record.number, record.bytes);
            all_before &= filter.is_before(&record);
            if filter.wants(&record) {
                here.push(record);
            }
        }
        for record in here.into_iter().rev() {
            if found.len() < most {
                found.push_front(record);
            }
        }
        if all_before && filter.since.is_some() {
            break;
        }
        before = first;
    }
    Ok(found)
}
