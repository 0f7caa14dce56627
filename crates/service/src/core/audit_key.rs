//! The seed of the audit log's key as it is on record: sealed for its log's origin, so that it opens for no other one.

use bytes::Bytes;

use model::secret::Secret;
use pki::seal::{Error, SealKeys};

/// What seeds are sealed for, beside the origin.
const PURPOSE: &str = "audit log";

/// Seals a seed under the seal key in use.
pub fn seal(seals: &SealKeys, origin: &str, seed: &Secret) -> Result<Bytes, Error> {
    seals.seal(&[PURPOSE, origin], seed).map(Bytes::from)
}

/// Opens one.
pub fn open(seals: &SealKeys, origin: &str, sealed: &[u8]) -> Result<Secret, Error> {
    seals.open(&[PURPOSE, origin], sealed)
}

/// A sealed seed, sealed under the seal key in use.
pub(crate) fn resealed(seals: &SealKeys, origin: &str, sealed: &[u8]) -> Result<Bytes, String> {
    let seed = open(seals, origin, sealed).map_err(|error| error.to_string())?;
    seal(seals, origin, &seed).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use pki::seal::SealKey;

    use super::*;

    #[test]
    fn a_seed_opens_for_its_log_alone_and_is_sealed_anew() {
        let before = SealKeys::new(SealKey::test_of(1), Vec::new());
        let sealed = seal(&before, "one", &Secret::new(vec![5; 32])).unwrap();
        assert_eq!(open(&before, "one", &sealed).unwrap().expose(), [5; 32]);
        assert!(matches!(open(&before, "other", &sealed), Err(Error::Damaged)));

        let meanwhile = SealKeys::new(SealKey::test_of(2), vec![SealKey::test_of(1)]);
        let again = resealed(&meanwhile, "one", &sealed).unwrap();
        let after = SealKeys::new(SealKey::test_of(2), Vec::new());
        assert_eq!(open(&after, "one", &again).unwrap().expose(), [5; 32]);
        assert!(matches!(open(&after, "one", &sealed), Err(Error::OtherKey(_))));
    }
}
