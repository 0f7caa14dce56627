//! Log in as kmsuser, then list the keys.

use cryptoki::error::{Error, RvError};
use cryptoki::object::ObjectClass;
use cryptoki::session::{Session, UserType};
use cryptoki::types::RawAuthPin;

use crate::fault::Failure;
use crate::module::user_flags;
use crate::owner::{Owner, lock};
use crate::{objects, template};
use model::id::KeyVersionId;
use model::secret::Secret;
use protocol::{Class, LoggedIn, Reply};

/// One C_Login for the whole process that the token looks at the PIN for.
pub(super) fn run(owner: &mut Owner, pin: &Secret) -> Result<Reply, Failure> {
    may_be_tried(owner, "C_Login")?;
    // Wiped by the type that takes it over.
    let pin = RawAuthPin::new(Box::new(owner.token.module.capabilities().login.text(pin.expose())));
    log_in(&lock(&owner.token.pinned), &pin)?;
    owner.took_pin();
    // One look for all that is to be known, keys and objects of the ceremony: each search costs as much.
    let found = objects::look(&owner.token.module, &owner.session, &[])?;
    let ceremony = found.ceremony()?;
    *lock(&owner.token.canary) = found.named(ObjectClass::SECRET_KEY, template::CANARY)?;
    *lock(&owner.token.wrapping) = found.named(ObjectClass::SECRET_KEY, template::WRAPPING)?;
    *lock(&owner.token.identity) = found.named(ObjectClass::PRIVATE_KEY, template::IDENTITY)?;
    *lock(&owner.token.transport) = found.named(ObjectClass::PRIVATE_KEY, template::TRANSPORT)?;
    // Two of a kind are nothing that a login fails by: whoever wants the log key finds them again, and says so.
    let half = |class| found.named(class, template::LOG).ok().flatten();
    *lock(&owner.token.log_halves) =
        half(ObjectClass::PRIVATE_KEY).zip(half(ObjectClass::PUBLIC_KEY)).map(|(private, public)| [private, public]);
    owner.token.keys.learn(&found.keys, owner.token.clock.now());
    let mut keys: Vec<KeyVersionId> = found.keys.into_iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    tracing::info!(keys = keys.len(), "logged in");
    Ok(Reply::LoggedIn(Box::new(LoggedIn { keys, ceremony })))
}

/// A token that has somebody logged in does not look at the PIN, and a wrong one would pass for the right one: as where it said of
/// an earlier one that it has to be changed, and let its user in for that.
fn log_in(session: &Session, pin: &RawAuthPin) -> Result<(), Failure> {
    let is_in = |outcome: &Result<(), Error>| matches!(outcome, Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)));
    let outcome = session.login_with_raw(UserType::User, pin);
    if !is_in(&outcome) {
        return outcome.map_err(Failure::from);
    }
    let logged_out = session.logout();
    let outcome = session.login_with_raw(UserType::User, pin);
    match logged_out {
        _ if !is_in(&outcome) => outcome.map_err(Failure::from),
        // One that no process can log out was let in by other means than a PIN.
        Ok(()) | Err(Error::NullFunctionPointer | Error::Pkcs11(RvError::FunctionNotSupported, _)) => Ok(()),
        // Nobody has looked at the PIN. Under a code of the module's own this could pass for a word about it.
        Err(error) => {
            let detail =
                format!("kmsuser is logged in already and was not logged out, so that no PIN is looked at: {error}");
            Err(Failure::own(Class::Token, "C_Logout", detail))
        }
    }
}

/// Whether a PIN may be tried, wrong as it may be: the token's flags are looked at right before it, where they tell anything,
/// and the last try is never spent.
pub(super) fn may_be_tried(owner: &Owner, function: &'static str) -> Result<(), Failure> {
    let info = owner.token.module.extra().token_info(owner.token.slot)?;
    let user = user_flags(&info, &owner.token.module.capabilities().login);
    let refused = |detail: &str| Failure::own(Class::Login, function, format!("not attempted: {detail}"));
    if user.locked {
        return Err(refused("the token has locked kmsuser; the security officer has to set the PIN again"));
    }
    if user.final_try {
        return Err(refused("one more wrong PIN would lock kmsuser; the security officer has to set the PIN again"));
    }
    Ok(())
}
