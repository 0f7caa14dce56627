//! Set kmsuser's PIN in a token that has no user yet, as its security officer.

use cryptoki::session::UserType;

use crate::fault::Failure;
use crate::module::{Module, user_flags};
use crate::operations::change_pin::text;
use model::profile::FirstLogin;
use model::secret::Secret;
use protocol::{Class, Reply, Token};

/// One login of the security officer. A user that is there is left alone.
///
/// Where the user has to change what the officer has set, that is a PIN of the moment, and the user changes it to the one
/// that is meant. Broken off in between, nobody knows the PIN of a token that holds nothing yet: it is initialised anew.
pub(super) fn run(module: &Module, token: &Token, so_pin: &Secret, user_pin: &Secret) -> Result<Reply, Failure> {
    let login = &module.capabilities().login;
    let whole = |pin: &Secret| text(&Secret::new(login.text(pin.expose())));
    let (so_pin, meant) = (text(so_pin)?, whole(user_pin)?);
    let found = module.find(token)?;
    if user_flags(&found.info, login).initialised {
        let detail = "the token has a user already, or does not tell whether it has one; the officer can set its PIN by the vendor's tool";
        return Err(Failure::own(Class::Refused, "C_InitPIN", detail));
    }
    if found.info.so_pin_locked() || found.info.so_pin_final_try() {
        let detail = "the token has locked its security officer, or would with one more wrong PIN";
        return Err(Failure::own(Class::Login, "C_Login", detail));
    }
    let session = module.pkcs11().open_rw_session(found.slot)?;
    session.login(UserType::So, Some(&so_pin))?;
    let first = match login.first_login {
        FirstLogin::Ready => None,
        FirstLogin::Change => {
            // No token wants so few bytes at once that these are too many.
            let random =
                |bytes: &mut [u8]| bytes.chunks_mut(32).try_for_each(|part| session.generate_random_slice(part));
            let shortest = usize::try_from(login.pin_alphabet.shortest()).unwrap_or(usize::MAX);
            Some(whole(&login.pin_alphabet.pin(user_pin.len().max(shortest), random)?)?)
        }
    };
    let set = session.init_pin(first.as_ref().unwrap_or(&meant));
    let left = session.logout();
    set?;
    left?;
    if let Some(first) = first {
        session.set_pin(&first, &meant)?;
    }
    Ok(Reply::Done)
}
