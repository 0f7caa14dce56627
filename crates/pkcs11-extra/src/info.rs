//! C_GetInfo and C_GetTokenInfo of modules that fill in what nobody reads otherwise than the standard has it: of such a one
//! cryptoki has no answer at all, and its token would count as one that is gone.

use cryptoki::context::Info;
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki_sys::{CK_INFO, CK_TOKEN_INFO, CKF_CLOCK_ON_TOKEN, CKR_OK};

use super::{Error, Module};

impl Module {
    /// C_GetInfo.
    pub fn library_info(&self) -> Result<Info, Error> {
        let get_info = self.get_info.ok_or(Error::Missing("C_GetInfo"))?;
        let mut info = CK_INFO::default();
        // SAFETY: the pointer is to a local that lives across the call and that nobody else touches meanwhile.
        let code = unsafe { get_info(&raw mut info) };
        if code != CKR_OK {
            return Err(Error::Returned { function: "C_GetInfo", code });
        }
        // The standard has no flags, and says that they are zero.
        info.flags = 0;
        Info::try_from(info).map_err(|_| Error::Senseless("C_GetInfo"))
    }

    /// C_GetTokenInfo.
    pub fn token_info(&self, slot: Slot) -> Result<TokenInfo, Error> {
        let get_token_info = self.get_token_info.ok_or(Error::Missing("C_GetTokenInfo"))?;
        let mut info = CK_TOKEN_INFO::default();
        // SAFETY: as above; a slot that there is not is answered with an error code.
        let code = unsafe { get_token_info(slot.id(), &raw mut info) };
        if code != CKR_OK {
            return Err(Error::Returned { function: "C_GetTokenInfo", code });
        }
        read(info)
    }
}

/// Where its clock shows nothing that is a time, as if it had none.
fn read(info: CK_TOKEN_INFO) -> Result<TokenInfo, Error> {
    let without = CK_TOKEN_INFO { flags: info.flags & !CKF_CLOCK_ON_TOKEN, ..info };
    TokenInfo::try_from(info).or_else(|_| TokenInfo::try_from(without)).map_err(|_| Error::Senseless("C_GetTokenInfo"))
}

#[cfg(test)]
mod tests {
    use cryptoki_sys::{CKF_TOKEN_INITIALIZED, CKF_USER_PIN_INITIALIZED};

    use super::*;

    #[test]
    fn a_clock_that_shows_no_time_is_not_looked_at() {
        let flags = CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED | CKF_CLOCK_ON_TOKEN;
        for time in [[0; 16], [b' '; 16], [0xff; 16], *b"2026113021310000"] {
            let mut info = CK_TOKEN_INFO { flags, utcTime: time, ..CK_TOKEN_INFO::default() };
            info.label[..5].copy_from_slice(b"label");
            info.label[5..].fill(b' ');
            let read = read(info).unwrap();
            assert!(read.token_initialized() && read.user_pin_initialized(), "{time:?}");
            assert_eq!(read.clock_on_token(), time.is_ascii() && time[0] == b'2', "{time:?}");
            assert_eq!(read.label(), "label");
        }
    }

    #[test]
    fn absurd_numbers_and_names_are_read() {
        let mut info = CK_TOKEN_INFO { flags: u64::MAX, ..CK_TOKEN_INFO::default() };
        info.label.fill(0xff);
        info.serialNumber.fill(0);
        for number in
            [&mut info.ulMaxPinLen, &mut info.ulMinPinLen, &mut info.ulSessionCount, &mut info.ulMaxSessionCount]
        {
            *number = u64::MAX;
        }
        let read = read(info).unwrap();
        assert!(read.user_pin_locked() && read.user_pin_final_try());
        assert_eq!(read.max_pin_length(), usize::MAX);
    }
}
