//! Calls that come again after they were carried out: their answer was lost, and whoever waited for it asks once more.
//!
//! Where others had approved the call, that is spent. The same call again changes nothing, so that it needs nobody: before
//! others are asked, it is looked at whether everything is already as the call wants it. A call for which that was found
//! changes nothing whatever happens meanwhile: it gives what is there, or fails. Else whoever repeats a call fast enough
//! would have it carried out, behind somebody who has just undone it, without anybody's approval.

use std::fmt;
use std::future::ready;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// What tells the call from others of its operation about the same resource: the name of what it makes, or its client
    /// token.
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
pub(crate) struct Turns([Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Turns {
    async fn of(&self, operation: Operation, named: &Named, again: &Again) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        (operation.name(), &*named.arn, &*again.of).hash(&mut hasher);
        let at = usize::try_from(hasher.finish()).unwrap_or(usize::MAX) % TURNS;
        match self.0.get(at) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
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
    /// Looks whether a call that others have to approve was carried out before, once any of the same kind has ended.
    pub(super) async fn seen_again(
        &self,
        call: &RequestContext,
        operation: Operation,
        named: &Named,
    ) -> Result<Seen<'_>, Error> {
        let Some(again) = named.again() else { return Ok(Seen::New(None)) };
        let turn = self.repetitions().of(operation, named, again).await;
        match again.is_done(self, call, named.key_or_none()).await? {
            true => Ok(Seen::Done),
            false => Ok(Seen::New(turn)),
        }
    }
}
