//! Start-up: from the `Start` message to a logged-in token and the `Ready` that tells of it.

use std::sync::{Arc, Mutex, RwLock};

use super::confine::confine;
use super::connect::{connect, initialise_only};
use super::fault::Failure;
use super::keys::Keys;
use super::module::Module;
use super::owner::Token;
use super::{objects, template};
use crate::hsm::protocol::{Abilities, CeremonyObjects, Ready, Role, Start};
use crate::model::clock::Clock;
use crate::model::id::KeyVersionId;
use cryptoki::object::ObjectClass;

/// What a worker works with.
pub(super) enum Started {
    /// The token it was told to find.
    Token(Arc<Token>),
    /// No token: a ceremony worker that is to make one.
    Bare(Arc<Module>),
}

/// Confines the process. Comes before any thread is made.
pub(super) fn prepare(start: &Start) -> Result<Vec<String>, Failure> {
    confine(start)
}

/// Loads the module and finds the token.
pub(super) fn begin(start: &Start, degraded: Vec<String>, clock: &Clock) -> Result<(Started, Ready), Failure> {
    let module = Arc::new(Module::load(&start.module, start.profile, start.role)?);
    if start.role == Role::Ceremony && start.pin.is_none() {
        initialise_only(&module, start, clock)?;
        let ready = Ready {
            serial: String::new(),
            label: String::new(),
            module: module.description()?,
            keys: Vec::new(),
            abilities: Abilities::default(),
            ceremony: CeremonyObjects::default(),
            degraded,
        };
        return Ok((Started::Bare(module), ready));
    }
    let connection = connect(&module, start, clock)?;
    let (found, pinned) = (connection.found, connection.pinned);
    let keys = objects::new_keys(&pinned, &[])?;
    let ready = Ready {
        serial: found.info.serial_number().trim().to_owned(),
        label: found.info.label().trim_end().to_owned(),
        module: module.description()?,
        keys: versions(&keys),
        abilities: module.abilities(&found)?,
        ceremony: objects::ceremony(&pinned)?,
        degraded,
    };
    let canary = objects::named(&pinned, ObjectClass::SECRET_KEY, template::CANARY)?;
    let token = Token {
        role: start.role,
        slot: found.slot,
        keys: Keys::new(start.hot_copies && start.role == Role::Data, keys),
        copies_in_use: RwLock::default(),
        canary: Mutex::new(canary),
        wrapping: Mutex::default(),
        pinned: Mutex::new(pinned),
        clock: clock.clone(),
        module,
    };
    Ok((Started::Token(Arc::new(token)), ready))
}

fn versions<H>(keys: &[(KeyVersionId, H)]) -> Vec<KeyVersionId> {
    let mut versions: Vec<KeyVersionId> = keys.iter().map(|(key, _)| *key).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}
