use std::process::Command;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use proptest::prelude::*;

use super::*;
use crate::model::id::Zone;
use crate::model::identity::Purpose;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn cluster() -> ClusterId {
    "cluster-aaaaaaaaaaa".into()
}

fn authority() -> ClusterAuthority {
    ClusterAuthority::generate(&cluster(), NOW).unwrap()
}

fn anchor(authority: &ClusterAuthority) -> TrustAnchor {
    TrustAnchor::from_pem(authority.certificate()).unwrap()
}

/// A key that stands for one in a token.
fn signer() -> (EcdsaKeyPair, PublicKey) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let public = PublicKey::P256(pair.public_key().as_ref().to_vec());
    (pair, public)
}

fn rsa() -> PublicKey {
    // 2048 bits; nobody has to know its factors.
    PublicKey::Rsa { modulus: vec![0xc1; 256], exponent: vec![1, 0, 1] }
}

fn issue(authority: &ClusterAuthority, kind: Kind, key: &PublicKey) -> Vec<u8> {
    der_of(&authority.issue(kind, key, &"hsm-a".into(), "0123abc", NOW).unwrap()).unwrap()
}

fn statement() -> Statement {
    Statement {
        purpose: Purpose::Membership,
        cluster: cluster(),
        hsm: "hsm-a".into(),
        zone: Zone::from("a"),
        serial: "0123abc".into(),
        incarnation: 7,
        nonce: [9; 32],
    }
}

#[test]
fn what_was_certified_is_read_back() {
    let authority = authority();
    let anchor = anchor(&authority);
    for (kind, key) in [(Kind::Identity, signer().1), (Kind::Transport, rsa())] {
        let der = issue(&authority, kind, &key);
        let certified = anchor.certified(kind, &der, NOW).unwrap();
        assert_eq!(certified, Certified { hsm: "hsm-a".into(), serial: "0123abc".into(), public_key: key });
        assert_eq!(der_of(&pem_of(&der)).unwrap(), der);
        assert!(!subject_of(&der).unwrap().is_empty());
        let later = NOW + std::time::Duration::from_secs(100 * 365 * 86_400);
        anchor.certified(kind, &der, later).unwrap();
    }
}

#[test]
fn openssl_sees_the_same_chain() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (authority(), authority());
    for (name, kind, key) in [("identity", Kind::Identity, signer().1), ("transport", Kind::Transport, rsa())] {
        let (leaf, own, foreign) =
            (folder.path().join(name), folder.path().join("own.crt"), folder.path().join("foreign.crt"));
        std::fs::write(&leaf, authority.issue(kind, &key, &"hsm-a".into(), "0123abc", NOW).unwrap()).unwrap();
        std::fs::write(&own, authority.certificate()).unwrap();
        std::fs::write(&foreign, other.certificate()).unwrap();
        for (anchor, good) in [(&own, true), (&foreign, false)] {
            let mut command = Command::new("openssl");
            command.args(["verify", "-x509_strict", "-CAfile"]).arg(anchor).arg(&leaf);
            let output = command.output().unwrap();
            assert_eq!(output.status.success(), good, "{name}: {output:?}");
        }
    }
}

#[test]
fn an_authority_comes_back_from_its_files() {
    let first = authority();
    let key = String::from_utf8(first.key().expose().to_vec()).unwrap();
    let again = ClusterAuthority::load(first.certificate(), &key).unwrap();
    let der = issue(&again, Kind::Identity, &signer().1);
    anchor(&first).certified(Kind::Identity, &der, NOW).unwrap();
    let renewed = ClusterAuthority::certify_itself(&cluster(), &key, NOW).unwrap();
    assert!(anchor(&first).is_same_authority(&anchor(&renewed)));
    assert!(!anchor(&first).is_same_authority(&anchor(&authority())));
    let error = ClusterAuthority::load(authority().certificate(), &key).err().unwrap();
    assert!(error.to_string().contains("do not belong together"), "{error}");
}

