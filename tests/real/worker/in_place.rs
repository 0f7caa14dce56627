//! Keys that a worker makes where they stay.

use model::id::{KeyId, KeyVersionId};
use protocol::{Class, Op, Reply};

use super::rig::{Tokens, Worker};

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
    for op in [Op::MakeInPlace { key, label: "arn".to_owned() }, Op::ConfirmInPlace(key)] {
        assert_eq!(tokens.data().fault(op.clone()).class, Class::Refused);
        assert_eq!(tokens.ceremony().fault(op).class, Class::Refused);
    }
    assert!(shown(&tokens, key).is_empty());
}
