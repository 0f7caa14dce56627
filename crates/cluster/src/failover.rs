//! What follows from an answer, and who is asked next: pure decisions.

use std::time::Duration;

use super::Error;
use super::route::{bit, bits};
use protocol::Class;
use supervisor::CallError;

/// What follows from one item's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The item is at its end: the caller's fault.
    Refuse,
    /// The member no longer has the key: exclude it for this key, ask another.
    Absent,
    /// The member does not use the key that it has: exclude it for this key until it opens its proof, ask another.
    Broken,
    /// The proof ciphertext tells whose fault it is.
    Prove,
    /// The member has too much to do: ask another, and this one later.
    Later,
    /// The member's fault: ask another.
    Elsewhere,
}

/// What follows from a fault of an item. `decrypts`: the operation opens a ciphertext, which may be a bad one.
pub(super) fn judge(class: Class, decrypts: bool) -> Step {
    match class {
        Class::KeyAbsent => Step::Absent,
        Class::KeyUnusable => Step::Broken,
        // A token that says "bad ciphertext" says the same of a good one whose key was swapped.
        Class::Ambiguous | Class::AmbiguousOrBusy | Class::Request if decrypts => Step::Prove,
        Class::Request => Step::Refuse,
        Class::Busy | Class::AmbiguousOrBusy => Step::Later,
        // Nothing that a caller can put into an Encrypt makes a sound token fail, so it is the token.
        Class::Ambiguous
        | Class::Session
        | Class::Token
        | Class::Login
        | Class::Locked
        | Class::Refused
        | Class::Incompatible => Step::Elsewhere,
    }
}

/// Which members were asked for a group of items, and how it went.
///
/// Each member is asked once; one that died, failed or was merely slow a second time after all others, since another of
/// its workers may be sound. So a call ends after at most twice as many requests as there are members.
#[derive(Debug, Default)]
pub(super) struct AttemptLog {
    asked: u64,
    again: u64,
    spent: u64,
    /// A queue was full, or the HSM itself had too much to do.
    pub busy: bool,
    /// A queue was so long that the deadline would have passed before the turn came; the shortest wait.
    pub hopeless: Option<Duration>,
    /// The deadline passed.
    pub late: bool,
    /// Some member had the items, and may have carried them out.
    pub sent: bool,
    /// The one hedge is used up.
    pub hedged: bool,
    /// Members whose answer said neither that an item is bad nor that they have too much to do, but one of the two.
    pub unsettled: u64,
    /// Why members did not serve.
    pub why: Vec<(usize, String)>,
}

impl AttemptLog {
    /// Members of `usable` among which the next is to be chosen; 0 when there is none left.
    pub(super) fn open(&self, usable: u64) -> u64 {
        if self.late {
            return 0;
        }
        match usable & !self.asked {
            0 => usable & self.again & !self.spent,
            fresh => fresh,
        }
    }

    /// Members of `usable` that were not asked at all.
    pub(super) fn fresh(&self, usable: u64) -> u64 {
        usable & !self.asked
    }

    /// Notes that a member is being asked.
    pub(super) fn ask(&mut self, member: usize) {
        if self.asked & bit(member) != 0 {
            self.spent |= bit(member);
        }
        self.asked |= bit(member);
    }

    /// Notes that a member gave no reply.
    pub(super) fn unanswered(&mut self, member: usize, error: &CallError) {
        match error {
            CallError::Busy => self.busy = true,
            CallError::WouldMissDeadline(wait) => {
                self.hopeless = Some(self.hopeless.map_or(*wait, |known| known.min(*wait)))
            }
            CallError::NotReady => {}
            CallError::DeadlineExceeded { .. } => self.late = true,
            CallError::WorkerLost => self.again |= bit(member),
        }
        self.blame(member, error.to_string());
    }

    /// Notes that a member is slow, or failed in a way that another of its workers need not share.
    pub(super) fn second_chance(&mut self, member: usize) {
        self.again |= bit(member);
    }

    /// Notes that a member whose answer was unsettled has opened the proof since: it is asked once more, whatever was asked of
    /// it before, since only it can say now what is to be thought of the item.
    pub(super) fn settled(&mut self, member: usize) {
        self.unsettled &= !bit(member);
        self.may_have_it_by_now(member);
    }

    /// Notes that a member that replicates its keys by itself may have a key by now that it did not find: it is asked once
    /// more, whatever was asked of it before.
    pub(super) fn may_have_it_by_now(&mut self, member: usize) {
        self.spent &= !bit(member);
        self.again |= bit(member);
    }

    /// Somebody has too much to do, or may have.
    pub(super) fn is_busy(&self) -> bool {
        self.busy || self.unsettled != 0
    }

    /// Notes why a member did not serve; the last word counts.
    pub(super) fn blame(&mut self, member: usize, why: String) {
        match self.why.iter_mut().find(|(of, _)| *of == member) {
            Some((_, known)) => *known = why,
            None => self.why.push((member, why)),
        }
    }

