//! C_WrapKey. A module may say that there will be more bytes than there are then, by the standard: cryptoki gives out as many as
//! were said first, with zeroes at the end, which nothing unwraps.

use std::ptr;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use cryptoki_sys::{CK_MECHANISM, CK_ULONG, CKR_OK};

use super::{Error, Module};

/// No wrapped key comes near it.
const MOST_BYTES: usize = 64 << 10;

impl Module {
    /// C_WrapKey: the wrapped key, as long as it is.
    pub fn wrap_key(
        &self,
        session: &Session,
        mechanism: &Mechanism<'_>,
        wrapping_key: ObjectHandle,
        key: ObjectHandle,
    ) -> Result<Vec<u8>, Error> {
        let wrap_key = self.wrap_key.ok_or(Error::Missing("C_WrapKey"))?;
        let mut mechanism = CK_MECHANISM::from(mechanism);
        let mut wrap = |out: *mut u8, length: &mut CK_ULONG| {
            // SAFETY: the mechanism's parameters are borrowed from the argument until this function returns; `out` is null, or
            // points to as many bytes as `length` says. The session is open, since `Session` closes it when dropped; a key of
            // another module is answered with an error code.
            let code = unsafe {
                wrap_key(session.handle(), &raw mut mechanism, wrapping_key.handle(), key.handle(), out, length)
            };
            if code == CKR_OK { Ok(()) } else { Err(Error::Returned { function: "C_WrapKey", code }) }
        };
        let mut length = 0;
        wrap(ptr::null_mut(), &mut length)?;
        let room = within(length, MOST_BYTES)?;
        let mut wrapped = vec![0; room];
        wrap(wrapped.as_mut_ptr(), &mut length)?;
        wrapped.truncate(within(length, room)?);
        Ok(wrapped)
    }
}

fn within(length: CK_ULONG, most: usize) -> Result<usize, Error> {
    usize::try_from(length).ok().filter(|length| *length <= most).ok_or(Error::TooLong("C_WrapKey"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for (length, most) in [(u64::MAX, MOST_BYTES), (MOST_BYTES as u64 + 1, MOST_BYTES), (41, 40)] {
            assert!(matches!(within(length, most), Err(Error::TooLong("C_WrapKey"))), "{length}");
        }
        assert_eq!(within(40, 48).unwrap(), 40);
    }
}
