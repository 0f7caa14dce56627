//! HSMs that come and go: the list of the configuration is read again, and a further HSM is brought in, without stopping
//! anything.

use std::fs;
use std::path::{Path, PathBuf};

use proto::v1::{ClusterHsm, PlacementState};
use service::lifecycle::AddStep;

use crate::harness::daemon::Site;
use crate::harness::load::Load;
use crate::harness::other::{self, Kind};
use crate::harness::{Caller, Daemon, context, wait};
use crate::zones::wait_until_down;

/// A blank token in a third zone, in the configuration.
pub(crate) fn third_zone(site: &Site) {
    further_zone(site, Kind::SoftHsm, "c");
}

/// Likewise in a zone of this name, of another kind.
pub(crate) fn further_zone(site: &Site, kind: Kind, name: &str) {
    let hsm = other::blank(&site.path().join("further"), kind, name);
    site.configure(|config| config["cluster"][0]["hsm"].as_array_mut().unwrap().push(hsm.into()));
}

/// The file with a PIN.
fn keep(dir: &Path, name: &str, pin: &str) -> PathBuf {
    let file = dir.join(name);
    fs::write(&file, pin).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    file
}

/// What an operator types to bring hsm-c in.
pub(crate) fn add_hsm(daemon: &Daemon) -> crate::harness::tool::Ran {
    add_hsm_with(daemon, other::PIN)
}

fn add_hsm_with(daemon: &Daemon, pin: &str) -> crate::harness::tool::Ran {
    add(daemon, "hsm-c", pin, &[])
}

/// Likewise for another HSM, with further arguments.
pub(crate) fn add(daemon: &Daemon, hsm: &str, pin: &str, more: &[&str]) -> crate::harness::tool::Ran {
    let site = daemon.site();
    let (pin, so_pin) = (keep(site.path(), "c.pin", pin), keep(site.path(), "c.so-pin", other::SO_PIN));
    let shown = |path: &Path| path.display().to_string();
    let arguments = [
        "cluster",
        "add-hsm",
        hsm,
        "--config",
        &shown(site.config_file()),
        "--folder",
        &shown(&site.ceremony()),
        "--pin-file",
        &shown(&pin),
        "--so-pin-file",
        &shown(&so_pin),
    ];
    daemon.keystorectl(&[&arguments[..], more].concat())
}

async fn hsm_c(caller: &Caller) -> ClusterHsm {
    let cluster = caller.cluster().await;
    let of = |hsm: &&ClusterHsm| hsm.status.as_ref().is_some_and(|status| status.hsm_id == "hsm-c");
    cluster.hsms.iter().find(of).unwrap_or_else(|| panic!("hsm-c is not in {cluster:?}")).clone()
}

