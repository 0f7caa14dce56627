//! The presets in their main points: a ciphertext and a wrapped key in each HSM's own way, and what it refuses. What they
//! play is from documents, not from devices.

use std::ptr;

use cryptoki_sys::*;

use crate::rig::{
    Attribute, Gcm, Hsm, PIN, bytes, call, gcm, gcm_null, number, open_sealed, plain, played, seal, truth,
    with_template,
};

const PLAIN: &[u8] = b"a plaintext";
const ZEROES: [u8; 12] = [0; 12];

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;

/// A round trip whose IV SoftHSM finds to be the one that was told: written back, behind the tag, or the caller's.
#[track_caller]
fn round_trip(hsm: &Hsm, session: Session, key: Object, mut given: Gcm) {
    let sealed = seal(hsm.chaos, session, key, &mut given, PLAIN).unwrap();
    let (sealed, behind) = sealed.split_at(PLAIN.len() + 16);
    let iv = given.iv.clone().unwrap_or_else(|| behind.to_vec());
    assert_eq!(open_sealed(hsm.real, session, key, &mut gcm(&iv), sealed).as_deref(), Ok(PLAIN));
    let mut again = Gcm { mechanism: given.mechanism, ..gcm(&iv) };
    assert_eq!(open_sealed(hsm.chaos, session, key, &mut again, sealed).as_deref(), Ok(PLAIN));
}

/// Wraps and unwraps with the vendor's number.
#[track_caller]
fn wraps(hsm: &Hsm, session: Session, mechanism: CK_MECHANISM_TYPE, more: &[Attribute]) {
    let wrapping = hsm.key(session, &[]).unwrap();
    let key = hsm.key(session, &[truth(CKA_EXTRACTABLE, true)]).unwrap();
    let (mut mechanism, mut wrapped, mut length) = (plain(mechanism), [0_u8; 64], 64);
    let at = wrapped.as_mut_ptr();
    call!(hsm.chaos, C_WrapKey(session, &raw mut mechanism, wrapping, key, at, &raw mut length)).unwrap();
    let mut template = vec![number(CKA_CLASS, CKO_SECRET_KEY), number(CKA_KEY_TYPE, CKK_AES), truth(CKA_DECRYPT, true)];
    template.extend_from_slice(more);
    let mut made = 0;
    with_template(&template, |template, count| {
        let made = &raw mut made;
        call!(hsm.chaos, C_UnwrapKey(session, &raw mut mechanism, wrapping, at, length, template, count, made))
    })
    .unwrap();
    let sealed = seal(hsm.real, session, key, &mut gcm(&[7; 12]), PLAIN).unwrap();
    assert_eq!(open_sealed(hsm.real, session, made, &mut gcm(&[7; 12]), &sealed).as_deref(), Ok(PLAIN));
}

