//! AES-GCM as HSMs have it: whose IV it is, where it goes, and what more they do not take. The IVs that the token makes
//! are random numbers of the module below, not of the seed: two HSMs hold one key, and must not use one IV twice.

use std::collections::HashMap;
use std::ptr;
use std::slice;

use cryptoki_sys::*;

use super::layer::{Answer, Below, real};
use super::mechanisms::translated;
use super::names::Code;
use super::plan::{Plan, opens, plan};
use super::settings::{Gcm, Iv, Written};
use super::topology;

/// Room for what a part gives when its operation is brought to an end.
const SCRATCH: usize = 4_096;

/// Operations that are begun, of each session.
#[derive(Default)]
pub(crate) struct Ops {
    encrypting: HashMap<CK_SESSION_HANDLE, Encrypting>,
    decrypting: HashMap<CK_SESSION_HANDLE, Decrypting>,
}

impl Ops {
    /// The session is closed.
    pub(super) fn forget(&mut self, session: CK_SESSION_HANDLE) {
        self.encrypting.remove(&session);
        self.decrypting.remove(&session);
    }

    /// All are.
    pub(super) fn clear(&mut self) {
        self.encrypting.clear();
        self.decrypting.clear();
    }
}

/// Where an IV goes that the token made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Before,
    Behind,
}

#[derive(Clone)]
struct Encrypting {
    place: Place,
    iv: Vec<u8>,
    tag: usize,
    /// Where the caller's buffer is that C_Encrypt writes the IV to.
    written: Option<usize>,
    most: usize,
    multi_part: Option<Code>,
}

#[derive(Clone)]
struct Decrypting {
    tag: usize,
    most: usize,
    multi_part: Option<Code>,
    /// The IV comes with the ciphertext: bytes of it, the key and the additional data until then.
    comes: Option<(usize, CK_OBJECT_HANDLE, Vec<u8>)>,
}

/// The parameters of a caller.
fn parameters<'a>(mechanism: *mut CK_MECHANISM) -> Result<&'a mut CK_GCM_PARAMS, CK_RV> {
    // SAFETY: null, or the caller's for the time of the call.
    let mechanism = unsafe { mechanism.as_ref() }.ok_or(CKR_ARGUMENTS_BAD)?;
    if mechanism.ulParameterLen != size_of::<CK_GCM_PARAMS>() as CK_ULONG {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    // SAFETY: this mechanism has such parameters, they have the right length, and are the caller's for the call.
    unsafe { mechanism.pParameter.cast::<CK_GCM_PARAMS>().as_mut() }.ok_or(CKR_MECHANISM_PARAM_INVALID)
}

/// What a pointer and a length name, if anything.
fn bytes<'a>(at: *mut CK_BYTE, length: CK_ULONG) -> Option<&'a [u8]> {
    // SAFETY: the caller's for the call, and as long as it says.
    (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at, length as usize) })
}

/// Calls `real` with these parameters for the standard's AES-GCM.
fn with_parameters<T>(mut parameters: CK_GCM_PARAMS, real: impl FnOnce(*mut CK_MECHANISM) -> T) -> T {
    let length = size_of::<CK_GCM_PARAMS>() as CK_ULONG;
    let at = (&raw mut parameters).cast();
    let mut mechanism = CK_MECHANISM { mechanism: CKM_AES_GCM, pParameter: at, ulParameterLen: length };
    real(&raw mut mechanism)
}

/// The way of a caller's mechanism, where it is AES-GCM and has one.
fn way(below: &Below, mechanism: *mut CK_MECHANISM) -> Option<&Gcm> {
    // SAFETY: null, or the caller's for the time of the call.
    let number = unsafe { mechanism.as_ref() }?.mechanism;
    below.personality.gcm(number)
}

