//! What a token's refusal says of a PIN. Pure.

use super::Event;
use model::profile::{Codes, Means};
use protocol::{Class, Fault};

/// CKR_PIN_EXPIRED of the standard.
const PIN_EXPIRED: u64 = 0xa3;
/// CKR_PIN_INVALID, CKR_PIN_LEN_RANGE and CKR_PIN_TOO_WEAK: of a new PIN, and no wrong one.
const NO_NEW_PIN: [u64; 3] = [0xa1, 0xa2, 0x1b8];

/// CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_ARGUMENTS_BAD and CKR_DEVICE_ERROR: tokens that have no better word for a wrong
/// PIN say one of these, or a code of their own.
const OF_ANYTHING: [u64; 4] = [0x05, 0x06, 0x07, 0x30];
/// From here on codes are vendors' own.
const VENDOR_DEFINED: u64 = 0x8000_0000;

/// Of C_Login.
pub(crate) fn of_login(fault: &Fault, codes: &Codes) -> Event {
    match fault.class {
        // Without a code the worker did not try: the token's flags forbade it.
        Class::Login | Class::Locked if fault.code == 0 => Event::LoginNotJudged,
        Class::Login if fault.code == PIN_EXPIRED => Event::Expired,
        Class::Login => Event::LoginRefused,
        Class::Locked => Event::LockedOut,
        _ if may_be_wrong(fault, "C_Login", codes) => Event::Unclear,
        _ => Event::LoginNotJudged,
    }
}

/// Whether all that was said may be said of a wrong PIN. Not where the HSM's profile says what it means of this function: who
/// says of all functions that they have too much to do by that need not have thought of PINs.
fn may_be_wrong(fault: &Fault, function: &str, codes: &Codes) -> bool {
    let of_anything = OF_ANYTHING.contains(&fault.code) || fault.code >= VENDOR_DEFINED;
    of_anything && fault.function == function && codes.means_by_name(function, fault.code).is_none()
}

/// Of C_SetPIN. That a PIN has to be changed is nothing that a wrong one is told by it, but where the HSM's profile says so.
pub(crate) fn of_change(fault: &Fault, codes: &Codes) -> Event {
    let told = codes.means(&fault.function, fault.code);
    match fault.class {
        Class::Login | Class::Locked if fault.code == 0 => Event::LoginNotJudged,
        Class::Locked => Event::LockedOut,
        Class::Login if told == Some(Means::Login) => Event::NotCurrent,
        Class::Login if fault.code == PIN_EXPIRED || NO_NEW_PIN.contains(&fault.code) => Event::Unchanged,
        Class::Login => Event::NotCurrent,
        Class::Refused | Class::Request => Event::Unchanged,
        _ if may_be_wrong(fault, "C_SetPIN", codes) => Event::Unclear,
        _ => Event::LoginNotJudged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::profile::{Capabilities, Meaning};

    fn fault(class: Class, function: &'static str, code: u64) -> Fault {
        Fault { code, ..Fault::own(class, function, "") }
    }

    #[test]
    fn what_is_said_of_a_login() {
        let standard = Capabilities::standard().codes;
        for (class, code, event) in [
            (Class::Login, 0xa0, Event::LoginRefused),
            (Class::Login, 0xa3, Event::Expired),
            (Class::Locked, 0xa4, Event::LockedOut),
            // Not tried.
            (Class::Login, 0, Event::LoginNotJudged),
            (Class::Locked, 0, Event::LoginNotJudged),
            (Class::Token, 0xe0, Event::LoginNotJudged),
            (Class::Session, 0xb3, Event::LoginNotJudged),
            (Class::Request, 0, Event::LoginNotJudged),
            // Of a wrong PIN, or of anything.
            (Class::Token, 0x05, Event::Unclear),
            (Class::Token, 0x06, Event::Unclear),
            (Class::Refused, 0x07, Event::Unclear),
            (Class::Token, 0x30, Event::Unclear),
            (Class::Token, 0x8000_0042, Event::Unclear),
        ] {
            assert_eq!(of_login(&fault(class, "C_Login", code), &standard), event, "{class:?} {code:#x}");
        }
        // After the login.
        assert_eq!(of_login(&fault(Class::Token, "C_FindObjects", 0x05), &standard), Event::LoginNotJudged);
    }

    #[test]
    fn a_profile_may_say_that_a_code_is_of_no_pin() {
        for (means, class) in [(Means::Busy, Class::Busy), (Means::Token, Class::Token)] {
            let says = |function: &str| Codes {
                meaning: vec![Meaning { functions: vec![function.to_owned()], code: 6, means }],
            };
            assert_eq!(of_login(&fault(class, "C_Login", 6), &says("C_Login")), Event::LoginNotJudged);
            assert_eq!(of_change(&fault(class, "C_SetPIN", 6), &says("C_SetPIN")), Event::LoginNotJudged);
            assert_eq!(of_change(&fault(class, "C_SetPIN", 6), &says("C_Login")), Event::Unclear);
            // Whoever says so of any function may not have thought of PINs.
            assert_eq!(of_login(&fault(class, "C_Login", 6), &says("*")), Event::Unclear);
            assert_eq!(of_change(&fault(class, "C_SetPIN", 6), &says("*")), Event::Unclear);
        }
    }

    #[test]
    fn what_is_said_of_a_change() {
        let standard = Capabilities::standard().codes;
        for (class, code, event) in [
            (Class::Login, 0xa0, Event::NotCurrent),
            (Class::Locked, 0xa4, Event::LockedOut),
            // Of the new one, or of no PIN.
            (Class::Login, 0xa1, Event::Unchanged),
            (Class::Login, 0xa2, Event::Unchanged),
            (Class::Login, 0xa3, Event::Unchanged),
            (Class::Login, 0x1b8, Event::Unchanged),
            (Class::Refused, 0x54, Event::Unchanged),
            (Class::Request, 0, Event::Unchanged),
            // Not tried.
            (Class::Login, 0, Event::LoginNotJudged),
            // Perhaps it was changed, or the old one is wrong.
            (Class::Token, 0x30, Event::Unclear),
            (Class::Token, 0x8000_0042, Event::Unclear),
            // Perhaps it was changed.
            (Class::Token, 0x31, Event::LoginNotJudged),
            (Class::Session, 0xb3, Event::LoginNotJudged),
        ] {
            assert_eq!(of_change(&fault(class, "C_SetPIN", code), &standard), event, "{class:?} {code:#x}");
        }
    }

    #[test]
    fn a_profile_may_say_that_a_wrong_pin_has_another_code() {
        for code in [0xa1, 0xa3] {
            let says = |function: &str| {
                let meaning = Meaning { functions: vec![function.to_owned()], code, means: Means::Login };
                of_change(&fault(Class::Login, "C_SetPIN", code), &Codes { meaning: vec![meaning] })
            };
            assert_eq!(says("C_SetPIN"), Event::NotCurrent, "{code:#x}");
            assert_eq!(says("C_Login"), Event::Unchanged, "{code:#x}");
        }
    }
}