played!(cloudhsm, "personality = \"cloudhsm\"", |hsm| {
    assert_eq!(hsm.try_session(0), Err(CKR_FUNCTION_FAILED));
    let session = hsm.session();
    assert_eq!(hsm.login(session, PIN), Err(CKR_ARGUMENTS_BAD));
    assert_eq!(hsm.login(session, &format!("kms_user:{PIN}")), Ok(()));
    let key = hsm.key(session, &[truth(CKA_TOKEN, true), bytes(CKA_ID, b"id")]).unwrap();
    assert_eq!(hsm.value(session, key, CKA_EXTRACTABLE).unwrap(), [1], "what is not said is true there");
    round_trip(hsm, session, key, gcm(&ZEROES));
    assert_eq!(seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), PLAIN), Err(CKR_MECHANISM_PARAM_INVALID));
    let mut own = Gcm { mechanism: 0x8000_1087, ..gcm_null() };
    let whole = seal(hsm.chaos, session, key, &mut own, PLAIN).unwrap();
    assert_eq!(open_sealed(hsm.chaos, session, key, &mut own, &whole).as_deref(), Ok(PLAIN));
    assert_eq!(open_sealed(hsm.real, session, key, &mut gcm(&whole[..12]), &whole[12..]).as_deref(), Ok(PLAIN));
    seal(hsm.chaos, session, key, &mut gcm(&ZEROES), &[1; 16_224]).unwrap();
    assert_eq!(seal(hsm.chaos, session, key, &mut gcm(&ZEROES), &[1; 16_225]), Err(CKR_DATA_LEN_RANGE));
    wraps(hsm, session, 0x8000_2109, &[]);
    let again = hsm.key(session, &[truth(CKA_TOKEN, true), bytes(CKA_ID, b"id")]);
    assert_eq!(again, Err(CKR_ATTRIBUTE_VALUE_INVALID));
    for refused in [(CKA_ALLOWED_MECHANISMS, CKM_AES_GCM.to_ne_bytes().to_vec()), truth(CKA_COPYABLE, false)] {
        assert_eq!(hsm.key(session, &[refused]), Err(CKR_ATTRIBUTE_TYPE_INVALID));
    }
    assert_eq!(hsm.key(session, &[truth(CKA_PRIVATE, false)]), Err(CKR_ATTRIBUTE_VALUE_INVALID));
    let mut made = 0;
    let result = call!(hsm.chaos, C_CopyObject(session, key, ptr::null_mut(), 0, &raw mut made));
    assert_eq!(result, Err(CKR_FUNCTION_NOT_SUPPORTED));
    let result = with_template(&[number(CKA_CLASS, CKO_CERTIFICATE)], |at, count| {
        call!(hsm.chaos, C_CreateObject(session, at, count, &raw mut made))
    });
    assert_eq!(result, Err(CKR_ATTRIBUTE_VALUE_INVALID));
});

played!(luna, "personality = \"luna\"", |hsm| {
    let session = hsm.session();
    assert_eq!(hsm.login(session, PIN), Err(CKR_PIN_EXPIRED));
    let (old, new) = (PIN.as_ptr().cast_mut(), "abcdefgh".as_ptr().cast_mut());
    call!(hsm.chaos, C_SetPIN(session, old, 8, new, 8)).unwrap();
    assert_eq!(hsm.login(session, "abcdefgh"), Ok(()));
    let key = hsm.key(session, &[]).unwrap();
    round_trip(hsm, session, key, gcm(&[7; 12]));
    let mut without = Gcm { bits: 0, ..gcm(&[7; 12]) };
    assert_eq!(seal(hsm.chaos, session, key, &mut without, PLAIN), Err(CKR_MECHANISM_PARAM_INVALID));
    wraps(hsm, session, 0x8000_0170, &[number(CKA_VALUE_LEN, 32)]);
    assert!(!hsm.mechanisms().contains(&CKM_AES_KEY_WRAP));
});

played!(luna_fips, "personality = \"luna-fips\"", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    round_trip(hsm, session, key, gcm_null());
    assert_eq!(seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), PLAIN), Err(CKR_MECHANISM_PARAM_INVALID));
    wraps(hsm, session, 0x8000_0170, &[number(CKA_VALUE_LEN, 32)]);
});

played!(luna_ha_in_fips_mode, "personality = [\"luna-fips\", \"luna-ha\"]\n[topology]\nfailover_ms = 1", |hsm| {
    let session = hsm.session();
    assert_eq!(hsm.login(session, PIN), Ok(()));
    let at = PIN.as_ptr().cast_mut();
    assert_eq!(call!(hsm.chaos, C_SetPIN(session, at, 8, at, 8)), Err(CKR_FUNCTION_NOT_SUPPORTED));
    let (kept, lost) = (hsm.key(session, &[truth(CKA_TOKEN, true)]).unwrap(), hsm.key(session, &[]).unwrap());
    round_trip(hsm, session, kept, gcm_null());
    hsm.set("personality = [\"luna-fips\", \"luna-ha\"]\n[topology]\nfailover_ms = 1\ndown = [0]");
    round_trip(hsm, session, kept, gcm_null());
    let result = seal(hsm.chaos, session, lost, &mut gcm_null(), PLAIN);
    assert_eq!(result, Err(CKR_KEY_HANDLE_INVALID));
    assert_eq!(hsm.control.failovers(), 1);
});

