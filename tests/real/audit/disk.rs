//! The disk of the audit log is full under load: nothing is given out without its record, what takes keys out
//! of use goes through, and all of it ends with the trouble.

use tonic::Code;

use super::{wait_until_accepting, wait_until_unready};
use crate::harness::Failure;
use crate::harness::audit::{Witnesses, request_ids};
use crate::harness::daemon::Site;
use crate::harness::wait;

/// Of the small disk: what the log has of it by itself is used up before records are refused, and under load that is much.
const BYTES: u64 = 256 << 20;

/// A refusal that a caller can act on.
#[track_caller]
pub(super) fn is_retryable(refused: &Failure) {
    assert!(refused.retryable, "{refused:?}");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "KMSInternalException"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_results_and_not_the_kill_switch() {
    let daemon = Site::prepare().await.with_audit_disk(BYTES).start().await;
    let caller = daemon.caller().await;
    let (key, other) = (caller.create_key("used").await, caller.create_key("switched off").await);
    let witnesses = Witnesses::start(&caller, &key, "full", 2);
    witnesses.answered(50).await;
    for round in 0..2 {
        daemon.site().disk().fill();
        // What the journal has in reserve for all is used up first.
        is_retryable(&witnesses.fails().await);
        wait_until_unready(&daemon, "full");
        // What takes something out of use is recorded in the reserve; what puts it back is not.
        caller.switch_key(&other, false).await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        is_retryable(&caller.switch_key(&other, true).await.unwrap_err());
        is_retryable(&caller.try_create_key("has no record", "").await.unwrap_err());
        daemon.site().disk().free();
        wait_until_accepting(&daemon);
        witnesses.answered(50).await;
        caller.switch_key(&other, true).await.unwrap();
    }
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    let counted = "keystored_audit_records_not_accepted_total{reason=\"no_space\"} ";
    let count: u64 = metrics.lines().find_map(|line| line.strip_prefix(counted)?.parse().ok()).unwrap();
    assert!(count > 0, "{metrics}");

    let (answered, _) = witnesses.stop().await;
    daemon.audit_signed_by_all(&caller, &key).await;
    let known = request_ids(&daemon.site().audit_dir());
    assert_eq!(answered.difference(&known).next(), None);
}

/// By default database and log are on one disk. When that is full there is no record, and so no result; the database's own
/// reserve and the log's let keys be disabled all the same.
#[tokio::test(flavor = "multi_thread")]
async fn on_one_disk_with_the_database_it_is_the_same() {
    let site = Site::prepare().await;
    site.audit(|audit| drop(audit.insert("dir".to_owned(), "state/audit".into())));
    let daemon = site.with_disk(BYTES).start().await;
    let caller = daemon.caller().await;
    let (key, other) = (caller.create_key("used").await, caller.create_key("switched off").await);
    let witnesses = Witnesses::start(&caller, &key, "shared", 2);
    witnesses.answered(50).await;
    daemon.site().disk().fill();
    is_retryable(&witnesses.fails().await);
    wait_until_unready(&daemon, "full");
    caller.switch_key(&other, false).await.unwrap();
    is_retryable(&caller.switch_key(&other, true).await.unwrap_err());
    daemon.site().disk().free();
    wait_until_accepting(&daemon);
    witnesses.answered(50).await;
    // The database's reserve is made whole first.
    wait::until_async("it can be enabled", wait::LONG, async || caller.switch_key(&other, true).await.ok()).await;
    witnesses.stop().await;
}
