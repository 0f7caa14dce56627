//! Whether the token keeps to what it is told of keys.
//!
//! Each of these has something refused that the token would do of another key; that it does so of another is looked at as
//! well, since a token that refuses everything enforces nothing.

use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use pkcs11_extra::UnwrapTemplate;
use zeroize::Zeroize;

use super::bench::{Bench, Settled, said};
use super::templates;
use super::wrapping::mechanism;
use crate::fault::Failure;
use crate::template::{Kind, Use};
use model::profile::examination::{Kept, KeyWrapBy};
use model::profile::{Objects, Optional};

/// Whether the value of a key cannot be read.
pub(super) fn sensitive(bench: &mut Bench<'_>, key: ObjectHandle) -> Result<Kept, Failure> {
    let read = bench.settle(|bench| {
        let mut shown = bench.desk.get_attributes(key, &[AttributeType::Value])?;
        let mut any = false;
        for attribute in &mut shown {
            if let Attribute::Value(value) = attribute {
                any |= !value.is_empty();
                value.zeroize();
            }
        }
        Ok(any)
    })?;
    Ok(match read {
        Settled::Done(true) => {
            Kept::Ignored("C_GetAttributeValue shows the value of a key with CKA_SENSITIVE = true".to_owned())
        }
        Settled::Done(false) | Settled::Refused(_) => Kept::Enforced,
        Settled::NotJudged(fault) => Kept::NotJudged(said(&fault)),
    })
}

/// Whether a key that was unwrapped so that it may not leave the token does not.
pub(super) fn extractable(
    bench: &mut Bench<'_>,
    wrapping: ObjectHandle,
    blob: &[u8],
    by: KeyWrapBy,
) -> Result<Kept, Failure> {
    let mechanism = mechanism(by)?;
    let template = templates::unwrapped(bench.of(), by, false, Use::Key(Kind::Encryption), []);
    let key = bench.need(|bench| bench.unwrap(&mechanism, wrapping, blob, &template))?;
    let wrapped =
        bench.settle(|bench| Ok(bench.module().extra().wrap_key(&bench.desk, &mechanism, wrapping, key)?))?;
    Ok(match wrapped {
        Settled::Done(_) => Kept::Ignored("C_WrapKey wraps a key with CKA_EXTRACTABLE = false".to_owned()),
        Settled::Refused(_) => Kept::Enforced,
        Settled::NotJudged(fault) => Kept::NotJudged(said(&fault)),
    })
}

/// Whether a key does what it is not allowed to do. AES-ECB or AES-CBC stands for all that is not AES-GCM.
pub(super) fn allowed_mechanisms(
    bench: &mut Bench<'_>,
    wrapping: ObjectHandle,
    blob: &[u8],
    by: KeyWrapBy,
) -> Result<Kept, Failure> {
    let of = bench.of();
    if of.attributes.leave_out("C_UnwrapKey", Objects::SecretKey, Optional::AllowedMechanisms) {
        return Ok(Kept::Untried);
    }
    let listed = bench.module().mechanisms(bench.owner().token.slot)?;
    let (other, name) = match (listed.contains(&MechanismType::AES_ECB), listed.contains(&MechanismType::AES_CBC)) {
        (true, _) => (Mechanism::AesEcb, "AES-ECB"),
        (false, true) => (Mechanism::AesCbc([0; 16]), "AES-CBC"),
        (false, false) => return Ok(Kept::Untried),
    };
    let unwrap = mechanism(by)?;
    let free = templates::unwrapped(of, by, false, Use::Key(Kind::Encryption), []);
    let free = bench.need(|bench| bench.unwrap(&unwrap, wrapping, blob, &free))?;
    let does =
        |bench: &mut Bench<'_>, key| bench.settle(|bench| Ok(bench.desk.encrypt(&other, key, &[0; 16]).map(drop)?));
    match does(bench, free)? {
        Settled::Done(()) => {}
        Settled::Refused(_) => return Ok(Kept::Untried),
        Settled::NotJudged(fault) => return Ok(Kept::NotJudged(said(&fault))),
    }
    let Ok(gcm) = MechanismType::try_from(of.gcm.mechanism) else { return Ok(Kept::Untried) };
    let bound =
        templates::unwrapped(of, by, false, Use::Key(Kind::Encryption), [Attribute::AllowedMechanisms(vec![gcm])]);
    let bound = match bench.settle(|bench| bench.unwrap(&unwrap, wrapping, blob, &bound))? {
        Settled::Done(bound) => bound,
        Settled::Refused(fault) => return Ok(Kept::Untold(said(&fault))),
        Settled::NotJudged(fault) => return Ok(Kept::NotJudged(said(&fault))),
    };
    Ok(match does(bench, bound)? {
        Settled::Done(()) => Kept::Ignored(format!("a key that is for AES-GCM alone encrypts by {name}")),
        Settled::Refused(_) => Kept::Enforced,
        Settled::NotJudged(fault) => Kept::NotJudged(said(&fault)),
    })
}

