//! What names stand for when it is asked whether others have approved a call. They approve it for that alone: whoever has
//! an ARN, or whichever key has an alias, when it is carried out must be who and which that was.

use std::sync::{Arc, OnceLock};

use super::{Core, validate};
use crate::Error;
use model::exception::Exception;
use model::id::PrincipalId;
use store::access::Principal;

/// What a name stands for, from the first look at it on. It is looked at when others have to be told what a call asks
/// for; where nobody has to approve the call, it may stand for anything when that is carried out.
#[derive(Debug)]
pub(crate) struct Meant<T>(Arc<OnceLock<Option<T>>>);

impl<T> Default for Meant<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Meant<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: PartialEq> Meant<T> {
    /// What it stands for: now at the first look, and that from then on. `None` where it stands for nothing.
    pub(crate) fn look(&self, now: impl FnOnce() -> Option<T>) -> Option<&T> {
        self.0.get_or_init(now).as_ref()
    }

    /// The same; `None` where nobody looked too.
    pub(crate) fn seen(&self) -> Option<&T> {
        self.0.get()?.as_ref()
    }

    /// Whether that is what it stands for now.
    pub(crate) fn is_still(&self, now: &T) -> bool {
        self.0.get().is_none_or(|meant| meant.as_ref() == Some(now))
    }
}

/// A principal as a call names it.
#[derive(Clone, Debug)]
pub(crate) struct Whom {
    arn: String,
    id: Meant<PrincipalId>,
}

impl Whom {
    pub(crate) fn named(arn: &str) -> Self {
        Self { arn: arn.to_owned(), id: Meant::default() }
    }

    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    /// Whom it means, which is who has the ARN at the first look. One that is made anew under it has another id.
    pub(crate) fn id(&self, core: &Core) -> Option<&PrincipalId> {
        let look = || core.store().catalogue().principal_with_arn(&self.arn).map(|principal| principal.id.clone());
        self.id.look(look)
    }

    /// The principal, if it is the same one as at the first look.
    pub(crate) fn now(&self, core: &Core) -> Result<Arc<Principal>, Error> {
        let principal = core.principal(&self.arn)?;
        match self.id.is_still(&principal.id) {
            true => Ok(principal),
            false => Err(others(&validate::shown(&self.arn))),
        }
    }
}

/// Somebody is not who was meant when the call began.
pub(crate) fn others(who: &str) -> Error {
    let what = format!("{who} is somebody else than when the call began; nothing was done: make the call again");
    Error::permanent(Exception::Conflict, what)
}
