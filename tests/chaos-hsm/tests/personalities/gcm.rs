//! The ways of AES-GCM. That the token really used the IV that it told is checked past the module: SoftHSM, given that IV,
//! opens the ciphertext, and with another one does not.

use std::ptr;

use cryptoki_sys::*;

use crate::rig::{Gcm, Hsm, call, gcm, gcm_null, open_sealed, played, seal};

const ZEROES: [u8; 12] = [0; 12];
const PLAIN: &[u8] = b"a plaintext";

/// SoftHSM opens the ciphertext with this IV, and with no other one.
#[track_caller]
fn was_used(hsm: &Hsm, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE, iv: &[u8], sealed: &[u8]) {
    assert_eq!(open_sealed(hsm.real, session, key, &mut gcm(iv), sealed).as_deref(), Ok(PLAIN));
    let mut other = iv.to_vec();
    other[0] ^= 1;
    assert!(open_sealed(hsm.real, session, key, &mut gcm(&other), sealed).is_err());
}

/// Nothing is left begun.
#[track_caller]
fn is_idle(hsm: &Hsm, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) {
    let sealed = seal(hsm.real, session, key, &mut gcm(&[9; 12]), PLAIN).unwrap();
    assert_eq!(open_sealed(hsm.real, session, key, &mut gcm(&[9; 12]), &sealed).as_deref(), Ok(PLAIN));
}

played!(the_callers_iv_is_used_where_its_length_and_bits_fit, "[gcm]\niv_length = 12\niv_bits = [96]", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let sealed = seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), PLAIN).unwrap();
    was_used(hsm, session, key, &[7; 12], &sealed);
    for mut wrong in [gcm(&[7; 16]), Gcm { bits: 0, ..gcm(&[7; 12]) }, gcm_null()] {
        let result = seal(hsm.chaos, session, key, &mut wrong, PLAIN);
        assert_eq!(result, Err(CKR_MECHANISM_PARAM_INVALID));
    }
    is_idle(hsm, session, key);
});

played!(a_zeroed_buffer_gets_the_iv, "[gcm]\niv = \"zeroed-writeback\"\niv_bits = [0, 96]", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let mut ivs = Vec::new();
    for bits in [0, 96] {
        let mut parameters = Gcm { bits, ..gcm(&ZEROES) };
        let sealed = seal(hsm.chaos, session, key, &mut parameters, PLAIN).unwrap();
        let iv = parameters.iv.unwrap();
        assert_eq!(sealed.len(), PLAIN.len() + 16);
        was_used(hsm, session, key, &iv, &sealed);
        assert_eq!(open_sealed(hsm.chaos, session, key, &mut gcm(&iv), &sealed).as_deref(), Ok(PLAIN));
        ivs.push(iv);
    }
    assert_ne!(ivs[0], ivs[1], "each has its own");
    for mut wrong in [gcm(&ivs[0]), gcm(&[0; 16]), Gcm { bits: 128, ..gcm(&ZEROES) }, gcm_null()] {
        assert_eq!(seal(hsm.chaos, session, key, &mut wrong, PLAIN), Err(CKR_MECHANISM_PARAM_INVALID));
    }
    is_idle(hsm, session, key);
});

const AT_ENCRYPT: &str = "[gcm]\niv = \"zeroed-writeback\"\nwritten = \"at-encrypt\"\niv_code = \"CKR_ARGUMENTS_BAD\"";

played!(an_iv_can_be_written_as_late_as_by_the_encryption, AT_ENCRYPT, |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let mut iv = ZEROES;
    let mut parameters = gcm(&ZEROES);
    let (data, mut sealed) = (PLAIN.to_vec(), [0_u8; 64]);
    let mut length = sealed.len() as CK_ULONG;
    // The caller's buffer is the one of `parameters`, which stays.
    let at = parameters.iv.as_mut().unwrap().as_mut_ptr();
    parameters.with(|mechanism| call!(hsm.chaos, C_EncryptInit(session, mechanism, key))).unwrap();
    assert_eq!(parameters.iv.as_deref(), Some(&ZEROES[..]), "not yet");
    let data = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
    call!(hsm.chaos, C_Encrypt(session, data.0, data.1, sealed.as_mut_ptr(), &raw mut length)).unwrap();
    // SAFETY: twelve bytes that `parameters` still holds.
    unsafe { ptr::copy_nonoverlapping(at, iv.as_mut_ptr(), iv.len()) };
    assert_ne!(iv, ZEROES);
    was_used(hsm, session, key, &iv, &sealed[..length as usize]);
    assert_eq!(
        seal(hsm.chaos, session, key, &mut gcm(&[1; 12]), PLAIN),
        Err(CKR_ARGUMENTS_BAD),
        "the code that is set"
    );
});

