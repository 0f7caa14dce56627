//! Tokens, ceremony objects, placed keys: what they are, seen by another PKCS#11 client.

use model::id::{KeyId, KeyVersionId};
use model::profile::{FirstLogin, UnwrapTemplate};
use protocol::{CeremonyObjects, CeremonyOp, Class, Op, Reply, Role, Token};

use super::rig::{LABEL, PIN, SO_PIN, Tokens, secret};

fn init_token(label: &str) -> Op {
    let token = Token { label: label.into(), serials: Vec::new() };
    Op::Ceremony(CeremonyOp::InitToken { token, so_pin: secret(SO_PIN) })
}

fn init_user_pin() -> Op {
    let token = Token { label: LABEL.into(), serials: Vec::new() };
    Op::Ceremony(CeremonyOp::InitUserPin { token, so_pin: secret(SO_PIN), user_pin: secret(PIN) })
}

#[test]
fn only_a_ceremony_worker_without_a_token_initialises_tokens() {
    let tokens = Tokens::new();
    for role in [Role::Data, Role::Control, Role::Ceremony] {
        let mut worker = tokens.worker(tokens.start(role)).unwrap();
        assert_eq!(worker.fault(init_token("another")).class, Class::Refused, "{role:?}");
        assert_eq!(worker.fault(init_user_pin()).class, Class::Refused, "{role:?}");
    }
    let mut bare = tokens.bare();
    assert_eq!(bare.fault(init_token(LABEL)).class, Class::Refused, "the label is taken");
    assert_eq!(bare.fault(init_user_pin()).class, Class::Refused, "there is a user");
    assert_eq!(bare.fault(Op::Probe).class, Class::Refused);
    assert!(matches!(bare.call(init_token("another")), Reply::Done));
    let seen = bare.discover();
    let of = |label: &str| seen.iter().find(|token| token.initialised && token.label == label).unwrap();
    assert!(of(LABEL).user.initialised && !of("another").user.initialised, "{seen:?}");
    assert!(seen.iter().any(|token| !token.initialised), "SoftHSM always shows a blank one: {seen:?}");
}

/// A token that is told what a wrapping key may unwrap to only where it makes one holds the wrapping key all the same, and is
/// told nothing.
#[test]
fn a_wrapping_key_that_cannot_be_told_what_it_unwraps_to_is_placed_without() {
    let mut tokens = Tokens::new();
    tokens.count_calls().set("[wrap]\ntemplate = \"at-generate\"").unwrap();
    let mut blob = None;
    for (told, placed) in [(UnwrapTemplate::AtUnwrap, false), (UnwrapTemplate::AtGenerate, true)] {
        let mut start = tokens.start(Role::Ceremony);
        start.capabilities.wrap.unwrap_template = told;
        let mut worker = tokens.worker(start).unwrap();
        let blob = blob.get_or_insert_with(|| {
            let Reply::TransportKey(transport) = worker.ceremony(CeremonyOp::MakeTransportPair) else { panic!() };
            match worker.ceremony(CeremonyOp::MakeWrappingKey { transports: vec![transport] }) {
                Reply::Blobs(mut blobs) => blobs.remove(0),
                other => panic!("{other:?}"),
            }
        });
        let reply = worker.ceremony(CeremonyOp::PlaceWrappingKey { blob: blob.clone() });
        assert_eq!(matches!(reply, Reply::Done), placed, "{told:?}: {reply:?}");
        assert_eq!(worker.inspect().wrapping, placed, "{told:?}");
    }
}

