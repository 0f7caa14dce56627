//! The canary key: used by probes, so that callers' keys need not be.

use std::thread;
use std::time::Duration;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectClass;

use crate::fault::Failure;
use crate::operations::self_test;
use crate::owner::{Owner, lock};
use crate::{objects, template};
use protocol::{Class, Reply};

/// Between two looks at a key that cannot be used yet.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes it if it is not there, and has the token show with it that it can be used at all.
pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    let canary = match objects::named(&owner.session, ObjectClass::SECRET_KEY, template::CANARY)? {
        Some(handle) => handle,
        None => {
            owner.session.generate_key(&Mechanism::AesKeyGen, &template::canary(owner.token.module.capabilities()))?
        }
    };
    *lock(&owner.token.canary) = Some(canary);
    let settled = owner.token.clock.now() + owner.token.module.capabilities().topology.settles();
    loop {
        match self_test::run(owner) {
            // It is not yet wherever it has to be before it can be used.
            Err(failure) if failure.class(owner.codes()) == Class::Busy && owner.token.clock.now() < settled => {
                thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}
