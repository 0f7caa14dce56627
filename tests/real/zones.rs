//! Each zone holds every key: what one made, the other opens.

use proto::v1::{HsmHealth, PlacementState};

use crate::harness::zone::Zone;
use crate::harness::{Caller, Daemon, context, wait};

#[tokio::test(flavor = "multi_thread")]
async fn what_one_zone_made_the_other_opens() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("both ways").await;
    let placements = caller.describe_key(&key).await.unwrap().placements;
    assert_eq!(placements.len(), 2);
    assert!(placements.iter().all(|placement| placement.state() == PlacementState::Present), "{placements:?}");

    let pairs = context(&[("made", "in one zone alone")]);
    let mut made = Vec::new();
    for (away, makes) in [("b", "a"), ("a", "b")] {
        let taken = daemon.zone(away).take_away();
        wait_until_down(&caller, daemon.zone(away)).await;
        made.push((makes, caller.encrypt(&key, makes.as_bytes(), &pairs).await.unwrap()));
        taken.put_back();
        daemon.wait_until_healthy_for(&caller).await;
    }
    for (away, made_in) in [("a", "a"), ("b", "b")] {
        let taken = daemon.zone(away).take_away();
        wait_until_down(&caller, daemon.zone(away)).await;
        let (_, ciphertext) = made.iter().find(|(zone, _)| *zone == made_in).unwrap();
        assert_eq!(caller.decrypt(ciphertext, &pairs).await.unwrap(), made_in.as_bytes());
        taken.put_back();
        daemon.wait_until_healthy_for(&caller).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_zones_away_callers_are_told_and_may_try_again() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("nowhere").await;
    let taken: Vec<_> = daemon.zones.iter().map(Zone::take_away).collect();
    for zone in &daemon.zones {
        wait_until_down(&caller, zone).await;
    }
    let failure = caller.encrypt(&key, b"x", &context(&[])).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.retryable), ("KMSInvalidStateException", true), "{failure:?}");
    assert!(daemon.ops("/readyz").is_some_and(|(code, _)| code == 503));
    assert!(daemon.ops("/livez").is_some_and(|(code, _)| code == 200));
    taken.into_iter().for_each(crate::harness::zone::Taken::put_back);
    daemon.wait_until_healthy_for(&caller).await;
    caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
}

pub(crate) async fn wait_until_down(caller: &Caller, zone: &Zone) {
    wait::until_async("the zone is down", wait::LONG, async || {
        let hsms = caller.hsms().await.unwrap();
        let hsm = hsms.into_iter().find(|hsm| hsm.hsm_id == zone.hsm).unwrap();
        if hsm.health() == HsmHealth::Down {
            assert!(!hsm.reason.is_empty(), "an HSM that is down says why");
        }
        (hsm.health() == HsmHealth::Down).then_some(())
    })
    .await;
}
