//! Trust anchors come from callers, certificates from callers, tokens and whoever shakes hands. No input is certified by an
//! authority that has certified nothing, and what is read as an anchor is an authority of its own; what is shown of a
//! certificate obeys no terminal.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use pki::Facts;
use pki::identity::{ClusterAuthority, Kind, TrustAnchor, pem_of, subject_of};
use libfuzzer_sys::fuzz_target;

const NOW: Duration = Duration::from_secs(1_800_000_000);
static ANCHOR: LazyLock<TrustAnchor> = LazyLock::new(|| {
    let authority = ClusterAuthority::generate(&"cluster-aaaaaaaaaaa".into(), SystemTime::UNIX_EPOCH + NOW).unwrap();
    TrustAnchor::from_pem(authority.certificate()).unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    for kind in [Kind::Identity, Kind::Transport] {
        assert!(ANCHOR.certified(kind, bytes, SystemTime::UNIX_EPOCH + NOW).is_err());
    }
    let _ = subject_of(bytes);
    if let Ok(facts) = Facts::of(bytes) {
        let shown = [&facts.subject, &facts.issuer].into_iter().chain(&facts.names);
        assert!(shown.flat_map(|name| name.chars()).all(|c| !c.is_control()));
    }
    let _ = TrustAnchor::from_pem(&String::from_utf8_lossy(bytes));
    if let Ok(anchor) = TrustAnchor::from_pem(&pem_of(bytes)) {
        assert!(anchor.is_same_authority(&anchor) && !anchor.is_same_authority(&ANCHOR));
    }
});
