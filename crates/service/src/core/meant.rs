//! What names stand for when a call begins. Others approve a call for that alone: whoever has an ARN, or whichever key
//! has an alias, when it is carried out must be who and which that was.

use std::sync::Arc;

use super::{Core, validate};
use crate::Error;
use model::exception::Exception;
use model::id::PrincipalId;
use model::operation::Operation;
use store::access::Principal;

/// What a name stands for when a call begins; looked at only where others may have to approve the call. Where nobody has
/// to, it may stand for anything when the call is carried out.
#[derive(Clone, Debug)]
pub(crate) struct Meant<T>(Option<Option<T>>);

impl<T: PartialEq> Meant<T> {
    /// `None` where it stands for nothing, or where nobody looked.
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()?.as_ref()
    }

    /// Whether that is what it stands for now.
    pub(crate) fn is_still(&self, now: &T) -> bool {
        self.0.as_ref().is_none_or(|meant| meant.as_ref() == Some(now))
    }
}

/// A principal as a call names it.
#[derive(Clone, Debug)]
pub(crate) struct Whom {
    arn: String,
    id: Meant<PrincipalId>,
}

impl Whom {
    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    /// One that is made anew under the same ARN has another.
    pub(crate) fn id(&self) -> Option<&PrincipalId> {
        self.id.get()
    }

    /// The principal, if it is the same one as when the call began.
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

impl Core {
    /// What a name stands for now, of a call that begins.
    pub(crate) fn meant<T>(&self, operation: Operation, look: impl FnOnce() -> Option<T>) -> Meant<T> {
        Meant(self.approvals().operations.contains(&operation).then(look))
    }

    /// Whom a call that begins means by an ARN.
    pub(crate) fn whom(&self, operation: Operation, arn: &str) -> Whom {
        let look = || self.store().catalogue().principal_with_arn(arn).map(|principal| principal.id.clone());
        Whom { arn: arn.to_owned(), id: self.meant(operation, look) }
    }
}
