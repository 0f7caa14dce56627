//! One HSM that stands for several zones by itself: keys are made in it and never leave it, and it serves alone.

mod crash;
mod personalities;
mod rig;
mod slow;

use std::fs;

use proto::v1::{
    BatchEncryptRequest, DestroyKeyMaterialRequest, KeyState, PlacementState, RotateKeyOnDemandRequest, encrypt_result,
};
use rustix::process::Signal;

use crate::harness::daemon::Site;
use crate::harness::zone::object_id;
use crate::harness::{Caller, Daemon, context, tool, wait};
use crate::iv::data_key;
use rig::{Alone, HSM, SOFTHSM, ZONE, delete, objects};

/// Gives a key a new version.
async fn rotate(caller: &Caller, key: &str) {
    let request = RotateKeyOnDemandRequest { key_id: key.to_owned() };
    caller.keys.clone().rotate_key_on_demand(caller.request(request)).await.unwrap();
}

/// Destroys a key's material, which is disabled for it.
async fn destroy(caller: &Caller, key: &str) {
    caller.switch_key(key, false).await.unwrap();
    let confirm_key_arn = caller.describe_key(key).await.unwrap().arn;
    let request = DestroyKeyMaterialRequest { key_id: key.to_owned(), confirm_key_arn };
    caller.keys.clone().destroy_key_material(caller.request(request)).await.unwrap();
}

/// What a key is for, over two versions of it.
async fn serves(daemon: &Daemon, caller: &Caller) -> String {
    let key = caller.create_key("made in place").await;
    let metadata = caller.describe_key(&key).await.unwrap();
    let placements: Vec<_> = metadata.placements.iter().map(|at| (at.hsm_id.as_str(), at.zone.as_str())).collect();
    assert_eq!((metadata.key_state(), placements), (KeyState::Enabled, vec![(HSM, ZONE)]));
    let context = context(&[("purpose", "test")]);
    let before = caller.encrypt(&key, b"before", &context).await.unwrap();
    rotate(caller, &key).await;
    let after = caller.encrypt(&key, b"after", &context).await.unwrap();
    assert_eq!((&before[17..21], &after[17..21]), (&[0, 0, 0, 1][..], &[0, 0, 0, 2][..]));
    assert_eq!(caller.decrypt(&before, &context).await.unwrap(), b"before");
    assert_eq!(caller.decrypt(&after, &context).await.unwrap(), b"after");
    let (plain, sealed) = data_key(caller, &key).await.unwrap();
    assert_eq!(caller.decrypt(&sealed, &Default::default()).await.unwrap(), plain);
    let item = |number: u8| proto::v1::EncryptRequest {
        key_id: key.clone(),
        plaintext: vec![number; 9],
        ..Default::default()
    };
    let request = caller.request(BatchEncryptRequest { items: (0..100).map(item).collect() });
    let sealed = caller.crypto.clone().batch_encrypt(request).await.unwrap().into_inner().results;
    for (number, result) in sealed.into_iter().enumerate() {
        let Some(encrypt_result::Result::Response(sealed)) = result.result else { panic!("{number}: {result:?}") };
        let opened = caller.decrypt(&sealed.ciphertext_blob, &Default::default()).await.unwrap();
        assert_eq!(opened, vec![u8::try_from(number).unwrap(); 9]);
    }
    // There is nobody else to ask: its own proof tells a bad ciphertext from a broken key.
    let mut wrong = after.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let refused = caller.decrypt(&wrong, &context).await.unwrap_err();
    assert_eq!(refused.reason, "InvalidCiphertextException", "{refused:?}");
    assert_eq!(caller.decrypt(&after, &context).await.unwrap(), b"after", "{}", daemon.log_tail());
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_that_stands_for_two_zones_serves_alone() {
    let Alone { site, .. } = Alone::prepare("softhsm", SOFTHSM, "").await;
    let folder = fs::read_dir(site.path().join("alone/ceremony")).unwrap();
    let mut kept: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    kept.sort();
    assert_eq!(kept, ["customerCA.crt", "customerCA.key"], "no wrapped key");
    let checked = tool::keystored(&["check".as_ref(), "--config".as_ref(), site.config_file().as_os_str()]);
    assert!(
        checked.out.contains("keys: made in it and never taken out; what is in a and b is what its module"),
        "{checked:?}"
    );

    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let key = serves(&daemon, &caller).await;
    let held = objects(&daemon);
    for version in [1, 2] {
        let id = object_id(&key, version);
        let object =
            held.split("Secret Key Object").find(|object| object.contains(&id)).unwrap_or_else(|| panic!("{held}"));
        let access = object.lines().find(|line| line.contains("Access:")).unwrap_or_default();
        for word in ["sensitive", "always sensitive", "never extractable", "local"] {
            assert!(access.contains(word), "{word}: {object}");
        }
    }
    assert_eq!(held.matches("Secret Key Object").count(), 3, "beside them the canary, and no wrapping key: {held}");
    let status = daemon.keystorectl(&["cluster", "status"]).ok();
    assert!(status.contains(HSM) && status.contains(ZONE), "{status}");

    caller.switch_key(&key, false).await.unwrap();
    let refused = caller.encrypt(&key, b"x", &context(&[])).await.unwrap_err();
    assert_eq!(refused.reason, "DisabledException", "{refused:?}");
    caller.switch_key(&key, true).await.unwrap();
    let kept = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();

    // With other workers, and with another daemon.
    daemon.replace_workers(ZONE, &caller).await;
    assert_eq!(caller.decrypt(&kept, &context(&[])).await.unwrap(), b"kept");
    drop(caller);
    let (status, site) = daemon.terminate();
    assert!(status.success());
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    assert_eq!(caller.decrypt(&kept, &context(&[])).await.unwrap(), b"kept");

    destroy(&caller, &key).await;
    assert_eq!(objects(&daemon).matches("Secret Key Object").count(), 1, "{}", objects(&daemon));
    serves(&daemon, &caller).await;
}

/// The object goes with its worker, or is there although its making failed: there is one of it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_while_it_makes_a_key_leaves_one_object() {
    let Alone { site, control } = Alone::prepare("softhsm", SOFTHSM, "").await;
    let daemon = site.start().await;
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    for (fault, after) in [("\"crash\"", false), ("\"crash\"", true), ("{ code = \"CKR_DEVICE_ERROR\" }", true)] {
        let next = control.calls("C_GenerateKey") + 1;
        let rule = format!(
            "[[rule]]\nfunction = \"C_GenerateKey\"\ncalls = {{ from = {next}, to = {next} }}\nafter_call = {after}\n\
             fault = {fault}"
        );
        let before = control.injected("C_GenerateKey");
        daemon.zones[0].keep_copies();
        control.set(&rule).unwrap();
        let key = caller.create_key("in spite of it").await;
        control.clear().unwrap();
        assert_eq!(control.injected("C_GenerateKey"), before + 1, "{rule}");
        daemon.wait_until_healthy_for(&caller).await;
        let held = objects(&daemon);
        assert_eq!(held.matches(&object_id(&key, 1)).count(), 1, "{rule}: {held}");
        let sealed = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
        daemon.replace_workers(ZONE, &caller).await;
        assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"kept", "{rule}");
    }
}

