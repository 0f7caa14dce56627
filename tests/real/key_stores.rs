//! The life of a key store: made, connected, used, disconnected, changed, deleted, with AWS's states and exceptions.

use std::time::Duration;

use chaos_hsm::Control;
use model::clock::Clock;
use pki::identity::ClusterAuthority;
use proto::v1::{ConnectionState, GenerateRandomRequest, HsmHealth, KeyState, UpdateKeyStoreRequest};

use crate::harness::daemon::Site;
use crate::harness::load::Load;
use crate::harness::other::{self, Kind, Other};
use crate::harness::zone::Zone;
use crate::harness::{Caller, Daemon, chaos, context, wait};

/// A daemon without a key store.
async fn bare() -> (Daemon, Caller) {
    let daemon = Site::prepare().await.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    (daemon, caller)
}

fn rename(id: &str, name: &str) -> UpdateKeyStoreRequest {
    UpdateKeyStoreRequest { key_store_id: id.into(), new_key_store_name: name.into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_its_making_to_its_end() {
    let (daemon, caller) = bare().await;
    let id = caller.create_key_store("main", daemon.site()).await.unwrap();
    assert!(id.starts_with("cks-") && id.len() == 21, "{id}");
    let store = caller.key_store(&id).await;
    assert_eq!(store.connection_state(), ConnectionState::Disconnected);
    assert_eq!(store.trust_anchor_certificate, daemon.site().trust_anchor());
    assert!(store.hsms.iter().all(|hsm| hsm.health() == HsmHealth::Unused && !hsm.proven), "{store:?}");
    // The same call gives the same store, another one with its name or its cluster none.
    assert_eq!(caller.create_key_store("main", daemon.site()).await.unwrap(), id);
    let refused = caller.try_create_key("too early", "").await.unwrap_err();
    assert_eq!(refused.reason, "CustomKeyStoreInvalidStateException", "{refused:?}");

    let clock = Clock::system();
    let began = clock.now();
    let store = caller.connect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}");
    assert!(clock.now() - began < Duration::from_secs(20), "{:?}", clock.now() - began);
    daemon.wait_until_healthy_for(&caller).await;
    let store = caller.key_store(&id).await;
    for hsm in &store.hsms {
        assert!(hsm.proven && hsm.pin_tries_left == 3, "{hsm:?}");
        let steps: Vec<&str> = hsm.steps.iter().map(|step| step.step.as_str()).collect();
        for step in ["starting its worker", "checking its certificate", "logging in", "proving its identity"] {
            assert!(steps.contains(&step), "{step} is not among {steps:?}");
        }
    }
    assert_eq!(caller.connect(&id).await.unwrap().connection_state(), ConnectionState::Connected, "once more is fine");
    let key = caller.create_key("in the store").await;
    let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    let state = format!("keystored_key_store_state{{key_store=\"{id}\",cluster=\"{}\",", daemon.site().cluster());
    for line in [format!("{state}state=\"CONNECTED\"}} 1"), format!("{state}state=\"FAILED\"}} 0")] {
        assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
    }
    assert!(metrics.contains("keystored_kmsuser_pin_tries_left{"), "{metrics}");

    let store = caller.disconnect(&id).await.unwrap();
    assert_eq!(store.connection_state(), ConnectionState::Disconnected);
    assert!(daemon.zones.iter().all(|zone| zone.workers().is_empty()), "the workers have gone");
    let refused = caller.encrypt(&key, b"x", &context(&[])).await.unwrap_err();
    assert_eq!((refused.reason.as_str(), refused.retryable), ("KMSInvalidStateException", false), "{refused:?}");
    assert_eq!(caller.describe_key(&key).await.unwrap().key_state(), KeyState::Unavailable);
    let refused = caller.delete_key_store(&id).await.unwrap_err();
    assert_eq!(refused.reason, "CustomKeyStoreHasCMKsException", "{refused:?}");

    caller.connect(&id).await.unwrap();
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    assert_eq!(caller.describe_key(&key).await.unwrap().key_state(), KeyState::Enabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_is_deleted_and_the_hsms_are_not_touched() {
    let (daemon, caller) = bare().await;
    let id = caller.create_key_store("to go", daemon.site()).await.unwrap();
    caller.connect(&id).await.unwrap();
    let refused = caller.delete_key_store(&id).await.unwrap_err();
    assert_eq!(refused.reason, "CustomKeyStoreInvalidStateException", "{refused:?}");
    caller.disconnect(&id).await.unwrap();
    caller.delete_key_store(&id).await.unwrap();
    assert!(caller.key_stores().await.is_empty());
    assert_eq!(caller.delete_key_store(&id).await.unwrap_err().reason, "CustomKeyStoreNotFoundException");
    // Nothing was rotated in this site, so the PIN is still the first one.
    let again = caller.create_key_store("to go", daemon.site()).await.unwrap();
    assert_ne!(again, id);
    assert_eq!(caller.connect(&again).await.unwrap().connection_state(), ConnectionState::Connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_forbids_the_making_of_a_store_is_named() {
    let (daemon, caller) = bare().await;
    let site = daemon.site();
    let (cluster, anchor, pin) = (site.cluster().to_owned(), site.trust_anchor(), site.first_pin());
    let now = Clock::system().calendar();
    let other_authority = ClusterAuthority::generate(&"cluster-zzzzzzzzzzz".into(), now).unwrap();
    let other_anchor = other_authority.certificate().to_owned();
    let long = "x".repeat(257);
    for (name, cluster, anchor, pin, exception) in [
        ("", cluster.as_str(), anchor.as_str(), pin.as_str(), "ValidationException"),
        (&long, &cluster, &anchor, &pin, "ValidationException"),
        ("n", "cluster-1", &anchor, &pin, "ValidationException"),
        ("n", &cluster, &anchor, "123", "ValidationException"),
        ("n", &cluster, &anchor, "with\ttab", "ValidationException"),
        ("n", "cluster-zzzzzzzzzzz", &anchor, &pin, "CloudHsmClusterNotFoundException"),
        ("n", &cluster, "not PEM", &pin, "IncorrectTrustAnchorException"),
        ("n", &cluster, &other_anchor, &pin, "IncorrectTrustAnchorException"),
    ] {
        let refused = caller.create_key_store_with(name, cluster, anchor, pin).await.unwrap_err();
        assert_eq!(refused.reason, exception, "{name} {cluster}: {refused:?}");
        assert!(pin.len() < 4 || !refused.message.contains(pin), "{refused:?}");
    }
    // One zone away: fewer than two active HSMs. Both: none.
    let away = daemon.zone("a").take_away();
    let refused = caller.create_key_store("n", site).await.unwrap_err();
    assert_eq!(refused.reason, "CloudHsmClusterInvalidConfigurationException", "{refused:?}");
    assert!(refused.message.contains("hsm-a"), "{refused:?}");
    let both = daemon.zone("b").take_away();
    let refused = caller.create_key_store("n", site).await.unwrap_err();
    assert_eq!(refused.reason, "CloudHsmClusterNotActiveException", "{refused:?}");
    away.put_back();
    both.put_back();

    let id = caller.create_key_store("n", site).await.unwrap();
    let refused = caller.create_key_store_with("n", &cluster, &anchor, "another-PIN").await.unwrap_err();
    assert_eq!(refused.reason, "CustomKeyStoreNameInUseException", "{refused:?}");
    let refused = caller.create_key_store_with("m", &cluster, &anchor, &pin).await.unwrap_err();
    assert_eq!(refused.reason, "CloudHsmClusterInUseException", "{refused:?}");
    caller.connect(&id).await.unwrap();
    let refused = caller.create_key_store("n", site).await.unwrap_err();
    assert_eq!(refused.reason, "CustomKeyStoreNameInUseException", "only a disconnected twin is the same: {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_changed_in_the_states_that_aws_names() {
    let (daemon, caller) = bare().await;
    let id = caller.create_key_store("first", daemon.site()).await.unwrap();
    let pin = |hsms: &[&str]| UpdateKeyStoreRequest {
        key_store_id: id.clone(),
        key_store_password: daemon.site().first_pin(),
        hsm_ids: hsms.iter().map(|hsm| (*hsm).to_owned()).collect(),
        ..Default::default()
    };
    let refused = async |request| caller.update_key_store(request).await.unwrap_err().reason;
    assert_eq!(refused(rename(&id, "")).await, "ValidationException");
    assert_eq!(refused(rename("cks-none", "x")).await, "CustomKeyStoreNotFoundException");
    assert_eq!(refused(pin(&["hsm-z"])).await, "ValidationException");
    let unknown = UpdateKeyStoreRequest { cluster_id: "cluster-zzzzzzzzzzz".into(), ..rename(&id, "") };
    assert_eq!(refused(unknown).await, "CloudHsmClusterNotFoundException");
    caller.update_key_store(rename(&id, "second")).await.unwrap();
    caller.update_key_store(pin(&["hsm-a"])).await.unwrap();
    assert_eq!(caller.connect(&id).await.unwrap().connection_state(), ConnectionState::Connected);
    caller.update_key_store(rename(&id, "third")).await.unwrap();
    assert_eq!(refused(pin(&[])).await, "CustomKeyStoreInvalidStateException");
    assert_eq!(caller.key_store(&id).await.key_store_name, "third");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_answer_on_no_call_succeeds() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    let key = caller.create_key("under load").await;
    let load = Load::start(&caller, &key, 8);
    load.passes(300).await;
    caller.begin_disconnect(&id).await.unwrap();
    // The load goes on, and none of what it begins from here on succeeds.
    for _ in 0..50 {
        let refused = caller.encrypt(&key, b"after", &context(&[])).await.unwrap_err();
        assert_eq!(refused.reason, "KMSInvalidStateException", "{refused:?}");
        let random = GenerateRandomRequest { number_of_bytes: Some(8), ..Default::default() };
        assert!(caller.crypto.clone().generate_random(caller.request(random)).await.is_err());
    }
    let (_, failures) = load.stop().await;
    assert!(failures.iter().all(|failure| failure.reason == "KMSInvalidStateException"), "{:?}", failures.first());
    assert_eq!(caller.settled(&id).await.connection_state(), ConnectionState::Disconnected);
}

/// A script that connects again and again until that is not refused any more gets its store connected.
#[tokio::test(flavor = "multi_thread")]
async fn a_connect_right_after_a_disconnect_is_carried_out() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    for _ in 0..15 {
        caller.begin_disconnect(&id).await.unwrap();
        wait::until_async("a connect is accepted", wait::LONG, async || {
            loop {
                // Without a pause: the moment in which the disconnect comes to its end is short.
                match caller.begin_connect(&id).await {
                    Ok(()) => return Some(()),
                    Err(refused) => assert_eq!(refused.reason, "CustomKeyStoreInvalidStateException", "{refused:?}"),
                }
            }
        })
        .await;
        assert_eq!(caller.settled(&id).await.connection_state(), ConnectionState::Connected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_switched_now_or_with_the_next_connect() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    let (one, other) = (caller.create_key("one").await, caller.create_key("other").await);
    caller.encrypt(&one, b"x", &context(&[])).await.unwrap();
    caller.switch_key(&one, false).await.unwrap();
    caller.switch_key(&one, false).await.unwrap();
    let refused = caller.encrypt(&one, b"x", &context(&[])).await.unwrap_err();
    assert_eq!(refused.reason, "DisabledException", "{refused:?}");
    assert_eq!(caller.describe_key(&one).await.unwrap().key_state(), KeyState::Disabled);
    caller.encrypt(&other, b"x", &context(&[])).await.unwrap();

    caller.disconnect(&id).await.unwrap();
    caller.switch_key(&one, true).await.unwrap();
    caller.switch_key(&other, false).await.unwrap();
    for key in [&one, &other] {
        assert_eq!(caller.describe_key(key).await.unwrap().key_state(), KeyState::Unavailable);
    }
    caller.connect(&id).await.unwrap();
    caller.encrypt(&one, b"x", &context(&[])).await.unwrap();
    assert_eq!(caller.encrypt(&other, b"x", &context(&[])).await.unwrap_err().reason, "DisabledException");
    let missing = "00000000-0000-4000-8000-000000000000";
    assert_eq!(caller.switch_key(missing, true).await.unwrap_err().reason, "NotFoundException");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_each_store_up_in_the_state_that_it_had() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    let key = caller.create_key("over restarts").await;
    let site = daemon.terminate().1;
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
    caller.disconnect(&id).await.unwrap();
    let site = daemon.terminate().1;
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    assert_eq!(caller.key_store(&id).await.connection_state(), ConnectionState::Disconnected);
    assert!(daemon.zones.iter().all(|zone| zone.workers().is_empty()), "nobody logs in for a disconnected store");
    assert_eq!(caller.connect(&id).await.unwrap().connection_state(), ConnectionState::Connected);
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
}

/// A daemon with two clusters and without a key store, and the controls of the second cluster's HSMs.
pub(crate) async fn with_two_clusters() -> (Daemon, Caller, Other, Vec<Control>) {
    let site = Site::prepare().await;
    let mut other = Other::make(&site, "cluster-othercluster", &[(Kind::SoftHsm, "x"), (Kind::SoftHsm, "y")]).await;
    let hsms = other.cluster["hsm"].as_array_mut().unwrap().iter_mut().enumerate();
    let controls =
        hsms.map(|(at, hsm)| chaos::control(hsm.as_table_mut().unwrap(), &site.path().join(format!("chaos-{at}"))));
    let controls = controls.collect();
    site.configure(|config| {
        config["cluster"].as_array_mut().unwrap().push(other.cluster.clone().into());
    });
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    (daemon, caller, other, controls)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_s_clusters_belong_to_one_store() {
    let (daemon, caller, other, _) = with_two_clusters().await;
    let first = caller.create_key_store("first", daemon.site()).await.unwrap();
    let stray = UpdateKeyStoreRequest { cluster_id: "cluster-othercluster".into(), ..rename(&first, "") };
    let refused = caller.update_key_store(stray).await.unwrap_err();
    assert_eq!(refused.reason, "CloudHsmClusterNotRelatedException", "{refused:?}");
    let anchor = daemon.site().trust_anchor();
    let shared = caller.create_key_store_with("second", "cluster-othercluster", &anchor, other::PIN).await.unwrap_err();
    assert_eq!(shared.reason, "CloudHsmClusterInUseException", "{shared:?}");
    assert!(shared.message.contains("first"), "{shared:?}");
    caller.create_key_store_with("second", "cluster-othercluster", &other.anchor, other::PIN).await.unwrap();
}

/// Waits until each HSM of a store has all of its data workers.
async fn wait_until_complete(caller: &Caller, store: &str) {
    wait::until_async("every worker is ready", wait::LONG, async || {
        let hsms = caller.key_store(store).await.hsms;
        hsms.iter().all(|hsm| hsm.workers > 0 && hsm.ready_workers == hsm.workers).then_some(())
    })
    .await;
}

/// Two clusters, two stores, one daemon: what happens to one is nothing to the other.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_in_one_store_leaves_the_other_untouched() {
    let (daemon, caller, other, controls) = with_two_clusters().await;
    let first = caller.create_key_store("first", daemon.site()).await.unwrap();
    let second_id =
        caller.create_key_store_with("second", "cluster-othercluster", &other.anchor, other::PIN).await.unwrap();
    for id in [&first, &second_id] {
        assert_eq!(caller.connect(id).await.unwrap().connection_state(), ConnectionState::Connected);
    }
    let create = |id: &str| proto::v1::CreateKeyRequest { key_store_id: id.to_owned(), ..Default::default() };
    let key_in = async |id: &str| {
        let made = caller.keys.clone().create_key(caller.request(create(id))).await.unwrap().into_inner();
        made.key_metadata.unwrap().key_id
    };
    let (in_first, in_second) = (key_in(&first).await, key_in(&second_id).await);
    wait_until_complete(&caller, &first).await;
    let workers = || daemon.zones.iter().map(Zone::workers).collect::<Vec<_>>();
    let before = workers();
    let load = Load::start(&caller, &in_first, 4);
    load.passes(100).await;
    caller.disconnect(&second_id).await.unwrap();
    caller.encrypt(&in_second, b"x", &context(&[])).await.unwrap_err();
    load.passes(100).await;
    caller.connect(&second_id).await.unwrap();
    caller.encrypt(&in_second, b"x", &context(&[])).await.unwrap();
    for fault in ["\"hang\"", "\"crash\""] {
        let rule = format!("[[rule]]\nfunction = [\"C_EncryptInit\", \"C_DecryptInit\"]\nfault = {fault}");
        controls.iter().for_each(|control| control.set(&rule).unwrap());
        let refused = caller.encrypt(&in_second, b"x", &context(&[])).await.unwrap_err();
        assert!(refused.retryable, "all zones of the second store fail: {refused:?}");
        load.passes(100).await;
        controls.iter().for_each(|control| control.clear().unwrap());
        wait::until_async("the second store serves again", wait::LONG, async || {
            caller.encrypt(&in_second, b"x", &context(&[])).await.ok()
        })
        .await;
    }
    load.passes(100).await;
    assert_eq!(workers(), before, "nobody was started again in the first store");
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls}: {:?}", failures.len(), failures.first());
}

/// An operation that a module never ends holds a disconnect up for as long as operations may take to drain, and no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_operation_holds_a_disconnect_up_within_its_bound() {
    let site = Site::prepare().await;
    site.kill_after(60_000);
    let control = chaos::control_first(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    let key = caller.create_key("under a hang").await;
    let (clock, within) = (Clock::system(), Duration::from_secs(55));
    let began = clock.now();
    control.set("[[rule]]\nfunction = \"C_EncryptInit\"\nfault = \"hang\"").unwrap();
    wait::until_async("an operation is stuck", wait::LONG, async || {
        // The other zone answers.
        caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
        (control.injected("C_EncryptInit") > 0).then_some(())
    })
    .await;
    caller.begin_disconnect(&id).await.unwrap();
    assert_eq!(caller.key_store(&id).await.connection_state(), ConnectionState::Disconnecting, "it is drained");
    let refused = caller.encrypt(&key, b"x", &context(&[])).await.unwrap_err();
    assert_eq!(refused.reason, "KMSInvalidStateException", "{refused:?}");
    // Ten seconds are its bound; by itself the worker would be killed after a minute.
    assert_eq!(caller.settled(&id).await.connection_state(), ConnectionState::Disconnected);
    assert!(clock.now() - began < within, "it was held up for {:?}", clock.now() - began);
    assert!(daemon.zones.iter().all(|zone| zone.workers().is_empty()), "the workers have gone");
    control.clear().unwrap();
    assert_eq!(caller.connect(&id).await.unwrap().connection_state(), ConnectionState::Connected);
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_development_store_connects_by_itself() {
    let daemon = Site::prepare().await.launch_dev();
    wait::until("dev.env", wait::LONG, || daemon.environment());
    let caller = daemon.caller().await;
    let store = caller.key_stores().await.remove(0);
    assert_eq!((store.key_store_name.as_str(), store.connection_state()), ("dev", ConnectionState::Connected));
    assert!(store.hsms.iter().all(|hsm| hsm.last_rotation.is_some()), "{store:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_call_twice_at_once_makes_one_store() {
    let daemon = Site::prepare().await.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    let create = || caller.create_key_store("main", daemon.site());
    let (one, two) = tokio::join!(create(), create());
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(caller.key_stores().await.len(), 1);
}
