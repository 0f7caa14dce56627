//! `AuditService.FollowAuditRecords`: a stream of what comes, which is looked for only while its caller takes what was found.
//!
//! Bounds: [`FOLLOWERS`] streams, shared among principals as those of `CryptoService.Stream` are; one look in work and one
//! message in hand for each; the bytes of that ([`OpenCall`](crate::entry::open_call::OpenCall)); and the turns that the
//! service gives to whoever reads the log.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::audit::record;
use super::error;
use super::stream::{Ending, ending};
use super::stream_slots::{StreamSlot, StreamSlots};
use crate::entry::AdmittedStream;
use crate::entry::open_call::OpenCall;
use auth::peer::Principal;
use model::clock::Clock;
use model::exception::Exception;
use model::limits;
use model::operation::Operation;
use proto::v1::FollowAuditRecordsResponse;
use service::recorder::RefusedCall;
use service::{AuditFollower, Error, RequestContext, Service};

/// Most streams that follow the log: each new head wakes all of them.
const FOLLOWERS: usize = 64;
/// What one look may take, the wait for its turn included.
const LOOK: Duration = Duration::from_secs(30);
/// The most that a look gives.
const MESSAGE_BYTES: usize = limits::AUDIT_FOLLOW_BYTES + limits::AUDIT_RECORD_BYTES;

/// What a caller reads.
pub(super) type Following = Pin<Box<dyn Stream<Item = Result<FollowAuditRecordsResponse, Status>> + Send>>;

/// Opens streams and keeps count of them.
pub(super) struct Followers {
    slots: StreamSlots,
    closing: CancellationToken,
    clock: Clock,
}

/// One stream.
struct Follow {
    admitted: AdmittedStream,
    slot: StreamSlot,
    service: Service,
    follower: AuditFollower,
    clock: Clock,
    /// What is counted for the message that was given out last.
    taken: usize,
}

impl Followers {
    /// All of them end when `closing` is cancelled.
    pub(super) fn new(closing: CancellationToken, clock: Clock) -> Self {
        Self { slots: StreamSlots::new(FOLLOWERS, clock.clone()), closing, clock }
    }

    /// A place for one more.
    pub(super) fn place(&self, principal: &Principal, open: Option<&Arc<OpenCall>>) -> Result<StreamSlot, Error> {
        self.slots.take(principal, open).ok_or_else(|| {
            error::throttling(format!(
                "{FOLLOWERS} callers follow the audit log, as many as may; end some, or list records"
            ))
        })
    }

    /// Follows from now on.
    pub(super) fn open(
        &self,
        service: &Service,
        admitted: AdmittedStream,
        slot: StreamSlot,
        follower: AuditFollower,
    ) -> Following {
        let (service, clock) = (service.clone(), self.clock.clone());
        let ending = ending(admitted.remaining(), self.closing.clone(), slot.stream.leaves()).boxed();
        let follow = Follow { admitted, slot, service, follower, clock, taken: 0 };
        stream::unfold(Some((follow, ending)), next).boxed()
    }
}

type State = Option<(Follow, BoxFuture<'static, Ending>)>;

async fn next(state: State) -> Option<(Result<FollowAuditRecordsResponse, Status>, State)> {
    let (mut follow, mut ending) = state?;
    let given = tokio::select! {
        biased;
        ending = &mut ending => Err(error::status(&why(&ending))),
        given = follow.next() => given,
    };
    let state = given.is_ok().then_some((follow, ending));
    Some((given, state))
}

impl Follow {
    /// Asked for when the message before has been handed on.
    async fn next(&mut self) -> Result<FollowAuditRecordsResponse, Status> {
        let open = self.admitted.open().cloned();
        if let Some(open) = open.as_ref().filter(|_| self.taken > 0) {
            open.release(std::mem::take(&mut self.taken));
        }
        self.slot.stream.is_in_work(false);
        self.follower.ready().await;
        self.slot.stream.is_in_work(true);
        if !open.as_ref().is_none_or(|open| open.reserve(MESSAGE_BYTES)) {
            return Err(error::status(&error::full()));
        }
        let call = match self.admitted.window() {
            Ok(call) => call,
            Err(refusal) => {
                let error = Error::new(Exception::AccessDenied, refusal.to_string(), false);
                let refused = self.admitted.refused(1, error);
                // Whoever is nobody any more has no record of its own.
                let operation = Some(Operation::FollowAuditRecords);
                self.service.refused_at_entry(RefusedCall { operation, ..refused }).await;
                return Err(error::refused(&refusal));
            }
        };
        let call = RequestContext { deadline: self.clock.now() + LOOK, ..call };
        let found = self.follower.look(&call).await.map_err(|error| error::status(&error))?;
        let bytes = found.records.iter().map(|record| record.record.len()).sum::<usize>().min(MESSAGE_BYTES);
        if let Some(open) = open {
            open.release(MESSAGE_BYTES - bytes);
        }
        self.taken = bytes;
        let records = found.records.into_iter().map(record).collect();
        Ok(FollowAuditRecordsResponse { records, next: found.next })
    }
}

fn why(ending: &Ending) -> Error {
    match ending {
        Ending::Late => error::late(),
        Ending::Closing => error::closing(),
        Ending::MakesRoom => error::throttling(
            "as many callers follow the audit log as may, and this stream made room for another one; open it again with the \
             number that the last message named",
        ),
    }
}
