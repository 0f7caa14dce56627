//! Objects: what templates may say, which there can be, and which of them a session sees.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys::*;

use super::layer::{Answer, Below, real};
use super::mechanisms::translated;
use super::names::{Class, Code};
use super::settings::{SharedId, ValueLen};
use super::templates::{Held, Template};
use super::topology;

type Handles = *mut CK_OBJECT_HANDLE;

/// Makes an object of a caller's template, by what is called with the one for the module below.
fn make(
    below: &Below,
    session: CK_SESSION_HANDLE,
    class: Option<CK_OBJECT_CLASS>,
    template: &Template,
    made: Handles,
    real: impl FnOnce(*mut CK_ATTRIBUTE, CK_ULONG) -> Answer,
) -> Answer {
    let class = class.or_else(|| template.number(CKA_CLASS));
    may_be(below, session, class, template, None)?;
    template.with(real)?;
    was_made(below, session, made);
    Ok(())
}

fn was_made(below: &Below, session: CK_SESSION_HANDLE, made: Handles) {
    // SAFETY: null, or the caller's, which the module below has just written to with success.
    if let Some(object) = unsafe { made.as_ref() } {
        topology::made(below, session, *object);
    }
}

/// Whether there can be a token object like this; `own` is the one that is to become so.
fn may_be(
    below: &Below,
    session: CK_SESSION_HANDLE,
    class: Option<CK_OBJECT_CLASS>,
    template: &Template,
    own: Option<CK_OBJECT_HANDLE>,
) -> Answer {
    let objects = &below.personality.objects;
    if own.is_none() && template.get(CKA_TOKEN) != Some(&[CK_TRUE]) {
        return Ok(());
    }
    let token = (CKA_TOKEN, Held::Bytes(vec![CK_TRUE]));
    if let (Some(most), None) = (objects.most, own)
        && found(below, session, &Template(vec![token.clone()]))?.len() >= most
    {
        return Err(objects.most_code.unwrap_or(Code(CKR_DEVICE_MEMORY)).0);
    }
    let Some(id) = template.get(CKA_ID).filter(|id| !id.is_empty() && objects.shared_id != SharedId::Any) else {
        return Ok(());
    };
    let mut like = Template(vec![token, (CKA_ID, Held::Bytes(id.to_vec()))]);
    if let (SharedId::Pair, Some(class)) = (objects.shared_id, class) {
        like.0.push((CKA_CLASS, Held::Bytes(class.to_ne_bytes().to_vec())));
    }
    match found(below, session, &like)?.iter().any(|object| Some(*object) != own) {
        true => Err(shared_id(below)),
        false => Ok(()),
    }
}

fn shared_id(below: &Below) -> CK_RV {
    below.personality.objects.shared_id_code.unwrap_or(Code(CKR_ATTRIBUTE_VALUE_INVALID)).0
}

/// The objects like this in the token, looked for in a session of our own: the caller's may be searching.
fn found(below: &Below, session: CK_SESSION_HANDLE, like: &Template) -> Result<Vec<CK_OBJECT_HANDLE>, CK_RV> {
    let mut info = CK_SESSION_INFO::default();
    real!(below, C_GetSessionInfo(session, &raw mut info))?;
    // Like the caller's own: the SO has no sessions that only read.
    let flags = CKF_SERIAL_SESSION | (info.flags & CKF_RW_SESSION);
    let mut own = 0;
    real!(below, C_OpenSession(info.slotID, flags, ptr::null_mut::<c_void>(), None, &raw mut own))?;
    let (mut all, mut some, mut count) = (Vec::new(), [0; 64], 0);
    let mut result = like.with(|template, length| real!(below, C_FindObjectsInit(own, template, length)));
    while result.is_ok() {
        let most = some.len() as CK_ULONG;
        result = real!(below, C_FindObjects(own, some.as_mut_ptr(), most, &raw mut count));
        if count == 0 {
            break;
        }
        all.extend_from_slice(&some[..count as usize]);
    }
    let _ = real!(below, C_CloseSession(own));
    result.map(|()| all)
}

