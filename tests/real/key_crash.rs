//! The daemon aborts before and after every step of making a version, of taking one away that could not be made, and of
//! destroying material. The next one finds no key Enabled and no version current that does not work in two zones, no
//! material without a row, and no row without its material.
//!
//! The steps are those that the code enumerates; a point that is never passed fails the test.

use std::os::unix::process::ExitStatusExt as _;

use chaos_hsm::Control;
use proto::v1::{CreateKeyRequest, DestroyKeyMaterialRequest, KeyState, PlacementState, RotateKeyOnDemandRequest};
use service::lifecycle::{DestroyStep, UndoStep, VersionStep};

use crate::deletion::make_due;
use crate::harness::daemon::Site;
use crate::harness::zone::object_id;
use crate::harness::{Caller, Daemon, chaos, context, wait};

/// What leads to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A key is made.
    Create,
    /// A key gets a new version.
    Rotate,
    /// A key does not get one, because one HSM takes none.
    FailingRotate,
    /// A key's material is destroyed because its owner says so.
    Destroy,
    /// A key is deleted because its time has come.
    Delete,
}

/// Every point, with what leads to it.
fn points() -> Vec<(String, Way)> {
    let mut points = Vec::new();
    let mut both = |name: &str, ways: &[Way]| {
        for side in ["before", "after"] {
            points.extend(ways.iter().map(|way| (format!("{name}.{side}@1"), *way)));
        }
    };
    for step in VersionStep::ALL {
        both(step.name(), &[Way::Create, Way::Rotate]);
    }
    for step in UndoStep::ALL {
        both(step.name(), &[Way::FailingRotate]);
    }
    for step in DestroyStep::ALL {
        match step {
            DestroyStep::RecordGivenUp | DestroyStep::Destroy | DestroyStep::RecordDestroyed => {
                both(step.name(), &[Way::Destroy]);
            }
            DestroyStep::RecordDeleted => both(step.name(), &[Way::Delete]),
        }
    }
    points
}

#[test]
fn no_crash_loses_material_or_leaves_any() {
    const LANES: usize = 4;
    let points = &points();
    std::thread::scope(|scope| {
        for number in 0..LANES {
            scope.spawn(move || {
                tokio::runtime::Runtime::new().unwrap().block_on(async {
                    let mut lane = Lane::prepare().await;
                    for (point, way) in points.iter().skip(number).step_by(LANES) {
                        lane = lane.crash_at(point, *way).await;
                    }
                });
            });
        }
    });
}

struct Lane {
    site: Site,
    /// Over hsm-a.
    control: Control,
    /// A key that is rotated over every crash, and what was encrypted under it.
    key: String,
    kept: Vec<Vec<u8>>,
}

impl Lane {
    async fn prepare() -> Self {
        let site = Site::prepare().await;
        site.configure(|config| {
            let limits = config.entry("limits").or_insert_with(|| toml::Table::new().into());
            limits.as_table_mut().unwrap().insert("on_demand_rotations".to_owned(), 1_000.into());
        });
        let control = chaos::control_first(&site);
        let daemon = site.start().await;
        let caller = daemon.caller().await;
        let key = caller.create_key("kept over every crash").await;
        let kept = vec![caller.encrypt(&key, b"kept", &context(&[])).await.unwrap()];
        Self { site: daemon.terminate().1, control, key, kept }
    }

