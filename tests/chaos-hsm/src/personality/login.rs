//! Users, their PINs, and what the token says of them.

use std::sync::atomic::Ordering;

use cryptoki_sys::*;

use super::layer::{Answer, Below, real};
use super::names::Code;
use super::settings::{Flags, Login, PinForm};

/// The PIN in what a caller gave for one.
fn pin<'a>(login: &Login, given: &'a [u8]) -> Result<&'a [u8], CK_RV> {
    if login.pin_form == PinForm::Pin {
        return Ok(given);
    }
    let form = login.wrong_form.unwrap_or(Code(CKR_ARGUMENTS_BAD)).0;
    let colon = given.iter().position(|byte| *byte == b':').filter(|at| *at > 0).ok_or(form)?;
    let (user, pin) = (&given[..colon], &given[colon + 1..]);
    match &login.user {
        Some(named) if named.as_bytes() != user => Err(wrong(login)),
        _ => Ok(pin),
    }
}

fn wrong(login: &Login) -> CK_RV {
    login.wrong_pin.unwrap_or(Code(CKR_PIN_INCORRECT)).0
}

/// Bytes that a caller gave.
fn given<'a>(at: *mut CK_BYTE, length: CK_ULONG) -> Result<&'a [u8], CK_RV> {
    if at.is_null() {
        return Err(CKR_ARGUMENTS_BAD);
    }
    // SAFETY: the caller's for the call, and as long as it says.
    Ok(unsafe { std::slice::from_raw_parts(at, length as usize) })
}

/// Whether a new PIN may be as long.
fn fits(login: &Login, pin: &[u8]) -> Answer {
    let fits = login.pin_length.is_none_or(|[least, most]| (least..=most).contains(&pin.len()));
    if fits { Ok(()) } else { Err(CKR_PIN_LEN_RANGE) }
}

fn is_locked(below: &Below) -> bool {
    let wrong = below.state.wrong_pins.load(Ordering::Acquire);
    below.personality.login.tries.is_some_and(|tries| wrong >= tries)
}

fn must_change(below: &Below) -> bool {
    below.personality.login.must_change && below.state.changed_pin.load(Ordering::Acquire) == 0
}

/// Counts what came of a PIN.
fn tried(below: &Below, result: Answer) -> Answer {
    match result {
        Ok(()) => below.state.wrong_pins.store(0, Ordering::Release),
        Err(CKR_PIN_INCORRECT) => {
            below.state.wrong_pins.fetch_add(1, Ordering::AcqRel);
            return Err(wrong(&below.personality.login));
        }
        Err(_) => {}
    }
    result
}

/// C_Login.
pub(super) fn login(
    below: &Below,
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    at: *mut CK_BYTE,
    length: CK_ULONG,
) -> Answer {
    let login = &below.personality.login;
    if user != CKU_USER {
        return real!(below, C_Login(session, user, at, length));
    }
    if is_locked(below) {
        return Err(login.locked.unwrap_or(Code(CKR_PIN_LOCKED)).0);
    }
    let pin = pin(login, given(at, length)?)?;
    tried(below, real!(below, C_Login(session, user, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG)))?;
    if must_change(below) {
        real!(below, C_Logout(session))?;
        return Err(CKR_PIN_EXPIRED);
    }
    Ok(())
}

/// Whether the SO is logged in.
fn is_so(below: &Below, session: CK_SESSION_HANDLE) -> bool {
    let mut info = CK_SESSION_INFO::default();
    real!(below, C_GetSessionInfo(session, &raw mut info)).is_ok() && info.state == CKS_RW_SO_FUNCTIONS
}

/// C_SetPIN.
pub(super) fn set_pin(
    below: &Below,
    session: CK_SESSION_HANDLE,
    old: *mut CK_BYTE,
    old_length: CK_ULONG,
    new: *mut CK_BYTE,
    new_length: CK_ULONG,
) -> Answer {
    if is_so(below, session) {
        return real!(below, C_SetPIN(session, old, old_length, new, new_length));
    }
    let login = &below.personality.login;
    if is_locked(below) {
        return Err(login.locked.unwrap_or(Code(CKR_PIN_LOCKED)).0);
    }
    let (old, new) = (pin(login, given(old, old_length)?)?, pin(login, given(new, new_length)?)?);
    fits(login, new)?;
    let at = |pin: &[u8]| (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG);
    let ((old, old_length), (new, new_length)) = (at(old), at(new));
    tried(below, real!(below, C_SetPIN(session, old, old_length, new, new_length)))?;
    below.state.changed_pin.store(1, Ordering::Release);
    Ok(())
}

/// C_InitPIN: a PIN that somebody else chose, and a user that is not locked any more.
pub(super) fn init_pin(below: &Below, session: CK_SESSION_HANDLE, at: *mut CK_BYTE, length: CK_ULONG) -> Answer {
    let login = &below.personality.login;
    let pin = pin(login, given(at, length)?)?;
    fits(login, pin)?;
    real!(below, C_InitPIN(session, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG))?;
    below.state.wrong_pins.store(0, Ordering::Release);
    below.state.changed_pin.store(0, Ordering::Release);
    Ok(())
}

