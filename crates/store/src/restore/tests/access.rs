//! Access on either side of a backup.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::Admits;
use crate::access::{
    Granted, Holder, NewAccessKey, NewApproval, NewAttachment, NewGrant, NewKeyPolicy, NewPolicy, NewPrincipal, Request,
};
use model::id::{AccessKeyId, GrantId, GroupName, KeyId, PolicyName, PrincipalId};

const ANY: &[KeyState] = &[KeyState::Creating, KeyState::Enabled, KeyState::Disabled];

async fn principal(store: &Store, name: &str) -> PrincipalId {
    let identities = [format!("cn:{name}"), format!("dns:{name}")].into();
    let new = NewPrincipal { identities, ..NewPrincipal::new(&format!("arn:aws:iam::111122223333:user/{name}")) };
    store.create_principal(new).await.unwrap()
}

async fn grant(store: &Store, key: KeyId, grantee: &PrincipalId) -> GrantId {
    let new = NewGrant {
        key,
        name: String::new(),
        grantee: grantee.clone(),
        retiring: None,
        issuing_account: "111122223333".into(),
        issuer: grantee.clone(),
        operations: vec!["Encrypt".into()],
        constraint: None,
        parameters: [0; 32],
    };
    match store.create_grant(new, Admits { states: ANY, most: 9 }).await.unwrap() {
        Granted::New(id) | Granted::Existing(id) => id,
    }
}

async fn access_key(store: &Store, of: &PrincipalId) -> AccessKeyId {
    let id = AccessKeyId::random();
    let sealed = format!("sealed {id}").into();
    store.create_access_key(NewAccessKey { id: id.clone(), principal: of.clone(), sealed, most: 9 }).await.unwrap();
    id
}

async fn put(store: &Store, key: KeyId, document: &str) {
    store.put_policy(NewPolicy::new(&PolicyName::from("p"), document)).await.unwrap();
    store.put_key_policy(key, NewKeyPolicy { document: document.into(), names: [].into() }, ANY).await.unwrap();
}

#[tokio::test]
async fn whom_access_was_taken_from_is_not_let_in_again() {
    let (site, store, key_store) = Site::used().await;
    let key = key(&store, &key_store).await.key;
    let (gone, kept) = (principal(&store, "gone").await, principal(&store, "kept").await);
    let (group, policy) = (GroupName::from("g"), PolicyName::from("p"));
    put(&store, key, "then").await;
    store.create_group(&group, 9).await.unwrap();
    store.add_member(&group, &kept, 9).await.unwrap();
    for holder in [Holder::Principal(kept.clone()), Holder::Group(group.clone())] {
        let new = NewAttachment { policy: policy.clone(), built_in: false, holder, most: 9 };
        store.attach_policy(new).await.unwrap();
    }
    let (revoked, left) = (grant(&store, key, &kept).await, grant(&store, key, &gone).await);
    let request = Request {
        requester: kept.clone(),
        operation: "DisableKey".into(),
        resource: String::new(),
        parameters: [0; 32],
    };
    let (life, description) = (Duration::from_secs(60), String::new());
    let new = NewApproval { request, description, life, needed: NonZeroU32::MIN, most: 9, most_in_all: 9 };
    store.request_approval(new).await.unwrap();
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();

    store.delete_principal(&gone).await.unwrap();
    store.remove_identity(&kept, "dns:kept").await.unwrap();
    store.remove_member(&group, &kept).await.unwrap();
    for holder in [Holder::Principal(kept.clone()), Holder::Group(group.clone())] {
        store.detach_policy(&policy, &holder).await.unwrap();
    }
    store.remove_grant(key, &revoked).await.unwrap();
    put(&store, key, "now").await;
    let anew = principal(&store, "gone").await;
    store.close().await;

    let (plan, _) = site.restore(&copy).await;
    let told = &plan.access;
    assert_eq!(told.deleted.iter().map(|of| &of.id).collect::<Vec<_>>(), [&gone]);
    assert_eq!(told.identities, [(kept.clone(), "dns:kept".to_owned())]);
    assert_eq!(told.memberships, [(kept.clone(), group.clone())]);
    assert_eq!(told.attachments.len(), 2);
    assert_eq!(told.revoked, [(key, revoked)]);
    assert_eq!((&told.key_policies[..], &told.policies[..]), (&[key][..], &[policy.clone()][..]));
    assert_eq!(told.unknown.iter().map(|of| &of.id).collect::<Vec<_>>(), [&anew]);
    assert_eq!(told.approvals, 1);

    let store = site.open().await.unwrap();
    let catalogue = store.catalogue();
    let there: BTreeSet<_> = catalogue.principals_after(None).map(|of| of.id.clone()).collect();
    assert_eq!(there, [kept.clone()].into());
    assert!(catalogue.principal_known_as("dns:kept").is_none() && catalogue.principal_known_as("cn:gone").is_none());
    assert_eq!(catalogue.principal_known_as("cn:kept").unwrap().id, kept);
    assert_eq!((catalogue.policies_of(&kept).count(), catalogue.holders_after(&policy, None).count()), (0, 0));
    assert_eq!(catalogue.members_after(&group, None).count(), 0);
    assert!(catalogue.grants_after(key, None).map(|grant| &grant.id).eq([&left]), "nobody revoked it");
    assert_eq!(&*catalogue.policy(&policy).unwrap().document, "then");
    assert_eq!(&*catalogue.key(key).unwrap().policy.as_ref().unwrap().document, "then");
    assert_eq!(catalogue.approvals_after(None).count(), 0);
    // The count of grants goes on from what is there.
    grant(&store, key, &kept).await;
    let new = NewGrant {
        key,
        name: String::new(),
        grantee: kept.clone(),
        retiring: None,
        issuing_account: String::new(),
        issuer: kept,
        operations: vec![],
        constraint: None,
        parameters: [0; 32],
    };
    assert!(store.create_grant(new, Admits { states: ANY, most: 2 }).await.is_err());
}

