//! The few calls that keystored needs and its safe dependencies do not offer: C_UnwrapKey with CKA_UNWRAP_TEMPLATE, C_WrapKey
//! whose result is as long as it is, AES-GCM with an IV of the HSM's, what a module and its tokens say of themselves, what an
//! object is in one call of C_GetAttributeValue, ignoring signals, and leaving a process without running anybody's destructors.
//!
//! All `unsafe` of the workspace is here, each block with its reason.

mod gcm;
mod info;
mod wrap;

use std::path::Path;
use std::ptr;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki_sys::{
    CK_ATTRIBUTE, CK_C_Decrypt, CK_C_DecryptInit, CK_C_Encrypt, CK_C_EncryptInit, CK_C_GetAttributeValue, CK_C_GetInfo,
    CK_C_GetTokenInfo, CK_C_UnwrapKey, CK_C_WrapKey, CK_FUNCTION_LIST, CK_MECHANISM, CK_OBJECT_CLASS, CKA_CLASS,
    CKA_ID, CKA_UNWRAP_TEMPLATE, CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_OK,
};

pub use self::gcm::Gcm;

/// The longest CKA_ID that is read. Those of keystored's own objects have 20 bytes or are short names.
const LONGEST_ID: usize = 64;

/// A PKCS#11 module, loaded a second time beside cryptoki's handle on it. The dynamic loader counts references, so both
/// are one instance with one state; initialising and finalising stays cryptoki's business.
pub struct Module {
    unwrap_key: CK_C_UnwrapKey,
    wrap_key: CK_C_WrapKey,
    get_attribute_value: CK_C_GetAttributeValue,
    get_info: CK_C_GetInfo,
    get_token_info: CK_C_GetTokenInfo,
    encrypt_init: CK_C_EncryptInit,
    encrypt: CK_C_Encrypt,
    decrypt_init: CK_C_DecryptInit,
    decrypt: CK_C_Decrypt,
    // Keeps the module mapped for as long as the function pointers above can be called.
    _library: cryptoki_sys::Pkcs11,
}

