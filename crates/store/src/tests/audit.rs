//! The audit log's key and head.

use super::*;
use crate::audit::{AuditHead, AuditLog, NewAuditLog};

fn new(origin: &str, after: Option<u32>) -> NewAuditLog {
    NewAuditLog { origin: origin.to_owned(), sealed: format!("sealed for {origin}").into(), after }
}

fn head(size: u64) -> AuditHead {
    AuditHead { size, root: [size.to_be_bytes()[7]; 32] }
}

#[tokio::test]
async fn one_log_after_the_other_and_a_key_of_the_last_alone() {
    let mut bench = Bench::new().await;
    assert_eq!(bench.store.audit_log().await.unwrap(), None);
    bench.clock.advance(Duration::from_millis(7));
    let before = bench.store.revision();
    bench.store.begin_audit_log(new("first", None)).await.unwrap();
    bench.reopen().await;
    let first = AuditLog {
        number: 1,
        origin: "first".to_owned(),
        sealed: Some("sealed for first".into()),
        created_at: 7,
        head: None,
    };
    assert_eq!(bench.store.audit_log().await.unwrap(), Some(first.clone()));
    assert!(!format!("{first:?}").contains("sealed for"));

    // Who began one meanwhile is not overrun, and no origin is taken twice.
    let refused = bench.store.begin_audit_log(new("second", None)).await.unwrap_err();
    assert!(refused.to_string().contains("another audit log was begun meanwhile"), "{refused}");
    assert!(bench.store.begin_audit_log(new("first", Some(1))).await.is_err());
    assert_eq!(bench.store.audit_log().await.unwrap(), Some(first.clone()));

    bench.store.note_audit_head(1, head(3)).await.unwrap();
    bench.store.begin_audit_log(new("second", Some(1))).await.unwrap();
    let logs = bench.store.audit_logs().await.unwrap();
    assert_eq!(logs[0], AuditLog { sealed: None, head: Some(head(3)), ..first });
    assert_eq!((logs.len(), logs[1].number, &*logs[1].origin, logs[1].head), (2, 2, "second", None));
    assert_eq!(bench.store.revision(), before, "no catalogue shows it");
}

#[tokio::test]
async fn a_head_never_goes_back() {
    let bench = Bench::new().await;
    bench.store.begin_audit_log(new("first", None)).await.unwrap();
    for (noted, is) in [(5, 5), (4, 5), (6, 6)] {
        bench.store.note_audit_head(1, head(noted)).await.unwrap();
        assert_eq!(bench.store.audit_log().await.unwrap().and_then(|log| log.head), Some(head(is)));
    }
    bench.store.note_audit_head(1, AuditHead { size: 6, root: [0; 32] }).await.unwrap();
    assert_eq!(bench.store.audit_log().await.unwrap().and_then(|log| log.head), Some(head(6)), "the first stays");
    bench.store.note_audit_head(2, head(9)).await.unwrap();
    assert_eq!(bench.store.audit_logs().await.unwrap().len(), 1, "of a log that is not there");
}

#[tokio::test]
async fn the_key_is_sealed_anew() {
    let bench = Bench::new().await;
    let again = |origin: &str, sealed: &[u8]| Ok(format!("{origin}: {}", String::from_utf8_lossy(sealed)).into());
    assert_eq!(bench.store.reseal_audit_key(again).await.unwrap(), 0);
    bench.store.begin_audit_log(new("first", None)).await.unwrap();
    bench.store.begin_audit_log(new("second", Some(1))).await.unwrap();
    assert_eq!(bench.store.reseal_audit_key(again).await.unwrap(), 1, "there is one key");
    let sealed = bench.store.audit_log().await.unwrap().and_then(|log| log.sealed);
    assert_eq!(sealed, Some("second: sealed for second".into()));
    let refused = bench.store.reseal_audit_key(|_, _| Err("another key".to_owned())).await.unwrap_err().to_string();
    assert!(refused.contains("the key of the audit log: another key"), "{refused}");
}
