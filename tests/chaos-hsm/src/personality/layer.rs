//! The functions over the real module's. Each gets what is below it from the call that it is part of.

#![allow(non_snake_case, reason = "the standard's names")]

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki_sys::*;

use super::gcm::Ops;
use super::settings::Personality;
use super::topology::Local;
use super::{gate, gcm, login, mechanisms, objects, topology};
use crate::state::State;

/// What lies below a call.
#[derive(Clone)]
pub(crate) struct Below {
    /// The real module.
    pub(crate) real: &'static CK_FUNCTION_LIST,
    /// What processes share.
    pub(crate) state: &'static State,
    /// What this one knows.
    pub(crate) process: &'static Process,
    /// The habits.
    pub(crate) personality: Arc<Personality>,
    /// Sessions that this process has open.
    pub(crate) sessions: usize,
    /// By the clock that all processes have, in nanoseconds.
    pub(crate) now: fn() -> u64,
}

/// What this process knows.
#[derive(Default)]
pub(crate) struct Process {
    ops: Mutex<Ops>,
    local: Mutex<Local>,
}

impl Process {
    /// Operations that are begun.
    pub(crate) fn ops(&self) -> MutexGuard<'_, Ops> {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Back ends.
    pub(crate) fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a function says: an error is its return value.
pub(crate) type Answer = Result<(), CK_RV>;

/// A return value as one.
pub(crate) fn answer(value: CK_RV) -> Answer {
    if value == CKR_OK { Ok(()) } else { Err(value) }
}

/// Calls a function of the real module.
macro_rules! real {
    ($below:expr, $name:ident($($argument:expr),* $(,)?)) => {
        match $below.real.$name {
            // SAFETY: the caller's arguments, or some that are made like them, to the function that they are meant for.
            Some(function) => $crate::personality::layer::answer(unsafe { function($($argument),*) }),
            None => Err(cryptoki_sys::CKR_FUNCTION_NOT_SUPPORTED),
        }
    };
}
pub(super) use real;

thread_local! {
    static BELOW: RefCell<Option<Below>> = const { RefCell::new(None) };
}

/// A call that meets the habits: first those that functions have in common, then the functions'.
pub(crate) fn through(
    below: &Below,
    function: &'static str,
    session: Option<CK_SESSION_HANDLE>,
    counts: bool,
    call: impl FnOnce() -> CK_RV,
) -> CK_RV {
    let result = match counts.then(|| gate::before(below, function, session)) {
        Some(Err(code)) => code,
        _ => {
            BELOW.set(Some(below.clone()));
            let result = call();
            BELOW.set(None);
            result
        }
    };
    gate::shown(&below.personality, function, result)
}

fn within(function: impl FnOnce(&Below) -> Answer) -> CK_RV {
    let Some(below) = BELOW.with_borrow(Clone::clone) else { return CKR_GENERAL_ERROR };
    function(&below).err().unwrap_or(CKR_OK)
}

macro_rules! layer {
    ($($name:ident($($argument:ident: $type:ty),*) => $function:path;)+) => {
        $(
            unsafe extern "C" fn $name($($argument: $type),*) -> CK_RV {
                within(|below| $function(below, $($argument),*))
            }
        )+

        /// The real module's functions under those that have habits.
        pub(crate) fn layered(real: &CK_FUNCTION_LIST) -> CK_FUNCTION_LIST {
            CK_FUNCTION_LIST { $($name: Some($name),)+ ..*real }
        }
    };
}

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;
type Bytes = *mut CK_BYTE;

layer! {
    C_Finalize(reserved: *mut c_void) => topology::finalize;
    C_GetInfo(info: *mut CK_INFO) => login::library_info;
    C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) => login::token_info;
    C_GetMechanismList(slot: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE, count: *mut CK_ULONG) => mechanisms::list;
    C_GetMechanismInfo(slot: CK_SLOT_ID, number: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO) => mechanisms::info;
    C_InitToken(slot: CK_SLOT_ID, pin: Bytes, length: CK_ULONG, label: Bytes) => login::init_token;
    C_InitPIN(session: Session, pin: Bytes, length: CK_ULONG) => login::init_pin;
    C_SetPIN(session: Session, old: Bytes, old_length: CK_ULONG, new: Bytes, new_length: CK_ULONG) => login::set_pin;
    C_OpenSession(slot: CK_SLOT_ID, flags: CK_FLAGS, data: *mut c_void, notify: CK_NOTIFY, session: *mut Session) => topology::open_session;
    C_CloseSession(session: Session) => topology::close_session;
    C_CloseAllSessions(slot: CK_SLOT_ID) => topology::close_all_sessions;
    C_Login(session: Session, user: CK_USER_TYPE, pin: Bytes, length: CK_ULONG) => login::login;
    C_CreateObject(session: Session, template: *mut CK_ATTRIBUTE, count: CK_ULONG, made: *mut Object) => objects::create;
    C_CopyObject(session: Session, object: Object, template: *mut CK_ATTRIBUTE, count: CK_ULONG, made: *mut Object) => objects::copy;
    C_DestroyObject(session: Session, object: Object) => objects::destroy;
    C_GetObjectSize(session: Session, object: Object, size: *mut CK_ULONG) => objects::size;
    C_GetAttributeValue(session: Session, object: Object, template: *mut CK_ATTRIBUTE, count: CK_ULONG) => objects::get;
    C_SetAttributeValue(session: Session, object: Object, template: *mut CK_ATTRIBUTE, count: CK_ULONG) => objects::set;
    C_FindObjectsInit(session: Session, template: *mut CK_ATTRIBUTE, count: CK_ULONG) => objects::find_init;
    C_FindObjects(session: Session, found: *mut Object, most: CK_ULONG, count: *mut CK_ULONG) => objects::find;
    C_EncryptInit(session: Session, mechanism: *mut CK_MECHANISM, key: Object) => gcm::encrypt_init;
    C_Encrypt(session: Session, data: Bytes, length: CK_ULONG, out: Bytes, room: *mut CK_ULONG) => gcm::encrypt;
    C_EncryptUpdate(session: Session, data: Bytes, length: CK_ULONG, out: Bytes, room: *mut CK_ULONG) => gcm::encrypt_update;
    C_EncryptFinal(session: Session, out: Bytes, room: *mut CK_ULONG) => gcm::encrypt_final;
    C_DecryptInit(session: Session, mechanism: *mut CK_MECHANISM, key: Object) => gcm::decrypt_init;
    C_Decrypt(session: Session, data: Bytes, length: CK_ULONG, out: Bytes, room: *mut CK_ULONG) => gcm::decrypt;
    C_DecryptUpdate(session: Session, data: Bytes, length: CK_ULONG, out: Bytes, room: *mut CK_ULONG) => gcm::decrypt_update;
    C_DecryptFinal(session: Session, out: Bytes, room: *mut CK_ULONG) => gcm::decrypt_final;
    C_DigestInit(session: Session, mechanism: *mut CK_MECHANISM) => mechanisms::digest_init;
    C_DigestKey(session: Session, key: Object) => objects::digest_key;
    C_SignInit(session: Session, mechanism: *mut CK_MECHANISM, key: Object) => mechanisms::sign_init;
    C_SignRecoverInit(session: Session, mechanism: *mut CK_MECHANISM, key: Object) => mechanisms::sign_recover_init;
    C_VerifyInit(session: Session, mechanism: *mut CK_MECHANISM, key: Object) => mechanisms::verify_init;
    C_VerifyRecoverInit(session: Session, mechanism: *mut CK_MECHANISM, key: Object) => mechanisms::verify_recover_init;
    C_GenerateKey(session: Session, mechanism: *mut CK_MECHANISM, template: *mut CK_ATTRIBUTE, count: CK_ULONG, made: *mut Object) => objects::generate;
    C_GenerateKeyPair(session: Session, mechanism: *mut CK_MECHANISM, public: *mut CK_ATTRIBUTE, public_count: CK_ULONG, private: *mut CK_ATTRIBUTE, private_count: CK_ULONG, made_public: *mut Object, made_private: *mut Object) => objects::generate_pair;
    C_WrapKey(session: Session, mechanism: *mut CK_MECHANISM, wrapping: Object, key: Object, out: Bytes, room: *mut CK_ULONG) => mechanisms::wrap;
    C_UnwrapKey(session: Session, mechanism: *mut CK_MECHANISM, wrapping: Object, wrapped: Bytes, length: CK_ULONG, template: *mut CK_ATTRIBUTE, count: CK_ULONG, made: *mut Object) => objects::unwrap;
    C_DeriveKey(session: Session, mechanism: *mut CK_MECHANISM, base: Object, template: *mut CK_ATTRIBUTE, count: CK_ULONG, made: *mut Object) => objects::derive;
    C_GenerateRandom(session: Session, out: Bytes, length: CK_ULONG) => mechanisms::random;
}
