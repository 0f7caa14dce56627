//! `keystorectl audit tail`

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use audit::files::{Place, Unreadable};
use audit::look::{self, Bounds, LookError, Way};
use audit::prove;
use audit::read::Records;
use clap::Args;
use client::Client;
use proto::v1::{AuditFilter, ListAuditRecordsRequest};

use super::record::{Filter, Shown};
use super::{Log, follow};
use crate::failure::Failure;
use crate::{Context, interruption};
use model::{limits, text};

/// Between two looks at what came.
const PAUSE: Duration = Duration::from_millis(200);
/// A look at files ends with this much found, or with the last of them: no more is held at once, however large a log is.
pub(super) const PAGE: Bounds = Bounds { records: 1_024, bytes: 16 << 20, looked_at: usize::MAX, read: usize::MAX };

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    filter: Filter,
    /// How many of the last records; with --since, all of them from then on
    #[arg(short = 'n', long, default_value_t = 20)]
    lines: usize,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { log, filter, lines, follow } = arguments;
    let most = if filter.since.is_some() { usize::MAX } else { lines };
    match log.place()? {
        Some(place) => of_files(context, &place, &filter.meant(), most, follow).await,
        None => of_service(context, filter.wire(), most, follow).await,
    }
}

async fn of_files(
    context: &Context,
    place: &Place,
    filter: &look::Filter,
    most: usize,
    follow: bool,
) -> Result<(), Failure> {
    let unreadable = |error: Unreadable| Failure::local(format!("cannot read {error}"));
    let end = end(place).map_err(unreadable)?;
    let (first, missing) = beginning(place, end, filter, most).map_err(|error| Failure::local(error.to_string()))?;
    each(place, filter, first..end, |record| print(context, &record))?;
    // What is shown is not all that was asked for: nobody is to take it for that, and no script.
    let hole = missing.map(|missing| {
        Failure::local(format!("{missing}; what is shown begins behind it")).with_hint(
            "give --archive DIR where it was moved to, or ask for fewer records, or for those of a later time",
        )
    });
    match hole {
        Some(hole) if !follow => return Err(hole),
        Some(hole) => context.printer.trouble(&hole),
        None if !follow => return Ok(()),
        None => {}
    }
    let mut records = Records::from(place, end).map_err(unreadable)?;
    let mut interrupted = pin!(interruption());
    loop {
        while let Some(record) = records.next().map_err(unreadable)? {
            if filter.wants(record.bytes) {
                print(context, &Shown::new(record.number, record.bytes))?;
            }
        }
        tokio::select! {
            () = &mut interrupted => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn of_service(context: &Context, filter: AuditFilter, most: usize, follow: bool) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let (found, size) = newest(&client, &filter, most).await?;
    for record in found.iter().rev() {
        print(context, record)?;
    }
    if !follow {
        return Ok(());
    }
    tokio::select! {
        () = interruption() => Ok(()),
        failure = follow::follow(context, client, &filter, size) => Err(failure),
    }
}

/// One line each, so that lines can be counted and searched.
pub(super) fn print(context: &Context, record: &Shown) -> Result<(), Failure> {
    let line = if context.printer.json() {
        let json = serde_json::to_string(record).map_err(|error| Failure::local(error.to_string()))?;
        text::shown_json(&json).into_owned()
    } else {
        text::shown(record.line()).into_owned()
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

/// The first of the last ones that are wanted, so many at most; the end where none is wanted. And what is not there before it,
/// where that ends the look.
pub(super) fn beginning(
    place: &Place,
    end: u64,
    filter: &look::Filter,
    most: usize,
) -> Result<(u64, Option<LookError>), LookError> {
    let (mut first, mut left, mut next) = (end, most, Some(Way::back(end)));
    let mut is_begun = false;
    while let Some(way) = next.filter(|_| left > 0) {
        let bounds = Bounds { records: PAGE.records.min(left), ..PAGE };
        let page = match look::look(place, filter, way, end, bounds) {
            Ok(page) => page,
            Err(missing @ LookError::Missing(_)) if is_begun => return Ok((first, Some(missing))),
            Err(error) => return Err(error),
        };
        is_begun = true;
        left = left.saturating_sub(page.records.len());
        first = page.records.last().map_or(first, |(number, _)| *number);
        next = page.next;
    }
    Ok((first, None))
}

/// Takes those of these records that are wanted, in their order.
pub(super) fn each(
    place: &Place,
    filter: &look::Filter,
    records: Range<u64>,
    mut take: impl FnMut(Shown) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut next = Some(Way::On(records.start));
    while let Some(way) = next {
        let page = look::look(place, filter, way, records.end, PAGE);
        let page = page.map_err(|error| Failure::local(error.to_string()))?;
        page.records.iter().try_for_each(|(number, bytes)| take(Shown::new(*number, bytes)))?;
        next = page.next;
    }
    Ok(())
}

/// The newest ones that are wanted, the newest first, and how many there are in all. Those of an event follow closely on each
/// other, so that whoever looks for one ends with the first page behind it.
pub(super) async fn newest(client: &Client, filter: &AuditFilter, most: usize) -> Result<(Vec<Shown>, u64), Failure> {
    let (mut found, mut size, mut marker) = (Vec::new(), None, String::new());
    loop {
        let left = most.saturating_sub(found.len()).max(1);
        let limit = u32::try_from(left).unwrap_or(u32::MAX).min(limits::LIST_LIMIT);
        let request = ListAuditRecordsRequest {
            filter: Some(filter.clone()),
            from: None,
            newest_first: true,
            limit: Some(limit),
            marker,
        };
        let page = client.list_audit_records(request).await?;
        let is_behind = !filter.event_id.is_empty() && !found.is_empty() && page.records.is_empty();
        let size = *size.get_or_insert(page.size);
        found.extend(page.records.iter().map(|record| Shown::new(record.number, &record.record)));
        if !page.truncated || is_behind || found.len() >= most {
            found.truncate(most);
            return Ok((found, size));
        }
        marker = page.next_marker;
    }
}