/// C_InitToken.
pub(super) fn init_token(
    below: &Below,
    slot: CK_SLOT_ID,
    pin: *mut CK_BYTE,
    length: CK_ULONG,
    label: *mut CK_BYTE,
) -> Answer {
    real!(below, C_InitToken(slot, pin, length, label))?;
    below.state.wrong_pins.store(0, Ordering::Release);
    below.state.changed_pin.store(0, Ordering::Release);
    Ok(())
}

/// C_GetInfo.
pub(super) fn library_info(below: &Below, info: *mut CK_INFO) -> Answer {
    real!(below, C_GetInfo(info))?;
    // SAFETY: null, or the caller's to be written to.
    let Some(info) = (unsafe { info.as_mut() }) else { return Ok(()) };
    let library = &below.personality.library;
    padded(library.manufacturer.as_deref(), &mut info.manufacturerID);
    padded(library.description.as_deref(), &mut info.libraryDescription);
    Ok(())
}

/// C_GetTokenInfo.
pub(super) fn token_info(below: &Below, slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> Answer {
    real!(below, C_GetTokenInfo(slot, info))?;
    // SAFETY: null, or the caller's to be written to.
    let Some(info) = (unsafe { info.as_mut() }) else { return Ok(()) };
    let (login, token) = (&below.personality.login, &below.personality.token);
    let wrong = below.state.wrong_pins.load(Ordering::Acquire);
    info.flags = flags(login, info.flags, wrong, must_change(below));
    if let Some([least, most]) = login.pin_length {
        (info.ulMinPinLen, info.ulMaxPinLen) = (least as CK_ULONG, most as CK_ULONG);
    }
    if let Some(sessions) = below.personality.calls.sessions {
        (info.ulMaxSessionCount, info.ulMaxRwSessionCount) = (sessions as CK_ULONG, sessions as CK_ULONG);
    }
    if info.flags & CKF_TOKEN_INITIALIZED != 0 {
        padded(token.label.as_deref(), &mut info.label);
    }
    padded(token.serial.as_deref(), &mut info.serialNumber);
    padded(token.manufacturer.as_deref(), &mut info.manufacturerID);
    padded(token.model.as_deref(), &mut info.model);
    Ok(())
}

/// What the flags say of the user.
fn flags(login: &Login, below: CK_FLAGS, wrong: u64, must_change: bool) -> CK_FLAGS {
    let ours = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED | CKF_USER_PIN_TO_BE_CHANGED;
    let when = |is: bool, flag| if is { flag } else { 0 };
    match login.flags {
        Flags::AsBelow => below,
        Flags::Silent => below & !ours | CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED,
        Flags::Truth => {
            let left = login.tries.map_or(u64::MAX, |tries| tries.saturating_sub(wrong));
            below & !ours
                | when(wrong > 0 && left > 0, CKF_USER_PIN_COUNT_LOW)
                | when(left == 1, CKF_USER_PIN_FINAL_TRY)
                | when(left == 0, CKF_USER_PIN_LOCKED)
                | when(must_change, CKF_USER_PIN_TO_BE_CHANGED)
        }
    }
}

/// Text as the standard has it: filled up with blanks.
fn padded(text: Option<&str>, to: &mut [u8]) {
    if let Some(text) = text {
        let bytes = text.bytes().chain(std::iter::repeat(b' '));
        to.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_what_follows_the_users_name() {
        let login = Login { pin_form: PinForm::UserPin, user: Some("kms".to_owned()), ..Login::default() };
        assert_eq!(pin(&login, b"kms:12:34"), Ok(&b"12:34"[..]));
        assert_eq!(pin(&login, b"1234"), Err(CKR_ARGUMENTS_BAD));
        assert_eq!(pin(&login, b":1234"), Err(CKR_ARGUMENTS_BAD));
        assert_eq!(pin(&login, b"other:1234"), Err(CKR_PIN_INCORRECT));
        assert_eq!(pin(&Login::default(), b"kms:1234"), Ok(&b"kms:1234"[..]));
    }

    #[test]
    fn flags_tell_the_truth_or_nothing() {
        let login = |flags| Login { flags, tries: Some(3), ..Login::default() };
        let below = CKF_TOKEN_INITIALIZED | CKF_USER_PIN_COUNT_LOW;
        let truth = |wrong| flags(&login(Flags::Truth), below, wrong, false) & !CKF_TOKEN_INITIALIZED;
        assert_eq!(truth(0), 0);
        assert_eq!(truth(1), CKF_USER_PIN_COUNT_LOW);
        assert_eq!(truth(2), CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY);
        assert_eq!(truth(3), CKF_USER_PIN_LOCKED);
        for wrong in 0..5 {
            let silent = flags(&login(Flags::Silent), below, wrong, true);
            assert_eq!(silent, CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED);
            assert_eq!(flags(&login(Flags::AsBelow), below, wrong, true), below);
        }
    }
}
