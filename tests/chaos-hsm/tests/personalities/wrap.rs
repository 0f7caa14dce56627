//! Wrapping: vendors' numbers, the length of a key at unwrap, hashes, and templates that are or are not enforced.

use std::ffi::c_void;
use std::ptr;

use cryptoki_sys::*;

use crate::rig::{Attribute, Hsm, call, gcm, number, open_sealed, plain, played, seal, truth, with_template};

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;

const PLAIN: &[u8] = b"a plaintext";

fn wrap(hsm: &Hsm, session: Session, mechanism: CK_MECHANISM_TYPE, by: Object, key: Object) -> Result<Vec<u8>, CK_RV> {
    let mut mechanism = plain(mechanism);
    let mut length = 0;
    call!(hsm.chaos, C_WrapKey(session, &raw mut mechanism, by, key, ptr::null_mut(), &raw mut length))?;
    let mut out = vec![0_u8; length as usize];
    call!(hsm.chaos, C_WrapKey(session, &raw mut mechanism, by, key, out.as_mut_ptr(), &raw mut length))?;
    out.truncate(length as usize);
    Ok(out)
}

fn unwrap(
    hsm: &Hsm,
    session: Session,
    mechanism: CK_MECHANISM_TYPE,
    by: Object,
    wrapped: &[u8],
    more: &[Attribute],
) -> Result<Object, CK_RV> {
    let mut template = vec![
        number(CKA_CLASS, CKO_SECRET_KEY),
        number(CKA_KEY_TYPE, CKK_AES),
        truth(CKA_ENCRYPT, true),
        truth(CKA_DECRYPT, true),
    ];
    template.extend_from_slice(more);
    let (mut made, mut mechanism) = (0, plain(mechanism));
    let (at, length) = (wrapped.as_ptr().cast_mut(), wrapped.len() as CK_ULONG);
    with_template(&template, |template, count| {
        let made = &raw mut made;
        call!(hsm.chaos, C_UnwrapKey(session, &raw mut mechanism, by, at, length, template, count, made))
    })
    .map(|()| made)
}

/// Two keys are one.
#[track_caller]
fn is_same(hsm: &Hsm, session: Session, one: Object, other: Object) {
    let sealed = seal(hsm.real, session, one, &mut gcm(&[7; 12]), PLAIN).unwrap();
    assert_eq!(open_sealed(hsm.real, session, other, &mut gcm(&[7; 12]), &sealed).as_deref(), Ok(PLAIN));
}

/// A wrapping key and one that can be wrapped.
fn keys(hsm: &Hsm, session: Session) -> (Object, Object) {
    let key = [truth(CKA_EXTRACTABLE, true), truth(CKA_SENSITIVE, true)];
    (hsm.key(session, &[]).unwrap(), hsm.key(session, &key).unwrap())
}

const NUMBERS: &str = "[mechanisms]\nhidden = [\"CKM_AES_KEY_WRAP\", \"CKM_AES_CBC\"]\n\
                       [mechanisms.map]\n0x80000170 = \"CKM_AES_KEY_WRAP\"\n0x80002109 = \"CKM_AES_KEY_WRAP\"";

played!(keys_are_wrapped_with_a_vendors_number, NUMBERS, |hsm| {
    let session = hsm.user();
    let (wrapping, key) = keys(hsm, session);
    let wrapped = wrap(hsm, session, 0x8000_0170, wrapping, key).unwrap();
    assert_eq!(wrapped.len(), 40);
    assert_eq!(wrap(hsm, session, 0x8000_2109, wrapping, key).as_ref(), Ok(&wrapped));
    let again = unwrap(hsm, session, 0x8000_2109, wrapping, &wrapped, &[]).unwrap();
    is_same(hsm, session, key, again);
});