const APPENDED: &str = "[gcm]\niv = \"null-appended\"\niv_bits = [0, 96, 128]\ndecrypt_iv_bits = [96, 128]";

played!(an_iv_follows_the_tag, APPENDED, |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    for (bits, length) in [(0, 16), (128, 16), (96, 12)] {
        let sealed = seal(hsm.chaos, session, key, &mut Gcm { bits, ..gcm_null() }, PLAIN).unwrap();
        assert_eq!(sealed.len(), PLAIN.len() + 16 + length, "{bits}");
        let (sealed, iv) = sealed.split_at(PLAIN.len() + 16);
        was_used(hsm, session, key, iv, sealed);
        assert_eq!(open_sealed(hsm.chaos, session, key, &mut gcm(iv), sealed).as_deref(), Ok(PLAIN));
        let mut without = Gcm { bits: 0, ..gcm(iv) };
        let result = open_sealed(hsm.chaos, session, key, &mut without, sealed);
        assert_eq!(result, Err(CKR_MECHANISM_PARAM_INVALID), "bits must be there when decrypting");
    }
    // Four bytes of the caller's and twelve of the token's.
    let sealed = seal(hsm.chaos, session, key, &mut Gcm { bits: 96, ..gcm(&[5; 16]) }, PLAIN).unwrap();
    let (sealed, iv) = sealed.split_at(PLAIN.len() + 16);
    assert_eq!((iv.len(), &iv[..4]), (16, &[5; 4][..]));
    assert_ne!(iv[4..], [5; 12]);
    was_used(hsm, session, key, iv, sealed);
    assert_eq!(seal(hsm.chaos, session, key, &mut gcm(&[5; 12]), PLAIN), Err(CKR_MECHANISM_PARAM_INVALID));
    is_idle(hsm, session, key);
});

played!(a_buffer_without_room_for_the_iv_is_too_small_and_nothing_is_lost, "[gcm]\niv = \"null-appended\"", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    gcm_null().with(|mechanism| call!(hsm.chaos, C_EncryptInit(session, mechanism, key))).unwrap();
    let data = (PLAIN.as_ptr().cast_mut(), PLAIN.len() as CK_ULONG);
    let mut room = [0_u8; 64];
    let mut length = PLAIN.len() as CK_ULONG + 16;
    let result = call!(hsm.chaos, C_Encrypt(session, data.0, data.1, room.as_mut_ptr(), &raw mut length));
    assert_eq!((result, length), (Err(CKR_BUFFER_TOO_SMALL), PLAIN.len() as CK_ULONG + 32));
    call!(hsm.chaos, C_Encrypt(session, data.0, data.1, room.as_mut_ptr(), &raw mut length)).unwrap();
    let (sealed, iv) = room[..length as usize].split_at(PLAIN.len() + 16);
    was_used(hsm, session, key, iv, sealed);
});

const PREPENDED: &str = "[gcm]\nalso = [{ mechanism = \"0x80001087\", iv = \"null-prepended\" }]";

played!(an_iv_comes_before_the_ciphertext_and_is_found_there, PREPENDED, |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let own = || Gcm { mechanism: 0x8000_1087, ..gcm_null() };
    let whole = seal(hsm.chaos, session, key, &mut own(), PLAIN).unwrap();
    assert_eq!(whole.len(), 12 + PLAIN.len() + 16);
    let (iv, sealed) = whole.split_at(12);
    was_used(hsm, session, key, iv, sealed);
    assert_eq!(open_sealed(hsm.chaos, session, key, &mut own(), &whole).as_deref(), Ok(PLAIN));
    let mut spoilt = whole.clone();
    spoilt[0] ^= 1;
    assert!(open_sealed(hsm.chaos, session, key, &mut own(), &spoilt).is_err());
    let result = open_sealed(hsm.chaos, session, key, &mut own(), &whole[..27]);
    assert_eq!(result, Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
    let mut given = Gcm { mechanism: 0x8000_1087, ..gcm(&ZEROES) };
    assert_eq!(seal(hsm.chaos, session, key, &mut given, PLAIN), Err(CKR_MECHANISM_PARAM_INVALID));
    // A key that cannot decrypt is found out before the ciphertext comes, and what is begun is begun.
    let other = hsm.generate(session, &[crate::rig::number(CKA_VALUE_LEN, 32), crate::rig::truth(CKA_DECRYPT, false)]);
    let begin = |key| own().with(|mechanism| call!(hsm.chaos, C_DecryptInit(session, mechanism, key)));
    assert_eq!(begin(other.unwrap()), Err(CKR_KEY_FUNCTION_NOT_PERMITTED));
    assert_eq!(begin(key), Ok(()));
    assert_eq!(begin(key), Err(CKR_OPERATION_ACTIVE));
    // The standard's own is as it was.
    is_idle(hsm, session, key);
    let sealed = seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), PLAIN).unwrap();
    was_used(hsm, session, key, &[7; 12], &sealed);
});

