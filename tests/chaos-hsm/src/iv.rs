//! A token that does not use the IV that AES-GCM is called with. Some HSMs make their own, write it back into the parameter
//! or put it behind the ciphertext; worse would be one that says nothing of it.

use std::collections::HashMap;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use cryptoki_sys::*;

use crate::rules::Plain;

/// Bytes of an IV.
pub(crate) const IV_BYTES: usize = 12;

/// Sessions whose ciphertext is followed by the IV that it was made with.
#[derive(Default)]
pub(crate) struct Appended(Mutex<HashMap<CK_SESSION_HANDLE, [u8; IV_BYTES]>>);

/// The caller's IV, where the mechanism is AES-GCM with one of the usual length.
fn place(mechanism: *mut CK_MECHANISM) -> Option<*mut CK_BYTE> {
    if mechanism.is_null() {
        return None;
    }
    // SAFETY: not null, and the caller's for the time of the call.
    let mechanism = unsafe { &*mechanism };
    let size = size_of::<CK_GCM_PARAMS>() as CK_ULONG;
    if mechanism.mechanism != CKM_AES_GCM || mechanism.pParameter.is_null() || mechanism.ulParameterLen != size {
        return None;
    }
    // SAFETY: this mechanism has such parameters, and they have the right length.
    let parameters = unsafe { &*mechanism.pParameter.cast::<CK_GCM_PARAMS>() };
    (!parameters.pIv.is_null() && parameters.ulIvLen == IV_BYTES as CK_ULONG).then_some(parameters.pIv)
}

impl Appended {
    /// C_EncryptInit or C_DecryptInit of a token that has `own` for an IV; `None` where it has the caller's.
    pub(crate) fn begin(
        &self,
        fault: Plain,
        encrypts: bool,
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        own: [u8; IV_BYTES],
        real: impl FnOnce() -> CK_RV,
    ) -> Option<CK_RV> {
        let at = place(mechanism).filter(|_| encrypts || fault == Plain::IvFixed)?;
        let own = if fault == Plain::IvFixed { [0; IV_BYTES] } else { own };
        let mut callers = [0; IV_BYTES];
        // SAFETY: as many bytes as the parameters say that there are, which are the caller's and its to be written to.
        unsafe {
            ptr::copy_nonoverlapping(at, callers.as_mut_ptr(), IV_BYTES);
            ptr::copy_nonoverlapping(own.as_ptr(), at, IV_BYTES);
        }
        let result = real();
        if fault != Plain::IvWrittenBack {
            // SAFETY: as above.
            unsafe { ptr::copy_nonoverlapping(callers.as_ptr(), at, IV_BYTES) };
        }
        if fault == Plain::IvAppended && result == CKR_OK {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(session, own);
        }
        Some(result)
    }

    /// Another operation has begun in the session.
    pub(crate) fn forget(&self, session: CK_SESSION_HANDLE) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&session);
    }

    /// C_Encrypt, in the session of such an operation or of any other.
    pub(crate) fn seal(
        &self,
        session: CK_SESSION_HANDLE,
        buffer: *mut CK_BYTE,
        length: *mut CK_ULONG,
        real: impl FnOnce() -> CK_RV,
    ) -> CK_RV {
        let more = IV_BYTES as CK_ULONG;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&session).copied();
        let Some(iv) = known.filter(|_| !length.is_null()) else { return real() };
        // SAFETY: not null, and the caller's to be read and written.
        let length = unsafe { &mut *length };
        if !buffer.is_null() {
            if *length < more {
                return CKR_BUFFER_TOO_SMALL;
            }
            *length -= more;
        }
        let result = real();
        match result {
            CKR_OK if !buffer.is_null() => {
                // SAFETY: the caller has said that there is room for as many bytes more as were kept back above.
                unsafe { ptr::copy_nonoverlapping(iv.as_ptr(), buffer.add(*length as usize), IV_BYTES) };
                self.forget(session);
            }
            CKR_OK | CKR_BUFFER_TOO_SMALL => {}
            _ => self.forget(session),
        }
        *length += more;
        result
    }
}
