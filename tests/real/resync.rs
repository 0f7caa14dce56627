//! What a token holds against what it should hold: removed keys come back when an operator says so, strangers are shown
//! and left alone.

use proto::v1::{ClusterHsm, HsmHealth, PlacementState};

use crate::harness::daemon::Site;
use crate::harness::zone::object_id;
use crate::harness::{Caller, Daemon, chaos, context, wait};

/// A key that no service made.
const STRANGER: &str = "0b0e5f0e-5a5c-4c39-9f0b-5f3f6f1d2c11";

async fn hsm(caller: &Caller, zone: &str) -> ClusterHsm {
    let cluster = caller.cluster().await;
    let of = |hsm: &&ClusterHsm| hsm.status.as_ref().is_some_and(|status| status.zone == zone);
    cluster.hsms.iter().find(of).unwrap_or_else(|| panic!("no HSM in zone {zone}: {cluster:?}")).clone()
}

async fn placed(caller: &Caller, key: &str, zone: &str) -> PlacementState {
    let metadata = caller.describe_key(key).await.unwrap();
    metadata.placements.iter().find(|placement| placement.zone == zone).unwrap().state()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_comes_back_when_an_operator_says_so() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let (one, two) = (caller.create_key("one").await, caller.create_key("two").await);
    let cluster = daemon.site().cluster().to_owned();
    for key in [&one, &two] {
        daemon.zone("a").delete_key(key, 1);
    }
    // Nobody uses these keys: the look that an operator asks for finds it.
    let asked = daemon.keystorectl(&["cluster", "resync", &cluster]).ok();
    assert!(asked.contains("nothing is known to be missing"), "{asked}");
    wait::until_async("both are found gone", wait::LONG, async || {
        (hsm(&caller, "a").await.keys_removed == 2).then_some(())
    })
    .await;

    let said = daemon.keystorectl(&["cluster", "resync", &cluster, "--key", &one]).ok();
    assert!(said.contains("wanted again: 1"), "{said}");
    wait::until_async("it is back", wait::LONG, async || {
        (placed(&caller, &one, "a").await == PlacementState::Present).then_some(())
    })
    .await;
    assert_eq!(placed(&caller, &two, "a").await, PlacementState::Removed, "the other was not named");
    let objects = || daemon.zone("a").pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    assert!(objects().contains(&object_id(&one, 1)) && !objects().contains(&object_id(&two, 1)), "{}", objects());

    let said = daemon.keystorectl(&["cluster", "resync", &cluster, "--hsm", "hsm-a", "--all-removed"]).ok();
    assert!(said.contains("wanted again: 1"), "{said}");
    wait::until_async("all are back", wait::LONG, async || {
        let hsm = hsm(&caller, "a").await;
        (hsm.keys_removed + hsm.keys_missing == 0).then_some(())
    })
    .await;
    for _ in 0..20 {
        caller.encrypt(&two, b"again", &context(&[])).await.unwrap();
    }
    for (arguments, why) in [
        (&["--key", STRANGER][..], "NotFoundException"),
        (&["--hsm", "hsm-x"][..], "hsm-x"),
        (&["--all-removed"][..], "--hsm"),
    ] {
        let refused = daemon.keystorectl(&[&["cluster", "resync", &cluster], arguments].concat());
        assert!(refused.code != Some(0) && refused.err.contains(why), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_a_token_is_shown_and_left_alone() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    caller.create_key("ours").await;
    let id = object_id(STRANGER, 1);
    let make = ["--keygen", "--key-type", "AES:32", "--id", &id, "--label", "stranger"];
    daemon.zone("b").pkcs11_tool(&make);
    let cluster = daemon.site().cluster().to_owned();
    daemon.keystorectl(&["cluster", "resync", &cluster]).ok();
    let seen = wait::until_async("the stranger is seen", wait::LONG, async || {
        let hsm = hsm(&caller, "b").await;
        (hsm.keys_orphaned == 1).then_some(hsm)
    })
    .await;
    assert_eq!((&seen.orphans[..], seen.keys_missing), (&[format!("{STRANGER}/1")][..], 0));
    assert_eq!(hsm(&caller, "a").await.keys_orphaned, 0);
    let shown = daemon.keystorectl(&["cluster", "status", &cluster, "--orphans"]).ok();
    assert!(shown.contains(&format!("Orphans in hsm-b:\n  {STRANGER}/1")), "{shown}");
    let objects = daemon.zone("b").pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    assert!(objects.contains(&id), "{objects}");
}

/// A token that is away lists nothing, or says that it cannot; neither is taken for what somebody did to its keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_away_has_not_lost_its_keys() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let keys = [caller.create_key("one").await, caller.create_key("two").await];
    let cluster = daemon.site().cluster().to_owned();
    for _ in 0..3 {
        let away = daemon.zone("b").take_away();
        wait::until_async("zone b is out of service", wait::LONG, async || {
            // Again and again, since only the first moments find a worker that still listens.
            daemon.keystorectl(&["cluster", "resync", &cluster]).ok();
            (hsm(&caller, "b").await.status?.health() == HsmHealth::Down).then_some(())
        })
        .await;
        away.put_back();
        daemon.wait_until_healthy_for(&caller).await;
        for key in &keys {
            assert_eq!(placed(&caller, key, "b").await, PlacementState::Present, "{}", daemon.log_tail());
        }
    }
}

/// Chaos seed 94: a listing that left out what it could not read made removed keys of them.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_read_for_a_moment_are_not_taken_for_removed() {
    let site = Site::prepare().await;
    let control = chaos::control_first(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let mut keys = Vec::new();
    for number in 0..5 {
        keys.push(caller.create_key(&number.to_string()).await);
    }
    let cluster = daemon.site().cluster().to_owned();
    let rules = "[[rule]]\nfunction = \"C_GetAttributeValue\"\nprobability = 0.5\nafter_call = true\n\
                 fault = { code = \"CKR_FUNCTION_CANCELED\" }";
    control.set(rules).unwrap();
    wait::until_async("listings fail", wait::LONG, async || {
        daemon.keystorectl(&["cluster", "resync", &cluster]).ok();
        (daemon.log().matches("could not be asked which keys it holds").count() >= 5).then_some(())
    })
    .await;
    control.clear().unwrap();
    daemon.wait_until_healthy_for(&caller).await;
    for key in &keys {
        assert_eq!(placed(&caller, key, "a").await, PlacementState::Present, "{}", daemon.log_tail());
    }
}

/// The HSM goes on serving meanwhile, so nothing but the creation itself tells that something is missing in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_an_hsm_would_not_take_is_placed_there_as_soon_as_it_does() {
    let site = Site::prepare_zones(3).await;
    let control = chaos::control_first(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    control.set("[[rule]]\nfunction = \"C_UnwrapKey\"\nfault = { code = \"CKR_DEVICE_ERROR\" }").unwrap();
    let key = wait::until_async("a key is made without zone a", wait::LONG, async || {
        let key = caller.create_key("elsewhere").await;
        (placed(&caller, &key, "a").await == PlacementState::Pending).then_some(key)
    })
    .await;
    control.clear().unwrap();
    wait::until_async("it is placed in zone a too", wait::LONG, async || {
        (placed(&caller, &key, "a").await == PlacementState::Present).then_some(())
    })
    .await;
}

/// A key whose creation failed is destroyed; a token that would not let go of it then does so when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_destroyed_while_a_token_was_in_trouble_is_destroyed_when_it_is_back() {
    let site = Site::prepare().await;
    let controls = chaos::control_each(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    let kept = caller.create_key("kept").await;
    let count = |daemon: &Daemon, zone: &str| {
        daemon.zone(zone).pkcs11_tool(&["--list-objects", "--type", "secrkey"]).matches("Secret Key Object").count()
    };
    let mut expected = count(&daemon, "a");
    // One zone lets go of nothing, and the other one takes nothing: what is placed in the first alone is of no use.
    let fails = |function: &str| {
        format!("[[rule]]\nfunction = \"{function}\"\nafter_call = false\nfault = {{ code = \"CKR_DEVICE_ERROR\" }}")
    };
    controls[0].set(&fails("C_DestroyObject")).unwrap();
    controls[1].set(&fails("C_UnwrapKey")).unwrap();
    wait::until_async("a key that could not be made is left in zone a", wait::LONG, async || {
        match caller.try_create_key("unproven", "").await {
            // From before the rules were in force.
            Ok(_) => {
                expected += 1;
                None
            }
            Err(_) => (count(&daemon, "a") > expected).then_some(()),
        }
    })
    .await;
    assert_eq!(count(&daemon, "b"), expected);
    let site = daemon.crash();
    controls.iter().for_each(|control| control.clear().unwrap());
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    wait::until("it is destroyed there as well", wait::LONG, || (count(&daemon, "a") == expected).then_some(()));
    daemon.wait_until_logged("it was destroyed again");
    assert_eq!(hsm(&caller, "a").await.keys_orphaned, 0);
    assert_eq!(placed(&caller, &kept, "a").await, PlacementState::Present);
    caller.create_key("proven").await;
}