/// A token that wants the officer's PIN changed has the one that is meant when the ceremony has set it.
#[test]
fn a_first_pin_that_has_to_be_changed_is_changed_by_the_ceremony() {
    for (first_login, code) in [(FirstLogin::Ready, Some(0xa3)), (FirstLogin::Change, None)] {
        let mut tokens = Tokens::empty();
        tokens.count_calls().set("[login]\nmust_change = true").unwrap();
        let mut start = tokens.start(Role::Ceremony);
        (start.token, start.capabilities.login.first_login) = (None, first_login);
        let mut bare = tokens.found(start).unwrap().0;
        for step in [init_token(LABEL), init_user_pin()] {
            assert!(matches!(bare.call(step), Reply::Done));
        }
        assert!(bare.stop().success());
        let refused = tokens.worker(tokens.start(Role::Data)).err();
        assert_eq!(refused.map(|fault| fault.code), code, "{first_login:?}");
    }
}

#[test]
fn a_service_worker_logs_in_and_proves_but_changes_the_pin_in_control_alone() {
    let tokens = Tokens::after_ceremony();
    let change = || Op::ChangePin { old: secret(PIN), new: secret("another-pin-1") };
    assert_eq!(tokens.data().fault(change()).class, Class::Refused);
    let mut control = tokens.control();
    let wrong = Op::ChangePin { old: secret("not the PIN"), new: secret("another-pin-1") };
    assert_eq!(control.fault(wrong).class, Class::Login);
    assert!(matches!(control.call(change()), Reply::Done));
    assert!(tokens.worker_with(tokens.start(Role::Data), "another-pin-1").is_ok());
    assert_eq!(tokens.worker(tokens.start(Role::Data)).err().unwrap().class, Class::Login);
    let prove = Op::Prove { cluster: "cluster-abcdefghijk".into(), zone: "t".into(), nonce: [7; 32] };
    assert_eq!(control.fault(prove).class, Class::Refused, "no identity pair was made in this token");
}

#[test]
fn roles_do_only_what_is_theirs() {
    let tokens = Tokens::new();
    let (mut data, mut control, mut ceremony) = (tokens.data(), tokens.control(), tokens.ceremony());
    let inspect = || Op::Ceremony(CeremonyOp::Inspect);
    assert_eq!(data.fault(inspect()).class, Class::Refused);
    assert_eq!(data.fault(Op::MakeKey).class, Class::Refused);
    assert_eq!(control.fault(inspect()).class, Class::Refused);
    assert_eq!(control.fault(Op::Encrypt(Vec::new())).class, Class::Refused);
    assert_eq!(ceremony.fault(Op::Random { length: 1 }).class, Class::Refused);
    assert_eq!(control.fault(Op::MakeKey).class, Class::Refused, "there is no wrapping key yet");
    assert!(data.stop().success() && control.stop().success() && ceremony.stop().success());
}

#[test]
fn the_ceremony_can_be_repeated_but_not_doubled() {
    let tokens = Tokens::new();
    let mut worker = tokens.ceremony();
    let none = CeremonyObjects::default();
    assert_eq!(worker.inspect(), none);
    let Reply::TransportKey(first) = worker.ceremony(CeremonyOp::MakeTransportPair) else { panic!() };
    let Reply::TransportKey(second) = worker.ceremony(CeremonyOp::MakeTransportPair) else { panic!() };
    assert_eq!(first, second);
    assert_eq!((first.modulus.len(), &first.exponent[..]), (256, &[1, 0, 1][..]));
    for _ in 0..2 {
        assert!(matches!(worker.ceremony(CeremonyOp::MakeCanary), Reply::Done));
    }
    let transports = vec![first; 2];
    let Reply::Blobs(blobs) = worker.ceremony(CeremonyOp::MakeWrappingKey { transports }) else { panic!() };
    assert_eq!(blobs.iter().map(|blob| blob.len()).collect::<Vec<_>>(), [256, 256]);
    let place = || Op::Ceremony(CeremonyOp::PlaceWrappingKey { blob: blobs[0].clone() });
    assert!(matches!(worker.call(place()), Reply::Done));
    assert_eq!(worker.fault(place()).class, Class::Refused);
    let Reply::IdentityKey(point) = worker.ceremony(CeremonyOp::MakeIdentityPair) else { panic!() };
    assert_eq!((point.len(), point[0]), (65, 4));
    assert!(matches!(worker.ceremony(CeremonyOp::MakeIdentityPair), Reply::IdentityKey(again) if again == point));
    let all = CeremonyObjects { identity: true, transport: true, canary: true, wrapping: true };
    assert_eq!(worker.inspect(), all);
    assert!(matches!(worker.call(Op::Probe), Reply::Done));
    let (_, _, found) = tokens.ready(tokens.start(Role::Data));
    assert_eq!(found.ceremony, all);
}

