use std::fs;
use std::path::Path;
use std::process::Command;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::super::*;
use model::identity::{Purpose, Statement};

const SERIAL: &str = "0123456789abcdef";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn cluster() -> ClusterId {
    "cluster-keystoredtest".into()
}

fn authority() -> ClusterAuthority {
    ClusterAuthority::generate(&cluster(), now()).unwrap()
}

fn anchor(authority: &ClusterAuthority) -> TrustAnchor {
    TrustAnchor::from_pem(authority.certificate()).unwrap()
}

fn key(authority: &ClusterAuthority) -> String {
    String::from_utf8(authority.key().into_exposed()).unwrap()
}

/// What lives in a token.
struct Token(EcdsaKeyPair);

impl Token {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn public(&self) -> PublicKey {
        PublicKey::P256(self.0.public_key().as_ref().to_vec())
    }

    fn sign(&self, statement: &Statement) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), &statement.to_bytes()).unwrap().as_ref().to_vec()
    }
}

fn rsa() -> PublicKey {
    let mut modulus = vec![0x11; 256];
    modulus[0] = 0xc0;
    PublicKey::Rsa { modulus, exponent: vec![1, 0, 1] }
}

fn identity(authority: &ClusterAuthority, token: &Token) -> Vec<u8> {
    let pem = authority.issue(Kind::Identity, &token.public(), &"hsm-a".into(), SERIAL, now()).unwrap();
    der_of(&pem).unwrap()
}

fn statement() -> Statement {
    Statement {
        purpose: Purpose::Membership,
        cluster: cluster(),
        hsm: "hsm-a".into(),
        zone: "a".into(),
        serial: SERIAL.to_owned(),
        incarnation: 3,
        nonce: [9; 32],
    }
}

#[test]
fn a_token_proves_who_it_is() {
    let (authority, token) = (authority(), Token::new());
    let certified = anchor(&authority).certified(Kind::Identity, &identity(&authority, &token), now()).unwrap();
    assert_eq!((certified.hsm.as_str(), certified.serial.as_str()), ("hsm-a", SERIAL));
    assert_eq!(certified.public_key, token.public());
    let signature = token.sign(&statement());
    certified.verify(&statement(), &signature).unwrap();

    let refused = |statement: &Statement, signature: &[u8]| {
        certified.verify(statement, signature).expect_err("a proof of something else").0
    };
    let other = Statement { nonce: [8; 32], ..statement() };
    assert!(refused(&other, &signature).contains("signature"));
    assert!(refused(&statement(), &signature[1..]).contains("signature"));
    assert!(refused(&statement(), &Token::new().sign(&statement())).contains("signature"));
    // Truly signed, by a token that stands in for another.
    let other = Statement { hsm: "hsm-b".into(), ..statement() };
    assert!(refused(&other, &token.sign(&other)).contains("about another token"));
    let other = Statement { serial: "77".to_owned(), ..statement() };
    assert!(refused(&other, &token.sign(&other)).contains("about another token"));
}

#[test]
fn one_kind_does_not_pass_for_the_other() {
    let (authority, token) = (authority(), Token::new());
    let anchor = anchor(&authority);
    let transport = authority.issue(Kind::Transport, &rsa(), &"hsm-a".into(), SERIAL, now()).unwrap();
    let transport = der_of(&transport).unwrap();
    let certified = anchor.certified(Kind::Transport, &transport, now()).unwrap();
    assert_eq!(certified.public_key, rsa());
    assert!(certified.verify(&statement(), &[0; 64]).unwrap_err().0.contains("not a key that signs"));
    assert!(anchor.certified(Kind::Identity, &transport, now()).is_err());
    assert!(anchor.certified(Kind::Transport, &identity(&authority, &token), now()).is_err());
    for (kind, key) in [(Kind::Identity, rsa()), (Kind::Transport, token.public())] {
        assert!(
            authority.issue(kind, &key, &"hsm-a".into(), SERIAL, now()).unwrap_err().0.contains("not a public key for")
        );
    }
}

