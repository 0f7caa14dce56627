//! The log keys of a cluster's tokens.

use std::fs;

use audit::keys::{Believed, HsmKey, PublicKeys};
use audit::note::{Checkpoint, Head, LogKey, Signed, VerifierKey};
use cluster::{AuditKey, Cluster};

use super::{LONG, Tokens, until_async};

/// Both zones sign the head of an audit log with keys of their own, and who checks that needs nobody's word but that of the
/// authority of the ceremony.
#[tokio::test(flavor = "multi_thread")]
async fn every_zone_signs_heads_of_the_audit_log() {
    let tokens = Tokens::new(&["a", "b"]);
    let folder = tokens.dir.path().join("ceremony");
    tokens.ceremony(&["a", "b"], &folder).await.unwrap();
    let log = LogKey::generate("kms.example/audit").unwrap();
    let both = async |cluster: &Cluster| {
        let keys = cluster.audit_keys("kms.example/audit", tokens.soon()).await;
        (keys.len() == 2).then_some(keys)
    };
    let (cluster, _removals) = tokens.cluster(&["a", "b"]).await;
    let keys = until_async("both tokens have made their keys", LONG, async || both(&cluster).await).await;
    let of_key = |key: &AuditKey| {
        HsmKey {
            hsm: key.hsm.to_string(),
            zone: key.zone.to_string(),
            key_store: "cks-00000000000000000".to_owned(),
            key: key.key.to_string(),
            statement: key.statement.clone(),
            statement_signature: String::new(),
            identity_certificate: key.identity_certificate.clone(),
        }
        .with_signature(&key.statement_signature)
    };
    let anchor = fs::read_to_string(folder.join("customerCA.crt")).unwrap();
    let believed = PublicKeys::new(log.verifier(), keys.iter().map(of_key).collect(), vec![anchor]).check().unwrap();
    let head = Head { size: 9, root: [9; 32] };
    let mut signed = Checkpoint::new("kms.example/audit", head, Vec::new()).unwrap();
    let signatures = cluster.sign_checkpoint(signed.text(), tokens.soon()).await;
    for (hsm, signature) in signatures {
        let key = &keys.iter().find(|key| key.hsm == hsm).unwrap().key;
        signed.push(key.line(signature).unwrap());
    }
    assert!(believed.hsms.iter().all(|hsm| signed.signed_by(&hsm.key) == Signed::Well), "{signed:?}");
    cluster.stop(LONG).await;
    // The keys stay where they are.
    let (cluster, _removals) = tokens.cluster(&["a", "b"]).await;
    let again = until_async("both keys are found", LONG, async || both(&cluster).await).await;
    let keys = |keys: &[AuditKey]| keys.iter().map(|key| key.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&again), keys_of(&believed));
    cluster.stop(LONG).await;
}

fn keys_of(believed: &Believed) -> Vec<VerifierKey> {
    believed.hsms.iter().map(|hsm| hsm.key.clone()).collect()
}
