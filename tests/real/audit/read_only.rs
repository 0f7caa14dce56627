//! The file system of the audit log takes no writes: from the start on, or because it has failed under load.

use std::time::Duration;

use super::disk::is_retryable;
use super::{wait_until_accepting, wait_until_sound, wait_until_unready};
use crate::harness::audit::{Witnesses, records, request_ids};
use crate::harness::daemon::Site;
use crate::harness::{context, wait};

const BYTES: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_read_only_file_system_is_opened_when_that_takes_writes() {
    let daemon = Site::prepare().await.with_audit_disk(BYTES).start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("used").await;
    let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    let site = daemon.terminate().1;
    let before = records(&site.audit_dir());

    site.disk().read_only(true);
    let daemon = site.launch();
    wait::until("it listens", wait::LONG, || daemon.ops("/readyz"));
    wait_until_unready(&daemon, "Read-only file system");
    let caller = daemon.caller().await;
    for refused in [
        caller.decrypt(&ciphertext, &context(&[])).await.map(drop),
        caller.switch_key(&key, false).await,
        caller.try_create_key("has no record", "").await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert!(refused.retryable, "{refused:?}");
    }
    assert_eq!(records(&daemon.site().audit_dir()), before, "nothing was changed");

    daemon.site().disk().read_only(false);
    wait_until_sound(&daemon);
    daemon.wait_until_healthy_for(&caller).await;
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    caller.switch_key(&key, false).await.unwrap();
    daemon.audit_settled();
    assert_eq!(records(&daemon.site().audit_dir())[..before.len()], before);
}

/// What is mounted for writing, and used, can be remounted read-only by nobody; a file system does it by itself when it finds an
/// error, and stays so. Then a copy is put in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_fails_under_load_is_replaced_by_a_copy_and_nothing_is_lost() {
    if !rustix::process::geteuid().is_root() {
        // Loop devices are root's.
        return;
    }
    let daemon = Site::prepare().await.with_audit_disk_that_can_fail(BYTES).start().await;
    let caller = daemon.caller().await;
    let (key, other) = (caller.create_key("used").await, caller.create_key("switched off").await);
    let witnesses = Witnesses::start(&caller, &key, "fails", 2);
    witnesses.answered(50).await;

    daemon.site().disk().fail();
    is_retryable(&witnesses.fails().await);
    wait_until_unready(&daemon, "the file system of the audit log is read-only");
    // Not even what takes out of use has room on what takes nothing. It is waited for a moment whether that ends.
    let patient = caller.with_deadline(Duration::from_secs(60));
    let refused = patient.switch_key(&other, false).await.unwrap_err();
    assert!(refused.retryable, "{refused:?}");

    daemon.site().disk().replace_by_a_copy(BYTES);
    wait_until_accepting(&daemon);
    witnesses.answered(50).await;
    caller.switch_key(&other, false).await.unwrap();
    let (answered, _) = witnesses.stop().await;
    daemon.audit_signed_by_all(&caller, &key).await;
    assert_eq!(answered.difference(&request_ids(&daemon.site().audit_dir())).next(), None);
    // Nor is anything lost with the process.
    let daemon = daemon.crash().launch();
    daemon.wait_until_ready();
    daemon.audit_settled();
    assert_eq!(answered.difference(&request_ids(&daemon.site().audit_dir())).next(), None);
}
