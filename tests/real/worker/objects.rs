//! What a worker knows of the objects in its token, while others write there too.

use model::id::{KeyId, KeyVersionId};
use protocol::{Class, Op, Reply, Role, Start};

use super::rig::{Tokens, Worker, wait_for};

/// A data worker that asks the token's own object each time: no copy in memory stands in for one that has gone.
fn without_copies(tokens: &Tokens) -> Worker {
    tokens.worker(Start { hot_copies: false, ..tokens.start(Role::Data) }).unwrap()
}

fn hex(key: KeyVersionId) -> String {
    key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn listed(control: &mut Worker) -> Vec<KeyVersionId> {
    match control.call(Op::List) {
        Reply::Keys(keys) => keys,
        other => panic!("{other:?}"),
    }
}

/// Objects with this key's id, as another client sees them.
fn held(tokens: &Tokens, key: KeyVersionId) -> usize {
    tokens.pkcs11_tool(&["--list-objects", "--type", "secrkey"]).0.matches(&hex(key)).count()
}

#[test]
fn many_keys_are_placed_and_used_with_few_searches() {
    const KEYS: usize = 20;
    let mut tokens = Tokens::after_ceremony();
    let calls = tokens.count_calls();
    let searches = || calls.calls("C_FindObjectsInit");
    let mut control = tokens.control();
    let mut data = without_copies(&tokens);
    listed(&mut control);

    let before = searches();
    let (keys, blobs): (Vec<_>, Vec<_>) = (0..KEYS).map(|_| control.make_key()).unzip();
    keys.iter().zip(&blobs).for_each(|(key, blob)| control.place(*key, blob));
    assert_eq!(searches(), before, "what the token holds is known, and what is placed twice is there already");
    for key in &keys {
        data.encrypt(*key, b"plaintext", b"").unwrap();
    }
    assert_eq!(searches() - before, 1, "the first key that is not known has all of them found");
    assert_eq!(data.searched.len(), 1, "and the daemon was told that this one takes longer");
    assert!(matches!(control.call(Op::Destroy(keys[0])), Reply::Done));
    assert_eq!(searches() - before, 2, "nothing is left, and that was looked for");

    let before = searches();
    let absent = |_| KeyVersionId { key: KeyId::random(), version: 1 };
    let item = |key| protocol::EncryptItem { key, aad: Default::default(), plaintext: vec![1].into() };
    let items = (0..KEYS).map(absent).map(item).collect();
    let Reply::Encrypted(results) = data.call(Op::Encrypt(items)) else { panic!("no results") };
    assert!(results.iter().all(|result| result.as_ref().is_err_and(|fault| fault.class == Class::KeyAbsent)));
    assert_eq!(searches() - before, 1, "however many are absent");
}

#[test]
fn an_object_that_another_worker_places_or_destroys_is_met_as_it_is() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let mut data = without_copies(&tokens);
    let (key, blob) = control.make_key();
    let sealed = data.encrypt(key, b"plaintext", b"").unwrap();
    assert!(matches!(control.call(Op::Destroy(key)), Reply::Done));
    assert_eq!(data.decrypt(key, &sealed, b"").unwrap_err().class, Class::KeyAbsent);
    control.place(key, &blob);
    assert_eq!(data.decrypt(key, &sealed, b"").unwrap().expose(), b"plaintext");
}

/// As while another process writes to the token.
#[test]
fn an_object_that_cannot_be_read_for_a_moment_costs_no_other_key_an_error() {
    let mut tokens = Tokens::after_ceremony();
    let chaos = tokens.count_calls();
    let mut control = tokens.control();
    let mut data = without_copies(&tokens);
    let keys: Vec<_> = (0..3).map(|_| control.make_key().0).collect();
    chaos.set("[[rule]]\nfunction = \"C_GetAttributeValue\"\nfault = { code = \"CKR_GENERAL_ERROR\" }").unwrap();
    wait_for("objects cannot be read, and keys work", || {
        for key in &keys {
            data.encrypt(*key, b"plaintext", b"").unwrap();
        }
        data.call(Op::Forget(keys.clone()));
        chaos.injected("C_GetAttributeValue") > 3
    });
}

#[test]
fn a_key_that_was_replaced_is_found_beside_one_that_is_absent() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let mut data = without_copies(&tokens);
    let (key, blob) = control.make_key();
    data.encrypt(key, b"plaintext", b"").unwrap();
    assert!(matches!(control.call(Op::Destroy(key)), Reply::Done));
    control.place(key, &blob);
    // The absent one has everything looked at, while the other's old handle is still the known one.
    let absent = KeyVersionId { key: KeyId::random(), version: 1 };
    let item = |key| protocol::EncryptItem { key, aad: Default::default(), plaintext: vec![1].into() };
    let Reply::Encrypted(results) = data.call(Op::Encrypt(vec![item(absent), item(key)])) else { panic!("no results") };
    assert_eq!(results[0].as_ref().unwrap_err().class, Class::KeyAbsent);
    assert!(results[1].is_ok(), "{:?}", results[1]);
}