    /// Why an item that nobody served has no result. `placed`: where its key was meant to be; `absent`: where it turned
    /// out not to be; `permanent`: a member will not serve before somebody has done something; `sentence` describes
    /// one.
    pub(super) fn verdict(
        &self,
        placed: u64,
        absent: u64,
        permanent: impl Fn(usize) -> bool,
        sentence: impl Fn(usize) -> String,
    ) -> Error {
        if placed & !absent == 0 {
            Error::KeyGone
        } else if self.late {
            Error::DeadlineExceeded
        } else if let Some(wait) = self.hopeless {
            Error::WouldMissDeadline(wait)
        } else if self.is_busy() {
            Error::Busy
        } else {
            let why = bits(placed).map(sentence).collect::<Vec<_>>().join("; ");
            if bits(placed & !absent).all(permanent) { Error::Refused(why) } else { Error::NoZone(why) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_callers_faults_end_an_item() {
        let all = [
            Class::Request,
            Class::KeyAbsent,
            Class::KeyUnusable,
            Class::Session,
            Class::Token,
            Class::Login,
            Class::Locked,
            Class::Ambiguous,
            Class::Refused,
            Class::Incompatible,
            Class::Busy,
            Class::AmbiguousOrBusy,
        ];
        for class in all {
            assert_eq!(judge(class, false) == Step::Refuse, class == Class::Request);
            let prove = matches!(class, Class::Request | Class::Ambiguous | Class::AmbiguousOrBusy);
            assert_eq!(judge(class, true) == Step::Prove, prove, "a ciphertext is bad when the key proves to be good");
        }
        assert_eq!(judge(Class::Ambiguous, false), Step::Elsewhere);
        assert_eq!([false, true].map(|decrypts| judge(Class::Busy, decrypts)), [Step::Later; 2]);
        assert_eq!(judge(Class::AmbiguousOrBusy, false), Step::Later);
    }

    #[test]
    fn a_member_that_died_is_asked_again_after_the_others() {
        let mut attempts = AttemptLog::default();
        attempts.ask(0);
        attempts.unanswered(0, &CallError::WorkerLost);
        assert_eq!(attempts.open(0b11), 0b10);
        attempts.ask(1);
        attempts.unanswered(1, &CallError::NotReady);
        assert_eq!(attempts.open(0b11), 0b01);
        attempts.ask(0);
        attempts.unanswered(0, &CallError::WorkerLost);
        assert_eq!(attempts.open(0b11), 0);
    }

    #[test]
    fn verdicts() {
        let say = |member: usize| format!("HSM {member}");
        let (never, always) = (|_| false, |_| true);
        let mut attempts = AttemptLog::default();
        assert!(matches!(attempts.verdict(0, 0, never, say), Error::KeyGone));
        assert!(matches!(attempts.verdict(0b11, 0b11, never, say), Error::KeyGone));
        assert!(matches!(attempts.verdict(0b11, 0b01, never, say), Error::NoZone(text) if text == "HSM 0; HSM 1"));
        assert!(matches!(attempts.verdict(0b11, 0, |at| at == 0, say), Error::NoZone(_)), "one of them may come back");
        assert!(matches!(attempts.verdict(0b11, 0b01, |at| at == 1, say), Error::Refused(_)));
        assert!(matches!(attempts.verdict(0b11, 0, always, say), Error::Refused(text) if text == "HSM 0; HSM 1"));
        attempts.unanswered(0, &CallError::Busy);
        assert!(matches!(attempts.verdict(0b11, 0, never, say), Error::Busy));
        for wait in [70, 50, 60] {
            attempts.unanswered(0, &CallError::WouldMissDeadline(Duration::from_millis(wait)));
        }
        let verdict = attempts.verdict(0b11, 0, never, say);
        assert!(matches!(verdict, Error::WouldMissDeadline(wait) if wait == Duration::from_millis(50)), "{verdict}");
        attempts.unanswered(1, &CallError::DeadlineExceeded { sent: true });
        assert!(matches!(attempts.verdict(0b11, 0, never, say), Error::DeadlineExceeded));
    }

    proptest! {
        #[test]
        fn every_call_ends(usable: u64, picks in prop::collection::vec((any::<usize>(), 0..5_u8), 200)) {
            let mut attempts = AttemptLog::default();
            let mut requests = 0;
            for (pick, outcome) in picks {
                let open: Vec<usize> = bits(attempts.open(usable)).collect();
                let Some(member) = (!open.is_empty()).then(|| open[pick % open.len()]) else { break };
                attempts.ask(member);
                requests += 1;
                match outcome {
                    0 => attempts.unanswered(member, &CallError::Busy),
                    1 => attempts.unanswered(member, &CallError::NotReady),
                    2 => attempts.unanswered(member, &CallError::WorkerLost),
                    3 => attempts.second_chance(member),
                    _ => attempts.blame(member, "token".to_owned()),
                }
            }
            prop_assert!(requests <= 2 * usable.count_ones());
            prop_assert_eq!(attempts.open(usable), 0);
        }
    }
}
