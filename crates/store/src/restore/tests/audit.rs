//! An audit log does not go back with its database.

use super::*;
use crate::audit::{AuditHead, NewAuditLog};

fn head(size: u64) -> AuditHead {
    AuditHead { size, root: [9; 32] }
}

async fn begin(store: &Store, origin: &str, after: Option<u32>) {
    let sealed = Bytes::from(format!("sealed for {origin}"));
    store.begin_audit_log(NewAuditLog { origin: origin.to_owned(), sealed, after }).await.unwrap();
}

#[tokio::test]
async fn the_newest_head_and_key_are_those_of_the_database_that_is_replaced() {
    let (site, store, _) = Site::used().await;
    begin(&store, "first", None).await;
    store.note_audit_head(1, head(5)).await.unwrap();
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();
    store.note_audit_head(1, head(9)).await.unwrap();
    begin(&store, "second", Some(1)).await;
    store.note_audit_head(2, head(2)).await.unwrap();
    let expected = store.audit_logs().await.unwrap();
    store.close().await;

    let (plan, _) = site.restore(&copy).await;
    assert_eq!(plan.audit_logs.as_ref(), Some(&expected));
    let store = site.open().await.unwrap();
    assert_eq!(store.audit_logs().await.unwrap(), expected);
    store.close().await;
}

#[tokio::test]
async fn without_another_one_the_backup_s_stand() {
    let (site, store, _) = Site::used().await;
    begin(&store, "first", None).await;
    store.note_audit_head(1, head(5)).await.unwrap();
    let (copy, expected) = (site.copy("backup"), store.audit_logs().await.unwrap());
    backup(&site.file(), &copy, &site.clock).await.unwrap();
    store.close().await;
    fs::remove_dir_all(site.folder.path().join("state")).unwrap();
    fs::create_dir(site.folder.path().join("state")).unwrap();

    let (plan, _) = site.restore(&copy).await;
    assert_eq!(plan.audit_logs, None);
    let store = site.open().await.unwrap();
    assert_eq!(store.audit_logs().await.unwrap(), expected);
    store.close().await;
}