#[test]
fn a_key_made_in_one_token_works_in_another() {
    let (a, b) = (Tokens::new(), Tokens::new());
    let (mut in_a, mut in_b) = (a.ceremony(), b.ceremony());
    let transports = [&mut in_a, &mut in_b].map(|worker| match worker.ceremony(CeremonyOp::MakeTransportPair) {
        Reply::TransportKey(key) => key,
        other => panic!("{other:?}"),
    });
    let transports = transports.to_vec();
    let Reply::Blobs(blobs) = in_a.ceremony(CeremonyOp::MakeWrappingKey { transports }) else { panic!() };
    for (worker, blob) in [&mut in_a, &mut in_b].into_iter().zip(blobs) {
        assert!(matches!(worker.ceremony(CeremonyOp::PlaceWrappingKey { blob }), Reply::Done));
    }
    let (key, blob) = a.control().make_key();
    b.control().place(key, &blob);
    let sealed = a.data().encrypt(key, b"from a to b", b"context").unwrap();
    assert_eq!(b.data().decrypt(key, &sealed, b"context").unwrap().expose(), b"from a to b");
}

#[test]
fn objects_are_what_they_were_meant_to_be() {
    let tokens = Tokens::after_ceremony();
    let (key, blob) = tokens.control().make_key();
    let (listed, listed_well) = tokens.pkcs11_tool(&["--list-objects"]);
    assert!(listed_well, "{listed}");
    let block = |label: &str| {
        let found = listed.find(label).unwrap_or_else(|| panic!("no {label} in {listed}"));
        let begin = listed[..found].rfind("Key Object").unwrap();
        let end = listed[found..].find("Key Object").map_or(listed.len(), |at| found + at);
        listed[begin..end].to_owned()
    };
    let placed = block(&format!("arn:{key}"));
    // SoftHSM gives unwrapped keys no CKA_VALUE_LEN; the blob's 40 bytes are those of an AES-256 key.
    assert!(placed.starts_with("Key Object; AES"), "{placed}");
    assert_eq!(blob.len(), 40);
    assert!(placed.contains("Usage:      encrypt, decrypt\n"), "{placed}");
    assert!(placed.contains("Access:     sensitive\n"), "{placed}");
    let canary = block("keystored-canary");
    assert!(canary.contains("Usage:      encrypt, decrypt\n"), "{canary}");
    let wrapping = block("keystored-cluster-wrapping");
    assert!(wrapping.contains("Usage:      wrap, unwrap\n"), "{wrapping}");
    assert!(wrapping.contains("Access:     sensitive\n"), "{wrapping}");
}

#[test]
fn placing_and_destroying_can_be_repeated() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let (key, blob) = control.make_key();
    control.place(key, &blob);
    assert!(matches!(control.call(Op::List), Reply::Keys(keys) if keys == [key]));
    let (_, _, found) = tokens.ready(tokens.start(Role::Data));
    assert_eq!(found.keys, [key]);
    for _ in 0..2 {
        assert!(matches!(control.call(Op::Destroy(key)), Reply::Done));
    }
    assert!(matches!(control.call(Op::List), Reply::Keys(keys) if keys.is_empty()));
    let other = KeyVersionId { key: KeyId::random(), version: 1 };
    let damaged = Op::Place { key: other, label: "damaged".into(), blob: vec![7; 40].into() };
    assert_eq!(control.fault(damaged).class, Class::Refused);
}
