//! Set kmsuser's PIN in a token that has no user yet, as its security officer.

use cryptoki::session::UserType;

use crate::fault::Failure;
use crate::module::Module;
use crate::operations::change_pin::text;
use model::secret::Secret;
use protocol::{Class, Reply, Token};

/// One login of the security officer. A user that is there is left alone.
pub(super) fn run(module: &Module, token: &Token, so_pin: &Secret, user_pin: &Secret) -> Result<Reply, Failure> {
    let (so_pin, user_pin) = (text(so_pin)?, text(user_pin)?);
    let found = module.find(token)?;
    if found.info.user_pin_initialized() {
        let detail = "the token has a user already; the officer can set its PIN by the vendor's tool";
        return Err(Failure::own(Class::Refused, "C_InitPIN", detail));
    }
    if found.info.so_pin_locked() || found.info.so_pin_final_try() {
        let detail = "the token has locked its security officer, or would with one more wrong PIN";
        return Err(Failure::own(Class::Login, "C_Login", detail));
    }
    let session = module.pkcs11().open_rw_session(found.slot)?;
    session.login(UserType::So, Some(&so_pin))?;
    let set = session.init_pin(&user_pin);
    let left = session.logout();
    set?;
    left?;
    Ok(Reply::Done)
}
