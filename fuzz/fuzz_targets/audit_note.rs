//! Whoever checks a log reads what its operator, or somebody who was there, has written. What reads as a head, a key, a file of
//! keys or a proof is written as it was read; a bundle is its records one after the other; and none of it says more than it is.
#![no_main]

use audit::files::Bundle;
use audit::keys::PublicKeys;
use audit::note::{Checkpoint, Heads, LogKey, VerifierKey};
use audit::prove::Proof;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let key = LogKey::from_seed("keys.example/audit", &[1; 32]).unwrap();
    if let Ok(head) = Checkpoint::from_bytes(bytes) {
        assert_eq!(Checkpoint::from_bytes(&head.to_bytes()).as_ref(), Ok(&head));
        let _ = head.signed_by(key.verifier());
    }
    let mut heads = Heads::new(bytes);
    while let Some(Ok(head)) = heads.next() {
        assert!(heads.position() <= bytes.len() && head.to_bytes().len() <= bytes.len());
    }
    if let Ok(keys) = PublicKeys::from_json(bytes) {
        let _ = keys.check();
        assert_eq!(PublicKeys::from_json(&keys.to_json().unwrap()).unwrap(), keys);
    }
    if let Ok(proof) = Proof::parse(bytes) {
        assert_eq!(Proof::parse(proof.to_text().as_bytes()).unwrap(), proof);
        let keys = PublicKeys::new(key.verifier(), Vec::new(), Vec::new()).check().unwrap();
        let _ = audit::prove::check(bytes, &keys, None);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(key) = text.parse::<VerifierKey>()
    {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    let bundle = Bundle::from_bytes(bytes.to_vec());
    let mut again = Vec::new();
    for record in (0..bundle.len()).filter_map(|index| bundle.record(index)) {
        again.extend(u16::try_from(record.len()).unwrap().to_be_bytes());
        again.extend(record);
    }
    assert!(bytes.starts_with(&again) && bundle.is_whole() == (again.len() == bytes.len()));
});