/// Whether a wrapping key unwraps to what its CKA_UNWRAP_TEMPLATE says and to nothing else. `key` is what is wrapped.
pub(super) fn unwrap_template(
    bench: &mut Bench<'_>,
    wrapping: ObjectHandle,
    key: ObjectHandle,
    by: KeyWrapBy,
) -> Result<Kept, Failure> {
    let (of, mechanism) = (bench.of(), mechanism(by)?);
    // The same wrapping key twice: one that may be wrapped and wraps, and what is to be bound when it is unwrapped.
    let twin = bench.need(|bench| bench.generate(&templates::passing_wrapping(of)))?;
    let wrapped_twin =
        bench.need(|bench| Ok(bench.module().extra().wrap_key(&bench.desk, &mechanism, wrapping, twin)?))?;
    let blob = bench.need(|bench| Ok(bench.module().extra().wrap_key(&bench.desk, &mechanism, twin, key)?))?;
    let bound = templates::told_wrapping(of, by);
    let told = bench.settle(|bench| {
        let template = UnwrapTemplate { first: &bound.first, unwraps_to: &bound.unwraps_to, last: &bound.last };
        let (extra, keeper) = (bench.module().extra(), bench.keeper());
        let bound = extra.unwrap_key(keeper, &mechanism, wrapping, &wrapped_twin, template)?;
        Ok(bench.keep(bound))
    })?;
    let bound = match told {
        Settled::Done(bound) => bound,
        Settled::Refused(fault) => return Ok(Kept::Untold(said(&fault))),
        Settled::NotJudged(fault) => return Ok(Kept::NotJudged(said(&fault))),
    };
    let as_told = templates::as_told(of, false);
    match bench.settle(|bench| bench.unwrap(&mechanism, bound, &blob, &as_told))? {
        Settled::Done(_) => {}
        Settled::Refused(fault) => {
            return Ok(Kept::Untold(format!("what it allows is refused as well: {}", said(&fault))));
        }
        Settled::NotJudged(fault) => return Ok(Kept::NotJudged(said(&fault))),
    }
    let otherwise = templates::as_told(of, true);
    let otherwise = match bench.settle(|bench| bench.unwrap(&mechanism, bound, &blob, &otherwise))? {
        Settled::Done(otherwise) => otherwise,
        Settled::Refused(_) => return Ok(Kept::Enforced),
        Settled::NotJudged(fault) => return Ok(Kept::NotJudged(said(&fault))),
    };
    // Some tokens may take the template's side instead of refusing.
    let leaves = bench.settle(|bench| {
        Ok(bench.module().extra().wrap_key(&bench.desk, &mechanism, wrapping, otherwise).map(drop)?)
    })?;
    Ok(match leaves {
        Settled::Done(()) => {
            Kept::Ignored("a key is unwrapped with CKA_EXTRACTABLE = true and can leave the token".to_owned())
        }
        Settled::Refused(_) => Kept::Enforced,
        Settled::NotJudged(fault) => Kept::NotJudged(said(&fault)),
    })
}
