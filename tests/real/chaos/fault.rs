//! The rules of a schedule: which function fails, how, and for which calls.
//!
//! Not drawn is anything that C_SetPIN says: PINs are rotated by a connect alone, which has tests of its own.

use std::fmt;

use super::rng::Rng;
use super::schedule::Verify;
use crate::harness::habits::{Habits, SOFTHSM};

/// A rule of chaos-hsm.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) function: &'static str,
    pub(super) fault: Fault,
    pub(super) meets: Meets,
    /// The real function is called first.
    pub(super) after_call: bool,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Code(&'static str),
    /// Between two times, in milliseconds.
    Delay(u32, u32),
    Hang,
    Crash,
    WrongBytes,
    LostToken,
    PinLocked,
    SessionLimit(u32),
}

/// Which calls of the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meets {
    All,
    /// So many of a hundred.
    PerCent(u32),
    /// So many in a row, after some that are spared.
    Calls {
        after: u64,
        count: u64,
    },
}

/// What a call needs, and a probe. C_UnwrapKey makes hot copies.
const SERVING: &[&str] = &[
    "C_EncryptInit",
    "C_Encrypt",
    "C_DecryptInit",
    "C_Decrypt",
    "C_GenerateRandom",
    "C_GetTokenInfo",
    "C_UnwrapKey",
    "C_DestroyObject",
];
/// What finds an object or a session again.
const FINDING: &[&str] = &[
    "C_OpenSession",
    "C_CloseSession",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_GetAttributeValue",
];
/// What a worker calls when it starts or leaves.
const STARTING: &[&str] = &[
    "C_Initialize",
    "C_Finalize",
    "C_GetInfo",
    "C_GetSlotList",
    "C_GetMechanismList",
    "C_GetMechanismInfo",
    "C_SignInit",
    "C_Sign",
    "C_Login",
];
/// What makes a key.
const MAKING: &[&str] = &["C_GenerateKey", "C_WrapKey", "C_UnwrapKey"];
/// How many these are, of which C_UnwrapKey is in two.
pub(super) const FUNCTIONS: usize = SERVING.len() + FINDING.len() + STARTING.len() + MAKING.len() - 1;