/// The class of an object.
fn class(below: &Below, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Option<CK_OBJECT_CLASS> {
    let mut class: CK_OBJECT_CLASS = 0;
    let length = size_of::<CK_OBJECT_CLASS>() as CK_ULONG;
    let mut template = CK_ATTRIBUTE { type_: CKA_CLASS, pValue: (&raw mut class).cast(), ulValueLen: length };
    real!(below, C_GetAttributeValue(session, object, &raw mut template, 1)).ok().map(|()| class)
}

/// C_CreateObject.
pub(super) fn create(
    below: &Below,
    session: CK_SESSION_HANDLE,
    at: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: Handles,
) -> Answer {
    let template = Template::read(at, count)?;
    let class = template.number(CKA_CLASS);
    let classes = below.personality.objects.classes.as_ref();
    if classes.is_some_and(|classes| class.is_some_and(|class| !classes.contains(&Class(class)))) {
        return Err(CKR_ATTRIBUTE_VALUE_INVALID);
    }
    let template = below.personality.template("C_CreateObject", class, template)?;
    make(below, session, class, &template, made, |at, count| real!(below, C_CreateObject(session, at, count, made)))
}

/// C_CopyObject.
pub(super) fn copy(
    below: &Below,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    at: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: Handles,
) -> Answer {
    topology::usable(below, session, object)?;
    let class = class(below, session, object);
    let template = below.personality.template("C_CopyObject", class, Template::read(at, count)?)?;
    make(below, session, class, &template, made, |at, count| {
        real!(below, C_CopyObject(session, object, at, count, made))
    })
}

/// C_DestroyObject.
pub(super) fn destroy(below: &Below, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) -> Answer {
    topology::usable(below, session, object)?;
    real!(below, C_DestroyObject(session, object))?;
    topology::gone(below, object);
    Ok(())
}

/// C_GetObjectSize.
pub(super) fn size(below: &Below, session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, size: *mut CK_ULONG) -> Answer {
    topology::usable(below, session, object)?;
    real!(below, C_GetObjectSize(session, object, size))
}

/// C_GetAttributeValue.
pub(super) fn get(
    below: &Below,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> Answer {
    topology::usable(below, session, object)?;
    real!(below, C_GetAttributeValue(session, object, template, count))
}

/// C_SetAttributeValue.
pub(super) fn set(
    below: &Below,
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    at: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> Answer {
    topology::usable(below, session, object)?;
    let class = class(below, session, object);
    let template = below.personality.template("C_SetAttributeValue", class, Template::read(at, count)?)?;
    may_be(below, session, class, &template, Some(object))?;
    template.with(|at, count| real!(below, C_SetAttributeValue(session, object, at, count)))
}

/// C_FindObjectsInit.
pub(super) fn find_init(below: &Below, session: CK_SESSION_HANDLE, at: *mut CK_ATTRIBUTE, count: CK_ULONG) -> Answer {
    let template = below.personality.template("C_FindObjectsInit", None, Template::read(at, count)?)?;
    template.with(|at, count| real!(below, C_FindObjectsInit(session, at, count)))
}

/// C_FindObjects: those that the session's back end has.
pub(super) fn find(
    below: &Below,
    session: CK_SESSION_HANDLE,
    handles: Handles,
    most: CK_ULONG,
    count: *mut CK_ULONG,
) -> Answer {
    loop {
        real!(below, C_FindObjects(session, handles, most, count))?;
        // SAFETY: the caller's, which the module below has just written to with success: so many handles.
        let (count, handles) = unsafe { (&mut *count, std::slice::from_raw_parts_mut(handles, *count as usize)) };
        let mut kept = 0;
        for at in 0..handles.len() {
            if topology::has(below, session, handles[at]) {
                handles[kept] = handles[at];
                kept += 1;
            }
        }
        // None is the end of a search, so more are looked for where all were left out.
        if kept > 0 || handles.is_empty() {
            *count = kept as CK_ULONG;
            return Ok(());
        }
    }
}

/// C_DigestKey.
pub(super) fn digest_key(below: &Below, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Answer {
    topology::usable_key(below, session, key)?;
    real!(below, C_DigestKey(session, key))
}

/// C_GenerateKey.
pub(super) fn generate(
    below: &Below,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    at: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: Handles,
) -> Answer {
    let class = Some(CKO_SECRET_KEY);
    let mut own = translated(below, mechanism)?;
    let template = below.personality.template("C_GenerateKey", class, Template::read(at, count)?)?;
    make(below, session, class, &template, made, |at, count| {
        real!(below, C_GenerateKey(session, &raw mut own, at, count, made))
    })
}

/// C_GenerateKeyPair.
#[allow(clippy::too_many_arguments, reason = "the standard's")]
pub(super) fn generate_pair(
    below: &Below,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    public_at: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private_at: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    made_public: Handles,
    made_private: Handles,
) -> Answer {
    let mut own = translated(below, mechanism)?;
    let of = |class, at, count| {
        let template = below.personality.template("C_GenerateKeyPair", Some(class), Template::read(at, count)?)?;
        may_be(below, session, Some(class), &template, None).map(|()| template)
    };
    let public = of(CKO_PUBLIC_KEY, public_at, public_count)?;
    let private = of(CKO_PRIVATE_KEY, private_at, private_count)?;
    let ids = (public.get(CKA_ID), private.get(CKA_ID));
    if below.personality.objects.shared_id == SharedId::None && ids.0.is_some_and(|id| !id.is_empty()) && ids.0 == ids.1
    {
        return Err(shared_id(below));
    }
    public.with(|public, publics| {
        private.with(|private, privates| {
            let (at, mechanism) = ((made_public, made_private), &raw mut own);
            real!(below, C_GenerateKeyPair(session, mechanism, public, publics, private, privates, at.0, at.1))
        })
    })?;
    was_made(below, session, made_public);
    was_made(below, session, made_private);
    Ok(())
}

/// Whether this is AES key wrap, in one of its forms. Luna's demand for a length is one of these mechanisms: what RSA
/// unwraps has been opened before it is made.
fn is_key_wrap(mechanism: CK_MECHANISM_TYPE) -> bool {
    matches!(mechanism, CKM_AES_KEY_WRAP | CKM_AES_KEY_WRAP_PAD | CKM_AES_KEY_WRAP_KWP)
}

/// C_UnwrapKey.
#[allow(clippy::too_many_arguments, reason = "the standard's")]
pub(super) fn unwrap(
    below: &Below,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    wrapping: CK_OBJECT_HANDLE,
    wrapped: *mut CK_BYTE,
    length: CK_ULONG,
    at: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: Handles,
) -> Answer {
    topology::usable_key(below, session, wrapping)?;
    let mut own = translated(below, mechanism)?;
    let template = Template::read(at, count)?;
    let class = template.number(CKA_CLASS).unwrap_or(CKO_SECRET_KEY);
    let mut template = below.personality.template("C_UnwrapKey", Some(class), template)?;
    let said = template.number(CKA_VALUE_LEN);
    let has = template.has(CKA_VALUE_LEN);
    match below.personality.wrap.value_len {
        ValueLen::Demanded if is_key_wrap(own.mechanism) && class == CKO_SECRET_KEY && !has => {
            return Err(CKR_TEMPLATE_INCOMPLETE);
        }
        ValueLen::Refused if has => return Err(CKR_ATTRIBUTE_TYPE_INVALID),
        // Of a key that RFC 3394 wrapped the length is known, which SoftHSM does not tell of a key that it unwrapped.
        ValueLen::Demanded | ValueLen::Optional
            if own.mechanism == CKM_AES_KEY_WRAP && said.is_some_and(|said| Some(said) != length.checked_sub(8)) =>
        {
            return Err(CKR_ATTRIBUTE_VALUE_INVALID);
        }
        ValueLen::Demanded | ValueLen::Optional => template.remove(CKA_VALUE_LEN),
        ValueLen::Refused | ValueLen::AsBelow => {}
    }
    make(below, session, Some(class), &template, made, |at, count| {
        let mechanism = &raw mut own;
        real!(below, C_UnwrapKey(session, mechanism, wrapping, wrapped, length, at, count, made))
    })
}

/// C_DeriveKey.
pub(super) fn derive(
    below: &Below,
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    base: CK_OBJECT_HANDLE,
    at: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: Handles,
) -> Answer {
    topology::usable_key(below, session, base)?;
    let mut own = translated(below, mechanism)?;
    let template = Template::read(at, count)?;
    let class = Some(template.number(CKA_CLASS).unwrap_or(CKO_SECRET_KEY));
    let template = below.personality.template("C_DeriveKey", class, template)?;
    make(below, session, class, &template, made, |at, count| {
        real!(below, C_DeriveKey(session, &raw mut own, base, at, count, made))
    })
}