played!(hidden_mechanisms_are_not_listed_and_not_taken, NUMBERS, |hsm| {
    let session = hsm.user();
    let (wrapping, key) = keys(hsm, session);
    let all = hsm.mechanisms();
    assert!(all.contains(&0x8000_0170) && all.contains(&CKM_AES_GCM), "{all:x?}");
    assert!(!all.contains(&CKM_AES_KEY_WRAP) && !all.contains(&CKM_AES_CBC), "{all:x?}");
    let mut info = CK_MECHANISM_INFO::default();
    let mut describe = |mechanism| call!(hsm.chaos, C_GetMechanismInfo(hsm.slot, mechanism, &raw mut info));
    assert_eq!(describe(0x8000_0170), Ok(()));
    assert_eq!(describe(CKM_AES_KEY_WRAP), Err(CKR_MECHANISM_INVALID));
    assert_eq!(wrap(hsm, session, CKM_AES_KEY_WRAP, wrapping, key), Err(CKR_MECHANISM_INVALID));
    let result = unwrap(hsm, session, CKM_AES_KEY_WRAP, wrapping, &[0; 40], &[]);
    assert_eq!(result, Err(CKR_MECHANISM_INVALID));
    let mut iv = [7_u8; 16];
    let at: *mut c_void = iv.as_mut_ptr().cast();
    let mut cbc = CK_MECHANISM { mechanism: CKM_AES_CBC, pParameter: at, ulParameterLen: 16 };
    assert_eq!(call!(hsm.chaos, C_EncryptInit(session, &raw mut cbc, key)), Err(CKR_MECHANISM_INVALID));
    assert_eq!(call!(hsm.chaos, C_DecryptInit(session, &raw mut cbc, key)), Err(CKR_MECHANISM_INVALID));
});

played!(a_list_of_mechanisms_that_is_too_short_says_so, NUMBERS, |hsm| {
    let (mut one, mut count) = (0, 1);
    let result = call!(hsm.chaos, C_GetMechanismList(hsm.slot, &raw mut one, &raw mut count));
    assert_eq!((result, count), (Err(CKR_BUFFER_TOO_SMALL), hsm.mechanisms().len() as CK_ULONG));
});

played!(a_key_that_allows_a_vendors_number_can_be_used_with_it, NUMBERS, |hsm| {
    let session = hsm.user();
    let (_, key) = keys(hsm, session);
    let allowed = (CKA_ALLOWED_MECHANISMS, 0x8000_0170_u64.to_ne_bytes().to_vec());
    let wrapping = hsm.key(session, &[allowed]).unwrap();
    wrap(hsm, session, 0x8000_0170, wrapping, key).unwrap();
    assert_eq!(seal(hsm.chaos, session, wrapping, &mut gcm(&[7; 12]), PLAIN), Err(CKR_MECHANISM_INVALID));
});

played!(a_length_at_unwrap_is_demanded_taken_or_refused, "", |hsm| {
    let session = hsm.user();
    let (wrapping, key) = keys(hsm, session);
    let wrapped = wrap(hsm, session, CKM_AES_KEY_WRAP, wrapping, key).unwrap();
    let length = |length| vec![number(CKA_VALUE_LEN, length)];
    for (setting, without, with, wrong) in [
        ("as-below", None, Some(CKR_ATTRIBUTE_READ_ONLY), Some(CKR_ATTRIBUTE_READ_ONLY)),
        ("demanded", Some(CKR_TEMPLATE_INCOMPLETE), None, Some(CKR_ATTRIBUTE_VALUE_INVALID)),
        ("optional", None, None, Some(CKR_ATTRIBUTE_VALUE_INVALID)),
        ("refused", None, Some(CKR_ATTRIBUTE_TYPE_INVALID), Some(CKR_ATTRIBUTE_TYPE_INVALID)),
    ] {
        hsm.set(&format!("[wrap]\nvalue_len = \"{setting}\""));
        for (template, expected) in [(Vec::new(), without), (length(32), with), (length(16), wrong)] {
            let made = unwrap(hsm, session, CKM_AES_KEY_WRAP, wrapping, &wrapped, &template);
            assert_eq!(made.err(), expected, "{setting} {template:?}");
            if let Ok(made) = made {
                is_same(hsm, session, key, made);
            }
        }
    }
});

const AT_UNWRAP: &str = "[attributes.a]\nfunction = [\"C_UnwrapKey\"]\nrefuse = [\"CKA_LABEL\"]\n\
                         ignore = [\"CKA_EXTRACTABLE\"]\nforce = { CKA_ID = \"forced\" }";