/// C_EncryptInit.
pub(super) fn encrypt_init(
    below: &Below,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Answer {
    topology::usable_key(below, session, key)?;
    let Some(gcm) = way(below, mechanism) else {
        let mut own = translated(below, mechanism)?;
        real!(below, C_EncryptInit(session, &raw mut own, key))?;
        below.process.ops().encrypting.remove(&session);
        return Ok(());
    };
    let callers = parameters(mechanism)?;
    if gcm.max_aad.is_some_and(|most| callers.ulAADLen as usize > most) {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    let given = bytes(callers.pIv, callers.ulIvLen);
    let mut own = *callers;
    let mut iv = Vec::new();
    if let Plan::Made(kept, made) = plan(gcm, given, callers.ulIvLen as usize, callers.ulIvBits)? {
        iv.extend_from_slice(&given.unwrap_or_default()[..kept]);
        iv.resize(kept + made, 0);
        real!(below, C_GenerateRandom(session, iv[kept..].as_mut_ptr(), made as CK_ULONG))?;
        (own.pIv, own.ulIvLen, own.ulIvBits) = (iv.as_mut_ptr(), iv.len() as CK_ULONG, iv.len() as CK_ULONG * 8);
    }
    with_parameters(own, |mechanism| real!(below, C_EncryptInit(session, mechanism, key)))?;
    if gcm.iv == Iv::ZeroedWriteback && gcm.written == Written::AtInit {
        // SAFETY: the caller's buffer, which has as many bytes (the plan looked).
        unsafe { ptr::copy_nonoverlapping(iv.as_ptr(), callers.pIv, iv.len()) };
    }
    let place = match gcm.iv {
        Iv::NullPrepended => Place::Before,
        Iv::NullAppended => Place::Behind,
        Iv::Caller | Iv::ZeroedWriteback | Iv::Ignored => Place::Nowhere,
    };
    let op = Encrypting {
        place,
        iv,
        tag: callers.ulTagBits as usize / 8,
        written: (gcm.written == Written::AtEncrypt).then_some(callers.pIv as usize),
        most: gcm.max_plaintext.unwrap_or(usize::MAX),
        multi_part: gcm.multi_part.or((place != Place::Nowhere).then_some(Code(CKR_FUNCTION_NOT_SUPPORTED))),
    };
    below.process.ops().encrypting.insert(session, op);
    Ok(())
}

/// Brings the operation below to its end, whatever it says.
fn end_encrypting(below: &Below, session: CK_SESSION_HANDLE) {
    below.process.ops().encrypting.remove(&session);
    let (mut nothing, mut scratch, mut room) = ([0_u8; 1], [0_u8; SCRATCH], SCRATCH as CK_ULONG);
    let _ = real!(below, C_Encrypt(session, nothing.as_mut_ptr(), 0, scratch.as_mut_ptr(), &raw mut room));
}

fn end_decrypting(below: &Below, session: CK_SESSION_HANDLE) {
    let op = below.process.ops().decrypting.remove(&session);
    if op.is_some_and(|op| op.comes.is_some()) {
        return;
    }
    let (mut nothing, mut scratch, mut room) = ([0_u8; 1], [0_u8; SCRATCH], SCRATCH as CK_ULONG);
    let _ = real!(below, C_Decrypt(session, nothing.as_mut_ptr(), 0, scratch.as_mut_ptr(), &raw mut room));
}

/// Whether an operation has come to its end with this answer to a call that had a buffer or not.
fn ended(result: Answer, out: *mut CK_BYTE) -> bool {
    result != Err(CKR_BUFFER_TOO_SMALL) && !(result.is_ok() && out.is_null())
}

/// C_Encrypt.
pub(super) fn encrypt(
    below: &Below,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    out: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> Answer {
    let known = below.process.ops().encrypting.get(&session).cloned();
    let Some(op) = known else { return real!(below, C_Encrypt(session, data, length, out, room)) };
    if length as usize > op.most {
        end_encrypting(below, session);
        return Err(CKR_DATA_LEN_RANGE);
    }
    if op.place == Place::Nowhere {
        let result = real!(below, C_Encrypt(session, data, length, out, room));
        if ended(result, out) {
            below.process.ops().encrypting.remove(&session);
            if let Some(at) = op.written.filter(|_| result.is_ok()) {
                // SAFETY: a vendor's module writes there too; whoever calls it keeps the buffer until then.
                unsafe { ptr::copy_nonoverlapping(op.iv.as_ptr(), at as *mut CK_BYTE, op.iv.len()) };
            }
        }
        return result;
    }
    let sealed = length as usize + op.tag;
    offer(room, out, sealed + op.iv.len())?;
    if out.is_null() {
        return Ok(());
    }
    let (mut buffer, mut size) = (vec![0_u8; sealed], sealed as CK_ULONG);
    below.process.ops().encrypting.remove(&session);
    real!(below, C_Encrypt(session, data, length, buffer.as_mut_ptr(), &raw mut size))?;
    buffer.truncate(size as usize);
    let whole = match op.place {
        Place::Before => [op.iv, buffer].concat(),
        Place::Behind | Place::Nowhere => [buffer, op.iv].concat(),
    };
    give(&whole, out, room);
    Ok(())
}

/// Says how many bytes there will be, and whether the caller has room for them.
fn offer(room: *mut CK_ULONG, out: *mut CK_BYTE, needed: usize) -> Answer {
    // SAFETY: null, or the caller's to be read and written.
    let room = unsafe { room.as_mut() }.ok_or(CKR_ARGUMENTS_BAD)?;
    let had = std::mem::replace(room, needed as CK_ULONG);
    match !out.is_null() && had < needed as CK_ULONG {
        true => Err(CKR_BUFFER_TOO_SMALL),
        false => Ok(()),
    }
}

/// Gives bytes to a caller that has room for them.
fn give(from: &[u8], out: *mut CK_BYTE, room: *mut CK_ULONG) {
    // SAFETY: `offer` has looked at both.
    unsafe {
        ptr::copy_nonoverlapping(from.as_ptr(), out, from.len());
        *room = from.len() as CK_ULONG;
    }
}

/// C_EncryptUpdate.
pub(super) fn encrypt_update(
    below: &Below,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    out: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> Answer {
    let refused = below.process.ops().encrypting.get(&session).and_then(|op| op.multi_part);
    if let Some(code) = refused {
        end_encrypting(below, session);
        return Err(code.0);
    }
    real!(below, C_EncryptUpdate(session, data, length, out, room))
}

/// C_EncryptFinal.
pub(super) fn encrypt_final(
    below: &Below,
    session: CK_SESSION_HANDLE,
    out: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> Answer {
    let refused = below.process.ops().encrypting.get(&session).and_then(|op| op.multi_part);
    if let Some(code) = refused {
        end_encrypting(below, session);
        return Err(code.0);
    }
    let result = real!(below, C_EncryptFinal(session, out, room));
    if ended(result, out) {
        below.process.ops().encrypting.remove(&session);
    }
    result
}

/// C_DecryptInit.
pub(super) fn decrypt_init(
    below: &Below,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> Answer {
    topology::usable_key(below, session, key)?;
    if below.process.ops().decrypting.get(&session).is_some_and(|op| op.comes.is_some()) {
        return Err(CKR_OPERATION_ACTIVE);
    }
    let Some(gcm) = way(below, mechanism) else {
        let mut own = translated(below, mechanism)?;
        real!(below, C_DecryptInit(session, &raw mut own, key))?;
        below.process.ops().decrypting.remove(&session);
        return Ok(());
    };
    let callers = parameters(mechanism)?;
    if gcm.max_aad.is_some_and(|most| callers.ulAADLen as usize > most) {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    opens(gcm, bytes(callers.pIv, callers.ulIvLen), callers.ulIvBits)?;
    let tag = callers.ulTagBits as usize / 8;
    let mut op =
        Decrypting { tag, most: gcm.max_plaintext.unwrap_or(usize::MAX), multi_part: gcm.multi_part, comes: None };
    if gcm.iv == Iv::NullPrepended {
        decrypts(below, session, key)?;
        let aad = bytes(callers.pAAD, callers.ulAADLen).unwrap_or_default().to_vec();
        op.comes = Some((gcm.made(), key, aad));
        op.multi_part = op.multi_part.or(Some(Code(CKR_FUNCTION_NOT_SUPPORTED)));
    } else {
        with_parameters(*callers, |mechanism| real!(below, C_DecryptInit(session, mechanism, key)))?;
    }
    below.process.ops().decrypting.insert(session, op);
    Ok(())
}

/// What C_DecryptInit would find, where the operation below cannot begin before the ciphertext is there.
fn decrypts(below: &Below, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Answer {
    let mut can = CK_FALSE;
    let length = size_of::<CK_BBOOL>() as CK_ULONG;
    let mut template = CK_ATTRIBUTE { type_: CKA_DECRYPT, pValue: (&raw mut can).cast(), ulValueLen: length };
    match real!(below, C_GetAttributeValue(session, key, &raw mut template, 1)) {
        Ok(()) if can == CK_TRUE => Ok(()),
        Ok(()) => Err(CKR_KEY_FUNCTION_NOT_PERMITTED),
        Err(CKR_OBJECT_HANDLE_INVALID) => Err(CKR_KEY_HANDLE_INVALID),
        other => other,
    }
}

/// C_Decrypt.
pub(super) fn decrypt(
    below: &Below,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    out: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> Answer {
    let known = below.process.ops().decrypting.get(&session).cloned();
    let Some(op) = known else { return real!(below, C_Decrypt(session, data, length, out, room)) };
    let more = op.tag + op.comes.as_ref().map_or(0, |(iv, ..)| *iv);
    if (length as usize).saturating_sub(more) > op.most {
        end_decrypting(below, session);
        return Err(CKR_ENCRYPTED_DATA_LEN_RANGE);
    }
    let Some((iv_length, key, mut aad)) = op.comes else {
        let result = real!(below, C_Decrypt(session, data, length, out, room));
        if ended(result, out) {
            below.process.ops().decrypting.remove(&session);
        }
        return result;
    };
    let whole = bytes(data, length).filter(|whole| whole.len() >= more);
    let Some((iv, sealed)) = whole.map(|whole| whole.split_at(iv_length)) else {
        end_decrypting(below, session);
        return Err(CKR_ENCRYPTED_DATA_LEN_RANGE);
    };
    offer(room, out, sealed.len() - op.tag)?;
    if out.is_null() {
        return Ok(());
    }
    below.process.ops().decrypting.remove(&session);
    let (mut iv, mut sealed) = (iv.to_vec(), sealed.to_vec());
    let own = CK_GCM_PARAMS {
        pIv: iv.as_mut_ptr(),
        ulIvLen: iv.len() as CK_ULONG,
        ulIvBits: iv.len() as CK_ULONG * 8,
        pAAD: aad.as_mut_ptr(),
        ulAADLen: aad.len() as CK_ULONG,
        ulTagBits: op.tag as CK_ULONG * 8,
    };
    with_parameters(own, |mechanism| real!(below, C_DecryptInit(session, mechanism, key)))?;
    let (mut plain, mut size) = (vec![0_u8; sealed.len()], sealed.len() as CK_ULONG);
    let sealed_length = sealed.len() as CK_ULONG;
    real!(below, C_Decrypt(session, sealed.as_mut_ptr(), sealed_length, plain.as_mut_ptr(), &raw mut size))?;
    give(&plain[..size as usize], out, room);
    Ok(())
}

/// C_DecryptUpdate.
pub(super) fn decrypt_update(
    below: &Below,
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    out: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> Answer {
    let refused = below.process.ops().decrypting.get(&session).and_then(|op| op.multi_part);
    if let Some(code) = refused {
        end_decrypting(below, session);
        return Err(code.0);
    }
    real!(below, C_DecryptUpdate(session, data, length, out, room))
}

/// C_DecryptFinal.
pub(super) fn decrypt_final(
    below: &Below,
    session: CK_SESSION_HANDLE,
    out: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> Answer {
    let refused = below.process.ops().decrypting.get(&session).and_then(|op| op.multi_part);
    if let Some(code) = refused {
        end_decrypting(below, session);
        return Err(code.0);
    }
    let result = real!(below, C_DecryptFinal(session, out, room));
    if ended(result, out) {
        below.process.ops().decrypting.remove(&session);
    }
    result
}
