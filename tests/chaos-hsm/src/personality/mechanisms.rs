//! Mechanisms that there are not, and such with a vendor's number.

use std::collections::BTreeSet;
use std::ptr;

use cryptoki_sys::*;

use super::layer::{Answer, Below, real};
use super::names::{Code, Mechanism};
use super::settings::{Gcm, Personality};
use super::topology;

impl Personality {
    /// The number below for one that a caller has; `None` where it is none here.
    pub(super) fn mechanism(&self, number: CK_MECHANISM_TYPE) -> Option<CK_MECHANISM_TYPE> {
        if let Some(standards) = self.mechanisms.map.get(&Mechanism(number)) {
            return Some(standards.0);
        }
        if self.gcm(number).is_some() {
            return Some(CKM_AES_GCM);
        }
        let hidden = self.mechanisms.hidden.contains(&Mechanism(number));
        let other = number == CKM_AES_GCM && self.gcm.is_some();
        (!hidden && !other).then_some(number)
    }

    /// What there is, over what there is below.
    fn list(&self, below: &[CK_MECHANISM_TYPE]) -> Vec<CK_MECHANISM_TYPE> {
        let vendors = self.mechanisms.map.keys().map(|number| number.0).chain(self.gcms().map(Gcm::number));
        let all: BTreeSet<_> = below.iter().copied().chain(vendors).collect();
        let is = |number: &CK_MECHANISM_TYPE| self.mechanism(*number).is_some_and(|number| below.contains(&number));
        all.into_iter().filter(is).filter(|number| !self.mechanisms.unlisted.contains(&Mechanism(*number))).collect()
    }
}

/// A caller's mechanism as it is below.
pub(super) fn translated(below: &Below, mechanism: *mut CK_MECHANISM) -> Result<CK_MECHANISM, CK_RV> {
    // SAFETY: null, or the caller's for the time of the call.
    let mut own = *unsafe { mechanism.as_ref() }.ok_or(CKR_ARGUMENTS_BAD)?;
    own.mechanism = below.personality.mechanism(own.mechanism).ok_or(CKR_MECHANISM_INVALID)?;
    if let Some(hashes) = &below.personality.wrap.oaep_hash
        && own.mechanism == CKM_RSA_PKCS_OAEP
        && own.ulParameterLen == size_of::<CK_RSA_PKCS_OAEP_PARAMS>() as CK_ULONG
        && !own.pParameter.is_null()
    {
        // SAFETY: this mechanism has such parameters, and they have the right length.
        let parameters = unsafe { &*own.pParameter.cast::<CK_RSA_PKCS_OAEP_PARAMS>() };
        if !hashes.contains(&Mechanism(parameters.hashAlg)) {
            return Err(CKR_MECHANISM_PARAM_INVALID);
        }
    }
    Ok(own)
}

/// C_GetMechanismList.
pub(super) fn list(below: &Below, slot: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG) -> Answer {
    let mut all = 0;
    real!(below, C_GetMechanismList(slot, ptr::null_mut(), &raw mut all))?;
    let mut numbers = vec![0; all as usize];
    real!(below, C_GetMechanismList(slot, numbers.as_mut_ptr(), &raw mut all))?;
    numbers.truncate(all as usize);
    let numbers = below.personality.list(&numbers);
    // SAFETY: null, or the caller's to be read and written.
    let count = unsafe { count.as_mut() }.ok_or(CKR_ARGUMENTS_BAD)?;
    let room = std::mem::replace(count, numbers.len() as CK_ULONG);
    if list.is_null() {
        return Ok(());
    }
    if room < *count {
        return Err(CKR_BUFFER_TOO_SMALL);
    }
    // SAFETY: the caller has said that there is room for so many.
    unsafe { ptr::copy_nonoverlapping(numbers.as_ptr(), list, numbers.len()) };
    Ok(())
}

/// C_GetMechanismInfo.
pub(super) fn info(below: &Below, slot: CK_SLOT_ID, number: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO) -> Answer {
    let mechanisms = &below.personality.mechanisms;
    if mechanisms.unlisted.contains(&Mechanism(number)) {
        return Err(CKR_MECHANISM_INVALID);
    }
    let known = below.personality.mechanism(number).ok_or(CKR_MECHANISM_INVALID)?;
    real!(below, C_GetMechanismInfo(slot, known, info))?;
    // SAFETY: null, or the caller's to be written to.
    if let (true, Some(info)) = (mechanisms.without_flags.contains(&Mechanism(number)), unsafe { info.as_mut() }) {
        info.flags = 0;
    }
    Ok(())
}