#[test]
fn an_unwrapping_that_is_done_in_spite_of_its_error_leaves_no_second_object() {
    let mut tokens = Tokens::after_ceremony();
    let chaos = tokens.count_calls();
    let mut control = tokens.control();
    let (key, blob) = control.make_key();
    assert!(matches!(control.call(Op::Destroy(key)), Reply::Done));
    // What says that the wrapping key has another handle, so that the worker looks for it and tries again.
    let rule = "[[rule]]\nfunction = \"C_UnwrapKey\"\nafter_call = true\nfault = { code = \"CKR_KEY_HANDLE_INVALID\" }";
    chaos.set(rule).unwrap();
    let failed = control.call(Op::Place { key, label: format!("arn:{key}"), blob: blob.clone() });
    assert!(matches!(failed, Reply::Failed(_)), "{failed:?}");
    assert_eq!(chaos.injected("C_UnwrapKey"), 2);
    chaos.clear().unwrap();
    control.place(key, &blob);
    assert_eq!(held(&tokens, key), 1);
}

#[test]
fn a_key_that_another_client_deletes_is_placed_anew() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let mut data = without_copies(&tokens);
    let (key, blob) = control.make_key();
    let sealed = data.encrypt(key, b"plaintext", b"").unwrap();
    let (output, deleted) = tokens.pkcs11_tool(&["--delete-object", "--type", "secrkey", "--id", &hex(key)]);
    assert!(deleted, "{output}");
    assert_eq!(data.decrypt(key, &sealed, b"").unwrap_err().class, Class::KeyAbsent);
    // The worker placed it itself, and is not content with that.
    control.place(key, &blob);
    assert_eq!((held(&tokens, key), listed(&mut control)), (1, vec![key]));
    assert_eq!(data.decrypt(key, &sealed, b"").unwrap().expose(), b"plaintext");
}

#[test]
fn two_objects_with_one_id_are_one_key_and_are_destroyed_together() {
    let tokens = Tokens::after_ceremony();
    let mut first = tokens.control();
    let mut second = tokens.control();
    assert_eq!((listed(&mut first), listed(&mut second)), (vec![], vec![]));
    // The second one does not know of what the first has placed since: there is one such worker for an HSM.
    let (key, blob) = first.make_key();
    second.place(key, &blob);
    assert_eq!(held(&tokens, key), 2);
    // Both are shown, and either is the key.
    assert_eq!((listed(&mut first), listed(&mut second)), (vec![key, key], vec![key, key]));
    let mut data = without_copies(&tokens);
    let sealed = data.encrypt(key, b"plaintext", b"").unwrap();
    assert_eq!(data.decrypt(key, &sealed, b"").unwrap().expose(), b"plaintext");

    assert!(matches!(second.call(Op::Destroy(key)), Reply::Done));
    assert_eq!((held(&tokens, key), listed(&mut first)), (0, vec![]));
    assert_eq!(data.decrypt(key, &sealed, b"").unwrap_err().class, Class::KeyAbsent);
    first.place(key, &blob);
    assert_eq!(held(&tokens, key), 1);
}

#[test]
fn handles_of_another_incarnation_name_nothing() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let made: Vec<_> = (0..8).map(|_| control.make_key().0).collect();
    let (gone, left) = made.split_at(4);
    let mut before = without_copies(&tokens);
    let sealed: Vec<_> = left.iter().map(|key| before.encrypt(*key, b"plaintext", b"").unwrap()).collect();
    // Handles begin anew with each start of the module, in an order that changes with what the token holds.
    for key in gone {
        assert!(matches!(control.call(Op::Destroy(*key)), Reply::Done));
    }
    let mut after = without_copies(&tokens);
    for (key, sealed) in left.iter().zip(&sealed) {
        assert_eq!(after.decrypt(*key, sealed, b"").unwrap().expose(), b"plaintext");
        let again = after.encrypt(*key, b"again", b"").unwrap();
        assert_eq!(before.decrypt(*key, &again, b"").unwrap().expose(), b"again");
    }
    for key in gone {
        assert_eq!(after.encrypt(*key, b"plaintext", b"").unwrap_err().class, Class::KeyAbsent);
        assert_eq!(before.encrypt(*key, b"plaintext", b"").unwrap_err().class, Class::KeyAbsent);
    }
}

#[test]
fn an_object_that_is_given_another_id_encrypts_for_its_old_key_no_more() {
    let tokens = Tokens::after_ceremony();
    // Of an earlier version, whose keys could be changed.
    let mut control = tokens.control_as_before();
    let (key, _) = control.make_key();
    let other = KeyVersionId { key: KeyId::random(), version: 1 };
    let mut data = without_copies(&tokens);
    let sealed = data.encrypt(key, b"plaintext", b"").unwrap();
    let change = ["--set-id", &hex(other), "--type", "secrkey", "--id", &hex(key)];
    let (output, changed) = tokens.pkcs11_tool(&change);
    assert!(changed, "{output}");
    // Until the worker has the object say again which key it is.
    wait_for("the old key is absent", || data.encrypt(key, b"plaintext", b"").is_err());
    assert_eq!(data.encrypt(key, b"plaintext", b"").unwrap_err().class, Class::KeyAbsent);
    assert_eq!(listed(&mut control), [other]);
    assert_eq!(without_copies(&tokens).decrypt(other, &sealed, b"").unwrap().expose(), b"plaintext");
}
