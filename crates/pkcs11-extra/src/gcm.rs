//! C_Encrypt and C_Decrypt with AES-GCM of any number, whose IV may be the HSM's: cryptoki has one number, always names an
//! IV, and fills all parameters.

use std::ptr;

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use cryptoki_sys::{
    CK_BYTE, CK_GCM_PARAMS, CK_MECHANISM, CK_MECHANISM_PTR, CK_OBJECT_HANDLE, CK_RV, CK_SESSION_HANDLE, CK_ULONG,
    CKR_OK,
};

use super::{Error, Module};

/// Parameters of AES-GCM.
#[derive(Debug)]
pub struct Gcm<'a> {
    /// The mechanism's number.
    pub mechanism: u64,
    /// The IV, which the HSM may write over. None: no pointer and no length.
    pub iv: Option<&'a mut [u8]>,
    /// ulIvBits.
    pub iv_bits: u64,
    /// Additional authenticated data.
    pub aad: &'a [u8],
    /// Bits of the tag.
    pub tag_bits: u64,
}

type Init = unsafe extern "C" fn(CK_SESSION_HANDLE, CK_MECHANISM_PTR, CK_OBJECT_HANDLE) -> CK_RV;
type Whole = unsafe extern "C" fn(CK_SESSION_HANDLE, *mut CK_BYTE, CK_ULONG, *mut CK_BYTE, *mut CK_ULONG) -> CK_RV;

impl Module {
    /// C_EncryptInit and C_Encrypt into `out`; how many bytes that gave.
    pub fn encrypt(
        &self,
        session: &Session,
        key: ObjectHandle,
        gcm: Gcm<'_>,
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let init = self.encrypt_init.ok_or(Error::Missing("C_EncryptInit"))?;
        let whole = self.encrypt.ok_or(Error::Missing("C_Encrypt"))?;
        at_once((init, "C_EncryptInit"), (whole, "C_Encrypt"), session, key, gcm, plaintext, out)
    }

    /// C_DecryptInit and C_Decrypt into `out`; how many bytes that gave.
    pub fn decrypt(
        &self,
        session: &Session,
        key: ObjectHandle,
        gcm: Gcm<'_>,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let init = self.decrypt_init.ok_or(Error::Missing("C_DecryptInit"))?;
        let whole = self.decrypt.ok_or(Error::Missing("C_Decrypt"))?;
        at_once((init, "C_DecryptInit"), (whole, "C_Decrypt"), session, key, gcm, sealed, out)
    }
}

/// One operation in one part.
fn at_once(
    (init, begins): (Init, &'static str),
    (whole, does): (Whole, &'static str),
    session: &Session,
    key: ObjectHandle,
    gcm: Gcm<'_>,
    input: &[u8],
    out: &mut [u8],
) -> Result<usize, Error> {
    let Gcm { mechanism, iv, iv_bits, aad, tag_bits } = gcm;
    let (iv, iv_bytes) = iv.map_or((ptr::null_mut(), 0), |iv| (iv.as_mut_ptr(), iv.len()));
    let mut parameters = CK_GCM_PARAMS {
        pIv: iv,
        ulIvLen: iv_bytes as CK_ULONG,
        ulIvBits: iv_bits,
        pAAD: aad.as_ptr().cast_mut(),
        ulAADLen: aad.len() as CK_ULONG,
        ulTagBits: tag_bits,
    };
    let mut mechanism = CK_MECHANISM {
        mechanism,
        pParameter: (&raw mut parameters).cast(),
        ulParameterLen: size_of::<CK_GCM_PARAMS>() as CK_ULONG,
    };
    // SAFETY: mechanism and parameters are locals that live to the end of this function; the IV is borrowed for writing
    // and the additional data for reading until then, as long as is said beside them, and the module does not write to the
    // latter although its type is not const. The session is open, since `Session` closes it when dropped; a key of another
    // module is answered with an error code.
    let code = unsafe { init(session.handle(), &raw mut mechanism, key.handle()) };
    if code != CKR_OK {
        return Err(Error::Returned { function: begins, code });
    }
    let mut length = out.len() as CK_ULONG;
    // SAFETY: input and output are borrowed for the call with the lengths that are given; the module reads the one, though
    // its type is not const, and writes no more to the other than there is room for. It may go on using the parameters
    // that it was begun with, which live as long.
    // One that wants more room than there is leaves the operation active: the caller has to close the session.
    let code = unsafe {
        whole(session.handle(), input.as_ptr().cast_mut(), input.len() as CK_ULONG, out.as_mut_ptr(), &raw mut length)
    };
    if code != CKR_OK {
        return Err(Error::Returned { function: does, code });
    }
    usize::try_from(length).ok().filter(|length| *length <= out.len()).ok_or(Error::TooLong(does))
}
