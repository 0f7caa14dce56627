//! One login at a time: the lock that other processes of this host may hold.

use std::fs;

use proto::v1::{ConnectionState, HsmStatus};

use super::{assert_connected, assert_failed, forget_former_seal_key, renew_seal_key, with_store};
use crate::harness::{Daemon, wait};

/// Another process of this host logs in to the same tokens: its lock is waited for, and nothing is tried meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_waits_for_that_of_another_process() {
    let (daemon, caller, id) = with_store(true).await;
    assert_connected(&caller.connect(&id).await.unwrap());
    caller.disconnect(&id).await.unwrap();
    let held = hold_login_locks(&daemon);
    caller.begin_connect(&id).await.unwrap();
    let waiting = wait::until_async("both HSMs wait for their login", wait::LONG, async || {
        let store = caller.key_store(&id).await;
        let last = |hsm: &HsmStatus| hsm.steps.last().map(|step| step.step.clone());
        store
            .hsms
            .iter()
            .all(|hsm| last(hsm).is_some_and(|step| step == "waiting until no other process logs in to this token"))
            .then_some(store)
    })
    .await;
    assert_eq!(waiting.connection_state(), ConnectionState::Connecting, "{waiting:?}");
    assert!(waiting.hsms.iter().all(|hsm| hsm.pin_tries_left == 3), "{waiting:?}");
    // What is recorded meanwhile stays: PINs that were sealed anew are not put back under the former key.
    renew_seal_key(&daemon);
    assert!(daemon.keystorectl(&["cluster", "reseal"]).ok().contains('2'));
    drop(held);
    assert_connected(&caller.settled(&id).await);
    daemon.wait_until_healthy_for(&caller).await;
    forget_former_seal_key(&daemon);
    let site = daemon.terminate().1;
    let daemon = site.launch();
    daemon.wait_until_ready();
    daemon.wait_until_healthy_for(&daemon.caller().await).await;
}

/// Takes each token's login lock, as a process does that logs in to it.
fn hold_login_locks(daemon: &Daemon) -> Vec<fs::File> {
    let state = fs::read_dir(daemon.site().path().join("state")).unwrap().map(|entry| entry.unwrap().path());
    let locks: Vec<_> = state.filter(|path| path.display().to_string().contains("keystored-login-")).collect();
    assert_eq!(locks.len(), 2, "{locks:?}");
    let held: Vec<fs::File> = locks.iter().map(|path| fs::File::open(path).unwrap()).collect();
    for file in &held {
        rustix::fs::flock(file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    }
    held
}

/// A login lock that nobody gives back fails a connect by name; and a connect that waits for one can be broken off.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_login_lock_is_named_and_a_waiting_connect_can_be_broken_off() {
    let (daemon, caller, id) = with_store(true).await;
    assert_connected(&caller.connect(&id).await.unwrap());
    caller.disconnect(&id).await.unwrap();
    let held = hold_login_locks(&daemon);
    caller.begin_connect(&id).await.unwrap();
    let store = caller.disconnect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Disconnected, "{store:?}");
    assert_failed(
        &caller.connect(&id).await.unwrap(),
        "NETWORK_ERRORS",
        &["hsm-a", "hsm-b", "no other process logs in"],
    );
    drop(held);
    caller.disconnect(&id).await.unwrap();
    assert_connected(&caller.connect(&id).await.unwrap());
    daemon.wait_until_healthy_for(&caller).await;
    assert!(caller.key_store(&id).await.hsms.iter().all(|hsm| hsm.pin_tries_left == 3));
}