played!(templates_at_unwrap_have_rules_of_their_own, AT_UNWRAP, |hsm| {
    let session = hsm.user();
    let (wrapping, key) = keys(hsm, session);
    let wrapped = wrap(hsm, session, CKM_AES_KEY_WRAP, wrapping, key).unwrap();
    let result = unwrap(hsm, session, CKM_AES_KEY_WRAP, wrapping, &wrapped, &[(CKA_LABEL, b"name".to_vec())]);
    assert_eq!(result, Err(CKR_ATTRIBUTE_TYPE_INVALID));
    let made = unwrap(hsm, session, CKM_AES_KEY_WRAP, wrapping, &wrapped, &[truth(CKA_EXTRACTABLE, true)]).unwrap();
    assert_eq!(hsm.value(session, made, CKA_ID).unwrap(), b"forced");
    assert_eq!(hsm.value(session, made, CKA_EXTRACTABLE).unwrap(), [0], "what was said is forgotten");
    is_same(hsm, session, key, made);
});

/// A wrapping key whose template says that what it unwraps cannot be extracted.
fn fixed(hsm: &Hsm, session: Session) -> Result<Object, CK_RV> {
    let mut no = CK_FALSE;
    let at: *mut c_void = (&raw mut no).cast();
    let mut inner = [CK_ATTRIBUTE { type_: CKA_EXTRACTABLE, pValue: at, ulValueLen: 1 }];
    let mut length: CK_ULONG = 32;
    let mut yes = CK_TRUE;
    let one =
        |type_, at: *mut c_void, length: usize| CK_ATTRIBUTE { type_, pValue: at, ulValueLen: length as CK_ULONG };
    let mut template = [
        one(CKA_VALUE_LEN, (&raw mut length).cast(), size_of::<CK_ULONG>()),
        one(CKA_WRAP, (&raw mut yes).cast(), 1),
        one(CKA_UNWRAP, (&raw mut yes).cast(), 1),
        one(CKA_UNWRAP_TEMPLATE, inner.as_mut_ptr().cast(), size_of_val(&inner)),
    ];
    let (mut made, mut mechanism) = (0, plain(CKM_AES_KEY_GEN));
    let count = template.len() as CK_ULONG;
    let (at, mechanism) = (template.as_mut_ptr(), &raw mut mechanism);
    call!(hsm.chaos, C_GenerateKey(session, mechanism, at, count, &raw mut made)).map(|()| made)
}

played!(an_unwrap_template_is_enforced_or_dropped_while_all_is_said_to_be_well, "", |hsm| {
    let session = hsm.user();
    let (_, key) = keys(hsm, session);
    let open = |by, wrapped: &[u8]| {
        unwrap(
            hsm,
            session,
            CKM_AES_KEY_WRAP,
            by,
            wrapped,
            &[truth(CKA_EXTRACTABLE, true), truth(CKA_SENSITIVE, false)],
        )
    };
    hsm.set("[wrap]\ntemplate = \"at-generate\"");
    let by = fixed(hsm, session).unwrap();
    let wrapped = wrap(hsm, session, CKM_AES_KEY_WRAP, by, key).unwrap();
    assert_eq!(open(by, &wrapped), Err(CKR_TEMPLATE_INCONSISTENT));

    hsm.set("[wrap]\ntemplate = \"dropped\"");
    let by = fixed(hsm, session).unwrap();
    let wrapped = wrap(hsm, session, CKM_AES_KEY_WRAP, by, key).unwrap();
    let clear = open(by, &wrapped).unwrap();
    assert_eq!(hsm.value(session, clear, CKA_VALUE).unwrap().len(), 32, "the key in the clear");

    hsm.set("[wrap]\ntemplate = \"none\"");
    assert_eq!(fixed(hsm, session), Err(CKR_ATTRIBUTE_TYPE_INVALID));
});

/// A pair whose public half wraps and whose private half unwraps.
fn pair(hsm: &Hsm, session: Session) -> (Object, Object) {
    let mut mechanism = plain(CKM_RSA_PKCS_KEY_PAIR_GEN);
    let (mut public, mut private) = (0, 0);
    with_template(&[number(CKA_MODULUS_BITS, 2048), truth(CKA_WRAP, true)], |publics, count| {
        with_template(&[truth(CKA_UNWRAP, true)], |privates, privates_count| {
            let (made, mechanism) = ((&raw mut public, &raw mut private), &raw mut mechanism);
            let all = (publics, count, privates, privates_count);
            call!(hsm.chaos, C_GenerateKeyPair(session, mechanism, all.0, all.1, all.2, all.3, made.0, made.1))
        })
    })
    .unwrap();
    (public, private)
}

