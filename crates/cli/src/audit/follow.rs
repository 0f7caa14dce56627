//! The service's audit log, followed for as long as somebody wants it: a stream that ends is opened again where it was.

use std::convert::Infallible;
use std::time::Duration;

use client::Client;
use proto::v1::{AuditFilter, FollowAuditRecordsRequest, ListAuditRecordsRequest};

use super::record::Shown;
use super::tail::print;
use crate::Context;
use crate::failure::{Exit, Failure};
use model::text;

/// Before a stream is opened again, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Where it is.
struct At<'a> {
    filter: &'a AuditFilter,
    /// The number of the record that comes next. All before it were printed, if they are wanted.
    next: u64,
    pause: Duration,
    /// It was told that the stream has ended.
    is_told: bool,
}

/// Prints what comes from this record on, each record once, until something is wrong that does not pass by itself.
pub(super) async fn follow(context: &Context, client: Client, filter: &AuditFilter, next: u64) -> Failure {
    let mut at = At { filter, next, pause: PAUSES.0, is_told: false };
    let mut client = Some(client);
    loop {
        let Err(failure) = stream(context, client.take(), &mut at).await;
        if !failure.may_pass() {
            return failure;
        }
        if !std::mem::replace(&mut at.is_told, true) {
            context.printer.note(format!("{}; it is tried again", text::shown(&failure.message)));
        }
        tokio::time::sleep(at.pause).await;
        at.pause = (at.pause * 2).min(PAUSES.1);
    }
}

/// One stream, to its end.
async fn stream(context: &Context, client: Option<Client>, at: &mut At<'_>) -> Result<Infallible, Failure> {
    let client = match client {
        Some(client) => client,
        None => connect_again(context, at.next).await?,
    };
    let request = FollowAuditRecordsRequest { filter: Some(at.filter.clone()), from: Some(at.next) };
    let mut records = client.follow_audit_records(request).await?;
    if std::mem::take(&mut at.is_told) {
        context.printer.note(format!("it goes on with record {}", at.next));
    }
    while let Some(come) = records.next().await? {
        for record in come.records {
            print(context, &Shown::new(record.number, &record.record))?;
        }
        (at.next, at.pause) = (come.next, PAUSES.0);
    }
    Err(Failure::new(Exit::Retryable, "the service has ended the stream"))
}

/// With the files as they are now: certificates are renewed. A log that has fewer records than were seen would be waited for in vain.
async fn connect_again(context: &Context, next: u64) -> Result<Client, Failure> {
    let client = context.connection.connect().await?;
    let request = ListAuditRecordsRequest { from: Some(next), limit: Some(1), ..ListAuditRecordsRequest::default() };
    let size = client.list_audit_records(request).await?.size;
    if size < next {
        return Err(Failure::new(
            Exit::Refused,
            format!("the audit log has {size} records, and {next} were seen: it is another one, or was set back"),
        ));
    }
    Ok(client)
}
