//! Keys that a worker makes where they stay.

use bytes::Bytes;
use model::id::{KeyId, KeyVersionId};
use model::profile::KeysMade;
use protocol::{Class, DecryptItem, Op, Reply, Role, Sealed};

use super::rig::{Tokens, Worker, wait_for};

fn hex(key: KeyVersionId) -> String {
    key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn new_key() -> KeyVersionId {
    KeyVersionId { key: KeyId::random(), version: 1 }
}

fn make(control: &mut Worker, key: KeyVersionId) {
    let reply = control.call(Op::MakeInPlace { key, label: format!("arn:{key}") });
    assert!(matches!(reply, Reply::Done), "{reply:?}");
}

/// A data worker of an HSM in which keys are made where they stay.
fn data(tokens: &Tokens) -> Worker {
    let mut start = tokens.start(Role::Data);
    (start.capabilities.keys.made, start.hot_copies) = (KeysMade::InPlace, false);
    tokens.worker(start).unwrap()
}

/// Two objects of one version, as where the first one is not shown yet when it is made once more: who has made the first one, a
/// worker that has used that, and what it has encrypted.
fn made_twice(tokens: &Tokens, key: KeyVersionId) -> (Worker, Worker, Sealed) {
    let (mut first, mut second, mut knows) = (tokens.control(), tokens.control(), data(tokens));
    for control in [&mut first, &mut second] {
        assert!(matches!(control.call(Op::List), Reply::Keys(_)));
    }
    make(&mut first, key);
    let sealed = knows.encrypt(key, b"plaintext", b"aad").unwrap();
    // The second one does not know of what the first has made since.
    make(&mut second, key);
    assert_eq!(shown(tokens, key).len(), 2);
    (first, knows, sealed)
}

/// What pkcs11-tool shows of the objects with this id.
fn shown(tokens: &Tokens, key: KeyVersionId) -> Vec<String> {
    let all = tokens.pkcs11_tool(&["--list-objects", "--type", "secrkey"]).0;
    all.split("Secret Key Object").filter(|object| object.contains(&hex(key))).map(str::to_owned).collect()
}

#[test]
fn it_is_made_once_and_nobody_can_take_it_out() {
    let tokens = Tokens::after_ceremony();
    let (mut control, mut data) = (tokens.control(), tokens.data());
    let key = new_key();
    assert_eq!(control.fault(Op::ConfirmInPlace(key)).class, Class::KeyAbsent);
    make(&mut control, key);
    let sealed = data.encrypt(key, b"plaintext", b"aad").unwrap();
    // As after an answer that was lost, by this worker and by one that has taken its place.
    make(&mut control, key);
    make(&mut tokens.control(), key);
    assert_eq!(data.decrypt(key, &sealed, b"aad").unwrap().expose(), b"plaintext");
    assert!(matches!(control.call(Op::ConfirmInPlace(key)), Reply::Done));
    let objects = shown(&tokens, key);
    assert_eq!(objects.len(), 1, "{objects:?}");
    for words in ["encrypt, decrypt", "sensitive", "always sensitive", "never extractable", "local"] {
        assert!(objects[0].contains(words), "{words}: {objects:?}");
    }
    assert!(!objects[0].contains("wrap"), "{objects:?}");
    assert!(matches!(control.call(Op::Destroy(key)), Reply::Done));
    assert!(shown(&tokens, key).is_empty());
}

#[test]
fn with_two_objects_of_one_version_nobody_could_say_which_encrypts() {
    let tokens = Tokens::after_ceremony();
    let (mut first, mut second) = (tokens.control(), tokens.control());
    for control in [&mut first, &mut second] {
        assert!(matches!(control.call(Op::List), Reply::Keys(_)));
    }
    let key = new_key();
    // The second one does not know of what the first has made since.
    make(&mut first, key);
    make(&mut second, key);
    let fault = first.fault(Op::ConfirmInPlace(key));
    assert!(fault.class == Class::Refused && fault.to_string().contains("several objects"), "{fault}");
    assert!(matches!(first.call(Op::Destroy(key)), Reply::Done));
    assert!(shown(&tokens, key).is_empty());
}

/// Each of them is another key, and what one of them encrypts the other one does not open.
#[test]
fn of_two_objects_a_worker_uses_none_but_the_one_it_knows() {
    let tokens = Tokens::after_ceremony();
    let key = new_key();
    let (_first, mut knows, sealed) = made_twice(&tokens, key);
    let mut new = data(&tokens);
    for fault in [new.encrypt(key, b"x", b"aad").unwrap_err(), new.decrypt(key, &sealed, b"aad").unwrap_err()] {
        assert!(fault.class == Class::KeyUnusable && fault.to_string().contains("several objects"), "{fault}");
    }
    let further = knows.encrypt(key, b"further", b"aad").unwrap();
    for (sealed, plaintext) in [(&sealed, &b"plaintext"[..]), (&further, b"further")] {
        assert_eq!(knows.decrypt(key, sealed, b"aad").unwrap().expose(), plaintext);
    }
}

/// As where a key is unwrapped twice: each of them is the key.
#[test]
fn of_two_objects_of_one_material_each_is_used_and_both_go_with_the_key() {
    let tokens = Tokens::after_ceremony();
    let (mut first, mut second, mut knows) = (tokens.control(), tokens.control(), data(&tokens));
    for control in [&mut first, &mut second] {
        assert!(matches!(control.call(Op::List), Reply::Keys(_)));
    }
    let (key, blob) = first.make_key();
    let proof = knows.encrypt(key, b"plaintext", b"aad").unwrap();
    // The second one does not know of what the first has placed since.
    second.place(key, &blob);
    assert_eq!(shown(&tokens, key).len(), 2);
    let mut new = data(&tokens);
    assert_eq!(new.decrypt(key, &proof, b"aad").unwrap().expose(), b"plaintext");
    let item = DecryptItem { key, aad: Bytes::from_static(b"aad"), iv: proof.iv, sealed: proof.sealed.clone() };
    for _ in 0..2 {
        let reply = first.call(Op::KeepProven(item.clone()));
        assert!(matches!(reply, Reply::OneMaterial(2)), "{reply:?}");
        assert_eq!(shown(&tokens, key).len(), 2);
    }
    let sealed = new.encrypt(key, b"after", b"aad").unwrap();
    assert_eq!(knows.decrypt(key, &sealed, b"aad").unwrap().expose(), b"after");
    // The key goes with both of them.
    assert!(matches!(first.call(Op::Destroy(key)), Reply::Done));
    assert!(shown(&tokens, key).is_empty());
}

#[test]
fn of_two_objects_the_one_that_opens_the_proof_is_kept() {
    let tokens = Tokens::after_ceremony();
    let key = new_key();
    let (mut first, mut knows, proof) = made_twice(&tokens, key);
    let mut new = data(&tokens);
    let Reply::Keys(listed) = first.call(Op::List) else { panic!("no list") };
    assert_eq!(listed, [key, key]);
    let item = |sealed: &Sealed| DecryptItem {
        key,
        aad: Bytes::from_static(b"aad"),
        iv: sealed.iv,
        sealed: sealed.sealed.clone(),
    };
    // Neither opens this one, so that nobody knows which is the right one.
    let wrong = Sealed { iv: [7; 12], sealed: proof.sealed.clone() };
    let fault = first.fault(Op::KeepProven(item(&wrong)));
    assert!(fault.class == Class::Refused && fault.to_string().contains("nothing was destroyed"), "{fault}");
    assert_eq!(shown(&tokens, key).len(), 2);
    // The second time there is nothing to be done.
    for _ in 0..2 {
        assert!(matches!(first.call(Op::KeepProven(item(&proof))), Reply::Done));
        assert_eq!(shown(&tokens, key).len(), 1);
    }
    assert!(matches!(first.call(Op::ConfirmInPlace(key)), Reply::Done));
    for worker in [&mut knows, &mut new] {
        wait_for("the right one is used", || worker.decrypt(key, &proof, b"aad").is_ok());
    }
    let sealed = new.encrypt(key, b"after", b"aad").unwrap();
    assert_eq!(knows.decrypt(key, &sealed, b"aad").unwrap().expose(), b"after");
}

/// Another session need not see yet what was made in the one that failed. Whoever asks for it decides when it is made again.
#[test]
fn a_session_that_fails_while_a_key_is_made_does_not_have_it_made_twice() {
    let mut tokens = Tokens::after_ceremony();
    let chaos = tokens.count_calls();
    let mut control = tokens.control();
    let key = new_key();
    let next = chaos.calls("C_GenerateKey") + 1;
    let rule = format!(
        "[[rule]]\nfunction = \"C_GenerateKey\"\ncalls = {{ from = {next}, to = {next} }}\nafter_call = true\n\
         fault = {{ code = \"CKR_SESSION_HANDLE_INVALID\" }}"
    );
    chaos.set(&rule).unwrap();
    let fault = control.fault(Op::MakeInPlace { key, label: format!("arn:{key}") });
    assert_eq!((fault.class, chaos.calls("C_GenerateKey")), (Class::Session, next), "{fault}");
    make(&mut control, key);
    assert_eq!((chaos.calls("C_GenerateKey"), shown(&tokens, key).len()), (next, 1));
}

/// Whoever has kmsuser's PIN can put a key there that he knows.
#[test]
fn a_key_that_somebody_may_have_is_not_confirmed() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let key = new_key();
    let made = ["--keygen", "--key-type", "AES:32", "--id", &hex(key), "--label", "known", "--extractable"];
    let (output, done) = tokens.pkcs11_tool(&made);
    assert!(done, "{output}");
    make(&mut control, key);
    let fault = control.fault(Op::ConfirmInPlace(key));
    assert!(fault.class == Class::Refused && fault.to_string().contains("kept from leaving"), "{fault}");
}

#[test]
fn only_a_control_worker_makes_keys() {
    let tokens = Tokens::after_ceremony();
    let key = new_key();
    let (aad, iv, sealed) = (Bytes::new(), [0; 12], Bytes::new());
    let keep = Op::KeepProven(DecryptItem { key, aad, iv, sealed });
    for op in [Op::MakeInPlace { key, label: "arn".to_owned() }, Op::ConfirmInPlace(key), keep] {
        assert_eq!(tokens.data().fault(op.clone()).class, Class::Refused);
        assert_eq!(tokens.ceremony().fault(op).class, Class::Refused);
    }
    assert!(shown(&tokens, key).is_empty());
}
