//! One request to one member, and to a second one when the answer is late.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use tokio::time::timeout_at;

use super::dispatch::Dispatcher;
use super::failover::AttemptLog;
use super::health::Observation;
use super::member::Member;
use super::port::Port;
use model::call_options::CallOptions;
use protocol::{Class, Op, Reply};
use supervisor::CallError;

type Answer = Result<Reply, CallError>;

impl<P: Port> Dispatcher<P> {
    /// Asks a member, and once per call another of `usable` when the answer is later than the hedge. The first good
    /// answer wins; one that failed, or has too much to do for some item, waits for the other. Returns who answered.
    pub(super) async fn attempt(
        &self,
        op: &Arc<Op>,
        asked: usize,
        usable: u64,
        attempts: &mut AttemptLog,
        options: CallOptions,
    ) -> (usize, Answer) {
        let member = &self.members[asked];
        attempts.ask(asked);
        let answers = member.answers();
        let asked_at = self.clock.now();
        let hedge_at = asked_at + self.hedge_after;
        let mut first = pin!(self.ask(member, op, options));
        if hedge_at >= options.deadline {
            return (asked, first.await);
        }
        if let Ok(answer) = timeout_at(hedge_at.into(), &mut first).await {
            return (asked, answer);
        }
        // One that has too much to do is late for that reason.
        if !member.is_throttled() {
            member.late(answers, asked_at, self.hedge_after);
        }
        let Some(other) = self.hedge_target(usable, attempts) else { return (asked, first.await) };
        attempts.ask(other);
        attempts.hedged = true;
        tracing::debug!(hsm = %member.hsm, other = %self.members[other].hsm, "late answer, asking another HSM as well");
        let second = pin!(self.ask(&self.members[other], op, options));
        let (early, answer, late, rest) = match select(first, second).await {
            Either::Left((answer, rest)) => (asked, answer, other, Either::Left(rest)),
            Either::Right((answer, rest)) => (other, answer, asked, Either::Right(rest)),
        };
        if is_good(&answer) && !may_be_busy(&answer) {
            attempts.second_chance(late);
            if late == asked {
                // Given up past the hedge's delay; the other one may have had no time at all.
                member.statistics.failed();
            }
            return (early, answer);
        }
        if !is_good(&answer) {
            self.note_failure(early, answer, attempts);
            return (late, rest.await);
        }
        if let Ok(reply) = &answer {
            self.note_busy(early, reply, attempts);
        }
        let other = rest.await;
        if is_good(&other) && !may_be_busy(&other) {
            return (late, other);
        }
        // No better than what came first, of which some items may be done.
        self.note_failure(late, other, attempts);
        (early, answer)
    }

    /// Hands a request to a member and keeps its books.
    async fn ask(&self, member: &Arc<Member<P>>, op: &Arc<Op>, options: CallOptions) -> Answer {
        let asked_at = self.clock.now();
        let answer = member.port.call(Arc::clone(op), options).await;
        let took = || self.clock.now().saturating_duration_since(asked_at);
        match &answer {
            Ok(reply) => {
                member.answered();
                let items = if matches!(reply, Reply::Failed(_)) { 0 } else { op.items() };
                member.statistics.answered(items, took());
            }
            Err(CallError::WorkerLost) => {
                member.statistics.failed();
                member.observe(Observation::Failed, Some(CallError::WorkerLost.to_string()));
            }
            // A deadline shorter than the patience with a member is its caller's own affair.
            Err(CallError::DeadlineExceeded { .. }) if took() >= self.hedge_after => member.statistics.failed(),
            // A full queue is no illness, what is not ready its supervisor reports, and whether lateness is the
            // member's fault or a short deadline's is judged where the hedge goes out.
            Err(
                CallError::Busy
                | CallError::WouldMissDeadline(_)
                | CallError::NotReady
                | CallError::DeadlineExceeded { .. },
            ) => {}
        }
        answer
    }

    /// Who gets the hedge: the best that was not asked, unless its queue is so long that it would only be longer, or it
    /// has too much to do already.
    fn hedge_target(&self, usable: u64, attempts: &AttemptLog) -> Option<usize> {
        let fresh = attempts.fresh(usable);
        if attempts.hedged || fresh == 0 {
            return None;
        }
        let target = self.order(fresh).first()?;
        let member = &self.members[target];
        (member.is_serving() && !member.is_flooded(self.hedge_after) && !member.is_throttled()).then_some(target)
    }

    /// Books the failure of the one whose rival is still waited for.
    fn note_failure(&self, place: usize, answer: Answer, attempts: &mut AttemptLog) {
        attempts.sent |= answer.as_ref().map_or_else(CallError::was_sent, |_| true);
        match answer {
            // The deadline is one for both, so the other will say the same in a moment.
            Err(CallError::DeadlineExceeded { .. }) => {}
            Err(error) => attempts.unanswered(place, &error),
            Ok(Reply::Failed(fault)) => self.note_fault(place, &fault, attempts),
            Ok(reply) => self.note_busy(place, &reply, attempts),
        }
    }

    /// Books that one has too much to do for some item. Where it may have said that the item is bad, its proof tells: when it
    /// is asked again.
    fn note_busy(&self, place: usize, reply: &Reply, attempts: &mut AttemptLog) {
        match reply.busy() {
            Some(fault) if fault.class == Class::AmbiguousOrBusy => attempts.second_chance(place),
            Some(fault) => self.note_fault(place, fault, attempts),
            None => {}
        }
    }
}

fn is_good(answer: &Answer) -> bool {
    !matches!(answer, Err(_) | Ok(Reply::Failed(_)))
}

/// Some item of it was not done, since there was too much to do; or so it seems.
fn may_be_busy(answer: &Answer) -> bool {
    answer.as_ref().is_ok_and(|reply| reply.busy().is_some())
}
