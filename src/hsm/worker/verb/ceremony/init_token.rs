//! Initialise a free slot's token and its user PIN.

use cryptoki::session::UserType;
use cryptoki::types::AuthPin;

use crate::hsm::protocol::{Class, Reply, Token};
use crate::hsm::worker::fault::Failure;
use crate::hsm::worker::module::{Found, Module};
use crate::model::secret::Secret;

/// Makes a token; answers its serial number. Needs a worker without sessions.
pub(in crate::hsm::worker) fn run(
    module: &Module,
    label: &str,
    so_pin: &Secret,
    user_pin: &Secret,
) -> Result<Reply, Failure> {
    if label.is_empty() || label.len() > 32 || label.trim_end() != label {
        let detail = format!("'{label}' is no token label: 1 to 32 bytes, no blank at the end");
        return Err(Failure::own(Class::Request, "C_InitToken", detail));
    }
    let (so_pin, user_pin) = (text(so_pin)?, text(user_pin)?);
    if module.tokens()?.iter().any(|found| found.info.label().trim_end() == label) {
        let detail = format!("a token '{label}' is there already; choose another label or delete that token");
        return Err(Failure::own(Class::Refused, "C_InitToken", detail));
    }
    let free = free_slot(module)?;
    module.pkcs11().init_token(free, &so_pin, label)?;
    let found = locate(module, label)?;
    let session = module.pkcs11().open_rw_session(found.slot)?;
    session.login(UserType::So, Some(&so_pin))?;
    let set = session.init_pin(&user_pin);
    session.logout()?;
    set?;
    Ok(Reply::Serial(found.info.serial_number().trim().to_owned()))
}

fn free_slot(module: &Module) -> Result<cryptoki::slot::Slot, Failure> {
    for slot in module.pkcs11().get_slots_with_token()? {
        if !module.pkcs11().get_token_info(slot)?.token_initialized() {
            return Ok(slot);
        }
    }
    Err(Failure::own(Class::Refused, "C_InitToken", "no slot holds an uninitialised token"))
}

/// SoftHSM may show the new token in another slot, and some modules only after they were initialised again.
fn locate(module: &Module, label: &str) -> Result<Found, Failure> {
    let token = Token { label: label.to_owned(), serial: None };
    module.find(&token).or_else(|_| {
        module.finalise()?;
        module.initialise()?;
        module.find(&token)
    })
}

fn text(pin: &Secret) -> Result<AuthPin, Failure> {
    match std::str::from_utf8(pin.expose()) {
        Ok(pin) if !pin.is_empty() => Ok(AuthPin::from(pin.to_owned())),
        _ => Err(Failure::own(Class::Request, "C_InitToken", "a PIN must be text and not empty")),
    }
}