/// C_DigestInit.
pub(super) fn digest_init(below: &Below, session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM) -> Answer {
    let mut own = translated(below, mechanism)?;
    real!(below, C_DigestInit(session, &raw mut own))
}

macro_rules! begins {
    ($($(#[$meta:meta])* $name:ident: $function:ident;)+) => {
        $(
            $(#[$meta])*
            pub(super) fn $name(
                below: &Below,
                session: CK_SESSION_HANDLE,
                mechanism: *mut CK_MECHANISM,
                key: CK_OBJECT_HANDLE,
            ) -> Answer {
                topology::usable_key(below, session, key)?;
                let mut own = translated(below, mechanism)?;
                real!(below, $function(session, &raw mut own, key))
            }
        )+
    };
}

begins! {
    /// C_SignInit.
    sign_init: C_SignInit;
    /// C_SignRecoverInit.
    sign_recover_init: C_SignRecoverInit;
    /// C_VerifyInit.
    verify_init: C_VerifyInit;
    /// C_VerifyRecoverInit.
    verify_recover_init: C_VerifyRecoverInit;
}

/// C_WrapKey.
pub(super) fn wrap(
    below: &Below,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    wrapping: CK_OBJECT_HANDLE,
    key: CK_OBJECT_HANDLE,
    out: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> Answer {
    topology::usable_key(below, session, wrapping)?;
    topology::usable_key(below, session, key)?;
    let mut own = translated(below, mechanism)?;
    real!(below, C_WrapKey(session, &raw mut own, wrapping, key, out, room))
}

/// C_GenerateRandom.
pub(super) fn random(below: &Below, session: CK_SESSION_HANDLE, out: *mut CK_BYTE, length: CK_ULONG) -> Answer {
    let calls = &below.personality.calls;
    if calls.random.is_some_and(|[least, most]| !(least..=most).contains(&length)) {
        return Err(calls.random_code.unwrap_or(Code(CKR_ARGUMENTS_BAD)).0);
    }
    real!(below, C_GenerateRandom(session, out, length))
}

#[cfg(test)]
mod tests {
    use super::super::presets::read;
    use super::*;

    #[test]
    fn what_is_hidden_is_not_listed_and_what_is_mapped_is() {
        let text = "[gcm]\nmechanism = \"0x80001087\"\n[mechanisms]\nhidden = [\"CKM_AES_KEY_WRAP\"]\n\
                    [mechanisms.map]\n0x80000170 = \"CKM_AES_KEY_WRAP\"\n0x80000171 = \"CKM_AES_KEY_WRAP_KWP\"";
        let personality = read(text.parse().unwrap()).unwrap();
        let below = [CKM_AES_KEY_GEN, CKM_AES_GCM, CKM_AES_KEY_WRAP];
        assert_eq!(
            personality.list(&below),
            [CKM_AES_KEY_GEN, 0x8000_0170, 0x8000_1087],
            "no number without one below"
        );
        assert_eq!(personality.mechanism(CKM_AES_GCM), None);
        assert_eq!(personality.mechanism(0x8000_1087), Some(CKM_AES_GCM));
        assert_eq!(personality.mechanism(0x8000_0170), Some(CKM_AES_KEY_WRAP));
        assert_eq!(personality.mechanism(CKM_AES_KEY_WRAP), None);
    }

    #[test]
    fn what_is_not_listed_can_be_there() {
        let text = "[mechanisms]\nunlisted = [\"0x80000170\"]\nhidden = [\"CKM_AES_KEY_WRAP\"]\n\
                    [mechanisms.map]\n0x80000170 = \"CKM_AES_KEY_WRAP\"";
        let personality = read(text.parse().unwrap()).unwrap();
        assert_eq!(personality.list(&[CKM_AES_GCM, CKM_AES_KEY_WRAP]), [CKM_AES_GCM]);
        assert_eq!(personality.mechanism(0x8000_0170), Some(CKM_AES_KEY_WRAP));
    }
}