/// On a machine that was set up anew: what it does not know was not deleted there.
#[tokio::test]
async fn whoever_is_unknown_where_the_backup_is_restored_comes_back() {
    let (site, store, key_store) = Site::used().await;
    let (key, id) = (key(&store, &key_store).await.key, principal(&store, "app").await);
    let granted = grant(&store, key, &id).await;
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();
    store.close().await;
    let other = Site::new();
    other.open().await.unwrap().close().await;
    let (plan, _) = other.restore(&copy).await;
    assert_eq!(plan.access.back.iter().map(|of| &of.id).collect::<Vec<_>>(), [&id]);
    assert!(plan.access.deleted.is_empty() && plan.access.revoked.is_empty() && plan.access.identities.is_empty());
    let store = other.open().await.unwrap();
    assert_eq!(store.catalogue().principal_known_as("cn:app").unwrap().id, id);
    assert!(store.catalogue().grants_of(&id, key).map(|grant| &grant.id).eq([&granted]));
}

/// A key that was deleted or disabled since does not sign again, and what was sealed anew stays so.
#[tokio::test]
async fn access_keys_that_were_taken_away_stay_away() {
    let (site, store, _) = Site::used().await;
    let (kept, gone) = (principal(&store, "kept").await, principal(&store, "gone").await);
    let (deleted, disabled) = (access_key(&store, &kept).await, access_key(&store, &kept).await);
    let (enabled, left) = (access_key(&store, &kept).await, access_key(&store, &kept).await);
    let with_principal = access_key(&store, &gone).await;
    store.switch_access_key(&kept, &enabled, false).await.unwrap();
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();

    store.delete_access_key(&kept, &deleted).await.unwrap();
    store.switch_access_key(&kept, &disabled, false).await.unwrap();
    store.switch_access_key(&kept, &enabled, true).await.unwrap();
    store.delete_principal(&gone).await.unwrap();
    let anew = access_key(&store, &kept).await;
    store.reseal_access_keys(|id, _, _| Ok(format!("anew {id}").into())).await.unwrap();
    store.close().await;

    let (plan, _) = site.restore(&copy).await;
    let told = &plan.access;
    assert_eq!(told.access_keys, [(kept.clone(), deleted.clone())]);
    assert_eq!(told.inactive, [(kept.clone(), disabled.clone())]);
    assert_eq!(told.unknown_access_keys, [(kept.clone(), anew.clone())]);

    let store = site.open().await.unwrap();
    let catalogue = store.catalogue();
    let signs = |id: &AccessKeyId| catalogue.principal_known_as(&id.identity()).map(|of| of.id.clone());
    for away in [&deleted, &disabled, &enabled, &with_principal, &anew] {
        assert_eq!(signs(away), None);
    }
    assert_eq!(signs(&left), Some(kept.clone()));
    let there: BTreeSet<_> = catalogue.principal(&kept).unwrap().access_keys.iter().map(|key| key.id.clone()).collect();
    assert_eq!(there, [disabled, enabled, left.clone()].into());
    let sealed =
        catalogue.principal(&kept).unwrap().access_keys.iter().find(|key| key.id == left).unwrap().sealed.clone();
    assert_eq!(sealed, format!("anew {left}"), "the seal key of before may be at hand no more");
}

