//! The key that signs heads of audit logs: made once in each token, and good for nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use audit::note::{Checkpoint, Head, VerifierKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::{CeremonyOp, Class, Fault, LogKeyAlgorithm, LogPublicKey, Op, Reply, Role};

use super::rig::{Tokens, Worker};

const ORIGIN: &str = "kms.example/audit";
const LABEL: &str = "keystored audit log";
const CLUSTER: &str = "cluster-abcdefghijk";

fn head() -> Vec<u8> {
    Checkpoint::text_of(ORIGIN, &Head { size: 1_234, root: [0xab; 32] }).unwrap()
}

fn log_key(control: &mut Worker) -> LogPublicKey {
    match control.call(Op::LogKey) {
        Reply::LogKey(key) => key,
        other => panic!("{other:?}"),
    }
}

fn signature(worker: &mut Worker, op: Op) -> Vec<u8> {
    match worker.call(op) {
        Reply::Signature(signature) => signature.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn sign(data: &mut Worker) -> Vec<u8> {
    signature(data, Op::SignCheckpoint { text: head().into() })
}

fn has_signed(key: &LogPublicKey, text: &[u8], signature: &[u8]) -> bool {
    let algorithm: &dyn VerificationAlgorithm = match key.algorithm {
        LogKeyAlgorithm::Ed25519 => &ED25519,
        LogKeyAlgorithm::EcdsaP256 => &ECDSA_P256_SHA256_FIXED,
    };
    UnparsedPublicKey::new(algorithm, &key.public).verify(text, signature).is_ok()
}

fn named(name: &str, key: &LogPublicKey) -> VerifierKey {
    match key.algorithm {
        LogKeyAlgorithm::Ed25519 => VerifierKey::ed25519(name, &key.public).unwrap(),
        LogKeyAlgorithm::EcdsaP256 => VerifierKey::p256(name, &key.public).unwrap(),
    }
}

/// A public key as OpenSSL reads it.
fn pem(key: &LogPublicKey) -> String {
    let begins: &[u8] = match key.algorithm {
        LogKeyAlgorithm::Ed25519 => &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00],
        // What the vkey has behind its algorithm is the whole of it.
        LogKeyAlgorithm::EcdsaP256 => &[],
    };
    let info = [begins, named("a", key).public_key()].concat();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(info))
}

/// What OpenSSL says of a signature.
fn openssl(dir: &Path, key: &LogPublicKey, text: &[u8], signature: &[u8]) -> bool {
    let file = |name: &str, bytes: &[u8]| {
        fs::write(dir.join(name), bytes).unwrap();
        dir.join(name).display().to_string()
    };
    let (key_file, text) = (file("log.pem", pem(key).as_bytes()), file("head", text));
    let mut command = Command::new("openssl");
    match key.algorithm {
        LogKeyAlgorithm::Ed25519 => {
            let signature = file("signature", signature);
            command.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", &key_file, "-in", &text, "-sigfile"]);
            command.arg(signature)
        }
        LogKeyAlgorithm::EcdsaP256 => {
            let signature = file("signature", &audit::keys::der_of_fixed(signature));
            command.args(["dgst", "-sha256", "-verify", &key_file, "-signature", &signature, &text])
        }
    };
    command.output().unwrap().status.success()
}

/// Objects of that label, as another client sees them.
fn held(tokens: &Tokens, class: &str) -> usize {
    tokens.pkcs11_tool(&["--list-objects", "--type", class]).0.matches(LABEL).count()
}

fn refusal(fault: &Fault) -> &str {
    assert_eq!(fault.class, Class::Refused, "{fault}");
    fault.detail.as_deref().unwrap_or_default()
}