#[test]
fn keys_that_are_none_are_not_certified() {
    let authority = authority();
    let PublicKey::Rsa { modulus, .. } = rsa() else { panic!("an RSA key") };
    let weak = PublicKey::Rsa { modulus, exponent: vec![3] };
    let short = PublicKey::Rsa { modulus: vec![0xff; 128], exponent: vec![1, 0, 1] };
    let off_curve = PublicKey::P256([&[4][..], &[1; 64]].concat());
    for (kind, key) in [
        (Kind::Transport, short),
        (Kind::Transport, weak),
        (Kind::Identity, off_curve),
        (Kind::Identity, PublicKey::P256(Vec::new())),
    ] {
        assert!(authority.issue(kind, &key, &"hsm-a".into(), SERIAL, now()).is_err(), "{key:?}");
    }
    assert!(authority.issue(Kind::Transport, &rsa(), &"hsm-a".into(), "", now()).is_err());
}

#[test]
fn who_the_anchor_did_not_certify_is_refused() {
    let (ours, token) = (authority(), Token::new());
    let certificate = identity(&ours, &token);
    let theirs = anchor(&authority());
    assert!(
        theirs
            .certified(Kind::Identity, &certificate, now())
            .unwrap_err()
            .0
            .contains("not one of this cluster's authority")
    );
    let named_otherwise = ClusterAuthority::generate(&"cluster-another12345".into(), now()).unwrap();
    let error = anchor(&named_otherwise).certified(Kind::Identity, &certificate, now()).unwrap_err().0;
    assert!(error.contains("not one of this cluster's authority"), "{error}");
    // The authority itself is no HSM.
    let itself = der_of(ours.certificate()).unwrap();
    assert!(anchor(&ours).certified(Kind::Identity, &itself, now()).unwrap_err().0.contains("an authority's"));
    let long_before = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    assert!(anchor(&ours).certified(Kind::Identity, &certificate, long_before).unwrap_err().0.contains("clock"));
    let long_after = UNIX_EPOCH + Duration::from_secs(200_000_000_000);
    assert!(anchor(&ours).certified(Kind::Identity, &certificate, long_after).is_ok());
}

/// Signed by the authority itself, but not as the ceremony has it do so.
#[test]
fn an_end_that_somebody_has_given_a_certificate_counts() {
    let (authority, token) = (authority(), Token::new());
    let mut params = endless("hsm-a", now()).unwrap();
    params.distinguished_name.push(DnType::OrganizationalUnitName, Kind::Identity.unit());
    params.distinguished_name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), SERIAL);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    params.not_after = (now() + Duration::from_secs(60)).into();
    let pem = params.signed_by(&Foreign::of(&token.public()), &authority.issuer).unwrap().pem();
    let certificate = der_of(&pem).unwrap();
    let at = |seconds| now() + Duration::from_secs(seconds);
    let anchor = anchor(&authority);
    for seconds in [0, 60] {
        assert_eq!(anchor.certified(Kind::Identity, &certificate, at(seconds)).unwrap().hsm.as_str(), "hsm-a");
    }
    let expired = anchor.certified(Kind::Identity, &certificate, at(61)).unwrap_err().0;
    assert!(expired.contains("has expired"), "{expired}");
}

/// Without an authority it is only a claim, but one that is as strictly read.
#[test]
fn what_a_certificate_claims_is_read_whoever_has_signed_it() {
    let (authority, token) = (authority(), Token::new());
    let certificate = identity(&authority, &token);
    let claim = claimed(Kind::Identity, &certificate, now()).unwrap();
    assert_eq!(claim, anchor(&authority).certified(Kind::Identity, &certificate, now()).unwrap());
    assert!(claimed(Kind::Transport, &certificate, now()).unwrap_err().0.contains("another use"));
    assert!(claimed(Kind::Identity, &certificate[1..], now()).is_err());
    let itself = der_of(authority.certificate()).unwrap();
    assert!(claimed(Kind::Identity, &itself, now()).unwrap_err().0.contains("an authority's"));
}