/// Called between the record of a login's attempt and that of its outcome: a worker that dies in one of them has spent a
/// try.
pub(super) const IN_LOGINS: &[&str] =
    &["C_GetTokenInfo", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue", "C_Login"];

/// Codes that speak against the token.
const TOKEN: &[&str] = &[
    "CKR_DEVICE_ERROR",
    "CKR_FUNCTION_FAILED",
    "CKR_HOST_MEMORY",
    "CKR_DEVICE_MEMORY",
    "CKR_DEVICE_REMOVED",
    "CKR_TOKEN_NOT_PRESENT",
    "CKR_USER_NOT_LOGGED_IN",
    "CKR_CRYPTOKI_NOT_INITIALIZED",
    "0x80000001",
];
/// Against the login, and not its PIN: it is tried again.
const LOGIN: &[&str] = &["CKR_USER_PIN_NOT_INITIALIZED", "CKR_USER_TYPE_INVALID", "CKR_USER_ANOTHER_ALREADY_LOGGED_IN"];
/// Against the PIN: by design the service then waits for an operator. Not CKR_PIN_EXPIRED, which is said of the right one
/// (`kmsuser::first_login`).
pub(super) const PIN: &[&str] =
    &["CKR_PIN_INCORRECT", "CKR_PIN_INVALID", "CKR_PIN_LEN_RANGE", "CKR_PIN_LOCKED", "CKR_PIN_TOO_WEAK"];
/// Against the session.
const SESSION: &[&str] = &[
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_SESSION_CLOSED",
    "CKR_SESSION_COUNT",
    "CKR_OPERATION_ACTIVE",
    "CKR_OPERATION_NOT_INITIALIZED",
    "CKR_FUNCTION_CANCELED",
];
/// Against the key.
const KEY: &[&str] = &["CKR_KEY_HANDLE_INVALID", "CKR_OBJECT_HANDLE_INVALID"];
/// Against what the token can do.
const REFUSED: &[&str] =
    &["CKR_MECHANISM_INVALID", "CKR_FUNCTION_NOT_SUPPORTED", "CKR_KEY_FUNCTION_NOT_PERMITTED", "CKR_ARGUMENTS_BAD"];
/// Against the caller, who is innocent.
const REQUEST: &[&str] = &[
    "CKR_DATA_INVALID",
    "CKR_DATA_LEN_RANGE",
    "CKR_ENCRYPTED_DATA_INVALID",
    "CKR_ENCRYPTED_DATA_LEN_RANGE",
    // SoftHSM's word for everything, a bad ciphertext included.
    "CKR_GENERAL_ERROR",
];

/// The same of C_Decrypt, from HSMs of which nobody has measured what they say of a bad ciphertext.
const UNCLEAR: &[&str] = &["CKR_GENERAL_ERROR", "CKR_FUNCTION_FAILED", "CKR_ARGUMENTS_BAD", "CKR_DEVICE_ERROR"];

/// Anything that a worker meets while it serves.
pub(super) fn serving(rng: &mut Rng) -> Rule {
    if rng.chance(8) {
        return Rule { function: "*", fault: Fault::LostToken, meets: some(rng), after_call: false };
    }
    let function = rng.pick(SERVING);
    match function {
        // Of a wrapped key that would be a word about the key itself.
        "C_UnwrapKey" => drawn(rng, function, &[TOKEN, SESSION, KEY, REFUSED], some),
        _ => drawn(rng, function, &[TOKEN, SESSION, KEY, REFUSED, REQUEST], some),
    }
}

/// The same, of what no token says of a good ciphertext.
pub(super) fn unmistakable(rng: &mut Rng) -> Rule {
    if rng.chance(8) {
        return Rule { function: "*", fault: Fault::LostToken, meets: some(rng), after_call: false };
    }
    let function = rng.pick(SERVING);
    drawn(rng, function, &[TOKEN, SESSION, KEY, REFUSED], some)
}

/// What a zone meets before it has recovered. Nothing that ends a worker: it may be inside a login.
pub(super) fn again(rng: &mut Rng) -> Rule {
    let functions = rng.pick(&[SERVING, FINDING, STARTING]);
    let function = rng.pick(functions);
    let fault = match rng.chance(30) {
        true => Fault::Delay(1, 150),
        false => Fault::Code(of_classes(rng, &[TOKEN, SESSION])),
    };
    Rule { function, fault, meets: some(rng), after_call: rng.chance(50) }
}

/// What makes a worker look for a key, or open a session, anew.
pub(super) fn stale(rng: &mut Rng) -> Rule {
    let function = rng.pick(&["C_EncryptInit", "C_DecryptInit", "C_Encrypt", "C_Decrypt"]);
    Rule { function, fault: Fault::Code(of_classes(rng, &[SESSION, KEY])), meets: Meets::PerCent(30), after_call: true }
}

pub(super) fn finding(rng: &mut Rng) -> Rule {
    if rng.chance(20) {
        let fault = Fault::SessionLimit(u32::try_from(rng.between(1, 3)).unwrap());
        return Rule { function: "C_OpenSession", fault, meets: Meets::All, after_call: false };
    }
    let function = rng.pick(FINDING);
    drawn(rng, function, &[TOKEN, SESSION, KEY, REFUSED], most)
}

pub(super) fn starting(rng: &mut Rng) -> Rule {
    let function = rng.pick(STARTING);
    if function == "C_Sign" && rng.chance(30) {
        return Rule { function, fault: Fault::WrongBytes, meets: Meets::All, after_call: true };
    }
    match function {
        "C_Login" => drawn(rng, function, &[TOKEN, SESSION, REFUSED, LOGIN], most),
        _ => drawn(rng, function, &[TOKEN, SESSION, REFUSED], most),
    }
}

/// What refuses kmsuser. Every login, and before the real token hears of it: one that took the PIN after all would have
/// the service know better.
pub(super) fn refusing(rng: &mut Rng) -> Rule {
    let (function, fault) = match rng.chance(30) {
        true => ("*", Fault::PinLocked),
        false => ("C_Login", Fault::Code(rng.pick(PIN))),
    };
    Rule { function, fault, meets: Meets::All, after_call: false }
}

pub(super) fn making(rng: &mut Rng) -> Rule {
    let function = rng.pick(MAKING);
    if function == "C_WrapKey" && rng.chance(30) {
        return Rule { function, fault: Fault::WrongBytes, meets: Meets::All, after_call: true };
    }
    drawn(rng, function, &[TOKEN, SESSION, KEY, REFUSED], most)
}

/// Wrong bytes from a token that says that all is well. Always, where nothing but the canary finds it: a lie now and then
/// passes a canary too, and how long it takes to be found out is left to chance.
pub(super) fn lying(rng: &mut Rng, verify: Verify) -> Rule {
    let function = rng.pick(&["C_Encrypt", "C_Decrypt", "C_Decrypt", "C_GenerateRandom"]);
    let mut rule = Rule { function, fault: Fault::WrongBytes, meets: Meets::All, after_call: true };
    if rule.lie(verify).is_none() && rng.chance(50) {
        rule.meets = Meets::PerCent(30);
    }
    rule
}

/// `often` says how many calls meet it, by how often the function is called.
fn drawn(
    rng: &mut Rng,
    function: &'static str,
    classes: &[&[&'static str]],
    often: impl Fn(&mut Rng) -> Meets,
) -> Rule {
    let after_call = rng.chance(50);
    let ends = function != "C_Login";
    let fault = match rng.below(100) {
        0..14 if ends => Fault::Crash,
        14..28 if ends => Fault::Hang,
        28..38 => Fault::Delay(1, 60),
        38..44 => Fault::Delay(60, 250),
        _ => Fault::Code(of_classes(rng, classes)),
    };
    let meets = match fault {
        // At most two: the service stops trying after three logins in a row without an outcome.
        Fault::Crash if IN_LOGINS.contains(&function) => {
            Meets::Calls { after: rng.between(0, 30), count: rng.between(1, 2) }
        }
        _ => often(rng),
    };
    Rule { function, fault, meets, after_call }
}

fn of_classes(rng: &mut Rng, classes: &[&[&'static str]]) -> &'static str {
    let class = rng.pick(classes);
    rng.pick(class)
}

/// Of a function that is called with every operation.
fn some(rng: &mut Rng) -> Meets {
    match rng.below(6) {
        0 | 1 => Meets::All,
        2 => Meets::PerCent(30),
        3 => Meets::PerCent(5),
        4 => Meets::PerCent(1),
        _ => Meets::Calls { after: rng.between(0, 50), count: rng.between(1, 40) },
    }
}

/// Of one that is called now and then.
fn most(rng: &mut Rng) -> Meets {
    match rng.below(5) {
        0..3 => Meets::All,
        3 => Meets::PerCent(50),
        _ => Meets::Calls { after: rng.between(0, 3), count: rng.between(1, 4) },
    }
}

/// Whether this may be a bad ciphertext as well, or a broken key.
fn is_unclear(kind: &Habits, code: &str) -> bool {
    kind.profile != SOFTHSM.profile && UNCLEAR.contains(&code)
}

impl Rule {
    /// The function in which this gives callers wrong bytes without anything but the canary to find it out.
    pub(super) fn lie(&self, verify: Verify) -> Option<&'static str> {
        let seen_by_another_zone = match self.function {
            "C_Encrypt" => verify.all_wraps,
            "C_Decrypt" => verify.unwraps,
            _ => true,
        };
        (self.fault == Fault::WrongBytes && !seen_by_another_zone).then_some(self.function)
    }

    /// Where this refuses kmsuser: what people are told of it.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        match self.fault {
            Fault::PinLocked => Some("locked kmsuser"),
            Fault::Code(code) if self.function == "C_Login" && PIN.contains(&code) => Some(code),
            _ => None,
        }
    }

    /// Not what an HSM of this kind says of a bad ciphertext, and no wrong bytes in what callers get.
    pub(super) fn is_unmistakable_to(&self, kind: &Habits) -> bool {
        match self.fault {
            Fault::Code(code) if self.function == "C_Decrypt" && is_unclear(kind, code) => false,
            Fault::Code(code) => !REQUEST.contains(&code),
            Fault::WrongBytes => self.function == "C_Sign",
            _ => true,
        }
    }

    /// Has it say instead, where it is not, what is.
    pub(super) fn make_unmistakable_to(&mut self, kind: &Habits) {
        if !self.is_unmistakable_to(kind) {
            self.fault = Fault::Code("CKR_DEVICE_REMOVED");
        }
    }

    /// As chaos-hsm reads it; `calls` says how often a function was called so far.
    pub(super) fn toml(&self, calls: impl Fn(&str) -> u64) -> String {
        let Self { function, after_call, .. } = self;
        let fault = match self.fault {
            Fault::Code(code) => format!("{{ code = {code:?} }}"),
            Fault::Delay(least, most) => format!("{{ delay_ms = [{least}, {most}] }}"),
            Fault::Hang => "\"hang\"".to_owned(),
            Fault::Crash => "\"crash\"".to_owned(),
            Fault::WrongBytes => "\"wrong-bytes\"".to_owned(),
            Fault::LostToken => "\"lost-token\"".to_owned(),
            Fault::PinLocked => "\"pin-locked\"".to_owned(),
            Fault::SessionLimit(limit) => format!("{{ session_limit = {limit} }}"),
        };
        let meets = match self.meets {
            Meets::All => String::new(),
            Meets::PerCent(share) => format!("probability = {}\n", f64::from(share) / 100.0),
            Meets::Calls { after, count } => {
                let from = calls(function) + after + 1;
                format!("calls = {{ from = {from}, to = {} }}\n", from + count - 1)
            }
        };
        format!("[[rule]]\nfunction = {function:?}\n{meets}after_call = {after_call}\nfault = {fault}\n")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Code(code) => write!(f, "{} {code}", self.function)?,
            Fault::Delay(least, most) => write!(f, "{} takes {least} to {most} ms", self.function)?,
            Fault::SessionLimit(limit) => write!(f, "{} at most {limit} sessions", self.function)?,
            Fault::Hang => write!(f, "{} hangs", self.function)?,
            Fault::Crash => write!(f, "{} crashes", self.function)?,
            Fault::WrongBytes => write!(f, "{} gives wrong bytes", self.function)?,
            Fault::LostToken => write!(f, "{} has lost its token", self.function)?,
            Fault::PinLocked => write!(f, "{} has locked kmsuser", self.function)?,
        }
        match self.meets {
            Meets::All => {}
            Meets::PerCent(share) => write!(f, ", {share} % of its calls")?,
            Meets::Calls { after, count } => write!(f, ", {count} calls after {after}")?,
        }
        if self.after_call { f.write_str(", after the real call") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use model::profile::{Means, Profile};

    use super::super::kinds::KINDS;
    use super::*;

    /// As the profiles have it.
    #[test]
    fn what_may_be_a_bad_ciphertext_is_known_of_each_kind() {
        const NAMES: [(u64, &str); 4] = [
            (0x05, "CKR_GENERAL_ERROR"),
            (0x06, "CKR_FUNCTION_FAILED"),
            (0x07, "CKR_ARGUMENTS_BAD"),
            (0x30, "CKR_DEVICE_ERROR"),
        ];
        for kind in KINDS {
            let profile = Profile::ALL.into_iter().find(|profile| profile.name() == kind.profile).unwrap();
            let codes = config::capabilities(profile).unwrap().codes;
            let unclear = |(code, _): &(u64, &str)| codes.means("C_Decrypt", *code) == Some(Means::Ambiguous);
            assert_eq!(
                codes.meaning.iter().filter(|meaning| meaning.means == Means::Ambiguous).count(),
                NAMES.into_iter().filter(unclear).count(),
                "{}: codes that this test does not name",
                kind.name
            );
            for (_, name) in NAMES.into_iter().filter(unclear) {
                let fault = Fault::Code(name);
                let mut rule = Rule { function: "C_Decrypt", fault, meets: Meets::All, after_call: false };
                assert!(!rule.is_unmistakable_to(kind), "{} {name}", kind.name);
                rule.make_unmistakable_to(kind);
                assert!(rule.is_unmistakable_to(kind), "{} {name}", kind.name);
            }
        }
    }
}