#[test]
fn it_is_made_once_and_signs_heads() {
    let tokens = Tokens::after_ceremony();
    let mut data = tokens.data();
    let none = data.fault(Op::SignCheckpoint { text: head().into() });
    assert_eq!(refusal(&none), "the token holds no log key");
    assert_eq!(refusal(&tokens.control().fault(Op::ShowLogKey)), "the token holds no log key");
    assert_eq!((held(&tokens, "privkey"), held(&tokens, "pubkey")), (0, 0), "and none was made");
    // As several daemons on one token would.
    let mut workers: Vec<_> = (0..4).map(|_| tokens.control()).collect();
    for worker in &mut workers {
        worker.request(Op::LogKey);
    }
    let keys: Vec<_> = workers
        .iter_mut()
        .map(|worker| match worker.receive() {
            protocol::FromWorker::Reply { reply: Reply::LogKey(key), .. } => key,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!((held(&tokens, "privkey"), held(&tokens, "pubkey")), (1, 1));
    assert!(workers.into_iter().all(|worker| worker.stop().success()));

    let key = log_key(&mut tokens.control());
    assert_eq!(key, keys[0], "another worker finds it");
    assert!(matches!(tokens.control().call(Op::ShowLogKey), Reply::LogKey(shown) if shown == key));
    assert_eq!((key.algorithm, key.public.len()), (LogKeyAlgorithm::Ed25519, 32));
    let signed = sign(&mut data);
    assert!(has_signed(&key, &head(), &signed));
    assert!(openssl(tokens.dir.path(), &key, &head(), &signed));
    assert!(!openssl(tokens.dir.path(), &key, &[&head()[..], b"x"].concat(), &signed));
    assert_eq!(sign(&mut data), signed, "with the handle that it knows by now");
    assert_eq!(data.searched.len(), 2, "the daemon was told of the searches, and there was none for the second head");

    let (listed, _) = tokens.pkcs11_tool(&["--list-objects", "--type", "privkey"]);
    let of_key = &listed[listed.find(LABEL).unwrap()..];
    let of_key = &of_key[..of_key.find("Private Key Object").unwrap_or(of_key.len())];
    assert!(of_key.contains("Usage:      sign\n"), "{listed}");
    assert!(of_key.contains("sensitive, always sensitive, never extractable, local"), "{listed}");
    // Nobody takes it for a key of the service, or misses something because of it.
    assert!(matches!(tokens.control().call(Op::List), Reply::Keys(keys) if keys.is_empty()));
    let mut ceremony = tokens.ceremony();
    let before = ceremony.inspect();
    assert!(matches!(ceremony.ceremony(CeremonyOp::MakeCanary), Reply::Done));
    assert_eq!(ceremony.inspect(), before);
    assert_eq!(log_key(&mut tokens.control()), key);
}

/// Among ten thousand objects a search takes a quarter of a second.
#[test]
fn it_is_looked_for_by_few_searches_and_by_none_where_the_login_has_met_it() {
    let mut tokens = Tokens::after_ceremony();
    let key = log_key(&mut tokens.control());
    let calls = tokens.count_calls();
    let searches = || calls.calls("C_FindObjectsInit");
    let (mut control, mut data) = (tokens.control(), tokens.data());
    let before = searches();
    assert_eq!(log_key(&mut control), key);
    assert_eq!(searches() - before, 2, "whether it stands alone, before and after a pause");
    let before = searches();
    assert!(has_signed(&key, &head(), &sign(&mut data)));
    assert_eq!((searches() - before, data.searched.len()), (0, 0));

    // Another pair in its place is met by a search.
    let mut another = tokens.data();
    for half in ["privkey", "pubkey"] {
        let (said, done) = tokens.pkcs11_tool(&["--delete-object", "--type", half, "--label", LABEL]);
        assert!(done, "{said}");
    }
    let other = log_key(&mut control);
    assert_ne!(other, key);
    assert!(has_signed(&other, &head(), &sign(&mut another)));
    assert_eq!(another.searched.len(), 1);
}

#[test]
fn it_signs_nothing_else() {
    let tokens = Tokens::after_ceremony();
    let (mut control, mut data) = (tokens.control(), tokens.data());
    let key = log_key(&mut control);
    let statement = model::identity::log_key_statement(&CLUSTER.into(), &"hsm-t".into(), "1", "o/a+0+k");
    let with_signature = [&head()[..], b"\n\xe2\x80\x94 a AAAAAAAA\n"].concat();
    for text in [&b""[..], b"anything", statement.as_bytes(), &[7; 32], &head()[..head().len() - 1], &with_signature] {
        let fault = data.fault(Op::SignCheckpoint { text: text.to_vec().into() });
        assert!(refusal(&fault).contains("heads of audit logs and nothing else"), "{fault}");
    }
    assert!(has_signed(&key, &head(), &sign(&mut data)));
    // Each role does its own.
    for (role, op) in [
        (Role::Data, Op::LogKey),
        (Role::Data, Op::ShowLogKey),
        (Role::Data, Op::VouchForLogKey { cluster: CLUSTER.into(), vkey: String::new() }),
        (Role::Control, Op::SignCheckpoint { text: head().into() }),
        (Role::Ceremony, Op::LogKey),
    ] {
        let fault = tokens.worker(tokens.start(role)).unwrap().fault(op);
        assert!(refusal(&fault).contains("does not do this"), "{fault}");
    }
}

#[test]
fn the_identity_key_vouches_for_it_and_for_no_other() {
    let tokens = Tokens::after_ceremony();
    let Reply::IdentityKey(identity) = tokens.ceremony().ceremony(CeremonyOp::MakeIdentityPair) else { panic!() };
    let serial = tokens.found(tokens.start(Role::Data)).unwrap().1.serial;
    let mut control = tokens.control();
    let vouch = |cluster: &str, vkey: &str| Op::VouchForLogKey { cluster: cluster.into(), vkey: vkey.to_owned() };
    let fault = control.fault(vouch(CLUSTER, "a"));
    assert_eq!(refusal(&fault), "the token holds no log key");
    let key = log_key(&mut control);
    let good = named(&format!("{ORIGIN}/hsm-t"), &key);
    let signed = signature(&mut control, vouch(CLUSTER, &good.to_string()));
    let statement = audit::keys::statement(&CLUSTER.into(), &"hsm-t".into(), &serial, &good);
    let identity = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, identity);
    identity.verify(statement.as_bytes(), &signed).unwrap();

    let other = LogPublicKey { algorithm: LogKeyAlgorithm::Ed25519, public: vec![0xd7; 32].into() };
    for (cluster, vkey) in [
        (CLUSTER, named(&format!("{ORIGIN}/hsm-t"), &other).to_string()),
        (CLUSTER, named(&format!("{ORIGIN}/hsm-u"), &key).to_string()),
        (CLUSTER, named("hsm-t", &key).to_string()),
        (CLUSTER, format!("{good}\nkeystored hsm identity v1")),
        (CLUSTER, format!("x\n{good}")),
        (CLUSTER, String::new()),
        ("cluster-a", good.to_string()),
        ("cluster-abcdefghijk\nhsm-u\n1", good.to_string()),
    ] {
        let fault = control.fault(vouch(cluster, &vkey));
        assert_eq!(refusal(&fault).split(' ').next_back(), Some(if cluster == CLUSTER { "HSM's" } else { "name" }));
    }
}

#[test]
fn a_token_without_ed25519_makes_one_of_p256() {
    let hidden = Tokens::after_ceremony();
    // SoftHSM's way to list all but these; it overlooks the first of them.
    let conf = hidden.dir.path().join("softhsm2.conf");
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("{text}slots.mechanisms = -CKM_DES_CBC,CKM_EDDSA\n")).unwrap();
    // It is listed here, and fails when it is asked for.
    let mut failing = Tokens::after_ceremony();
    let chaos = failing.count_calls();
    let rule = "[[rule]]\nfunction = \"C_GenerateKeyPair\"\ncalls = { from = 1, to = 2 }\n";
    chaos.set(&format!("{rule}fault = {{ code = \"CKR_DOMAIN_PARAMS_INVALID\" }}\n")).unwrap();
    for tokens in [hidden, failing] {
        let key = log_key(&mut tokens.control());
        assert_eq!((key.algorithm, key.public.len()), (LogKeyAlgorithm::EcdsaP256, 65));
        let signed = sign(&mut tokens.data());
        assert!(has_signed(&key, &head(), &signed));
        assert!(openssl(tokens.dir.path(), &key, &head(), &signed));
        assert_eq!(log_key(&mut tokens.control()), key);
    }
    assert_eq!(chaos.injected("C_GenerateKeyPair"), 2);
}

