//! From a loaded module to a token: initialise, find it, look at its flags. Nobody logs in here.
//!
//! While another process logs in to a SoftHSM token, this one meets transient errors, and a token may come a moment
//! late: those are tried again from C_Initialize until the start-up time is over.

use std::thread;
use std::time::Duration;

use cryptoki::session::Session;

use super::fault::Failure;
use super::module::{Found, Module, user_flags};
use model::clock::Clock;
use protocol::{Class, Start, Token};

/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// A token with a session that stays open for as long as the process lives: closing the last one would log out.
pub(super) struct Connection {
    /// The token.
    pub(super) found: Found,
    /// The session that keeps the login.
    pub(super) pinned: Session,
}

/// SoftHSM rewrites its token file at each login: for a moment a token seems to have no user. For so long that is not
/// believed.
const NO_USER_YET: Duration = Duration::from_millis(500);

/// Initialises the module, finds the token and opens the session that will keep the login.
pub(super) fn connect(module: &Module, token: &Token, start: &Start, clock: &Clock) -> Result<Connection, Failure> {
    let believed = clock.now() + NO_USER_YET;
    until_it_passes(module, start, clock, |module| {
        let found = module.find(token)?;
        if !user_flags(&found.info, &module.capabilities().login).initialised && clock.now() < believed {
            return Err(Failure::own(Class::Token, "find token", "the token has no user"));
        }
        let pinned = module.open(found.slot)?;
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
        let class = failure.class(module.codes());
        let transient = class.may_be_busy() || matches!(class, Class::Token | Class::Session | Class::Ambiguous);
        if !transient || clock.now() + pause >= deadline {
            return Err(failure);
        }
        tracing::debug!(?failure, "start-up is tried again");
        // The error of finalising a module that would not initialise says nothing new.
        drop(module.finalise());
        thread::sleep(pause);
        pause = (2 * pause).min(PAUSE.1);
    }
}
