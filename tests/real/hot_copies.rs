//! Hot copies in a daemon: workers ask for what they make them of, and are given it.

use chaos_hsm::Control;

use crate::harness::daemon::Site;
use crate::harness::{Caller, chaos, context, wait};

fn unwrapped(controls: &[Control]) -> u64 {
    controls.iter().map(|control| control.calls("C_UnwrapKey")).sum()
}

fn copies(controls: &[Control]) -> u64 {
    controls.iter().map(|control| control.calls("C_CopyObject")).sum()
}

/// Calls until each of `workers` more has made its copy.
async fn warm(caller: &Caller, key: &str, controls: &[Control], before: u64, workers: u64) {
    let none = context(&[]);
    wait::until_async("each worker has made its copy", wait::LONG, async || {
        // Several at once, so that each worker has something to do.
        let calls = (0..16).map(|_| caller.encrypt(key, b"plaintext", &none));
        for sealed in futures_util::future::join_all(calls).await {
            sealed.unwrap();
        }
        (unwrapped(controls) >= before + workers).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_worker_makes_its_copy_once_and_another_worker_its_own() {
    let site = Site::prepare().await;
    let controls = chaos::control_each(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("in use").await;
    let (placed, copied) = (unwrapped(&controls), copies(&controls));
    // Whichever of them are asked: at least one.
    warm(&caller, &key, &controls, placed, 1).await;
    let data_workers = 4;
    let none = context(&[]);
    for _ in 0..20 {
        let calls = (0..16).map(|_| caller.encrypt(&key, b"plaintext", &none));
        for sealed in futures_util::future::join_all(calls).await {
            let opened = caller.decrypt(&sealed.unwrap(), &none).await.unwrap();
            assert_eq!(opened, b"plaintext");
        }
    }
    let made = unwrapped(&controls) - placed;
    assert!((1..=data_workers).contains(&made), "{made} copies for {data_workers} workers");
    // What an HSM does by it is tried when it comes in, and never again.
    assert_eq!(copies(&controls), copied);

    // New processes have no copies, and are given what they make them of like the first ones.
    for zone in ["a", "b"] {
        daemon.replace_workers(zone, &caller).await;
    }
    let before = unwrapped(&controls);
    warm(&caller, &key, &controls, before, 1).await;
}
