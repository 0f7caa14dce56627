//! PINs with a user's name, such that must be changed, users that are locked, and what tokens say of it.

use std::ptr;

use cryptoki_sys::*;

use crate::rig::{Hsm, PIN, SO_PIN, call, played};

fn set_pin(hsm: &Hsm, session: CK_SESSION_HANDLE, old: &str, new: &str) -> Result<(), CK_RV> {
    let at = |pin: &str| (pin.as_ptr().cast_mut(), pin.len() as CK_ULONG);
    let (old, new) = (at(old), at(new));
    call!(hsm.chaos, C_SetPIN(session, old.0, old.1, new.0, new.1))
}

fn logout(hsm: &Hsm, session: CK_SESSION_HANDLE) {
    call!(hsm.chaos, C_Logout(session)).unwrap();
}

/// A PIN of the user that the SO sets.
fn init_pin(hsm: &Hsm, session: CK_SESSION_HANDLE, pin: &str) -> Result<(), CK_RV> {
    call!(hsm.chaos, C_Login(session, CKU_SO, SO_PIN.as_ptr().cast_mut(), 8)).unwrap();
    let result = call!(hsm.chaos, C_InitPIN(session, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG));
    logout(hsm, session);
    result
}

fn is(hsm: &Hsm, flag: CK_FLAGS) -> bool {
    hsm.info().flags & flag != 0
}

const FORM: &str =
    "[login]\npin_form = \"{user}:{pin}\"\nuser = \"kms\"\nwrong_form = \"CKR_DATA_INVALID\"\npin_length = [8, 32]";

played!(a_pin_has_the_users_name_before_it, FORM, |hsm| {
    let session = hsm.session();
    assert_eq!(hsm.login(session, PIN), Err(CKR_DATA_INVALID));
    assert_eq!(hsm.login(session, &format!(":{PIN}")), Err(CKR_DATA_INVALID));
    assert_eq!(hsm.login(session, &format!("other:{PIN}")), Err(CKR_PIN_INCORRECT));
    assert_eq!(hsm.login(session, "kms:wrongwrong"), Err(CKR_PIN_INCORRECT));
    assert_eq!(hsm.login(session, &format!("kms:{PIN}")), Ok(()));
    assert_eq!(set_pin(hsm, session, PIN, "kms:abcdefgh"), Err(CKR_DATA_INVALID));
    assert_eq!(set_pin(hsm, session, &format!("kms:{PIN}"), "kms:short"), Err(CKR_PIN_LEN_RANGE));
    assert_eq!(set_pin(hsm, session, &format!("kms:{PIN}"), "kms:abcdefgh"), Ok(()));
    logout(hsm, session);
    // SoftHSM reads PINs when it is initialised.
    call!(hsm.chaos, C_Finalize(ptr::null_mut())).unwrap();
    call!(hsm.chaos, C_Initialize(ptr::null_mut())).unwrap();
    let session = hsm.session();
    assert_eq!(hsm.login(session, &format!("kms:{PIN}")), Err(CKR_PIN_INCORRECT));
    assert_eq!(hsm.login(session, "kms:abcdefgh"), Ok(()));
    let info = hsm.info();
    assert_eq!((info.ulMinPinLen, info.ulMaxPinLen), (8, 32));
});

played!(any_user_will_do_where_none_is_named, "[login]\npin_form = \"user:pin\"", |hsm| {
    let session = hsm.session();
    assert_eq!(hsm.login(session, PIN), Err(CKR_ARGUMENTS_BAD));
    assert_eq!(hsm.login(session, &format!("anybody:{PIN}")), Ok(()));
});

const CHANGE: &str = "[login]\nmust_change = true\nflags = \"truth\"";

