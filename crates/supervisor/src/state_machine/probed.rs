//! What follows from probes that a worker which serves did not answer well.

use std::time::{Duration, Instant};

use super::{Action, State, StateMachine, Trouble};
use model::key_store::ConnectionErrorCode as Code;
use protocol::{Class, Fault};

/// Probes that must fail in a row before a worker is started again.
const MISSES: u8 = 2;

/// A worker that says for so long, to each probe, that there is too much to do, while nothing is done for callers either,
/// is as good as one that does not answer.
pub(super) const BUSY_FOR: Duration = Duration::from_secs(60);

impl StateMachine {
    /// It was not answered well.
    pub(super) fn missed(&mut self, since: Instant, misses: u8, fault: &Fault, now: Instant) -> &'static [Action] {
        if !fault.class.may_be_busy() {
            self.busy_since = None;
        }
        match fault.class {
            // Starting again would not bring these back, and the keys may be sound.
            Class::KeyAbsent | Class::KeyUnusable | Class::Refused | Class::Request => {
                let why = format!("the probe says {fault}; the ceremony may have to be carried out again");
                self.trouble = Some(Trouble::of_worker(Code::InternalError, why));
                self.state = State::Ready { since, misses: 0 };
                &[]
            }
            // Nothing passes about this, and admission says it until it is over.
            Class::Incompatible => {
                self.trouble = Some(Trouble::of_worker(Code::InsufficientCloudHsmHsms, fault.to_string()));
                self.leave_ready(since, now, Some(now + self.policy.leave));
                &[Action::Withdraw, Action::Close]
            }
            Class::Busy | Class::AmbiguousOrBusy => self.busy(since, fault, false, now),
            Class::Token | Class::Session | Class::Ambiguous | Class::Login | Class::Locked if misses + 1 < MISSES => {
                self.trouble = Some(Trouble::of_worker(Code::NetworkErrors, format!("the last probe failed: {fault}")));
                self.state = State::Ready { since, misses: misses + 1 };
                &[]
            }
            Class::Token | Class::Session | Class::Ambiguous | Class::Login | Class::Locked => {
                let why = format!(
                    "the probe failed {MISSES} times in a row ({fault}), so the worker is started again: see whether \
                     the token is there and in order"
                );
                self.trouble = Some(Trouble::of_worker(Code::NetworkErrors, why));
                self.leave_ready(since, now, Some(now + self.policy.leave));
                &[Action::Withdraw, Action::Close]
            }
        }
    }

    /// It is there, and says so itself: neither a probe that it failed nor one that it stood. For a while.
    pub(super) fn busy(&mut self, since: Instant, fault: &Fault, served: bool, now: Instant) -> &'static [Action] {
        let began = *self.busy_since.get_or_insert(now);
        if served {
            self.busy_since = Some(now);
            return &[];
        }
        if now.saturating_duration_since(began) < BUSY_FOR {
            return &[];
        }
        let why = format!(
            "for {BUSY_FOR:?} the HSM has said nothing but that it has too much to do ({fault}), so the worker is taken out \
             of service and started again: see what else uses the HSM, and whether it is in order"
        );
        self.trouble = Some(Trouble::of_worker(Code::NetworkErrors, why));
        self.leave_ready(since, now, Some(now + self.policy.leave));
        &[Action::Withdraw, Action::Close]
    }
}
