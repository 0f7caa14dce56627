//! SIGTERM: what is in hand is finished, the workers log out, nothing stays behind. SIGKILL: nothing stays either.

use tonic::Code;

use crate::harness::load::Load;
use crate::harness::{Daemon, context, process};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_ends_in_order() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("until the end").await;
    let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    let load = Load::start(&caller, &key, 8);
    load.passes(200).await;
    let workers: Vec<u32> = daemon.zones.iter().flat_map(|zone| zone.workers()).collect();
    assert!(workers.len() >= 4, "each zone has a control worker and a data worker: {workers:?}");

    let (status, site) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    for pid in workers {
        assert!(!process::lives(pid), "worker {pid} is still there");
    }
    let (_, failures) = load.stop().await;
    for failure in failures {
        // A call that crosses the end of its connection has no answer of the service, and so no reason; the client
        // library names it by the HTTP/2 code, which is Internal for a GOAWAY without an error.
        let unanswered = failure.reason.is_empty() && matches!(failure.code, Code::Internal | Code::Unknown);
        let told = matches!(failure.code, Code::Unavailable | Code::Cancelled);
        assert!(unanswered || told, "{failure:?}");
    }

    let daemon = site.start().await;
    assert_eq!(daemon.caller().await.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_a_killed_daemon_leave_by_themselves() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("before the crash").await;
    let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    for zone in &daemon.zones {
        zone.keep_copies();
    }
    let site = daemon.crash();
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    caller.create_key("after the crash").await;
}
