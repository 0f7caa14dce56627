//! What takes access away works on a full disk, and while the reserve is spent; nothing else does.

use super::*;
use crate::GiveUp;
use crate::access::{NewApproval, Request, Requested, Vote};
use crate::reserve::Standing;
use std::num::NonZeroU32;

/// While the reserve is spent, only what restricts comes in.
#[tokio::test]
async fn what_takes_access_away_is_recorded_while_the_reserve_is_spent() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let (id, key) = bench.equipped("app").await;
    let (other, voter) = (bench.principal("other").await, bench.principal("voter").await);
    let request = |parameters| Request {
        requester: other.clone(),
        operation: "DeleteKeyMaterial".into(),
        resource: "x".into(),
        parameters: [parameters; 32],
    };
    let mut asked = Vec::new();
    for parameters in 0..2 {
        let (request, description, needed) = (request(parameters), String::new(), NonZeroU32::MIN);
        let new = NewApproval { request, description, needed, life: Duration::from_secs(9), most: 9, most_in_all: 9 };
        let Requested::New(approval) = store.request_approval(new).await.unwrap() else { panic!("it is new") };
        store.vote(&approval, &voter, Vote::Approve).await.unwrap();
        asked.push(approval);
    }
    let grant_id = store.catalogue().grants_after(key, None).next().unwrap().id.clone();
    let access_keys = [bench.access_key(&other, MANY).await.unwrap(), bench.access_key(&other, MANY).await.unwrap()];
    store.switch_access_key(&other, &access_keys[1], false).await.unwrap();
    store.put_policy(NewPolicy::new(&policy("unused"), "{}")).await.unwrap();
    store.spend_reserve();
    assert_eq!(store.disk().reserve.standing, Standing::Spent);

    let names = || -> BTreeMap<_, _> { [(arn("app"), id.clone())].into() };
    let (principal, of_group) = (Holder::Principal(id.clone()), Holder::Group(group("app")));
    for ordinary in [
        store.create_principal(NewPrincipal::new(&arn("new"))).await.map(drop),
        store.add_identity(&id, "cn:new", MANY).await,
        bench.access_key(&id, MANY).await.map(drop),
        store.switch_access_key(&other, &access_keys[1], true).await,
        store.create_group(&group("new"), MANY).await,
        store.add_member(&group("app"), &other, MANY).await,
        bench.attach("unused", &principal, MANY).await,
        store.put_policy(NewPolicy::new(&policy("new"), "{}")).await,
        store.create_grant(grant(key, &id, "new"), admits(MANY)).await.map(drop),
        store.vote(&asked[0], &id, Vote::Approve).await,
    ] {
        assert!(matches!(ordinary, Err(Error::Kept(_))), "{ordinary:?}");
    }
    store.remove_identity(&id, "cn:app").await.unwrap();
    store.switch_access_key(&other, &access_keys[0], false).await.unwrap();
    store.delete_access_key(&other, &access_keys[1]).await.unwrap();
    store.put_policy(NewPolicy { names: names(), ..NewPolicy::new(&policy("app"), "{\"less\":1}") }).await.unwrap();
    store.put_key_policy(key, NewKeyPolicy { document: "{1}".into(), names: names() }, LIVING).await.unwrap();
    store.detach_policy(&policy("app"), &principal).await.unwrap();
    store.detach_policy(&policy("app"), &of_group).await.unwrap();
    store.delete_policy(&policy("app")).await.unwrap();
    store.remove_grant(key, &grant_id).await.unwrap();
    store.remove_member(&group("app"), &id).await.unwrap();
    store.delete_group(&group("app")).await.unwrap();
    store.use_approval(&asked[0], &request(0)).await.unwrap();
    store.vote(&asked[1], &id, Vote::Refuse).await.unwrap();
    store.refuse_approval(&asked[1]).await.unwrap();
    store.delete_principal(&id).await.unwrap();
    bench.is_whole("all of it is recorded").await;
    store.free_reserve().await;
    store.create_principal(NewPrincipal::new(&arn("new"))).await.unwrap();
}

/// Without a page to be had: rows go, and the change log is written over in its place, whatever was in it before.
#[tokio::test]
async fn what_takes_access_away_needs_no_page() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let longest = "n".repeat(crate::log::ID_BYTES);
    let (id, key) = bench.equipped(&longest).await;
    let grant_id = store.catalogue().grants_after(key, None).next().unwrap().id.clone();
    let doomed = bench.new_key().await.key;
    for _ in 0..3 {
        store.create_grant(grant(doomed, &id, ""), admits(MANY)).await.unwrap();
    }
    store.force_state(doomed, KeyState::Disabled).await.unwrap();
    store.give_up_material(doomed, GiveUp::Asked { date: 1 }, &[]).await.unwrap();
    let needed = NonZeroU32::MIN;
    let request = Request { requester: id.clone(), operation: "x".into(), resource: "y".into(), parameters: [1; 32] };
    let new =
        NewApproval { request, description: "z".into(), needed, life: Duration::from_secs(9), most: 9, most_in_all: 9 };
    store.request_approval(new).await.unwrap();
    // A whole turn of the change log with the shortest entries before the disk is full, and then one with the longest.
    let other = bench.principal("other").await;
    let access_keys = [bench.access_key(&other, MANY).await.unwrap(), bench.access_key(&other, MANY).await.unwrap()];
    for _ in 0..=crate::log::SLOTS {
        store.untag_principal(&other, &BTreeSet::new()).await.unwrap();
    }
    bench.until_full().await;
    for _ in 0..=crate::log::SLOTS {
        store.put_policy(NewPolicy::new(&policy(&longest), "{}")).await.unwrap();
    }
    store.remove_grant(key, &grant_id).await.unwrap();
    store.detach_policy(&policy(&longest), &Holder::Principal(id.clone())).await.unwrap();
    store.remove_identity(&id, &cn(&longest)).await.unwrap();
    store.switch_access_key(&other, &access_keys[0], false).await.unwrap();
    store.delete_access_key(&other, &access_keys[1]).await.unwrap();
    let names: BTreeMap<_, _> = [(arn(&longest), id.clone())].into();
    store.put_key_policy(key, NewKeyPolicy { document: "{1}".into(), names }, LIVING).await.unwrap();
    store.delete_group(&group(&longest)).await.unwrap();
    store.delete_policy(&policy(&longest)).await.unwrap();
    store.delete_principal(&id).await.unwrap();
    store.delete_key(doomed).await.expect("its grants go with it");
    assert_eq!(store.disk().reserve.standing, Standing::Whole, "none of it was needed");
    bench.is_whole("without room").await;
}
