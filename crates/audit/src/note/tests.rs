use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use proptest::prelude::*;

use super::*;

const ORIGIN: &str = "keys.example/audit";

fn log_key() -> LogKey {
    LogKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

fn head(size: u64) -> Head {
    Head { size, root: [3; 32] }
}

fn signed(size: u64) -> Checkpoint {
    let text = Checkpoint::text_of(ORIGIN, &head(size)).unwrap();
    Checkpoint::new(ORIGIN, head(size), vec![log_key().sign(&text)]).unwrap()
}

/// A key of P-256 that signs notes.
fn token(name: &str) -> (VerifierKey, impl Fn(&[u8]) -> Line) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let key = VerifierKey::p256(name, pair.public_key().as_ref()).unwrap();
    let mine = key.clone();
    (key, move |text: &[u8]| mine.line(pair.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec()).unwrap())
}

/// The note and the key that the documentation of Go's package has.
#[test]
fn a_note_of_others_is_read() {
    let key: VerifierKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
    assert_eq!(key.to_string(), "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    let line = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
    let read = Line::parse(line).unwrap();
    assert_eq!(read.to_string(), format!("{line}\n"));
    assert!(key.verify(text.as_bytes(), &read));
    assert!(!key.verify(b"another text\n", &read));
}

#[test]
fn a_head_comes_back_as_it_was_signed() {
    let (key, sign) = token("hsm-1.keys.example/audit");
    let mut checkpoint = signed(42);
    checkpoint.push(sign(checkpoint.text()));
    let read = Checkpoint::from_bytes(&checkpoint.to_bytes()).unwrap();
    assert_eq!(read, checkpoint);
    assert_eq!((read.origin(), read.head()), (ORIGIN, head(42)));
    assert_eq!(read.signed_by(log_key().verifier()), Signed::Well);
    assert_eq!(read.signed_by(&key), Signed::Well);
    let (stranger, _) = token("hsm-1.keys.example/audit");
    assert_eq!(read.signed_by(&stranger), Signed::Not);
    // What another library makes of it is the same.
    let mut note = signed_note::Note::new(checkpoint.text(), &[]).unwrap();
    let vkey = log_key().verifier().to_string();
    let theirs = signed_note::VerifierList::new(vec![Box::new(signed_note::StandardVerifier::new(&vkey).unwrap())]);
    assert!(note.verify(&theirs).is_err());
    note = signed_note::Note::from_bytes(&checkpoint.to_bytes()).unwrap();
    let (good, unknown) = note.verify(&theirs).unwrap();
    assert_eq!((good.len(), unknown.len()), (1, 1));
}

#[test]
fn a_wrong_line_of_a_known_key_is_told_from_none() {
    let checkpoint = signed(1);
    let mut other = Checkpoint::new(ORIGIN, head(2), checkpoint.lines().to_vec()).unwrap();
    assert_eq!(other.signed_by(log_key().verifier()), Signed::Wrongly);
    // A good one beside it does not make up for it.
    other.push(log_key().sign(other.text()));
    assert_eq!(other.signed_by(log_key().verifier()), Signed::Wrongly);
    assert_eq!(Checkpoint::new(ORIGIN, head(2), Vec::new()).unwrap().signed_by(log_key().verifier()), Signed::Not);
}

#[test]
fn keys_of_tokens_are_read_back_and_their_ids_are_of_the_key_alone() {
    let (key, _) = token("a");
    let named_otherwise = VerifierKey::p256("b", &key.public_key()[26..]).unwrap();
    assert_eq!(key.id(), named_otherwise.id());
    assert_eq!(key.to_string().parse::<VerifierKey>().unwrap(), key);
    assert_eq!(key.algorithm(), Algorithm::EcdsaP256);
    let wrong = key.to_string().replacen(&format!("{:08x}", key.id()), "00000000", 1);
    assert_eq!(wrong.parse::<VerifierKey>().unwrap_err(), Malformed::Id);
}

#[test]
fn what_is_no_key_is_none() {
    for text in
        ["", "a", "a+b", "a+00000000+", "a b+00000000+AQ==", "a+00000000+AQ==", "a+00000000+Ag==", "+00000000+AQ=="]
    {
        assert!(text.parse::<VerifierKey>().is_err(), "{text}");
    }
    assert!(VerifierKey::p256("a", &[4; 65]).is_err(), "not a point of the curve");
    assert!(VerifierKey::ed25519("a", &[4; 31]).is_err());
    for name in ["", "a b", "a+b", "a\nb", "a\u{7f}b", "a\u{2003}b"] {
        assert_eq!(LogKey::from_seed(name, &[0; 32]).unwrap_err(), Malformed::Name, "{name:?}");
    }
    assert_eq!(Line::new("a", 1, Vec::new()).unwrap_err(), Malformed::Line);
}

#[test]
fn a_key_is_what_its_seed_makes() {
    let key = LogKey::generate(ORIGIN).unwrap();
    let again = LogKey::from_seed(ORIGIN, &key.seed()).unwrap();
    assert_eq!(again.verifier(), key.verifier());
    assert_eq!(again.sign(b"text\n"), key.sign(b"text\n"));
    assert!(!format!("{key:?}").contains(&format!("{:?}", key.seed())));
}

#[test]
fn heads_are_read_one_after_the_other_until_a_torn_one() {
    let file = [signed(1).to_bytes(), signed(2).to_bytes(), signed(3).to_bytes()].concat();
    let sizes: Vec<u64> = Heads::new(&file).map(|read| read.unwrap().head().size).collect();
    assert_eq!(sizes, [1, 2, 3]);
    let whole = signed(1).to_bytes().len();
    for end in whole + 1..2 * whole {
        let mut heads = Heads::new(&file[..end]);
        assert!(heads.next().unwrap().is_ok());
        assert!(heads.next().unwrap().is_err(), "{end}");
        assert_eq!(heads.position(), whole);
        assert!(heads.next().is_none());
    }
}

#[test]
fn other_texts_are_no_heads() {
    let good = String::from_utf8(signed(12).to_bytes()).unwrap();
    assert!(Checkpoint::from_bytes(good.as_bytes()).is_ok());
    for (from, to) in
        [("12\n", "012\n"), ("12\n", "-1\n"), (ORIGIN, "a b"), (ORIGIN, ""), ("AwMD", "Aw"), ("\n\n", "\n")]
    {
        assert!(Checkpoint::from_bytes(good.replacen(from, to, 1).as_bytes()).is_err(), "{from} {to}");
    }
    let long = format!("{ORIGIN}\n1\n{}", "a".repeat(NOTE_BYTES));
    assert_eq!(Checkpoint::from_bytes(long.as_bytes()).unwrap_err(), Malformed::Note);
}

proptest! {
    #[test]
    fn foreign_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Checkpoint::from_bytes(&bytes);
        prop_assert!(Heads::new(&bytes).count() <= bytes.len());
        let _ = String::from_utf8_lossy(&bytes).parse::<VerifierKey>();
    }

    #[test]
    fn a_changed_byte_never_passes(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let good = signed(1_000).to_bytes();
        let mut bytes = good.clone();
        let at = at.index(bytes.len());
        bytes[at] = to;
        prop_assume!(bytes != good);
        let passes = Checkpoint::from_bytes(&bytes)
            .is_ok_and(|read| read.signed_by(log_key().verifier()) == Signed::Well);
        prop_assert!(!passes);
    }
}
