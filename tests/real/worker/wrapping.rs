//! What a worker does for a token that joins, and what it refuses.

use bytes::Bytes;
use protocol::{CeremonyOp, Challenge, Class, Op, Reply, Role, ShownTransport, TransportKey};

use super::rig::{Tokens, Worker};

const ID: &str = "6b657973746f7265642d7472616e73706f7274";

fn transport(worker: &mut Worker) -> TransportKey {
    match worker.ceremony(CeremonyOp::MakeTransportPair) {
        Reply::TransportKey(key) => key,
        other => panic!("{other:?}"),
    }
}

fn wrapping_keys(worker: &mut Worker, transports: Vec<TransportKey>) -> Vec<Bytes> {
    match worker.ceremony(CeremonyOp::MakeWrappingKey { transports }) {
        Reply::Blobs(blobs) => blobs,
        other => panic!("{other:?}"),
    }
}

/// A token with its pairs and its wrapping key, and that key as the folder has it.
fn member() -> (Tokens, Bytes) {
    let tokens = Tokens::new();
    let mut worker = tokens.ceremony();
    assert!(matches!(worker.ceremony(CeremonyOp::MakeIdentityPair), Reply::IdentityKey(_)));
    let key = transport(&mut worker);
    let blob = wrapping_keys(&mut worker, vec![key]).remove(0);
    assert!(matches!(worker.ceremony(CeremonyOp::PlaceWrappingKey { blob: blob.clone() }), Reply::Done));
    assert!(worker.stop().success());
    (tokens, blob)
}

fn challenge(worker: &mut Worker) -> Challenge {
    match worker.call(Op::ChallengeWrappingKey) {
        Reply::Challenge(challenge) => *challenge,
        other => panic!("{other:?}"),
    }
}

fn place(blob: Option<&Bytes>, challenge: &Challenge) -> Op {
    Op::PlaceWrappingKey { blob: blob.cloned(), challenge: challenge.clone() }
}

#[track_caller]
fn assert_refused(worker: &mut Worker, op: Op, words: &str) {
    let fault = worker.fault(op);
    assert!(fault.class == Class::Refused && fault.to_string().contains(words), "{words}: {fault}");
}

#[test]
fn the_wrapping_key_goes_from_token_to_token_and_is_known_there() {
    let (a, blob) = member();
    let b = Tokens::new();
    let to = transport(&mut b.ceremony());
    let (mut in_a, mut in_b) = (a.control(), b.control());
    let Reply::Blob(copy) = in_a.call(Op::HandOnWrappingKey { blob, to }) else { panic!("no blob") };
    let asked = challenge(&mut in_a);
    assert_refused(&mut in_b, place(None, &asked), "holds no cluster wrapping key any more");
    for _ in 0..2 {
        let done = in_b.call(place(Some(&copy), &asked));
        assert!(matches!(done, Reply::Done), "{done:?}");
    }
    // A token that holds the key needs no copy, and looks at none.
    for blob in [None, Some(Bytes::from_static(&[7; 256]))] {
        assert!(matches!(in_b.call(place(blob.as_ref(), &challenge(&mut in_a))), Reply::Done));
    }
    let (key, blob) = in_b.make_key();
    in_a.place(key, &blob);
    let sealed = b.data().encrypt(key, b"from b to a", b"context").unwrap();
    assert_eq!(a.data().decrypt(key, &sealed, b"context").unwrap().expose(), b"from b to a");
}

#[test]
fn nothing_but_the_token_s_own_wrapping_key_is_handed_on() {
    let (a, blob) = member();
    let b = Tokens::new();
    let to = transport(&mut b.ceremony());
    let (another, of_b) = {
        let mut worker = a.ceremony();
        let own = transport(&mut worker);
        let mut blobs = wrapping_keys(&mut worker, vec![own, to.clone()]);
        (blobs.remove(0), blobs.remove(0))
    };
    let mut control = a.control();
    let rewrap = |blob: &Bytes, to: &TransportKey| Op::HandOnWrappingKey { blob: blob.clone(), to: to.clone() };
    assert_refused(&mut control, rewrap(&another, &to), "another key than the cluster's wrapping key");
    assert_refused(&mut control, rewrap(&of_b, &to), "opening the wrapped key");
    // Keys that nobody's token has made.
    let modulus = |bytes: usize| vec![0xd1; bytes];
    for weak in [
        TransportKey::new(&modulus(128), &[1, 0, 1]),
        TransportKey::new(&modulus(1_025), &[1, 0, 1]),
        TransportKey::new(&modulus(256), &[3]),
        TransportKey::new(&modulus(256), &[1]),
        TransportKey::new(&[&modulus(255)[..], &[2]].concat(), &[1, 0, 1]),
        TransportKey::new(&[], &[]),
    ] {
        assert_refused(&mut control, rewrap(&blob, &weak), "RSA transport key");
    }
    // The ceremony does not wrap to such a key either.
    let weak = CeremonyOp::MakeWrappingKey { transports: vec![TransportKey::new(&modulus(256), &[3])] };
    assert_refused(&mut b.ceremony(), Op::Ceremony(weak), "RSA transport key");
    assert!(matches!(control.call(rewrap(&blob, &to)), Reply::Blob(copy) if copy.len() == 256));
    drop(control);
    // None of the opened keys is left in the token.
    let (listed, _) = a.pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    assert_eq!(listed.matches("Secret Key Object").count(), 1, "{listed}");
}

