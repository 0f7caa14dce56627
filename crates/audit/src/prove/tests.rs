use ct_merkle::InclusionProof;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;
use tempfile::TempDir;

use super::*;
use crate::note::LogKey;
use crate::test_support::{Writer, record, records};

const ORIGIN: &str = "keys.example/audit";

fn key() -> LogKey {
    LogKey::from_seed(ORIGIN, &[1; 32]).unwrap()
}

fn keys() -> Believed {
    Believed { log: key().verifier().clone(), hsms: Vec::new() }
}

fn log(all: &[Vec<u8>]) -> TempDir {
    let directory = TempDir::new().unwrap();
    let writer = Writer { directory: directory.path().to_owned(), key: &key(), cosigner: &() };
    writer.log(all, &[all.len() as u64]);
    directory
}

fn theirs(all: &[Vec<u8>]) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    all.iter().for_each(|record| tree.push(record.clone()));
    tree
}

/// What is proven here holds for another implementation, which makes the same proof.
fn compare(all: &[Vec<u8>], numbers: impl Iterator<Item = u64>) {
    let (directory, tree) = (log(all), theirs(all));
    for number in numbers {
        let text = prove(directory.path(), number).unwrap();
        let proof = Proof::parse(text.as_bytes()).unwrap();
        let record = &all[number as usize];
        let own: InclusionProof<Sha256> = InclusionProof::from_bytes(proof.hashes.concat());
        tree.root().verify_inclusion(record, number, &own).unwrap();
        assert_eq!(tree.prove_inclusion(number as usize).as_bytes(), proof.hashes.concat(), "{number}");
        let proven = check(text.as_bytes(), &keys(), None).unwrap();
        assert_eq!((proven.number, &proven.record), (number, record));
        assert_eq!((proven.head.size, &proven.signers[..]), (all.len() as u64, &[ORIGIN.to_owned()][..]));
    }
}

#[test]
fn proofs_are_those_of_another_implementation() {
    for size in (1..=600).step_by(41).chain([1, 2, 255, 256, 257, 512, 513, 600]) {
        let numbers = [0, size / 3, size / 2, size - 1];
        compare(&records(size), numbers.into_iter());
    }
    compare(&records(600), 0..600);
    let many: Vec<Vec<u8>> = (0..70_000).map(|number| record(number, 0)).collect();
    compare(&many, [0, 255, 256, 65_535, 65_536, 69_999].into_iter());
}

#[test]
fn a_proof_looks_as_c2sp_has_it() {
    let all = records(5);
    let text = prove(log(&all).path(), 4).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "c2sp.org/tlog-proof@v1");
    assert_eq!(lines[1], format!("extra {}", STANDARD.encode(&all[4])));
    assert_eq!(lines[2], "index 4");
    assert_eq!((lines.len(), lines[3].len(), lines[4], lines[5], lines[6]), (10, 44, "", ORIGIN, "5"));
    // Without the record, it is told.
    let bare = Proof { extra: None, ..Proof::parse(text.as_bytes()).unwrap() }.to_text();
    assert!(matches!(check(bare.as_bytes(), &keys(), None), Err(ProofError::NoRecord)));
    assert!(check(bare.as_bytes(), &keys(), Some(&all[4])).is_ok());
    assert!(matches!(check(bare.as_bytes(), &keys(), Some(&all[3])), Err(ProofError::Untrue)));
}

#[test]
fn what_is_not_so_is_not_proven() {
    let all = records(300);
    let directory = log(&all);
    assert!(matches!(prove(directory.path(), 300), Err(ProofError::NotVouched(300))));
    let good = prove(directory.path(), 7).unwrap();
    let other = prove(directory.path(), 8).unwrap();
    let swapped = good.replace("index 7", "index 8");
    assert!(matches!(check(swapped.as_bytes(), &keys(), None), Err(ProofError::Untrue)));
    let record = other.lines().nth(1).unwrap();
    let forged = good.replace(good.lines().nth(1).unwrap(), record);
    assert!(matches!(check(forged.as_bytes(), &keys(), None), Err(ProofError::Untrue)));
    let size = good.replace("\n300\n", "\n301\n");
    assert!(matches!(check(size.as_bytes(), &keys(), None), Err(ProofError::NotSigned)));
    let elsewhere = Believed { log: LogKey::generate("other").unwrap().verifier().clone(), hsms: Vec::new() };
    assert!(matches!(check(good.as_bytes(), &elsewhere, None), Err(ProofError::OtherLog(_))));
    for (from, to) in
        [("v1", "v2"), ("index 7", "index 07"), ("index", "number"), ("\n\n", "\n"), ("extra ", "extra !")]
    {
        let result = check(good.replacen(from, to, 1).as_bytes(), &keys(), None);
        assert!(matches!(result, Err(ProofError::Malformed(_))), "{from}: {result:?}");
    }
    // Nothing is proven by files that do not make what was signed.
    let path = directory.path().join(crate::layout::bundle(0, 256));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(prove(directory.path(), 0), Err(ProofError::Contradiction)));
    std::fs::remove_file(directory.path().join(crate::layout::tile(0, 0, 256))).unwrap();
    assert!(matches!(prove(directory.path(), 1), Err(ProofError::Missing(_))));
}

proptest! {
    #[test]
    fn foreign_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = check(&bytes, &keys(), None);
    }

    #[test]
    fn any_number_and_size_are_judged_without_panic(
        number in any::<u64>(),
        size in any::<u64>(),
        hashes in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let head = Head { size, root: [0; 32] };
        let line = key().sign(&Checkpoint::text_of(ORIGIN, &head).unwrap());
        let checkpoint = Checkpoint::new(ORIGIN, head, vec![line]).unwrap();
        let text = Proof { extra: Some(vec![1]), number, hashes, checkpoint }.to_text();
        prop_assert!(check(text.as_bytes(), &keys(), None).is_err());
    }
}