    async fn crash_at(self, point: &str, way: Way) -> Self {
        let Self { site, control, key, mut kept } = self;
        let (site, doomed) = self::doomed(site, way).await;
        let daemon = site.launch_to_abort_at(point);
        // A key whose time has come is deleted by itself, maybe before anybody has come in.
        if way != Way::Delete {
            daemon.wait_until_ready();
            let caller = daemon.caller().await.with_deadline(wait::LONG);
            daemon.wait_until_healthy_for(&caller).await;
            if way == Way::FailingRotate {
                control.set("[[rule]]\nfunction = \"C_UnwrapKey\"\nfault = { code = \"CKR_DEVICE_ERROR\" }").unwrap();
            }
            // The answer may or may not come before the crash.
            provoke(&caller, way, &key, &doomed).await;
        }
        let log = daemon.log_tail();
        let (status, site) = daemon.aborted();
        assert_eq!(status.signal(), Some(6), "{point} of {way:?} was not passed:\n{log}");
        control.clear().unwrap();

        let daemon = site.launch();
        daemon.wait_until_ready();
        let caller = daemon.caller().await.with_deadline(wait::LONG);
        daemon.wait_until_healthy_for(&caller).await;
        for ciphertext in &kept {
            let opened = caller.decrypt(ciphertext, &context(&[])).await;
            assert_eq!(opened.unwrap(), b"kept", "after {point} of {way:?}\n{}", daemon.log_tail());
        }
        kept.push(caller.encrypt(&key, b"kept", &context(&[])).await.unwrap());
        if let Some(doomed) = &doomed {
            // What was not on record yet did not happen: the call is made again.
            if caller.describe_key(doomed).await.is_ok_and(|key| key.key_state() == KeyState::Disabled) {
                assert_eq!(point, format!("{}.before@1", DestroyStep::RecordGivenUp.name()));
                provoke(&caller, way, &key, &Some(doomed.clone())).await;
            }
            wait::until_async(
                &format!("after {point} what is destroyed is gone from both tokens"),
                wait::LONG,
                async || {
                    let held = ["a", "b"].map(|zone| holds(&daemon, zone).contains(&object_id(doomed, 1)));
                    (held == [false, false]).then_some(())
                },
            )
            .await;
        }
        // Whatever was begun comes to an end, and then tokens and metadata say the same.
        wait::until_async(
            &format!("after {point} of {way:?} tokens hold what the metadata say"),
            wait::LONG,
            async || {
                let all =
                    caller.keys.clone().list_keys(caller.request(Default::default())).await.unwrap().into_inner().keys;
                let mut expected = 0;
                for listed in all {
                    // One that is deleted meanwhile is gone from the next list.
                    let shown = caller.describe_key(&listed.key_id).await.ok()?;
                    match shown.key_state() {
                        KeyState::Enabled => {
                            assert!(shown.placements.len() == 2, "after {point} of {way:?}: {shown:?}");
                            let present = |at: &proto::v1::KeyPlacement| at.state() == PlacementState::Present;
                            shown.placements.iter().all(present).then_some(())?;
                            expected += versions(&caller, &listed.key_id).await;
                        }
                        KeyState::PendingDeletion => assert!(shown.material_destroyed, "after {point} of {way:?}"),
                        _ => return None,
                    }
                }
                let held = ["a", "b"].map(|zone| holds(&daemon, zone).matches("Secret Key Object").count());
                // Beside them: the wrapping key and the canary.
                (held == [expected + 2, expected + 2]).then_some(())
            },
        )
        .await;
        Self { site: daemon.terminate().1, control, key, kept }
    }
}

/// A key that is going to be destroyed in this way.
async fn doomed(site: Site, way: Way) -> (Site, Option<String>) {
    if !matches!(way, Way::Destroy | Way::Delete) {
        return (site, None);
    }
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    let key = caller.create_key("doomed").await;
    if way == Way::Destroy {
        caller.switch_key(&key, false).await.unwrap();
        return (daemon.terminate().1, Some(key));
    }
    daemon.keystorectl(&["key", "schedule-deletion", &key, "--yes"]).ok();
    let site = daemon.terminate().1;
    make_due(&site, &key).await;
    (site, Some(key))
}

async fn provoke(caller: &Caller, way: Way, key: &str, doomed: &Option<String>) {
    match (way, doomed) {
        (Way::Create, _) => drop(caller.keys.clone().create_key(caller.request(CreateKeyRequest::default())).await),
        (Way::Rotate | Way::FailingRotate, _) => {
            let request = RotateKeyOnDemandRequest { key_id: key.to_owned() };
            drop(caller.keys.clone().rotate_key_on_demand(caller.request(request)).await);
        }
        (Way::Destroy, Some(doomed)) => {
            let Ok(described) = caller.describe_key(doomed).await else { return };
            let request = DestroyKeyMaterialRequest { key_id: doomed.clone(), confirm_key_arn: described.arn };
            drop(caller.keys.clone().destroy_key_material(caller.request(request)).await);
        }
        // By itself.
        (Way::Destroy | Way::Delete, _) => {}
    }
}

fn holds(daemon: &Daemon, zone: &str) -> String {
    daemon.zone(zone).pkcs11_tool(&["--list-objects", "--type", "secrkey"])
}

async fn versions(caller: &Caller, key: &str) -> usize {
    let request = proto::v1::ListKeyRotationsRequest {
        key_id: key.to_owned(),
        include_key_material: proto::v1::IncludeKeyMaterial::AllKeyMaterial.into(),
        limit: Some(1_000),
        marker: String::new(),
    };
    caller.keys.clone().list_key_rotations(caller.request(request)).await.unwrap().into_inner().rotations.len()
}
