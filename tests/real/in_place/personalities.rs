//! The same over modules that play clusters of HSMs: objects that come to the other HSM later, calls that move to it.

use super::rig::{Alone, objects};
use super::serves;
use crate::harness::zone::object_id;
use crate::harness::{context, wait};

/// CloudHSM, whose keys come to the other HSM after a moment. It holds no certificates.
const CLOUDHSM: &str = "personality = \"cloudhsm\"\n";
const SLOW: &str = "[topology]\nvisible_ms = 400\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_cloudhsm_cluster_is_a_key_store() {
    let alone = Alone::prepare("cloudhsm", "", &format!("{CLOUDHSM}{SLOW}")).await;
    let daemon = alone.site.start().await;
    let caller = daemon.caller().await;
    let key = serves(&daemon, &caller).await;
    let held = objects(&daemon);
    assert!(held.contains(&object_id(&key, 2)) && held.contains("never extractable"), "{held}");
    // A worker that dies in the middle of it.
    let next = alone.control.calls("C_GenerateKey") + 1;
    let crash = format!(
        "{CLOUDHSM}{SLOW}[[rule]]\nfunction = \"C_GenerateKey\"\ncalls = {{ from = {next}, to = {next} }}\nafter_call = true\n\
         fault = \"crash\""
    );
    daemon.zones[0].keep_copies();
    alone.control.set(&crash).unwrap();
    let caller = caller.with_deadline(wait::LONG);
    let key = caller.create_key("in spite of it").await;
    alone.control.set(&format!("{CLOUDHSM}{SLOW}")).unwrap();
    daemon.wait_until_healthy_for(&caller).await;
    let held = objects(&daemon);
    assert_eq!(held.matches(&object_id(&key, 1)).count(), 1, "{held}");
    let sealed = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();

    // One of its HSMs falls: the module goes to the other one.
    alone.control.set(&format!("{CLOUDHSM}{SLOW}down = [0]\n")).unwrap();
    wait::until_async("what is on both is used on the other", wait::LONG, async || {
        caller.decrypt(&sealed, &context(&[])).await.ok().filter(|opened| opened == b"kept")
    })
    .await;
    let refused = caller.try_create_key("on one HSM alone", "").await.unwrap_err();
    assert_eq!(refused.reason, "KMSInternalException", "{refused:?}");
    alone.control.set(&format!("{CLOUDHSM}{SLOW}")).unwrap();
    daemon.wait_until_healthy_for(&caller).await;
    serves(&daemon, &caller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_luna_ha_group_is_a_key_store() {
    const GROUP: &str = "personality = \"luna-ha\"\n[topology]\nfailover_ms = 300\nspread = \"sessions\"\n";
    let alone = Alone::prepare("luna-ha", "", GROUP).await;
    let daemon = alone.site.start().await;
    let caller = daemon.caller().await;
    let key = serves(&daemon, &caller).await;
    let sealed = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    for down in [0, 1, 0] {
        let before = alone.control.failovers();
        alone.control.set(&format!("{GROUP}down = [{down}]\n")).unwrap();
        wait::until_async("sessions have moved", wait::LONG, async || {
            assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"kept", "{}", daemon.log_tail());
            (alone.control.failovers() > before).then_some(())
        })
        .await;
        // A group of which one is down makes keys all the same.
        let made = caller.create_key("while one is down").await;
        caller.encrypt(&made, b"used", &context(&[])).await.unwrap();
    }
    alone.control.set(GROUP).unwrap();
    daemon.wait_until_healthy_for(&caller).await;
    serves(&daemon, &caller).await;
}