played!(a_pin_that_somebody_else_chose_must_be_changed_first, CHANGE, |hsm| {
    let session = hsm.session();
    assert!(is(hsm, CKF_USER_PIN_TO_BE_CHANGED));
    assert_eq!(hsm.login(session, "wrongwrong"), Err(CKR_PIN_INCORRECT), "a wrong one is a wrong one");
    assert_eq!(hsm.login(session, PIN), Err(CKR_PIN_EXPIRED));
    assert_eq!(hsm.login(session, PIN), Err(CKR_PIN_EXPIRED), "and nobody was logged in");
    assert_eq!(set_pin(hsm, session, PIN, "abcdefgh"), Ok(()));
    assert!(!is(hsm, CKF_USER_PIN_TO_BE_CHANGED));
    assert_eq!(hsm.login(session, "abcdefgh"), Ok(()));
    logout(hsm, session);
    assert_eq!(init_pin(hsm, session, PIN), Ok(()));
    assert!(is(hsm, CKF_USER_PIN_TO_BE_CHANGED));
    assert_eq!(hsm.login(session, PIN), Err(CKR_PIN_EXPIRED), "the SO chose it");
    hsm.control.pin_was_changed();
    assert_eq!(hsm.login(session, PIN), Ok(()), "by the vendor's tool");
});

const LOCKS: &str = "[login]\ntries = 3\nflags = \"truth\"";

played!(wrong_pins_lock_the_user_and_flags_say_so, LOCKS, |hsm| {
    let session = hsm.session();
    assert_eq!(hsm.login(session, "wrongwrong"), Err(CKR_PIN_INCORRECT));
    assert!(is(hsm, CKF_USER_PIN_COUNT_LOW));
    assert_eq!(hsm.login(session, PIN), Ok(()));
    logout(hsm, session);
    assert!(!is(hsm, CKF_USER_PIN_COUNT_LOW), "a right one counts anew");
    for try_ in 1..=3 {
        assert_eq!(is(hsm, CKF_USER_PIN_FINAL_TRY), try_ == 3);
        assert_eq!(set_pin(hsm, session, "wrongwrong", "abcdefgh"), Err(CKR_PIN_INCORRECT));
    }
    assert!(is(hsm, CKF_USER_PIN_LOCKED));
    assert_eq!(hsm.login(session, PIN), Err(CKR_PIN_LOCKED));
    assert_eq!(set_pin(hsm, session, PIN, "abcdefgh"), Err(CKR_PIN_LOCKED));
    assert_eq!(init_pin(hsm, session, PIN), Ok(()));
    assert_eq!(hsm.login(session, PIN), Ok(()), "the SO has let it in again");
    logout(hsm, session);
    for _ in 0..3 {
        assert_eq!(hsm.login(session, "wrongwrong"), Err(CKR_PIN_INCORRECT));
    }
    assert_eq!(hsm.login(session, PIN), Err(CKR_PIN_LOCKED));
    hsm.control.unlock();
    assert_eq!(hsm.login(session, PIN), Ok(()));
});

const LIES: &str =
    "[login]\ntries = 2\nflags = \"silent\"\nwrong_pin = \"CKR_FUNCTION_FAILED\"\nlocked = \"CKR_GENERAL_ERROR\"";

played!(a_token_can_hide_that_it_locks_its_user_and_what_was_wrong, LIES, |hsm| {
    let session = hsm.session();
    let lied = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED | CKF_USER_PIN_TO_BE_CHANGED;
    for result in [CKR_FUNCTION_FAILED, CKR_FUNCTION_FAILED, CKR_GENERAL_ERROR] {
        assert_eq!(hsm.login(session, "wrongwrong"), Err(result));
        assert!(!is(hsm, lied), "{:x}", hsm.info().flags);
        assert!(is(hsm, CKF_USER_PIN_INITIALIZED));
    }
    assert_eq!(hsm.login(session, PIN), Err(CKR_GENERAL_ERROR));
});

played!(tries_are_counted_over_all_processes, LOCKS, |hsm| {
    let wrong = format!("{:x?}", Err::<(), _>(CKR_PIN_INCORRECT));
    assert_eq!(hsm.elsewhere("login wrongwrong"), wrong);
    assert_eq!(hsm.elsewhere("login wrongwrong"), wrong);
    assert!(is(hsm, CKF_USER_PIN_FINAL_TRY));
    let session = hsm.session();
    assert_eq!(hsm.login(session, "wrongwrong"), Err(CKR_PIN_INCORRECT));
    assert_eq!(hsm.elsewhere(&format!("login {PIN}")), format!("{:x?}", Err::<(), _>(CKR_PIN_LOCKED)));
    hsm.control.unlock();
    assert_eq!(hsm.elsewhere(&format!("login {PIN}")), "Ok(())");
});