played!(no_two_threads_get_one_iv, "[gcm]\niv = \"null-appended\"", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let (chaos, sessions) = (hsm.chaos, [(); 4].map(|()| hsm.session()));
    let many =
        |session| (0..50).map(|_| seal(chaos, session, key, &mut gcm_null(), PLAIN).unwrap()).collect::<Vec<_>>();
    let all: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads = sessions.map(|session| scope.spawn(move || many(session)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut ivs: Vec<&[u8]> = all.iter().map(|sealed| &sealed[PLAIN.len() + 16..]).collect();
    for sealed in &all {
        let (sealed, iv) = sealed.split_at(PLAIN.len() + 16);
        assert_eq!(open_sealed(hsm.real, session, key, &mut gcm(iv), sealed).as_deref(), Ok(PLAIN));
    }
    ivs.sort_unstable();
    ivs.dedup();
    assert_eq!(ivs.len(), 200);
});

played!(an_iv_that_nobody_tells_is_not_the_callers, "[gcm]\niv = \"ignored\"", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let mut parameters = gcm(&[7; 12]);
    let sealed = seal(hsm.chaos, session, key, &mut parameters, PLAIN).unwrap();
    assert_eq!((sealed.len(), parameters.iv.as_deref()), (PLAIN.len() + 16, Some(&[7; 12][..])));
    assert!(open_sealed(hsm.real, session, key, &mut gcm(&[7; 12]), &sealed).is_err());
    assert!(open_sealed(hsm.chaos, session, key, &mut gcm(&[7; 12]), &sealed).is_err());
});

const OTHER_NUMBER: &str = "[gcm]\nmechanism = \"0x8001E101\"\niv = \"zeroed-writeback\"";

played!(the_standards_number_is_gone_where_there_is_another_one, OTHER_NUMBER, |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    assert_eq!(seal(hsm.chaos, session, key, &mut gcm(&ZEROES), PLAIN), Err(CKR_MECHANISM_INVALID));
    let mut own = Gcm { mechanism: 0x8001_E101, ..gcm(&ZEROES) };
    let sealed = seal(hsm.chaos, session, key, &mut own, PLAIN).unwrap();
    was_used(hsm, session, key, &own.iv.unwrap(), &sealed);
    let mechanisms = hsm.mechanisms();
    assert!(mechanisms.contains(&0x8001_E101) && !mechanisms.contains(&CKM_AES_GCM));
});

const BOUNDED: &str = "[gcm]\nmax_plaintext = 20\nmax_aad = 8";

played!(plaintexts_and_additional_data_have_an_end, BOUNDED, |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let sealed = seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), &[1; 20]).unwrap();
    assert_eq!(open_sealed(hsm.chaos, session, key, &mut gcm(&[7; 12]), &sealed), Ok(vec![1; 20]));
    assert_eq!(seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), &[1; 21]), Err(CKR_DATA_LEN_RANGE));
    is_idle(hsm, session, key);
    let long = seal(hsm.real, session, key, &mut gcm(&[7; 12]), &[1; 21]).unwrap();
    let result = open_sealed(hsm.chaos, session, key, &mut gcm(&[7; 12]), &long);
    assert_eq!(result, Err(CKR_ENCRYPTED_DATA_LEN_RANGE));
    is_idle(hsm, session, key);
    let mut more = Gcm { aad: vec![1; 9], ..gcm(&[7; 12]) };
    assert_eq!(seal(hsm.chaos, session, key, &mut more, &[1; 20]), Err(CKR_MECHANISM_PARAM_INVALID));
});

played!(parts_are_refused_and_leave_nothing_begun, "[gcm]\nmulti_part = \"CKR_MECHANISM_INVALID\"", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let data = (PLAIN.as_ptr().cast_mut(), PLAIN.len() as CK_ULONG);
    let (mut room, mut length) = ([0_u8; 64], 64);
    gcm(&[7; 12]).with(|mechanism| call!(hsm.chaos, C_EncryptInit(session, mechanism, key))).unwrap();
    let result = call!(hsm.chaos, C_EncryptUpdate(session, data.0, data.1, room.as_mut_ptr(), &raw mut length));
    assert_eq!(result, Err(CKR_MECHANISM_INVALID));
    is_idle(hsm, session, key);
    gcm(&[7; 12]).with(|mechanism| call!(hsm.chaos, C_DecryptInit(session, mechanism, key))).unwrap();
    let result = call!(hsm.chaos, C_DecryptUpdate(session, data.0, data.1, room.as_mut_ptr(), &raw mut length));
    assert_eq!(result, Err(CKR_MECHANISM_INVALID));
    is_idle(hsm, session, key);
});
