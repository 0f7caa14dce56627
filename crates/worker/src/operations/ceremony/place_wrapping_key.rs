//! Unwrap a blob as this token's cluster wrapping key.
//!
//! Its unwrap template is what keeps keys inside tokens, and to their use: without it, whoever holds kmsuser's PIN could
//! unwrap a blob as a key that can be read, or that does something else than the token's own object of it.

use cryptoki::object::ObjectClass;
use pkcs11_extra::UnwrapTemplate;

use super::oaep;
use crate::fault::Failure;
use crate::operations::challenge::check;
use crate::owner::{Owner, lock};
use crate::template::{Kind, WrappingKey};
use crate::{objects, template};
use model::profile::UnwrapTemplate as Told;
use protocol::{Challenge, Class, Reply};

/// Makes sure that the token holds the cluster's wrapping key: a step of bringing an HSM in, which can be repeated.
/// Whoever brings the blob could have made it of a key that he knows, and a token may bring a wrapping key along from
/// another cluster: either has to answer a member's challenge, and a blob does so before anything of it is kept.
pub(in crate::operations) fn ensure(
    owner: &mut Owner,
    blob: Option<&[u8]>,
    challenge: &Challenge,
) -> Result<Reply, Failure> {
    owner.token_info()?;
    let (module, session) = (&*owner.token.module, &owner.session);
    let refused = |detail: &str| Failure::own(Class::Refused, "PlaceWrappingKey", detail);
    if let Some(held) = objects::named(session, ObjectClass::SECRET_KEY, template::WRAPPING)? {
        let what =
            "what the token holds (of another cluster or an earlier ceremony: initialise it anew and certify it again)";
        check(module, session, held, challenge, what)?;
        return Ok(Reply::Done);
    }
    let blob = blob.ok_or_else(|| refused("the token holds no cluster wrapping key any more, and was given none"))?;
    let transport = objects::named(session, ObjectClass::PRIVATE_KEY, template::TRANSPORT)?
        .ok_or_else(|| refused("the token holds no transport key; the ceremony makes one"))?;
    let of = module.capabilities();
    let opened = session.unwrap_key(&oaep(of), transport, blob, &template::wrapping_key_on_trial(of, Kind::Encryption));
    let on_trial = opened.map_err(|error| {
        let what = "opening the wrapped copy for this token: it was made for another one, or is damaged";
        let mut fault = Failure::from(error).during(what, module.codes());
        if matches!(fault.class, Class::Ambiguous | Class::Request) {
            fault.class = Class::Refused;
        }
        fault
    })?;
    let checked = check(module, session, on_trial, challenge, "what the wrapped copy for this token holds");
    let destroyed = session.destroy_object(on_trial);
    checked?;
    destroyed?;
    run(owner, blob)
}

/// Refuses where there is one already: with two of them nobody could say which is meant.
pub(super) fn run(owner: &mut Owner, blob: &[u8]) -> Result<Reply, Failure> {
    let refused = |detail: &str| Failure::own(Class::Refused, "PlaceWrappingKey", detail);
    let session = &owner.session;
    if objects::named(session, ObjectClass::SECRET_KEY, template::WRAPPING)?.is_some() {
        return Err(refused("the token already holds a cluster wrapping key"));
    }
    let transport = objects::named(session, ObjectClass::PRIVATE_KEY, template::TRANSPORT)?
        .ok_or_else(|| refused("the token holds no transport key; MakeTransportPair comes first"))?;
    let of = owner.token.module.capabilities();
    let WrappingKey { first, unwraps_to, last } = template::wrapping_key(of, Kind::Encryption);
    let placed = match of.wrap.unwrap_template {
        Told::AtUnwrap => {
            let template = UnwrapTemplate { first: &first, unwraps_to: &unwraps_to, last: &last };
            owner.token.module.extra().unwrap_key(session, &oaep(of), transport, blob, template).map_err(Failure::from)
        }
        Told::AtGenerate | Told::None => {
            tracing::warn!(
                "this token cannot be told what its wrapping key may unwrap to (capabilities.wrap.unwrap_template): \
                 whoever has kmsuser's PIN and a wrapped key can unwrap that as a key that can be read, or that does \
                 something else"
            );
            session.unwrap_key(&oaep(of), transport, blob, &[first, last].concat()).map_err(Failure::from)
        }
    };
    let handle = placed.map_err(|failure| failure.during("unwrapping the blob", owner.codes()))?;
    *lock(&owner.token.wrapping) = Some(handle);
    Ok(Reply::Done)
}
