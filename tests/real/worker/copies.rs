//! Hot copies: of what they are made, and what becomes of them.

use bytes::Bytes;
use protocol::{Op, Reply, Role, Start};

use super::rig::{MADE, Tokens, Worker};

fn without_copies(tokens: &Tokens) -> Worker {
    tokens.worker(Start { hot_copies: false, ..tokens.start(Role::Data) }).unwrap()
}

#[test]
fn a_copy_is_unwrapped_once_and_serves_from_then_on() {
    let mut tokens = Tokens::after_ceremony();
    let calls = tokens.count_calls();
    let (key, blob) = tokens.control().make_key();
    let mut data = tokens.data();
    let unwrapped = calls.calls("C_UnwrapKey");
    let said = data.copy(key, Some(blob.clone()));
    assert!(said.contains(MADE), "{said}");
    data.wanted.clear();
    let mut beside = without_copies(&tokens);
    for round in 0..200_u8 {
        let sealed = data.encrypt(key, &[round], b"").unwrap();
        assert_eq!(data.decrypt(key, &sealed, b"").unwrap().expose(), [round]);
        assert_eq!(beside.decrypt(key, &sealed, b"").unwrap().expose(), [round], "the token's object opens it");
    }
    assert_eq!((calls.calls("C_UnwrapKey"), calls.calls("C_CopyObject")), (unwrapped + 1, 0));
    assert_eq!(data.wanted, []);
    // One more is not made while there is one.
    assert!(matches!(data.call(Op::Copy { key, blob: Some(blob) }), Reply::Done));
    assert_eq!(calls.calls("C_UnwrapKey"), unwrapped + 1);
}

#[test]
fn a_copy_that_is_lost_is_made_again() {
    let mut tokens = Tokens::after_ceremony();
    let chaos = tokens.count_calls();
    let (key, blob) = tokens.control().make_key();
    let mut data = tokens.data();
    assert!(data.copy(key, Some(blob.clone())).contains(MADE));
    let next = chaos.calls("C_EncryptInit") + 1;
    let lost = "fault = { code = \"CKR_OBJECT_HANDLE_INVALID\" }";
    let rule = format!("[[rule]]\nfunction = \"C_EncryptInit\"\ncalls = {{ from = {next}, to = {next} }}\n{lost}");
    chaos.set(&rule).unwrap();
    data.encrypt(key, b"plaintext", b"").unwrap();
    assert_eq!(chaos.injected("C_EncryptInit"), 1);
    chaos.clear().unwrap();
    assert!(data.copy(key, Some(blob.clone())).contains(MADE));
    // Likewise what the daemon has given up.
    assert!(matches!(data.call(Op::Forget(vec![key])), Reply::Done));
    assert!(matches!(data.call(Op::Copy { key, blob: Some(blob.clone()) }), Reply::Done), "nobody knows its object");
    assert!(data.copy(key, Some(blob)).contains(MADE));
}

/// As when two rows of the database were exchanged.
#[test]
fn a_copy_of_another_key_than_the_token_s_is_not_used() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let ((key, _), (_, other)) = (control.make_key(), control.make_key());
    let mut data = tokens.data();
    for (wrong, words) in
        [(other, "is another one than the token's object"), (Bytes::from_static(&[7; 40]), "C_UnwrapKey")]
    {
        let said = data.copy(key, Some(wrong));
        assert!(said.contains("no hot copy can be made") && said.contains(words), "{said}");
        assert!(!said.contains(MADE), "{said}");
        let sealed = data.encrypt(key, b"plaintext", b"").unwrap();
        assert_eq!(without_copies(&tokens).decrypt(key, &sealed, b"").unwrap().expose(), b"plaintext");
        // In another worker, since this one leaves the key alone for a while.
        data = tokens.data();
    }
}

/// Their objects can be copied and changed, and stay so.
#[test]
fn keys_that_an_earlier_version_has_placed_have_copies() {
    let tokens = Tokens::after_ceremony();
    let (key, blob) = tokens.control_as_before().make_key();
    // Where there is no wrapped key, the object itself may be copied.
    for blob in [Some(blob), None] {
        let mut data = tokens.data();
        assert!(data.copy(key, blob).contains(MADE));
        let sealed = data.encrypt(key, b"plaintext", b"").unwrap();
        assert_eq!(without_copies(&tokens).decrypt(key, &sealed, b"").unwrap().expose(), b"plaintext");
    }
    let (own, _) = tokens.control().make_key();
    let said = tokens.data().copy(own, None);
    assert!(said.contains("no hot copy can be made") && said.contains("C_CopyObject"), "{said}");
}
