//! The daemon aborts before and after every step of making a version in place. The next one finds no material without a
//! row, no row without its material, and one object of each.

use std::os::unix::process::ExitStatusExt as _;

use proto::v1::{CreateKeyRequest, KeyState, RotateKeyOnDemandRequest};
use service::lifecycle::VersionStep;

use super::rig::{Alone, SOFTHSM, objects};
use crate::harness::zone::object_id;
use crate::harness::{context, wait};

#[tokio::test(flavor = "multi_thread")]
async fn no_crash_loses_what_is_made_in_place_or_leaves_any() {
    let Alone { site, .. } = Alone::prepare("softhsm", SOFTHSM, "").await;
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("kept over every crash").await;
    let mut kept = vec![caller.encrypt(&key, b"kept", &context(&[])).await.unwrap()];
    drop(caller);
    let mut site = daemon.terminate().1;
    // These two are of keys that are wrapped.
    let steps = VersionStep::ALL.iter().filter(|step| !matches!(step, VersionStep::Make | VersionStep::RecordBlob));
    let points = steps.flat_map(|step| ["before", "after"].map(|side| format!("{}.{side}@1", step.name())));
    for (number, point) in points.enumerate() {
        let daemon = site.launch_to_abort_at(&point);
        daemon.wait_until_ready();
        let caller = daemon.caller().await.with_deadline(wait::LONG);
        daemon.wait_until_healthy_for(&caller).await;
        // Either way is broken off at half of the points, and each step by both.
        match (number / 2 + number) % 2 {
            0 => drop(caller.keys.clone().create_key(caller.request(CreateKeyRequest::default())).await),
            _ => {
                let request = RotateKeyOnDemandRequest { key_id: key.clone() };
                drop(caller.keys.clone().rotate_key_on_demand(caller.request(request)).await);
            }
        }
        drop(caller);
        let log = daemon.log_tail();
        let (status, after) = daemon.aborted();
        assert_eq!(status.signal(), Some(6), "{point} was not passed:\n{log}");

        let daemon = after.launch();
        daemon.wait_until_ready();
        let caller = daemon.caller().await.with_deadline(wait::LONG);
        daemon.wait_until_healthy_for(&caller).await;
        for ciphertext in &kept {
            assert_eq!(caller.decrypt(ciphertext, &context(&[])).await.unwrap(), b"kept", "after {point}");
        }
        kept.push(caller.encrypt(&key, b"kept", &context(&[])).await.unwrap());
        wait::until_async(&format!("after {point} the token holds what the metadata say"), wait::LONG, async || {
            let listed = caller.keys.clone().list_keys(caller.request(Default::default())).await.unwrap().into_inner();
            let mut expected = Vec::new();
            for listed in listed.keys {
                let shown = caller.describe_key(&listed.key_id).await.ok()?;
                (shown.key_state() == KeyState::Enabled).then_some(())?;
                caller.encrypt(&listed.key_id, b"used", &context(&[])).await.unwrap();
                expected.extend((1..=shown.current_version).map(|version| object_id(&listed.key_id, version)));
            }
            let held = objects(&daemon);
            // A number whose version was taken away is missing among those of its key.
            let known = expected.iter().filter(|id| held.contains(*id)).count();
            // Beside them: the canary.
            (held.matches("Secret Key Object").count() == known + 1 && known >= 1).then_some(())
        })
        .await;
        drop(caller);
        site = daemon.terminate().1;
    }
}
