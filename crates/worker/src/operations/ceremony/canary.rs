//! The canary key: used by probes, so that callers' keys need not be.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectClass;

use crate::fault::Failure;
use crate::operations::self_test;
use crate::owner::{Owner, lock};
use crate::{objects, template};
use protocol::Reply;

/// Makes it if it is not there, and has the token show with it that it can be used at all.
pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    let canary = match objects::named(&owner.session, ObjectClass::SECRET_KEY, template::CANARY)? {
        Some(handle) => handle,
        None => {
            owner.session.generate_key(&Mechanism::AesKeyGen, &template::canary(owner.token.module.capabilities()))?
        }
    };
    *lock(&owner.token.canary) = Some(canary);
    self_test::run(owner)
}
