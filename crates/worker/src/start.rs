//! Start-up: from the `Start` message to a token that was found and the `Ready` that tells of it.

use std::sync::{Arc, Mutex, RwLock};

use super::confine::{Confinement, confine, token_directories};
use super::connect::{Connection, connect, initialise_only};
use super::fault::Failure;
use super::keys::Keys;
use super::module::{Module, user_flags};
use super::owner::Token;
use super::{objects, template};
use model::clock::Clock;
use model::profile::Abilities;
use protocol::{Class, Ready, Role, Start, UserFlags};

/// What a worker works with.
pub(super) enum Started {
    /// The token it was told to find.
    Token(Arc<Token>),
    /// No token: a ceremony worker that is to make one.
    Bare(Arc<Module>),
}

/// Confines the process. Comes before any thread is made.
pub(super) fn prepare(start: &Start) -> Result<Confinement, Failure> {
    confine(start)
}

/// Loads the module and finds the token.
pub(super) fn begin(start: &Start, degraded: Vec<String>, clock: &Clock) -> Result<(Started, Ready), Failure> {
    let module = Arc::new(Module::load(&start.module, &start.capabilities, start.role)?);
    let Some(wanted) = &start.token else {
        if start.role != Role::Ceremony {
            return Err(Failure::own(Class::Refused, "start", "only a ceremony worker works without a token"));
        }
        initialise_only(&module, start, clock)?;
        let ready = Ready {
            serial: String::new(),
            label: String::new(),
            module: module.description()?,
            user: UserFlags::default(),
            identity: None,
            abilities: Abilities::default(),
            degraded,
        };
        return Ok((Started::Bare(module), ready));
    };
    let Connection { found, pinned } = connect(&module, wanted, start, clock)?;
    let serial = found.info.serial_number().trim().to_owned();
    let ready = Ready {
        serial: serial.clone(),
        label: found.info.label().trim_end().to_owned(),
        module: module.description()?,
        user: user_flags(&found.info, &module.capabilities().login),
        identity: objects::certificate(&pinned, module.capabilities(), template::IDENTITY)?,
        abilities: module.abilities(&found)?,
        degraded,
    };
    let token = Token {
        hsm: start.hsm.clone(),
        serial,
        incarnation: start.incarnation,
        role: start.role,
        slot: found.slot,
        directories: token_directories(start.sandbox.as_ref()),
        sessions: u64::from(start.sessions.max(1)) + 1,
        // Filled by the login.
        keys: match start.role {
            // Of a key that was made in place no other object has the same material; and where keys may have been made so, they
            // go on when keys.made is changed.
            Role::Data => {
                let capabilities = &start.capabilities;
                Keys::new(start.hot_copies, capabilities.topology.replicates() || capabilities.keys.in_place())
            }
            Role::Control | Role::Ceremony => Keys::new(false, false),
        },
        copies_in_use: RwLock::default(),
        canary: Mutex::default(),
        stand_in: Mutex::default(),
        last_stream: Mutex::default(),
        wrapping: Mutex::default(),
        identity: Mutex::default(),
        transport: Mutex::default(),
        log_halves: Mutex::default(),
        log_key: Mutex::default(),
        pinned: Mutex::new(pinned),
        clock: clock.clone(),
        module,
    };
    Ok((Started::Token(Arc::new(token)), ready))
}
