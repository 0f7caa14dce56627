//! C_SetPIN by kmsuser. Sessions of this and of other processes go on with it.

use cryptoki::types::AuthPin;

use super::login::may_be_tried;
use crate::fault::Failure;
use crate::owner::Owner;
use model::secret::Secret;
use protocol::{Class, Reply};

/// One attempt, which counts in the token as a login does where the old PIN is wrong. Both PINs must be text.
pub(super) fn run(owner: &mut Owner, old: &Secret, new: &Secret) -> Result<Reply, Failure> {
    may_be_tried(owner, "C_SetPIN")?;
    let login = &owner.token.module.capabilities().login;
    let whole = |pin: &Secret| text(&Secret::new(login.text(pin.expose())));
    owner.session.set_pin(&whole(old)?, &whole(new)?)?;
    Ok(Reply::Done)
}

/// A PIN as the module takes it.
pub(super) fn text(pin: &Secret) -> Result<AuthPin, Failure> {
    match std::str::from_utf8(pin.expose()) {
        Ok(pin) if !pin.is_empty() => Ok(AuthPin::from(pin.to_owned())),
        _ => Err(Failure::own(Class::Request, "PIN", "a PIN must be text and not empty")),
    }
}
