//! Functions that there are not, sessions, random numbers, calls by the clock, return values, and names of tokens.

use std::ptr;

use cryptoki_sys::*;

use crate::rig::{PIN, bytes, call, dir, gcm, open_sealed, played, seal, truth};

played!(functions_say_what_is_set_and_others_go_on, "", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    for (function, code, says) in [
        ("C_CopyObject", "CKR_FUNCTION_NOT_SUPPORTED", CKR_FUNCTION_NOT_SUPPORTED),
        ("C_CopyObject", "CKR_ACTION_PROHIBITED", CKR_ACTION_PROHIBITED),
        ("C_SetAttributeValue", "CKR_FUNCTION_NOT_SUPPORTED", CKR_FUNCTION_NOT_SUPPORTED),
        ("C_GetObjectSize", "CKR_FUNCTION_NOT_SUPPORTED", CKR_FUNCTION_NOT_SUPPORTED),
        ("C_SetPIN", "CKR_FUNCTION_NOT_SUPPORTED", CKR_FUNCTION_NOT_SUPPORTED),
        ("C_InitPIN", "CKR_FUNCTION_NOT_SUPPORTED", CKR_FUNCTION_NOT_SUPPORTED),
        ("C_InitToken", "CKR_FUNCTION_NOT_SUPPORTED", CKR_FUNCTION_NOT_SUPPORTED),
    ] {
        hsm.set(&format!("[calls.refused]\n{function} = \"{code}\""));
        let (mut made, mut size, mut text) = (0, 0, *b"12345678                        ");
        let at = text.as_mut_ptr();
        let results = [
            ("C_CopyObject", call!(hsm.chaos, C_CopyObject(session, key, ptr::null_mut(), 0, &raw mut made))),
            ("C_SetAttributeValue", call!(hsm.chaos, C_SetAttributeValue(session, key, ptr::null_mut(), 0))),
            ("C_GetObjectSize", call!(hsm.chaos, C_GetObjectSize(session, key, &raw mut size))),
            ("C_SetPIN", call!(hsm.chaos, C_SetPIN(session, at, 8, at, 8))),
            ("C_InitPIN", call!(hsm.chaos, C_InitPIN(session, at, 8))),
            ("C_InitToken", call!(hsm.chaos, C_InitToken(hsm.slot, at, 8, at))),
        ];
        for (name, result) in results {
            assert_eq!(result == Err(says), name == function, "{name} while {function} is refused: {result:x?}");
        }
    }
});

played!(a_presets_refusal_can_be_taken_out, "personality = \"cloudhsm\"", |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let mut made = 0;
    let mut copy = || call!(hsm.chaos, C_CopyObject(session, key, ptr::null_mut(), 0, &raw mut made));
    assert_eq!(copy(), Err(CKR_FUNCTION_NOT_SUPPORTED));
    hsm.set("personality = \"cloudhsm\"\n[calls.refused]\nC_CopyObject = \"CKR_OK\"");
    assert_eq!(copy(), Ok(()));
});

const SESSIONS: &str = "[calls]\nread_only_sessions = \"CKR_FUNCTION_FAILED\"\nsessions = 3";

played!(sessions_that_only_read_are_refused_and_others_have_an_end, SESSIONS, |hsm| {
    assert_eq!(hsm.try_session(0), Err(CKR_FUNCTION_FAILED));
    let some: Vec<_> = (0..3).map(|_| hsm.session()).collect();
    assert_eq!(hsm.try_session(CKF_RW_SESSION), Err(CKR_SESSION_COUNT));
    assert_eq!(hsm.info().ulMaxSessionCount, 3);
    call!(hsm.chaos, C_CloseSession(some[0])).unwrap();
    hsm.session();
    assert_eq!(hsm.try_session(CKF_RW_SESSION), Err(CKR_SESSION_COUNT));
    call!(hsm.chaos, C_CloseAllSessions(hsm.slot)).unwrap();
    let again: Vec<_> = (0..3).map(|_| hsm.session()).collect();
    assert_eq!(again.len(), 3);
});

played!(random_numbers_have_bounds, "[calls]\nrandom = [8, 1024]", |hsm| {
    let session = hsm.user();
    for (length, result) in [(7, Err(CKR_ARGUMENTS_BAD)), (8, Ok(())), (1024, Ok(())), (1025, Err(CKR_ARGUMENTS_BAD))] {
        assert_eq!(hsm.random(session, length), result, "{length}");
    }
});

// An hour from one call to the next: no machine is so slow that another one would be due meanwhile.
const RATE: &str = "[calls.rate]\nper_second = 0.0003\nburst = 3\nfunction = [\"C_GenerateRandom\", \"C_GetAttributeValue\"]\n\
                    codes = { C_GetAttributeValue = \"CKR_DEVICE_ERROR\" }";

