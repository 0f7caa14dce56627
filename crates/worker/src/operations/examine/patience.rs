//! When a refusal says something of what was asked, and not of the moment. Pure.
//!
//! **Invariant:** no code that a token may say when it has too much to do counts as a refusal. It is asked again after a
//! pause, and where it goes on saying so, nothing follows: neither that it refuses, nor that it enforces something by that.
//! So throttling contradicts nothing, and a token whose true refusal has such a code is not waited for without an end.

use std::time::Duration;

use protocol::Class;

/// Before it is asked again: longer each time.
const PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200)];
/// All pauses of an examination together. A worker that is examined is given half a minute for it, where that is not set
/// otherwise, and an HSM that always says so of many things is not to take longer for each of them.
const ALL: Duration = Duration::from_secs(2);

/// What is left of the pauses.
#[derive(Debug)]
pub(super) struct Patience {
    left: Duration,
}

/// One thing that is asked until it is known what to think of it.
#[derive(Debug, Default)]
pub(super) struct Question {
    refused: bool,
    pauses: usize,
}

/// What follows from a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is asked again, if the token is in order.
    Again,
    /// The same, after a pause.
    After(Duration),
    /// It is believed.
    Believed,
    /// It says nothing for or against the token, which may be busy.
    NotJudged,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: ALL }
    }
}

impl Question {
    /// The token has refused it so.
    pub(super) fn after(&mut self, class: Class, patience: &mut Patience) -> Then {
        if !class.may_be_busy() {
            return if std::mem::replace(&mut self.refused, true) { Then::Believed } else { Then::Again };
        }
        match PAUSES.get(self.pauses) {
            Some(pause) if *pause <= patience.left => {
                self.pauses += 1;
                patience.left -= *pause;
                Then::After(*pause)
            }
            _ => Then::NotJudged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn then(classes: &[Class]) -> Vec<Then> {
        let (mut question, mut patience) = (Question::default(), Patience::default());
        classes.iter().map(|class| question.after(*class, &mut patience)).collect()
    }

    #[test]
    fn a_refusal_is_believed_when_it_is_said_twice() {
        for class in [Class::Refused, Class::Request, Class::Token, Class::Session, Class::Ambiguous, Class::KeyAbsent]
        {
            assert_eq!(then(&[class, class]), [Then::Again, Then::Believed], "{class:?}");
            assert_eq!(then(&[class, Class::Refused]), [Then::Again, Then::Believed], "{class:?}");
        }
    }

    #[test]
    fn what_may_be_throttling_is_never_believed_however_often_it_is_said() {
        for busy in [Class::Busy, Class::AmbiguousOrBusy] {
            let all = then(&[busy; 10]);
            let (pauses, end) = all.split_at(PAUSES.len());
            assert!(pauses.iter().zip(PAUSES).all(|(then, pause)| *then == Then::After(pause)), "{all:?}");
            assert!(end.iter().all(|then| *then == Then::NotJudged), "{all:?}");
        }
    }

    #[test]
    fn a_refusal_between_is_not_made_more_of_by_throttling() {
        let [first, second, third] = PAUSES;
        assert_eq!(
            then(&[Class::Busy, Class::Refused, Class::AmbiguousOrBusy, Class::Refused]),
            [Then::After(first), Then::Again, Then::After(second), Then::Believed]
        );
        assert_eq!(
            then(&[Class::Refused, Class::Busy, Class::Busy, Class::Busy, Class::Busy]),
            [Then::Again, Then::After(first), Then::After(second), Then::After(third), Then::NotJudged]
        );
    }

    #[test]
    fn an_examination_waits_no_longer_than_it_may() {
        let mut patience = Patience::default();
        let mut waited = Duration::ZERO;
        for _ in 0..100 {
            let mut question = Question::default();
            while let Then::After(pause) = question.after(Class::Busy, &mut patience) {
                waited += pause;
            }
        }
        assert!(waited <= ALL && waited + PAUSES[0] > ALL, "{waited:?}");
    }
}
