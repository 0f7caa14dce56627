//! The daemon may not go into the audit log's places any more, or not yet: their permissions were taken away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::disk::is_retryable;
use super::{wait_until_sound, wait_until_unready};
use crate::harness::audit::{Witnesses, records, request_ids};
use crate::harness::{Daemon, context, wait};

/// What the system says of it.
const DENIED: &str = "Permission denied";

fn permit(place: &Path, mode: u32) {
    fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode_of(place: &Path) -> u32 {
    fs::metadata(place).unwrap().permissions().mode()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_daemon_may_not_go_it_gives_nothing_out_and_goes_on_when_it_may() {
    let daemon = Daemon::start().await;
    let key = daemon.caller().await.create_key("used").await;
    let site = daemon.terminate().1;
    let directory = site.audit_dir();
    let before = records(&directory);

    // From the start on: what cannot be looked at may hold a log, and none is begun in its place.
    let mode = mode_of(&directory);
    permit(&directory, 0o000);
    let daemon = site.launch_bound_by_permissions();
    wait::until("it listens", wait::LONG, || daemon.ops("/readyz"));
    wait_until_unready(&daemon, DENIED);
    let caller = daemon.caller().await;
    let refused = caller.encrypt(&key, b"x", &context(&[])).await.unwrap_err();
    assert!(refused.retryable, "{refused:?}");
    permit(&directory, mode);
    wait_until_sound(&daemon);
    daemon.wait_until_healthy_for(&caller).await;

    // And while it runs, under load.
    let witnesses = Witnesses::start(&caller, &key, "permissions", 2);
    witnesses.answered(50).await;
    for place in [directory.clone(), directory.join("journal")] {
        let mode = mode_of(&place);
        permit(&place, 0o000);
        is_retryable(&witnesses.fails().await);
        wait_until_unready(&daemon, DENIED);
        permit(&place, mode);
        witnesses.answered(50).await;
        wait_until_sound(&daemon);
    }
    let (answered, _) = witnesses.stop().await;
    daemon.audit_settled();
    assert_eq!(answered.difference(&request_ids(&directory)).next(), None);
    // Nor is anything lost with the process.
    let daemon = daemon.crash().launch();
    daemon.wait_until_ready();
    daemon.audit_settled();
    assert_eq!(answered.difference(&request_ids(&directory)).next(), None);
    assert_eq!(records(&directory)[..before.len()], before);
}