#[test]
fn a_key_that_somebody_else_may_have_is_refused() {
    let tokens = Tokens::after_ceremony();
    let make = |more: &[&str]| {
        let arguments = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", LABEL, "--usage-sign"];
        let (said, done) = tokens.pkcs11_tool(&[&arguments[..], more].concat());
        assert!(done, "{said}");
    };
    let delete = |class: &str| {
        let (said, done) = tokens.pkcs11_tool(&["--delete-object", "--type", class, "--label", LABEL]);
        assert!(done, "{said}");
    };
    let mut control = tokens.control();
    make(&["--id", "01", "--extractable"]);
    let fault = control.fault(Op::LogKey);
    assert!(refusal(&fault).contains("remove the pair, and another one is made then"), "{fault}");
    let fault = tokens.data().fault(Op::SignCheckpoint { text: head().into() });
    assert!(refusal(&fault).contains("somebody may have a copy of it"), "{fault}");
    delete("privkey");
    delete("pubkey");
    let key = log_key(&mut control);
    let mut data = tokens.data();
    assert!(has_signed(&key, &head(), &sign(&mut data)));

    // Two of them: nobody could say which is meant.
    make(&["--id", "02", "--sensitive"]);
    let fault = control.fault(Op::LogKey);
    assert!(refusal(&fault).contains("holds 2 objects 'keystored audit log'; remove the wrong ones"), "{fault}");
    assert!(matches!(control.call(Op::Probe), Reply::Done), "it does all else");
}