played!(calls_that_come_too_fast_are_refused, RATE, |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let results: Vec<_> = (0..5).map(|_| hsm.random(session, 8)).collect();
    assert_eq!(results, [Ok(()), Ok(()), Ok(()), Err(CKR_FUNCTION_FAILED), Err(CKR_FUNCTION_FAILED)]);
    let mut class = CK_ATTRIBUTE { type_: CKA_CLASS, pValue: ptr::null_mut(), ulValueLen: 0 };
    let result = call!(hsm.chaos, C_GetAttributeValue(session, key, &raw mut class, 1));
    assert_eq!(result, Err(CKR_DEVICE_ERROR), "one bucket for both, and a code for each");
    seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), b"others are not counted").unwrap();
});

played!(
    a_rate_lets_calls_through_as_time_goes_by,
    "[calls.rate]\nper_second = 5\nfunction = [\"C_GenerateRandom\"]",
    |hsm| {
        let session = hsm.user();
        let mut refused = 0;
        for _ in 0..3 {
            while hsm.random(session, 8).is_err() {
                refused += 1;
            }
        }
        assert!(refused > 0, "two waits of 200 ms, and no call in them was refused");
    }
);

const CODES: &str = "[codes.C_Decrypt]\nCKR_GENERAL_ERROR = \"CKR_ENCRYPTED_DATA_INVALID\"\n\
                     [codes.C_DestroyObject]\nCKR_OK = \"0x80000001\"";

played!(return_values_are_shown_as_others, CODES, |hsm| {
    let session = hsm.user();
    let key = hsm.key(session, &[]).unwrap();
    let mut sealed = seal(hsm.chaos, session, key, &mut gcm(&[7; 12]), b"plain").unwrap();
    sealed[0] ^= 1;
    let result = open_sealed(hsm.chaos, session, key, &mut gcm(&[7; 12]), &sealed);
    assert_eq!(result, Err(CKR_ENCRYPTED_DATA_INVALID));
    assert_eq!(call!(hsm.chaos, C_DestroyObject(session, key)), Err(0x8000_0001));
});

played!(
    tokens_have_the_names_that_are_set,
    "[token]\nserial = \"0001\"\nlabel = \"twin\"\nmanufacturer = \"nobody\"",
    |hsm| {
        let info = hsm.info();
        assert_eq!(&info.serialNumber, b"0001            ");
        assert_eq!(&info.label[..8], b"twin    ");
        assert_eq!(&info.manufacturerID[..8], b"nobody  ");
        assert_eq!(&info.model[..7], b"SoftHSM", "what is not set is SoftHSM's");
    }
);

played!(rules_that_contradict_themselves_leave_the_former_in_force, "[calls]\nrandom = [8, 1024]", |hsm| {
    let session = hsm.user();
    for (wrong, says) in [
        ("personality = \"clodhsm\"", "clodhsm is none of"),
        ("[gcm]\niv = \"null-appended\"\niv_length = 13", "12 or 16"),
        (
            "[login]\nmust_change = true\n[calls.refused]\nC_SetPIN = \"CKR_FUNCTION_FAILED\"",
            "nobody could ever log in",
        ),
        ("[calls]\nrandoom = [8, 16]", "randoom"),
    ] {
        assert!(hsm.control.set(wrong).is_err(), "{wrong}");
        // Past the controls, as an operator's editor would.
        std::fs::write(dir().join("control.toml"), wrong).unwrap();
        assert_eq!(hsm.random(session, 7), Err(CKR_ARGUMENTS_BAD), "{wrong}");
        let (_, beside) = hsm.elsewhere_and_beside(&format!("login {PIN}"));
        assert!(beside.contains("chaos-hsm: ") && beside.contains(says), "{wrong}: {beside}");
    }
    hsm.set("");
    assert_eq!(hsm.random(session, 7), Ok(()));
});

const BOTH: &str = "[[rule]]\nfunction = \"C_GenerateRandom\"\nfault = { code = \"CKR_HOST_MEMORY\" }\n\
                    [calls]\nrandom = [8, 1024]\n[attributes.a]\ndefault = { CKA_LABEL = \"named\" }";

played!(faults_lie_over_a_personality, BOTH, |hsm| {
    let session = hsm.user();
    assert_eq!(hsm.random(session, 7), Err(CKR_HOST_MEMORY));
    let key = hsm.key(session, &[truth(CKA_TOKEN, true)]).unwrap();
    assert_eq!(hsm.find(session, &[bytes(CKA_LABEL, b"named")]), [key]);
});
