use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _};
use std::time::SystemTime;

use pki::identity::ClusterAuthority;
use proptest::prelude::*;

use super::*;
use crate::note::LogKey;

const ORIGIN: &str = "keys.example/audit";
const SERIAL: &str = "0123456789abcdef";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn pair(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    EcdsaKeyPair::generate(algorithm).unwrap()
}

struct Cluster {
    id: ClusterId,
    authority: ClusterAuthority,
    identity: EcdsaKeyPair,
}

impl Cluster {
    fn new(id: &str) -> Self {
        let id = ClusterId::from(id);
        let authority = ClusterAuthority::generate(&id, now()).unwrap();
        Self { id, authority, identity: pair(&ECDSA_P256_SHA256_FIXED_SIGNING) }
    }

    fn certificate(&self, kind: Kind) -> String {
        let key = PublicKey::P256(self.identity.public_key().as_ref().to_vec());
        self.authority.issue(kind, &key, &"hsm-1".into(), SERIAL, now()).unwrap()
    }

    /// The entry of an HSM that has signed this text.
    fn entry(&self, key: &VerifierKey, statement: String) -> HsmKey {
        let signature = self.identity.sign(&SystemRandom::new(), statement.as_bytes()).unwrap();
        HsmKey {
            hsm: "hsm-1".to_owned(),
            zone: "zone-a".to_owned(),
            key_store: "payments".to_owned(),
            key: key.to_string(),
            statement,
            statement_signature: String::new(),
            identity_certificate: self.certificate(Kind::Identity),
        }
        .with_signature(signature.as_ref())
    }

    fn sound(&self, key: &VerifierKey) -> HsmKey {
        self.entry(key, statement(&self.id, &"hsm-1".into(), SERIAL, key))
    }
}

fn token_key() -> VerifierKey {
    LogKey::generate("hsm-1.keys.example").unwrap().verifier().clone()
}

fn file(cluster: &Cluster, hsms: Vec<HsmKey>) -> PublicKeys {
    let log = LogKey::from_seed(ORIGIN, &[1; 32]).unwrap();
    PublicKeys::new(log.verifier(), hsms, vec![cluster.authority.certificate().to_owned()])
}

#[test]
fn a_chain_from_the_anchor_to_the_log_key_is_believed() {
    let cluster = Cluster::new("cluster-keystoredtest");
    let key = token_key();
    let keys = file(&cluster, vec![cluster.sound(&key)]);
    let read = PublicKeys::from_json(&keys.to_json().unwrap()).unwrap();
    assert_eq!(read, keys);
    let believed = read.check().unwrap();
    assert_eq!(believed.log.name(), ORIGIN);
    assert_eq!((believed.hsms.len(), &believed.hsms[0].key, &*believed.hsms[0].serial), (1, &key, SERIAL));
    // As tokens give it, it is believed too.
    let mut fixed = cluster.sound(&key);
    let signature = cluster.identity.sign(&SystemRandom::new(), fixed.statement.as_bytes()).unwrap();
    fixed.statement_signature = STANDARD.encode(signature.as_ref());
    assert!(file(&cluster, vec![fixed]).check().is_ok());
}

#[test]
fn each_link_of_the_chain_is_looked_at() {
    let cluster = Cluster::new("cluster-keystoredtest");
    let other = Cluster::new("cluster-keystoredtest");
    let elsewhere = Cluster::new("cluster-keystoredelse");
    let key = token_key();
    let good = cluster.sound(&key);
    let text = |hsm: &str, serial: &str| statement(&cluster.id, &hsm.into(), serial, &key);
    let cases = [
        ("another key", HsmKey { key: token_key().to_string(), ..good.clone() }),
        ("another HSM", HsmKey { hsm: "hsm-2".to_owned(), ..good.clone() }),
        ("another serial", cluster.entry(&key, text("hsm-1", "1111111111111111"))),
        ("another text", cluster.entry(&key, text("hsm-1", SERIAL).replacen("v1", "v2", 1))),
        ("more text", cluster.entry(&key, text("hsm-1", SERIAL) + "\n")),
        ("another authority", other.sound(&key)),
        ("another cluster", elsewhere.sound(&key)),
        ("not signed", HsmKey { statement_signature: other.sound(&key).statement_signature, ..good.clone() }),
        ("no signature", HsmKey { statement_signature: "!".to_owned(), ..good.clone() }),
        ("no certificate", HsmKey { identity_certificate: String::new(), ..good.clone() }),
    ];
    for (what, entry) in cases {
        assert!(matches!(file(&cluster, vec![entry]).check(), Err(KeysError::Hsm { .. })), "{what}");
    }
    assert!(file(&cluster, vec![good.clone(), good.clone()]).check().is_err(), "twice the same name");
    let mut none = file(&cluster, vec![good.clone()]);
    none.trust_anchors = vec![good.identity_certificate];
    assert!(matches!(none.check(), Err(KeysError::Anchor { number: 1, .. })));
    none = file(&cluster, Vec::new());
    none.origin = "elsewhere.example".to_owned();
    assert!(none.check().is_err());
}

#[test]
fn files_of_another_kind_are_not_read() {
    let cluster = Cluster::new("cluster-keystoredtest");
    let json = String::from_utf8(file(&cluster, Vec::new()).to_json().unwrap()).unwrap();
    for other in
        [json.replacen("\"version\": 1", "\"version\": 2", 1), json.replacen("hsms", "others", 1), "{}".to_owned()]
    {
        assert!(matches!(PublicKeys::from_json(other.as_bytes()), Err(KeysError::Unreadable(_))), "{other}");
    }
    assert!(PublicKeys::from_json(&vec![b' '; FILE_BYTES + 1]).is_err());
}

proptest! {
    #[test]
    fn foreign_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = PublicKeys::from_json(&bytes);
    }

    #[test]
    fn a_changed_file_is_judged_without_panic(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let cluster = Cluster::new("cluster-keystoredtest");
        let mut bytes = file(&cluster, vec![cluster.sound(&token_key())]).to_json().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(keys) = PublicKeys::from_json(&bytes) {
            let _ = keys.check();
        }
    }

    #[test]
    fn fixed_signatures_become_der_that_is_read(message in any::<[u8; 32]>()) {
        let pair = pair(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let fixed = pair.sign(&SystemRandom::new(), &message).unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
        prop_assert!(key.verify(&message, &der_of_fixed(fixed.as_ref())).is_ok());
    }
}