/// What an interrupted making leaves is taken away; nobody was ever shown a key of it.
#[test]
fn half_a_pair_is_made_anew() {
    for half in ["pubkey", "privkey"] {
        let tokens = Tokens::after_ceremony();
        let mut control = tokens.control();
        let key = log_key(&mut control);
        let (said, done) = tokens.pkcs11_tool(&["--delete-object", "--type", half, "--label", LABEL]);
        assert!(done, "{said}");
        let fault = tokens.data().fault(Op::SignCheckpoint { text: head().into() });
        assert_eq!(refusal(&fault), "the token holds no log key");
        let other = log_key(&mut control);
        assert_ne!(key, other);
        assert_eq!((held(&tokens, "privkey"), held(&tokens, "pubkey")), (1, 1));
        assert!(has_signed(&other, &head(), &sign(&mut tokens.data())));
    }
}

#[test]
fn a_token_that_takes_no_new_objects_serves_without_one() {
    let mut tokens = Tokens::after_ceremony();
    let key = tokens.control().make_key().0;
    let chaos = tokens.count_calls();
    let rule = "[[rule]]\nfunction = \"C_GenerateKeyPair\"\nfault = { code = \"CKR_TOKEN_WRITE_PROTECTED\" }\n";
    chaos.set(rule).unwrap();
    let mut control = tokens.control();
    let fault = control.fault(Op::LogKey);
    assert_eq!((fault.class, &*fault.function), (Class::Refused, "C_GenerateKeyPair"), "{fault}");
    assert!(matches!(control.call(Op::List), Reply::Keys(keys) if keys == [key]));
    assert!(tokens.data().encrypt(key, b"plaintext", b"").is_ok());
    chaos.clear().unwrap();
    log_key(&mut control);
}