/// Why a call here failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The module could not be loaded.
    #[error("cannot load the module: {0}")]
    Load(String),
    /// The module lacks a function.
    #[error("the module has no {0}")]
    Missing(&'static str),
    /// The function returned this CKR code.
    #[error("{function}: CKR 0x{code:08x}")]
    Returned {
        /// Which function.
        function: &'static str,
        /// Its return value.
        code: u64,
    },
    /// The function said that it gave more than there was room for.
    #[error("{0}: more bytes than there was room for")]
    TooLong(&'static str),
    /// What the function filled in is nothing that the standard has.
    #[error("{0}: what it filled in makes no sense")]
    Senseless(&'static str),
}

/// The three parts of a template for [`Module::unwrap_key`].
#[derive(Clone, Copy, Debug)]
pub struct UnwrapTemplate<'a> {
    /// Attributes of the new object that come first.
    pub first: &'a [Attribute],
    /// The new object's CKA_UNWRAP_TEMPLATE: what every key that it unwraps must be.
    pub unwraps_to: &'a [Attribute],
    /// Attributes that come after it. SoftHSM takes a template in its order and refuses everything after
    /// CKA_MODIFIABLE = false, so that one belongs here, last.
    pub last: &'a [Attribute],
}

impl Module {
    /// Loads the module again.
    pub fn load(path: &Path) -> Result<Self, Error> {
        // SAFETY: loading a library runs its initialisers. The caller has already loaded this very module through
        // cryptoki, under the same trust: the operator named it as the PKCS#11 module of an HSM.
        let library = unsafe { cryptoki_sys::Pkcs11::new(path) }.map_err(|error| Error::Load(error.to_string()))?;
        if library.C_GetFunctionList.is_err() {
            return Err(Error::Missing("C_GetFunctionList"));
        }
        let mut list: *mut CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the symbol exists (checked above) and takes a pointer to a pointer that lives across the call. It is
        // one of the functions that may be called before C_Initialize.
        let code = unsafe { library.C_GetFunctionList(&raw mut list) };
        if code != CKR_OK {
            return Err(Error::Returned { function: "C_GetFunctionList", code });
        }
        if list.is_null() {
            return Err(Error::Missing("function list"));
        }
        // SAFETY: the module says OK and gave a pointer that is not null; the standard has it point to a function list
        // that stays valid while the library is loaded. It is read without assuming alignment, as the struct is packed
        // in some modules.
        let list = unsafe { list.read_unaligned() };
        Ok(Self {
            unwrap_key: list.C_UnwrapKey,
            wrap_key: list.C_WrapKey,
            get_attribute_value: list.C_GetAttributeValue,
            get_info: list.C_GetInfo,
            get_token_info: list.C_GetTokenInfo,
            encrypt_init: list.C_EncryptInit,
            encrypt: list.C_Encrypt,
            decrypt_init: list.C_DecryptInit,
            decrypt: list.C_Decrypt,
            _library: library,
        })
    }

    /// C_UnwrapKey, with a CKA_UNWRAP_TEMPLATE among the new object's attributes.
    pub fn unwrap_key(
        &self,
        session: &Session,
        mechanism: &Mechanism<'_>,
        unwrapping_key: ObjectHandle,
        wrapped: &[u8],
        template: UnwrapTemplate<'_>,
    ) -> Result<ObjectHandle, Error> {
        let unwrap_key = self.unwrap_key.ok_or(Error::Missing("C_UnwrapKey"))?;
        let mut mechanism = CK_MECHANISM::from(mechanism);
        let mut nested: Vec<CK_ATTRIBUTE> = template.unwraps_to.iter().map(CK_ATTRIBUTE::from).collect();
        let mut attributes: Vec<CK_ATTRIBUTE> = template.first.iter().map(CK_ATTRIBUTE::from).collect();
        attributes.push(CK_ATTRIBUTE {
            type_: CKA_UNWRAP_TEMPLATE,
            pValue: nested.as_mut_ptr().cast(),
            ulValueLen: size_of_val(nested.as_slice()) as u64,
        });
        attributes.extend(template.last.iter().map(CK_ATTRIBUTE::from));
        let mut handle = 0;
        // SAFETY: every pointer is to memory that this function borrows or owns until the call has returned: the
        // mechanism's parameters and the attributes' values are borrowed from the arguments, `nested` and `attributes`
        // are locals that are not touched in between. Lengths are those of the slices. The module does not write to the
        // wrapped key although its type is not const. The session is open, since `Session` closes it when dropped; a
        // session or key of another module is answered with an error code.
        let code = unsafe {
            unwrap_key(
                session.handle(),
                &raw mut mechanism,
                unwrapping_key.handle(),
                wrapped.as_ptr().cast_mut(),
                wrapped.len() as u64,
                attributes.as_mut_ptr(),
                attributes.len() as u64,
                &raw mut handle,
            )
        };
        if code != CKR_OK {
            return Err(Error::Returned { function: "C_UnwrapKey", code });
        }
        // SAFETY: the module has just given this handle for an object of this session's token.
        Ok(unsafe { ObjectHandle::new_from_raw(handle) })
    }

    /// CKA_CLASS and CKA_ID of an object. cryptoki asks for the length of an id first, and each call has SoftHSM open
    /// and read the object's file: where it is thousands of objects, half of the calls is half of the time.
    pub fn identity(&self, session: &Session, object: ObjectHandle) -> Result<Identity, Error> {
        let get_attribute_value = self.get_attribute_value.ok_or(Error::Missing("C_GetAttributeValue"))?;
        let (mut class, mut id): (CK_OBJECT_CLASS, _) = (0, [0_u8; LONGEST_ID]);
        let mut asked = [
            CK_ATTRIBUTE {
                type_: CKA_CLASS,
                pValue: (&raw mut class).cast(),
                ulValueLen: size_of::<CK_OBJECT_CLASS>() as u64,
            },
            CK_ATTRIBUTE { type_: CKA_ID, pValue: id.as_mut_ptr().cast(), ulValueLen: LONGEST_ID as u64 },
        ];
        // SAFETY: both values point to locals that are as long as is said beside them, and that nobody else touches
        // until the call has returned; so does the template. The session is open, since `Session` closes it when
        // dropped; a handle that means nothing is answered with an error code.
        let code =
            unsafe { get_attribute_value(session.handle(), object.handle(), asked.as_mut_ptr(), asked.len() as u64) };
        // With each of these the call has answered what it could, and left the other lengths at CK_UNAVAILABLE_INFORMATION.
        if !matches!(code, CKR_OK | CKR_ATTRIBUTE_SENSITIVE | CKR_ATTRIBUTE_TYPE_INVALID | CKR_BUFFER_TOO_SMALL) {
            return Err(Error::Returned { function: "C_GetAttributeValue", code });
        }
        let [class_length, id_length] =
            asked.map(|attribute| usize::try_from(attribute.ulValueLen).unwrap_or(usize::MAX));
        let class = (class_length == size_of::<CK_OBJECT_CLASS>()).then(|| ObjectClass::try_from(class).ok()).flatten();
        Ok(Identity { class, id: id.get(..id_length).map(<[u8]>::to_vec) })
    }
}

/// What an object says that it is. Absent is what it does not have, does not show, or has longer than [`LONGEST_ID`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// CKA_CLASS, where cryptoki knows it.
    pub class: Option<ObjectClass>,
    /// CKA_ID.
    pub id: Option<Vec<u8>>,
}

/// Has the signals by which terminals and service managers stop whole groups of processes pass by this one, and those
/// by which a write ends its process: to a pipe whose reader has gone, to a file that may not grow. Its parent tells it
/// when to leave; ended inside C_Login, it could take a token with it.
pub fn ignore_stop_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: SIG_IGN installs no handler, so no code of ours runs in signal context; the numbers are valid, and
        // the previous disposition is not needed.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Ends the process at once: no destructors, no exit handlers, nothing flushed. PKCS#11 modules tear their state down
/// in exit handlers and crash when a thread is still inside them.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` may be called from any thread at any time; it takes a plain number and does not return.
    unsafe { libc::_exit(code) }
}