/// Where the database that knew is gone, a key that was deleted must not sign again because a backup has it.
#[tokio::test]
async fn access_keys_of_which_nothing_is_known_come_back_disabled() {
    let (site, store, _) = Site::used().await;
    let (app, ops) = (principal(&store, "app").await, principal(&store, "ops").await);
    let (of_app, off) = (access_key(&store, &app).await, access_key(&store, &app).await);
    let of_ops = access_key(&store, &ops).await;
    store.switch_access_key(&app, &off, false).await.unwrap();
    let copy = site.copy("backup");
    backup(&site.file(), &copy, &site.clock).await.unwrap();
    store.delete_access_key(&app, &of_app).await.unwrap();
    store.close().await;
    fs::write(site.file(), "no database any more").unwrap();

    let unknown = [(app.clone(), of_app.clone()), (ops.clone(), of_ops.clone())].into_iter().collect::<BTreeSet<_>>();
    let listed = |keys: &[(PrincipalId, AccessKeyId)]| keys.iter().cloned().collect::<BTreeSet<_>>();
    let (plan, _) = site.restore(&copy).await;
    assert_eq!((listed(&plan.access.unsure), plan.access.kept.len()), (unknown.clone(), 0));
    let store = site.open().await.unwrap();
    for id in [&of_app, &off, &of_ops] {
        assert!(store.catalogue().principal_known_as(&id.identity()).is_none(), "{id}");
    }
    // Enabled by hand it is as it was; and a backup of before this is of another line, which knows its principals.
    store.switch_access_key(&ops, &of_ops, true).await.unwrap();
    assert_eq!(store.catalogue().principal_known_as(&of_ops.identity()).unwrap().id, ops);
    store.close().await;
    let (plan, _) = site.restore(&copy).await;
    assert!(plan.access.unsure.is_empty(), "{:?}", plan.access.unsure);
    assert_eq!(listed(&plan.access.inactive), [(app.clone(), of_app.clone())].into());

    // On a machine that has none, unless whoever restores says that nothing was taken away.
    for (unknown_keys, signs) in [(UnknownAccessKeys::Disable, false), (UnknownAccessKeys::Keep, true)] {
        for started in [false, true] {
            let other = Site::new();
            match started {
                true => other.open().await.unwrap().close().await,
                false => fs::create_dir_all(other.folder.path().join("state")).unwrap(),
            }
            let (plan, _) = other.restore_with(&copy, unknown_keys).await;
            let told = if signs { &plan.access.kept } else { &plan.access.unsure };
            assert_eq!(listed(told), unknown, "{unknown_keys:?}");
            assert_eq!(plan.access.kept.len() + plan.access.unsure.len(), 2);
            let store = other.open().await.unwrap();
            for id in [&of_app, &of_ops] {
                assert_eq!(store.catalogue().principal_known_as(&id.identity()).is_some(), signs, "{unknown_keys:?}");
            }
            assert!(store.catalogue().principal_known_as(&off.identity()).is_none());
            store.close().await;
        }
    }
}