#[test]
fn what_another_authority_or_nobody_certified_is_refused() {
    let (mine, other) = (authority(), authority());
    let anchor = anchor(&mine);
    let refused = |kind, der: &[u8]| anchor.certified(kind, der, NOW).unwrap_err().to_string();
    let foreign = issue(&other, Kind::Identity, &signer().1);
    assert!(refused(Kind::Identity, &foreign).contains("not one of this cluster's authority"));
    let transport = issue(&mine, Kind::Transport, &rsa());
    assert!(refused(Kind::Identity, &transport).contains("another use"));
    let wrong_type = issue(&mine, Kind::Identity, &rsa());
    assert!(refused(Kind::Identity, &wrong_type).contains("another type"));
    let itself = der_of(mine.certificate()).unwrap();
    assert!(refused(Kind::Identity, &itself).contains("authority's"));
    let good = issue(&mine, Kind::Identity, &signer().1);
    assert!(refused(Kind::Identity, &[&good[..], b"x"].concat()).contains("follows"));
    let yesterday = mine.issue(Kind::Identity, &signer().1, &"hsm-a".into(), "1", NOW + DAY).unwrap();
    assert!(refused(Kind::Identity, &der_of(&yesterday).unwrap()).contains("not valid yet"));
}

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

#[test]
fn only_an_authority_s_own_certificate_is_an_anchor() {
    let authority = authority();
    let leaf = authority.issue(Kind::Identity, &signer().1, &"hsm-a".into(), "1", NOW).unwrap();
    let two = format!("{0}{0}", authority.certificate());
    let key = String::from_utf8(authority.key().expose().to_vec()).unwrap();
    for (text, why) in [
        (leaf.as_str(), "not the certificate of an authority"),
        (&two, "exactly one"),
        (&key, "exactly one"),
        ("", "not a certificate"),
        (&"x".repeat(limits::TRUST_ANCHOR_CHARS + 1), "longer"),
    ] {
        let error = TrustAnchor::from_pem(text).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn a_statement_holds_for_its_own_words_alone() {
    let authority = authority();
    let (pair, public) = signer();
    let certified =
        anchor(&authority).certified(Kind::Identity, &issue(&authority, Kind::Identity, &public), NOW).unwrap();
    let signature = pair.sign(&SystemRandom::new(), &statement().to_bytes()).unwrap();
    certified.verify(&statement(), signature.as_ref()).unwrap();
    let others = [
        Statement { cluster: "cluster-bbbbbbbbbbb".into(), ..statement() },
        Statement { hsm: "hsm-b".into(), ..statement() },
        Statement { zone: Zone::from("b"), ..statement() },
        Statement { serial: "1".into(), ..statement() },
        Statement { incarnation: 8, ..statement() },
        Statement { nonce: [8; 32], ..statement() },
    ];
    for other in others {
        assert!(certified.verify(&other, signature.as_ref()).is_err(), "{other:?}");
    }
    let by_another = signer().0.sign(&SystemRandom::new(), &statement().to_bytes()).unwrap();
    assert!(certified.verify(&statement(), by_another.as_ref()).is_err());
    assert!(certified.verify(&statement(), &[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whichever bit of a certificate is another: it is refused, or it is one around what was signed and says the same.
    #[test]
    fn no_altered_certificate_says_anything_else(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let authority = authority();
        let mut der = issue(&authority, Kind::Identity, &signer().1);
        let good = anchor(&authority).certified(Kind::Identity, &der, NOW).unwrap();
        let at = at.index(der.len());
        der[at] ^= 1 << bit;
        if let Ok(read) = anchor(&authority).certified(Kind::Identity, &der, NOW) {
            prop_assert_eq!(read, good);
        }
    }

    /// Nothing that is fed to the readers harms them.
    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let anchor = anchor(&authority());
        prop_assert!(anchor.certified(Kind::Identity, &bytes, NOW).is_err());
        prop_assert!(TrustAnchor::from_pem(&String::from_utf8_lossy(&bytes)).is_err());
    }
}
