//! A proof that a log has only grown since an older head of it, in the form in which witnesses of logs are given it: C2SP's
//! tlog-witness, add-checkpoint.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tlog_tiles::tlog::{self, Hash, check_tree};

use super::{LEVELS, PROOF_BYTES, ProofError, Tiles, checkpoint, signers};
use crate::files::Place;
use crate::keys::Believed;
use crate::note::{Checkpoint, Head};

/// What a proof of growth proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grown {
    /// The head that was kept.
    pub from: Head,
    /// The newest one, whose log begins with all that the kept one is of.
    pub to: Head,
    /// The names of the keys that have signed the newest one; the log's own is the first.
    pub signers: Vec<String>,
}

/// Proves that the newest signed head goes on from a head of so many records.
pub fn prove_growth(place: &Place, old: u64) -> Result<String, ProofError> {
    let checkpoint = checkpoint(place)?;
    let size = checkpoint.head().size;
    if old > size {
        return Err(ProofError::NotVouched(size));
    }
    // Every log goes on from an empty one.
    let hashes = match old {
        0 => Vec::new(),
        _ => tlog::prove_tree(size, old, &Tiles { place, size }).map_err(|_| ProofError::Missing("a tile"))?,
    };
    let lines: String = hashes.iter().map(|hash| STANDARD.encode(hash.0) + "\n").collect();
    Ok(format!("old {old}\n{lines}\n{}", String::from_utf8_lossy(&checkpoint.to_bytes())))
}

/// Checks that a log has only grown since a head that was kept.
pub fn check_growth(proof: &[u8], keys: &Believed, kept: &Checkpoint) -> Result<Grown, ProofError> {
    let (old, hashes, newest) = parse(proof)?;
    signers(kept, keys)?;
    let signers = signers(&newest, keys)?;
    let (from, to) = (kept.head(), newest.head());
    if old != from.size {
        return Err(ProofError::Malformed("it is about another head than the one that was kept"));
    }
    let goes_on = match from.size {
        0 => from == Head::EMPTY && hashes.is_empty(),
        _ => check_tree(&hashes, to.size, Hash(to.root), from.size, Hash(from.root)).is_ok(),
    };
    if goes_on { Ok(Grown { from, to, signers }) } else { Err(ProofError::Fork) }
}

/// Reads a proof. Nothing is said of whether it holds.
fn parse(bytes: &[u8]) -> Result<(u64, Vec<Hash>, Checkpoint), ProofError> {
    use ProofError::Malformed;
    if bytes.len() > PROOF_BYTES {
        return Err(Malformed("it is too long"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("not UTF-8"))?;
    let (head, checkpoint) = text.split_once("\n\n").ok_or(Malformed("no empty line"))?;
    let checkpoint = Checkpoint::from_bytes(checkpoint.as_bytes()).map_err(|_| Malformed("no signed head follows"))?;
    let mut lines = head.split('\n');
    let old = lines.next().and_then(|line| line.strip_prefix("old ")).ok_or(Malformed("another first line"))?;
    let old: u64 = old.parse().map_err(|_| Malformed("no size"))?;
    let mut hashes = Vec::new();
    for line in lines {
        let hash = STANDARD.decode(line).ok().and_then(|hash| <[u8; 32]>::try_from(hash).ok());
        hashes.push(Hash(hash.ok_or(Malformed("a line that is no hash"))?));
        if hashes.len() > LEVELS {
            return Err(Malformed("too many hashes"));
        }
    }
    Ok((old, hashes, checkpoint))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::keys::PublicKeys;
    use crate::note::LogKey;
    use crate::test_support::{Writer, head, records};

    fn keys(key: &LogKey) -> Believed {
        PublicKeys::new(key.verifier(), Vec::new(), Vec::new()).check().unwrap()
    }

    #[test]
    fn a_log_that_has_grown_proves_that_and_no_other() {
        let (directory, key) = (TempDir::new().unwrap(), LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap());
        let all = records(700);
        let writer = Writer { directory: directory.path().to_owned(), key: &key, cosigner: &() };
        writer.log(&all, &[700]);
        let (place, keys) = (Place::new(directory.path()), keys(&key));
        let kept = |count: usize| writer.signed(head(&all[..count]));
        for count in [1, 2, 3, 255, 256, 257, 512, 640, 699, 700] {
            let proof = prove_growth(&place, count as u64).unwrap();
            let grown = check_growth(proof.as_bytes(), &keys, &kept(count)).unwrap();
            assert_eq!(
                (grown.from, grown.to, grown.signers),
                (head(&all[..count]), head(&all), vec!["keys.example/audit".into()])
            );
            // Another log of that size, and another size.
            let mut other = all[..count].to_vec();
            other[count / 2] = b"another".to_vec();
            let forked = check_growth(proof.as_bytes(), &keys, &writer.signed(head(&other)));
            assert!(matches!(forked, Err(ProofError::Fork)), "{count}: {forked:?}");
            let other = if count == 1 { 2 } else { 1 };
            assert!(matches!(check_growth(proof.as_bytes(), &keys, &kept(other)), Err(ProofError::Malformed(_))));
        }
        // The head of a log that was kept before its first record.
        let proof = prove_growth(&place, 0).unwrap();
        let grown = check_growth(proof.as_bytes(), &keys, &kept(0)).unwrap();
        assert_eq!((grown.from, grown.to), (Head::EMPTY, head(&all)));
        let no_empty_one = writer.signed(Head { root: [1; 32], ..Head::EMPTY });
        assert!(matches!(check_growth(proof.as_bytes(), &keys, &no_empty_one), Err(ProofError::Fork)));
        let longer = proof.replacen("old 0", &format!("old 0\n{}", STANDARD.encode([0; 32])), 1);
        assert!(matches!(check_growth(longer.as_bytes(), &keys, &kept(0)), Err(ProofError::Fork)));
        assert!(matches!(prove_growth(&place, 701), Err(ProofError::NotVouched(700))));
    }

    #[test]
    fn what_is_not_signed_proves_nothing() {
        let directory = TempDir::new().unwrap();
        let [key, forger] = [1, 2].map(|seed| LogKey::from_seed("keys.example/audit", &[seed; 32]).unwrap());
        let all = records(300);
        let by = |key| Writer { directory: directory.path().to_owned(), key, cosigner: &() };
        by(&forger).log(&all, &[300]);
        let (place, keys) = (Place::new(directory.path()), keys(&key));
        let proof = prove_growth(&place, 200).unwrap();
        let kept = by(&key).signed(head(&all[..200]));
        assert!(matches!(check_growth(proof.as_bytes(), &keys, &kept), Err(ProofError::NotSigned)));
        by(&key).heads(&all, &[300]);
        let proof = prove_growth(&place, 200).unwrap();
        check_growth(proof.as_bytes(), &keys, &kept).unwrap();
        let forged = by(&forger).signed(head(&all[..200]));
        assert!(matches!(check_growth(proof.as_bytes(), &keys, &forged), Err(ProofError::NotSigned)));
        for changed in [proof.replacen("old 200", "old 200\nAAAA", 1), proof.replacen("old", "new", 1), String::new()] {
            assert!(
                matches!(check_growth(changed.as_bytes(), &keys, &kept), Err(ProofError::Malformed(_))),
                "{changed}"
            );
        }
        let mut lines: Vec<&str> = proof.split('\n').collect();
        lines.swap(1, 2);
        assert!(matches!(check_growth(lines.join("\n").as_bytes(), &keys, &kept), Err(ProofError::Fork)));
    }
}