#[test]
fn a_wrapping_key_that_does_not_answer_is_not_kept() {
    let (a, _) = member();
    let (b, _) = member();
    let c = Tokens::new();
    let to = transport(&mut c.ceremony());
    let another = wrapping_keys(&mut a.ceremony(), vec![to]).remove(0);
    let (mut in_a, mut in_b, mut in_c) = (a.control(), b.control(), c.control());
    let asked = challenge(&mut in_a);
    assert_refused(&mut in_c, place(Some(&another), &asked), "is not the wrapping key of this cluster");
    assert_refused(&mut in_c, place(Some(&Bytes::from_static(&[7; 256])), &asked), "opening the wrapped copy");
    // One that the token has had before, from another ceremony.
    assert_refused(&mut in_b, place(None, &asked), "is not the wrapping key of this cluster");
    // The right key, and another answer than the one that was encrypted.
    let other = challenge(&mut in_a);
    let mixed = Challenge { answer: other.answer.clone(), ..asked.clone() };
    assert_refused(&mut in_a, place(None, &mixed), "is not the wrapping key of this cluster");
    let mixed = Challenge { sealed: other.sealed.clone(), ..asked.clone() };
    assert_refused(&mut in_a, place(None, &mixed), "is not the wrapping key of this cluster");
    assert!(matches!(in_a.call(place(None, &asked)), Reply::Done));
    let (listed, _) = c.pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    assert!(!listed.contains("keystored-cluster-wrapping"), "{listed}");
}

fn show(nonce: u8) -> Op {
    Op::ShowTransport { cluster: "cluster-abcdefghijk".into(), zone: "t".into(), nonce: [nonce; 32] }
}

#[test]
fn only_control_workers_hand_the_wrapping_key_on() {
    let (a, blob) = member();
    let to = transport(&mut a.ceremony());
    let asked = challenge(&mut a.control());
    for role in [Role::Data, Role::Ceremony] {
        let mut worker = a.worker(a.start(role)).unwrap();
        for op in [
            show(1),
            Op::ChallengeWrappingKey,
            Op::HandOnWrappingKey { blob: blob.clone(), to: to.clone() },
            place(Some(&blob), &asked),
        ] {
            assert_refused(&mut worker, op, "worker does not do this");
        }
    }
}

/// OpenSSL writes a certificate into the token; what the worker shows is checked in cluster::transport.
fn certified(tokens: &Tokens) {
    let path = |name: &str| tokens.dir.path().join(name).display().to_string();
    let (key, pem, der) = (path("ca.key"), path("ca.pem"), path("ca.der"));
    let openssl = |arguments: &[&str]| {
        crate::harness::tool::run(std::process::Command::new("openssl").args(arguments)).ok();
    };
    let subject = ["-subj", "/CN=hsm-t", "-keyout", &key, "-out", &pem];
    openssl(
        &[&["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"][..], &subject]
            .concat(),
    );
    openssl(&["x509", "-in", &pem, "-outform", "DER", "-out", &der]);
    let written = tokens.pkcs11_tool(&["--write-object", &der, "--type", "cert", "--label", "keystored-identity"]);
    assert!(written.1, "{}", written.0);
}

fn shown(worker: &mut Worker, nonce: u8) -> ShownTransport {
    match worker.call(show(nonce)) {
        Reply::Transport(shown) => *shown,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_shows_the_transport_key_that_was_made_in_it() {
    let (tokens, _) = member();
    let key = transport(&mut tokens.ceremony());
    assert_refused(&mut tokens.control(), show(1), "no identity certificate");
    certified(&tokens);
    let mut control = tokens.control();
    let (one, two) = (shown(&mut control, 1), shown(&mut control, 2));
    assert_eq!((&one.key, one.signature.len(), one.holds_wrapping_key), (&key, 64, true));
    assert_ne!(one.signature, two.signature);
    drop(control);

    // Somebody puts another public half there.
    let (_, deleted) = tokens.pkcs11_tool(&["--delete-object", "--type", "pubkey", "--label", "keystored-transport"]);
    assert!(deleted);
    let path = |name: &str| tokens.dir.path().join(name).display().to_string();
    let (pem, public) = (path("software.pem"), path("software.der"));
    let openssl = |arguments: &[&str]| {
        crate::harness::tool::run(std::process::Command::new("openssl").args(arguments)).ok();
    };
    openssl(&["genrsa", "-out", &pem, "2048"]);
    openssl(&["rsa", "-in", &pem, "-pubout", "-outform", "DER", "-out", &public]);
    let write = ["--write-object", &public, "--type", "pubkey", "--label", "keystored-transport", "--id", ID];
    let (written, done) = tokens.pkcs11_tool(&write);
    assert!(done, "{written}");
    assert_refused(&mut tokens.control(), show(1), "is not that of the private one");
    assert_refused(
        &mut tokens.ceremony(),
        Op::Ceremony(CeremonyOp::MakeTransportPair),
        "is not that of the private one",
    );
}

/// Made in the token, and free to leave it.
#[test]
fn pairs_that_may_have_left_the_token_are_not_taken() {
    for (label, id, kind, step) in [
        ("keystored-transport", ID, "rsa:2048", CeremonyOp::MakeTransportPair),
        ("keystored-identity", "6b657973746f7265642d6964656e74697479", "EC:prime256v1", CeremonyOp::MakeIdentityPair),
    ] {
        let tokens = Tokens::new();
        let named = ["--label", label, "--id", id, "--usage-sign", "--usage-wrap", "--extractable"];
        let (made, done) = tokens.pkcs11_tool(&[&["--keypairgen", "--key-type", kind][..], &named].concat());
        assert!(done, "{made}");
        assert_refused(&mut tokens.ceremony(), Op::Ceremony(step), "is not kept from leaving this token");
    }
}
