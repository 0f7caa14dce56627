//! Calls that come again after they were carried out: their answer was lost, and whoever waited for it asks once more.
//!
//! Where others had approved the call, that is spent. The same call again changes nothing, so that it needs nobody: before
//! others are asked, it is looked at whether everything is already as the call wants it. A call for which that was found
//! changes nothing whatever happens meanwhile: it gives what is there, or fails. Else whoever repeats a call fast enough
//! would have it carried out, behind somebody who has just undone it, without anybody's approval. A key that a client token
//! has begun counts as made: the same call finishes it, as the lifecycle does by itself.

use std::fmt;
use std::future::ready;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use super::Core;
use super::access::Named;
use crate::{Error, RequestContext};
use model::exception::Exception;
use model::id::KeyId;
use model::operation::Operation;

/// Calls of one kind take turns with those that fall upon the same one of so many.
const TURNS: usize = 64;

/// Whether a call was found to have been carried out before, so that it needed nobody's approval. Shared by the look and by
/// the work, which has to leave everything as it is then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done(Arc<AtomicBool>);

impl Done {
    /// Whether nothing may be changed any more.
    pub(crate) fn is_found(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// What was found is not there any more.
    pub(crate) fn gone(what: &str) -> Error {
        let what = format!("{what} was there when the call began, and is there no more; nothing was done: call again");
        Error::transient(Exception::KmsInternal, what)
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<bool, Error>> + Send>>;
type Look = dyn Fn(Core, RequestContext, KeyId) -> Answer + Send + Sync;

/// A look whether everything is already as a call wants it.
#[derive(Clone)]
pub(crate) struct Again {
    done: Done,
    /// What tells the call from others of its principal and operation about the same resource: the name of what it makes,
    /// or its client token. Calls that make something and have neither are no repetitions of each other, and have no look.
    of: Arc<str>,
    look: Arc<Look>,
}

impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Again")
    }
}

impl Again {
    /// Looks at what is in memory, with the key that the call names.
    pub(crate) fn seen(
        done: &Done,
        of: &str,
        look: impl Fn(&Core, &RequestContext, KeyId) -> bool + Send + Sync + 'static,
    ) -> Self {
        let look = move |core: Core, call: RequestContext, key: KeyId| -> Answer {
            Box::pin(ready(Ok(look(&core, &call, key))))
        };
        Self { done: done.clone(), of: of.into(), look: Arc::new(look) }
    }

    /// Looks in the metadata.
    pub(crate) fn recorded<F>(
        done: &Done,
        of: &str,
        look: impl Fn(Core, RequestContext) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<bool, Error>> + Send + 'static,
    {
        let look = move |core: Core, call: RequestContext, _: KeyId| -> Answer { Box::pin(look(core, call)) };
        Self { done: done.clone(), of: of.into(), look: Arc::new(look) }
    }

    /// Whether the call was carried out before. If so, it changes nothing any more.
    async fn is_done(&self, core: &Core, call: &RequestContext, key: KeyId) -> Result<bool, Error> {
        let done = (self.look)(core.clone(), call.clone(), key).await?;
        if done {
            self.done.0.store(true, Ordering::Release);
        }
        Ok(done)
    }
}

/// Turns of calls that may be repetitions of each other: the second one looks when the first has ended.
pub(crate) struct Turns {
    places: [Mutex<()>; TURNS],
    /// Other ones with each start: nobody works out which calls others have to wait for.
    seed: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self { places: std::array::from_fn(|_| Mutex::default()), seed: RandomState::new() }
    }
}

impl Turns {
    /// The turn of a call that is this one, if it comes in the time that is left.
    async fn of(&self, call: impl Hash, left: Duration) -> Result<Option<MutexGuard<'_, ()>>, Error> {
        let at = usize::try_from(self.seed.hash_one(call)).unwrap_or(usize::MAX) % TURNS;
        let Some(turn) = self.places.get(at) else { return Ok(None) };
        tokio::time::timeout(left, turn.lock()).await.map(Some).map_err(|_| Error::late())
    }
}

/// What a look before others are asked has come to.
pub(crate) enum Seen<'a> {
    /// The call was carried out before, and changes nothing.
    Done,
    /// It was not; nobody carries the same out while this is held.
    New(Option<MutexGuard<'a, ()>>),
}

impl Core {
    /// Looks whether a call that others have to approve was carried out before, once any of the same kind has ended. Fails
    /// where that takes until the call's deadline; nothing is spent by then.
    pub(super) async fn seen_again(
        &self,
        call: &RequestContext,
        operation: Operation,
        named: &Named,
    ) -> Result<Seen<'_>, Error> {
        let Some(again) = named.again() else { return Ok(Seen::New(None)) };
        let requester = self.keyring().party(&call.principal).0.to_owned();
        let left = call.deadline.saturating_duration_since(self.clock().now());
        let this = (requester.as_str(), operation.name(), &*named.arn, &*again.of);
        let turn = self.repetitions().of(this, left).await?;
        match again.is_done(self, call, named.key_or_none()).await? {
            true => Ok(Seen::Done),
            false => Ok(Seen::New(turn)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_that_does_not_come_in_time_is_late() {
        let turns = Turns::default();
        let call = ("anna", "EnableKey", "arn", "");
        let first = turns.of(call, Duration::ZERO).await.unwrap();
        let late = turns.of(call, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((late.exception, late.retryable), (Exception::DependencyTimeout, true));
        drop(first);
        assert!(turns.of(call, Duration::ZERO).await.unwrap().is_some());
    }
}
