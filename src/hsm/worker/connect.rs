//! From a loaded module to a login: initialise, find the token, look at its flags, log in.
//!
//! Several processes that log in to one SoftHSM token at once meet passing errors, and a token may come a moment late:
//! those are tried again from C_Initialize until the start-up time is over. A refused PIN never is.

use std::thread;
use std::time::Duration;

use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::types::RawAuthPin;

use super::fault::Failure;
use super::module::{Found, Module};
use crate::hsm::protocol::{Class, Start};
use crate::model::clock::Clock;

/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A token with a session that stays open for as long as the process lives: closing the last one would log out.
pub(super) struct Connection {
    /// The token.
    pub(super) found: Found,
    /// The session that keeps the login.
    pub(super) pinned: Session,
}

/// Initialises the module, finds the token and logs in, if there is a PIN.
pub(super) fn connect(module: &Module, start: &Start, clock: &Clock) -> Result<Connection, Failure> {
    until_it_passes(module, start, clock, |module| {
        let found = module.find(&start.token)?;
        let pinned = module.open(found.slot)?;
        if start.pin.is_some() {
            login(&found, &pinned, start)?;
        }
        Ok(Connection { found, pinned })
    })
}

/// Initialises the module for a worker that has no token yet.
pub(super) fn initialise_only(module: &Module, start: &Start, clock: &Clock) -> Result<(), Failure> {
    until_it_passes(module, start, clock, |_| Ok(()))
}

fn until_it_passes<T>(
    module: &Module,
    start: &Start,
    clock: &Clock,
    attempt: impl Fn(&Module) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let deadline = clock.now() + Duration::from_millis(start.start_timeout_ms);
    let mut pause = PAUSE.0;
    loop {
        let outcome = module.initialise().and_then(|()| attempt(module));
        let failure = match outcome {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        let passing = matches!(failure.class(module.profile()), Class::Token | Class::Session | Class::Ambiguous);
        if !passing || clock.now() + pause >= deadline {
            return Err(failure);
        }
        tracing::debug!(?failure, "start-up is tried again");
        // The error of finalising a module that would not initialise says nothing new.
        drop(module.finalise());
        thread::sleep(pause);
        pause = (2 * pause).min(PAUSE.1);
    }
}

fn login(found: &Found, session: &Session, start: &Start) -> Result<(), Failure> {
    let refused = |detail: &str| Failure::own(Class::Login, "C_Login", format!("not attempted: {detail}"));
    if found.info.user_pin_locked() {
        return Err(refused("the token has locked kmsuser's PIN; the security officer has to set it again"));
    }
    if found.info.user_pin_final_try() {
        return Err(refused(
            "the token allows one last try of kmsuser's PIN; make sure of the PIN and log in once by other means",
        ));
    }
    let Some(pin) = &start.pin else { return Ok(()) };
    let pin = RawAuthPin::new(Box::new(pin.expose().to_vec()));
    match session.login_with_raw(UserType::User, &pin) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