pub(crate) async fn filled(caller: &Caller) {
    wait::until_async("hsm-c holds every key", wait::LONG, async || {
        let hsm = hsm_c(caller).await;
        (hsm.joined && hsm.keys_missing == 0 && hsm.status.as_ref().unwrap().proven).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_hsm_joins_under_load() {
    let site = Site::prepare().await;
    site.rotate(true);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let mut keys = Vec::new();
    for number in 0..20 {
        keys.push(caller.create_key(&format!("key {number}")).await);
    }
    let ciphertext = caller.encrypt(&keys[0], b"kept", &context(&[])).await.unwrap();
    let load = Load::start(&caller, &keys[1], 4);
    load.passes(50).await;

    third_zone(daemon.site());
    let early = add_hsm(&daemon);
    assert_ne!(early.code, Some(0), "the daemon has not read the configuration yet: {early:?}");
    assert!(early.err.contains("SIGHUP"), "{early:?}");
    daemon.hang_up("the configuration was read again");
    let status = daemon.keystorectl(&["cluster", "status"]).ok();
    assert!(status.contains("hsm-c"), "{status}");
    assert!(!hsm_c(&caller).await.joined);
    load.passes(50).await;

    add_hsm(&daemon).ok();
    filled(&caller).await;
    load.passes(50).await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls}: {:?}", failures.len(), failures.first());
    assert!(daemon.site().ceremony().join("hsm-c.wrapping.json").exists());
    // Once more: nothing is made twice.
    add_hsm(&daemon).ok();
    keys.push(caller.create_key("on three").await);
    for key in &keys {
        let placements = caller.describe_key(key).await.unwrap().placements;
        assert!(placements.iter().filter(|at| at.state() == PlacementState::Present).count() == 3, "{placements:?}");
    }

    // Alone, over a restart, with a PIN that only the service knows.
    let site = daemon.terminate().1;
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    assert!(!daemon.zone("c").takes(other::PIN));
    let away: Vec<_> = ["a", "b"].map(|zone| daemon.zone(zone).take_away()).into();
    for zone in ["a", "b"] {
        wait_until_down(&caller, daemon.zone(zone)).await;
    }
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    away.into_iter().for_each(crate::harness::zone::Taken::put_back);
}

#[tokio::test(flavor = "multi_thread")]
async fn bringing_an_hsm_in_can_be_broken_off_at_every_step() {
    let site = Site::prepare().await;
    site.rotate(true);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("from before").await;
    drop(caller);
    third_zone(daemon.site());
    let mut site = daemon.terminate().1;
    for step in AddStep::ALL {
        for side in ["before", "after"] {
            let point = format!("{}.{side}", step.name());
            let daemon = site.launch_to_abort_at(&point);
            daemon.wait_until_ready();
            let caller = daemon.caller().await;
            wait::until_async("the members are healthy", wait::LONG, async || {
                let hsms = caller.hsms().await.ok()?;
                (hsms.iter().filter(|hsm| hsm.ready_workers == hsm.workers).count() >= 2).then_some(())
            })
            .await;
            drop(caller);
            let ran = add_hsm(&daemon);
            assert_ne!(ran.code, Some(0), "{point} was not passed: {ran:?}");
            site = daemon.aborted().1;
        }
    }
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    wait::until_async("all three are healthy", wait::LONG, async || {
        let hsms = caller.hsms().await.ok()?;
        (hsms.iter().filter(|hsm| hsm.ready_workers == hsm.workers).count() == 3).then_some(())
    })
    .await;
    add_hsm(&daemon).ok();
    filled(&caller).await;
    let placements = caller.describe_key(&key).await.unwrap().placements;
    assert!(placements.iter().all(|at| at.state() == PlacementState::Present), "{placements:?}");
    let left: Vec<u32> = caller.hsms().await.unwrap().iter().map(|hsm| hsm.pin_tries_left).collect();
    assert_eq!(left, [3, 3, 3]);
}

/// An HSM that goes from the configuration is not used any more, and its workers leave; nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn an_hsm_leaves_under_load() {
    let site = {
        let daemon = Daemon::start().await;
        third_zone(daemon.site());
        daemon.hang_up("the configuration was read again");
        let added = add_hsm(&daemon);
        assert_eq!(added.code, Some(0), "{added:?}\n{}", daemon.log_tail());
        // Once more with a wrong PIN: the right one, which is not rotated here, is not forgotten for it.
        add_hsm_with(&daemon, "mistyped-pin");
        daemon.terminate().1
    };
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    let key = caller.create_key("on three").await;
    let load = Load::start(&caller, &key, 4);
    load.passes(50).await;
    let third = daemon.zone("c").clone();
    daemon.site().configure(|config| drop(config["cluster"][0]["hsm"].as_array_mut().unwrap().remove(2)));
    daemon.hang_up("the configuration was read again");
    wait::until("its workers have gone", wait::LONG, || third.workers().is_empty().then_some(()));
    load.passes(50).await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls}: {:?}", failures.len(), failures.first());
    assert_eq!(caller.hsms().await.unwrap().len(), 2);

    // What takes effect with the next connect leaves the HSMs that run alone.
    daemon.site().configure(|config| {
        config["cluster"][0].as_table_mut().unwrap().insert("pin_scope".to_owned(), "cluster".into());
    });
    daemon.hang_up("the configuration was read again");
    assert_eq!(caller.hsms().await.unwrap().len(), 2);
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();

    // A file that is wrong changes nothing.
    let good = fs::read_to_string(daemon.site().config_file()).unwrap();
    fs::write(daemon.site().config_file(), "nonsense").unwrap();
    daemon.hang_up("nothing was changed");
    fs::write(daemon.site().config_file(), good).unwrap();
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_comes_back_to_the_configuration_is_used_again() {
    let daemon = Daemon::start().await;
    let key = daemon.caller().await.create_key("kept").await;
    let (_, site) = daemon.terminate();
    let right = site.cluster().to_owned();
    let name = |id: &str, site: &Site| {
        site.configure(|config| {
            config["cluster"][0].as_table_mut().unwrap().insert("id".to_owned(), id.into());
        });
    };
    name("cluster-mistyped234", &site);
    let daemon = site.launch();
    wait::until("the daemon listens", wait::LONG, || daemon.environment());
    let caller = daemon.caller().await;
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap_err();
    name(&right, daemon.site());
    daemon.hang_up("the configuration was read again");
    daemon.wait_until_healthy_for(&caller).await;
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
}