/// A key whose only object somebody has taken away cannot be placed again, and nobody says that it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_somebody_removes_is_gone_and_that_is_said() {
    let Alone { site, .. } = Alone::prepare("softhsm", SOFTHSM, "").await;
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let (key, other) = (caller.create_key("to be removed").await, caller.create_key("a neighbour").await);
    let sealed = caller.encrypt(&key, b"lost", &context(&[])).await.unwrap();
    delete(&daemon, &object_id(&key, 1));
    let gone = async |caller: &Caller| {
        wait::until_async("it is found gone", wait::LONG, async || {
            let _ = caller.decrypt(&sealed, &context(&[])).await;
            let metadata = caller.describe_key(&key).await.unwrap();
            let removed = metadata.placements.iter().all(|at| at.state() == PlacementState::Removed);
            (metadata.key_state() == KeyState::Unavailable && removed).then_some(())
        })
        .await;
        caller.decrypt(&sealed, &context(&[])).await.unwrap_err()
    };
    let told = gone(&caller).await;
    assert_eq!((told.reason.as_str(), told.retryable), ("KMSInvalidStateException", false), "{told:?}");
    assert!(told.message.contains("made in place, and there is no other copy of it"), "{told:?}");

    let cluster = daemon.site().cluster().to_owned();
    let said = daemon.keystorectl(&["cluster", "resync", &cluster, "--key", &key]).ok();
    assert!(said.contains("wanted again: 1"), "{said}");
    daemon.wait_until_logged("there is no copy of it that could be placed");
    gone(&caller).await;
    caller.encrypt(&other, b"still", &context(&[])).await.unwrap();
}

/// Two clusters of HSMs that can wrap are two members of one store, each for its own zones.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_wrap_their_keys_are_two_members() {
    let site = Site::prepare().await;
    site.configure_hsms(|index, hsm| {
        hsm.remove("zone");
        let zones = [["a", "b"], ["b", "c"]][index];
        hsm.insert("zones".to_owned(), zones.to_vec().into());
        let said: toml::Table = toml::from_str("topology.kind = \"self-replicating\"").unwrap();
        hsm.insert("capabilities".to_owned(), said.into());
    });
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("in both").await;
    let sealed = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    let zones: Vec<String> =
        caller.describe_key(&key).await.unwrap().placements.into_iter().map(|at| at.zone).collect();
    assert_eq!(zones, ["a+b", "b+c"]);
    let workers = daemon.zone("a+b").signal_workers(Signal::STOP);
    assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"kept");
    workers.iter().for_each(|pid| crate::harness::process::signal(*pid, Signal::CONT));
    daemon.wait_until_healthy_for(&caller).await;
    // One of them alone is in two zones as well.
    let away = daemon.zone("b+c").take_away();
    crate::zones::wait_until_down(&caller, daemon.zone("b+c")).await;
    let alone = caller.create_key("in one of them").await;
    away.put_back();
    daemon.wait_until_healthy_for(&caller).await;
    wait::until_async("the other one has it too", wait::LONG, async || {
        let placements = caller.describe_key(&alone).await.unwrap().placements;
        (placements.iter().filter(|at| at.state() == PlacementState::Present).count() == 2).then_some(())
    })
    .await;
}
