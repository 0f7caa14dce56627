//! Follows the steps of docs/audit.md that need no program of ours.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use model::id::ClusterId;
use pki::identity::{ClusterAuthority, Kind, PublicKey};
use tempfile::TempDir;

use super::keys::{HsmKey, PublicKeys, statement};
use super::layout::{CHECKPOINT, KEYS};
use super::note::{Cosigner, Line, LogKey, VerifierKey};
use super::prove::prove;
use super::test_support::{Writer, records};

const ORIGIN: &str = "keys.example/audit";

/// A token with a key of Ed25519, and one with a key of P-256.
struct Tokens {
    edwards: LogKey,
    weierstrass: EcdsaKeyPair,
    key: VerifierKey,
}

impl Tokens {
    fn new() -> Self {
        let weierstrass = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let key = VerifierKey::p256("hsm-2.keys.example", weierstrass.public_key().as_ref()).unwrap();
        Self { edwards: LogKey::generate("hsm-1.keys.example").unwrap(), weierstrass, key }
    }
}

impl Cosigner for Tokens {
    fn cosign(&self, text: &[u8]) -> Vec<Line> {
        let signature = self.weierstrass.sign(&SystemRandom::new(), text).unwrap();
        vec![self.edwards.sign(text), self.key.line(signature.as_ref().to_vec()).unwrap()]
    }
}

/// What the cluster's authority and the tokens have made.
fn keys(log: &LogKey, tokens: &Tokens) -> PublicKeys {
    let cluster = ClusterId::from("cluster-keystoredtest");
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let authority = ClusterAuthority::generate(&cluster, now).unwrap();
    let entry = |hsm: &str, key: &VerifierKey| {
        let identity = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let public = PublicKey::P256(identity.public_key().as_ref().to_vec());
        let statement = statement(&cluster, &hsm.into(), "0123456789abcdef", key);
        let signature = identity.sign(&SystemRandom::new(), statement.as_bytes()).unwrap();
        HsmKey {
            hsm: hsm.to_owned(),
            zone: "zone-a".to_owned(),
            key_store: "payments".to_owned(),
            key: key.to_string(),
            statement,
            statement_signature: String::new(),
            identity_certificate: authority
                .issue(Kind::Identity, &public, &hsm.into(), "0123456789abcdef", now)
                .unwrap(),
        }
        .with_signature(signature.as_ref())
    };
    let hsms = vec![entry("hsm-1", tokens.edwards.verifier()), entry("hsm-2", &tokens.key)];
    PublicKeys::new(log.verifier(), hsms, vec![authority.certificate().to_owned()])
}

/// A log as it is, with a proof of one of its records.
fn log() -> TempDir {
    let (directory, key, tokens) = (TempDir::new().unwrap(), LogKey::generate(ORIGIN).unwrap(), Tokens::new());
    let all = records(700);
    Writer { directory: directory.path().to_owned(), key: &key, cosigner: &tokens }.log(&all, &[300, 700]);
    let keys = keys(&key, &tokens);
    keys.check().unwrap();
    fs::write(directory.path().join(KEYS), keys.to_json().unwrap()).unwrap();
    write_proof(directory.path(), 421);
    directory
}

fn write_proof(directory: &Path, number: u64) {
    fs::write(directory.join("record.tlog-proof"), prove(directory, number).unwrap()).unwrap();
}

/// The blocks of the document that are to be run, one after the other.
fn steps() -> Vec<String> {
    let document = include_str!("../../../docs/audit.md");
    let blocks = document.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

fn follow(directory: &Path, steps: &[String]) -> Output {
    let script = steps.concat();
    Command::new("bash").args(["-eu", "-o", "pipefail", "-c", &script]).current_dir(directory).output().unwrap()
}

#[test]
fn a_sound_log_passes_every_step() {
    let (log, steps) = (log(), steps());
    assert_eq!(steps.len(), 6);
    for number in [421, 0, 1, 255, 256, 511, 512, 698, 699] {
        write_proof(log.path(), number);
        let output = follow(log.path(), &steps);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{number}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        // The log's own key and a token's of one kind, a token's of the other and two statements.
        assert_eq!(said.matches("Signature Verified Successfully").count(), 2, "{said}");
        assert_eq!(said.matches("Verified OK").count(), 3, "{said}");
        assert_eq!(said.matches("identity.pem: OK").count(), 2, "{said}");
        assert!(said.ends_with("the record is in the log\n"), "{said}");
        let record = fs::read(log.path().join("record.json")).unwrap();
        assert_eq!(record, records(700)[number as usize]);
    }
}

#[test]
fn what_was_changed_fails_at_its_step() {
    let steps = steps();
    let change = |name: &str, from: &str, to: &str| {
        let log = log();
        let path = log.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        let changed = text.replacen(from, to, 1);
        assert_ne!(text, changed, "{name} {from}");
        fs::write(&path, changed).unwrap();
        log
    };
    let extra = |log: &TempDir, number: u64| {
        let text = prove(log.path(), number).unwrap();
        text.lines().nth(1).unwrap().to_owned()
    };
    let sound = log();
    let (own, other) = (extra(&sound, 421), extra(&sound, 422));
    // How many steps pass, and after what.
    for (passing, log) in [
        (2, change(CHECKPOINT, "\n700\n", "\n701\n")),
        (5, change("record.tlog-proof", &own, &other)),
        (5, change("record.tlog-proof", "index 421", "index 422")),
        (4, change(KEYS, "hsm-1\\n0123", "hsm-9\\n0123")),
        (1, change(KEYS, "\"log\": \"keys", "\"log\": \"other")),
    ] {
        assert!(follow(log.path(), &steps[..passing]).status.success(), "{passing}");
        assert!(!follow(log.path(), &steps[..=passing]).status.success(), "{passing}");
    }
}
