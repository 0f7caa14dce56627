//! Log keys of HSMs, and who signs heads: those of connected key stores, and no others.

use super::bench::Bench;

#[tokio::test]
async fn hsms_of_connected_stores_sign_heads() {
    let bench = Bench::new().await;
    let deadline = bench.call().deadline;
    let keys = bench.service.audit_keys("kms.example/audit", deadline).await;
    let [store] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!(store.key_store, bench.key_store);
    assert!(!store.trust_anchor.is_empty());
    let named: Vec<_> = store.keys.iter().map(|key| key.key.name().to_owned()).collect();
    assert_eq!(named, ["kms.example/audit/hsm-0", "kms.example/audit/hsm-1"]);
    let signed = bench.service.sign_checkpoint(b"a head", deadline).await;
    let by: Vec<_> = signed.iter().map(|(hsm, text)| (hsm.as_str(), &text[..])).collect();
    assert_eq!(by, [("hsm-0", &b"a head"[..]), ("hsm-1", b"a head")]);

    bench.service.disconnect_key_store(&bench.call(), bench.key_store.as_str()).await.unwrap();
    assert!(bench.service.audit_keys("kms.example/audit", deadline).await.is_empty());
    assert!(bench.service.sign_checkpoint(b"a head", deadline).await.is_empty());
}