/// RSA-OAEP with this hash and mask, for the call.
fn with_oaep<T>(hash: CK_MECHANISM_TYPE, mgf: CK_RSA_PKCS_MGF_TYPE, call: impl FnOnce(*mut CK_MECHANISM) -> T) -> T {
    let mut parameters = CK_RSA_PKCS_OAEP_PARAMS {
        hashAlg: hash,
        mgf,
        source: CKZ_DATA_SPECIFIED,
        pSourceData: ptr::null_mut(),
        ulSourceDataLen: 0,
    };
    let at: *mut c_void = (&raw mut parameters).cast();
    let length = size_of::<CK_RSA_PKCS_OAEP_PARAMS>() as CK_ULONG;
    let mut mechanism = CK_MECHANISM { mechanism: CKM_RSA_PKCS_OAEP, pParameter: at, ulParameterLen: length };
    call(&raw mut mechanism)
}

/// What Luna's documents say of AES key wrap is not said of RSA: a wrapping key that travels by OAEP names no length.
const OF_KEY_WRAP: &str = "[wrap]\nvalue_len = \"demanded\"";

played!(a_length_is_demanded_of_what_key_wrap_unwraps_alone, OF_KEY_WRAP, |hsm| {
    let session = hsm.user();
    let (_, key) = keys(hsm, session);
    let (public, private) = pair(hsm, session);
    let (mut wrapped, mut room) = ([0_u8; 256], 256);
    let at = wrapped.as_mut_ptr();
    with_oaep(CKM_SHA_1, CKG_MGF1_SHA1, |mechanism| {
        call!(hsm.chaos, C_WrapKey(session, mechanism, public, key, at, &raw mut room))
    })
    .unwrap();
    let unwrap = |more: &[Attribute]| {
        let mut template = vec![number(CKA_CLASS, CKO_SECRET_KEY), number(CKA_KEY_TYPE, CKK_AES)];
        template.extend([truth(CKA_DECRYPT, true)]);
        template.extend_from_slice(more);
        let mut made = 0;
        with_template(&template, |template, count| {
            with_oaep(CKM_SHA_1, CKG_MGF1_SHA1, |mechanism| {
                let made = &raw mut made;
                call!(hsm.chaos, C_UnwrapKey(session, mechanism, private, at, room, template, count, made))
            })
        })
        .map(|()| made)
    };
    for more in [&[][..], &[number(CKA_VALUE_LEN, 32)]] {
        is_same(hsm, session, key, unwrap(more).unwrap());
    }
    hsm.set("[wrap]\nvalue_len = \"refused\"");
    assert_eq!(unwrap(&[number(CKA_VALUE_LEN, 32)]), Err(CKR_ATTRIBUTE_TYPE_INVALID));
});

const HASHES: &str = "[wrap]\noaep_hash = [\"CKM_SHA256\"]";

played!(oaep_takes_the_hashes_that_are_named, HASHES, |hsm| {
    let session = hsm.user();
    let (_, key) = keys(hsm, session);
    let (public, _) = pair(hsm, session);
    let wrap = |hash, mgf| {
        let (mut out, mut room) = ([0_u8; 512], 512);
        let at = out.as_mut_ptr();
        with_oaep(hash, mgf, |mechanism| {
            call!(hsm.chaos, C_WrapKey(session, mechanism, public, key, at, &raw mut room))
        })
    };
    assert_eq!(wrap(CKM_SHA_1, CKG_MGF1_SHA1), Err(CKR_MECHANISM_PARAM_INVALID));
    // SoftHSM's own answer to it: this hash came through.
    assert_eq!(wrap(CKM_SHA256, CKG_MGF1_SHA256), Err(CKR_ARGUMENTS_BAD));
    hsm.set("");
    assert_eq!(wrap(CKM_SHA_1, CKG_MGF1_SHA1), Ok(()));
});