played!(tokens_that_fill_a_buffer_of_zeroes, "", |hsm| {
    let session = hsm.user();
    for personality in ["nshield", "utimaco-fips", "marvell"] {
        hsm.set(&format!("personality = \"{personality}\""));
        let key = hsm.key(session, &[]).unwrap();
        round_trip(hsm, session, key, gcm(&ZEROES));
        let result = seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), PLAIN);
        assert_eq!(result, Err(CKR_MECHANISM_PARAM_INVALID), "{personality}");
        wraps(hsm, session, CKM_AES_KEY_WRAP, &[]);
    }
    hsm.set("personality = \"utimaco\"");
    let key = hsm.key(session, &[]).unwrap();
    round_trip(hsm, session, key, gcm(&[7; 12]));
});

played!(tokens_that_cannot_do_the_job, "", |hsm| {
    let session = hsm.user();
    hsm.set("personality = \"google\"");
    let key = hsm.key(session, &[]).unwrap();
    round_trip(hsm, session, key, Gcm { mechanism: 0x8001_E101, ..gcm(&ZEROES) });
    assert_eq!(hsm.random(session, 7), Err(CKR_ARGUMENTS_BAD));
    for personality in ["nethsm", "yubihsm2", "tpm2", "smartcard-hsm"] {
        hsm.set(&format!("personality = \"{personality}\""));
        assert!(!hsm.mechanisms().contains(&CKM_AES_GCM), "{personality}");
        let result = seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), PLAIN);
        assert_eq!(result, Err(CKR_MECHANISM_INVALID), "{personality}");
        let (mut mechanism, mut out, mut length) = (plain(CKM_AES_KEY_WRAP), [0_u8; 64], 64);
        let at = out.as_mut_ptr();
        let result = call!(hsm.chaos, C_WrapKey(session, &raw mut mechanism, key, key, at, &raw mut length));
        assert!(
            matches!(result, Err(CKR_FUNCTION_NOT_SUPPORTED | CKR_MECHANISM_INVALID)),
            "{personality}: {result:x?}"
        );
    }
});

played!(softhsm, "personality = \"softhsm\"", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    round_trip(hsm, session, key, gcm(&[7; 12]));
    wraps(hsm, session, CKM_AES_KEY_WRAP, &[]);
    assert!(hsm.try_session(0).is_ok());
});

played!(lists_that_do_not_tell_what_there_is, "", |hsm| {
    let session = hsm.user();
    hsm.set(
        "[mechanisms]\nunlisted = [\"0x80000170\"]\nwithout_flags = [\"CKM_AES_GCM\"]\n\
         [mechanisms.map]\n0x80000170 = \"CKM_AES_KEY_WRAP\"",
    );
    let flags = |number| {
        let mut info = CK_MECHANISM_INFO::default();
        call!(hsm.chaos, C_GetMechanismInfo(hsm.slot, number, &raw mut info)).map(|()| info.flags)
    };
    assert!(!hsm.mechanisms().contains(&0x8000_0170) && hsm.mechanisms().contains(&CKM_AES_GCM));
    assert_eq!((flags(0x8000_0170), flags(CKM_AES_GCM)), (Err(CKR_MECHANISM_INVALID), Ok(0)));
    wraps(hsm, session, 0x8000_0170, &[]);
    let key = hsm.key(session, &[]).unwrap();
    round_trip(hsm, session, key, gcm(&[7; 12]));
});

played!(the_library_s_names, "[library]\nmanufacturer = \"Yubico\"\ndescription = \"a library\"", |hsm| {
    let mut info = CK_INFO::default();
    call!(hsm.chaos, C_GetInfo(&raw mut info)).unwrap();
    assert_eq!(info.manufacturerID, *b"Yubico                          ");
    assert_eq!(info.libraryDescription, *b"a library                       ");
});