#[test]
fn an_altered_certificate_is_refused() {
    let (authority, token) = (authority(), Token::new());
    let (anchor, certificate) = (anchor(&authority), identity(&authority, &token));
    for bit in 0..8 * certificate.len() {
        let mut altered = certificate.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert!(anchor.certified(Kind::Identity, &altered, now()).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
    }
    assert!(anchor.certified(Kind::Identity, &[&certificate[..], &[0]].concat(), now()).is_err());
    assert!(anchor.certified(Kind::Identity, &certificate[..certificate.len() - 1], now()).is_err());
    assert!(anchor.certified(Kind::Identity, &vec![0x30; 5_000], now()).is_err());
}

#[test]
fn a_trust_anchor_is_exactly_one_authority() {
    let authority = authority();
    let certificate = authority.certificate().to_owned();
    assert!(anchor(&authority).is_of(&cluster()) && !anchor(&authority).is_of(&"cluster-keystoredtes".into()));
    let key = key(&authority);
    let leaf = authority.issue(Kind::Transport, &rsa(), &"hsm-a".into(), SERIAL, now()).unwrap();
    for (pem, why) in [
        (String::new(), "not a certificate in PEM"),
        ("nonsense".to_owned(), "not a certificate in PEM"),
        (format!("{certificate}{certificate}"), "exactly one certificate"),
        (format!("{certificate}{key}"), "exactly one certificate"),
        (key, "exactly one certificate"),
        (leaf, "not the certificate of an authority"),
        (format!("{certificate}{}", "\n".repeat(5_000)), "longer than any trust anchor"),
    ] {
        let error = TrustAnchor::from_pem(&pem).expect_err(why).0;
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn an_authority_comes_back_from_its_files() {
    let (first, token) = (authority(), Token::new());
    let certificate = identity(&first, &token);
    let again = ClusterAuthority::load(first.certificate(), &key(&first)).unwrap();
    assert!(anchor(&first).certified(Kind::Identity, &identity(&again, &token), now()).is_ok());
    // Its certificate was lost: a new one for the same key vouches for what the lost one did.
    let restored = ClusterAuthority::certify_itself(&cluster(), &key(&first), now()).unwrap();
    assert!(anchor(&restored).certified(Kind::Identity, &certificate, now()).is_ok());
    assert!(anchor(&restored).is_same_authority(&anchor(&first)));
    assert!(!anchor(&authority()).is_same_authority(&anchor(&first)));
    let error = ClusterAuthority::load(first.certificate(), &key(&authority())).err().unwrap().0;
    assert!(error.contains("do not belong together"), "{error}");
}

#[test]
fn pem_comes_and_goes() {
    for length in [1, 47, 48, 49, 500] {
        let der = vec![0xa5; length];
        assert_eq!(der_of(&pem_of(&der)).unwrap(), der);
    }
}

#[test]
fn openssl_accepts_the_chain_and_reads_the_names() {
    let (authority, token) = (authority(), Token::new());
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("ca.crt", authority.certificate());
    write("identity.crt", &pem_of(&identity(&authority, &token)));
    write("transport.crt", &authority.issue(Kind::Transport, &rsa(), &"hsm-a".into(), "odd_serial", now()).unwrap());
    for leaf in ["identity.crt", "transport.crt"] {
        openssl(
            dir.path(),
            &["verify", "-x509_strict", "-check_ss_sig", "-attime", "1800000000", "-CAfile", "ca.crt", leaf],
        );
    }
    let shown = openssl(dir.path(), &["x509", "-in", "identity.crt", "-noout", "-text", "-nameopt", "RFC2253"]);
    for expected in [
        "Subject: serialNumber=0123456789abcdef,OU=keystored hsm identity,CN=hsm-a",
        "Issuer: CN=keystored cluster-keystoredtest",
        "Not After : Dec 31 23:59:59 9999 GMT",
        "Digital Signature\n",
        "CA:FALSE",
        "NIST CURVE: P-256",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in {shown}");
    }
    let shown = openssl(dir.path(), &["x509", "-in", "transport.crt", "-noout", "-text"]);
    assert!(shown.contains("Key Encipherment\n") && shown.contains("Public-Key: (2048 bit)"), "{shown}");
    let shown = openssl(dir.path(), &["x509", "-in", "ca.crt", "-noout", "-text"]);
    assert!(shown.contains("CA:TRUE, pathlen:0") && shown.contains("Certificate Sign\n"), "{shown}");
}

fn openssl(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl").current_dir(dir).args(arguments).output().expect("openssl (make deps)");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{text}");
    text
}
