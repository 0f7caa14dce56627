//! Grants: once for the same call, found on every way, gone with their key.

use super::*;
use crate::GiveUp;
use crate::access::{Constraint, ConstraintKind, Grant, Granted};
use crate::engine::value::values;
use model::id::GrantId;
use model::limits;

fn ids<'a>(of: impl Iterator<Item = &'a Arc<Grant>>) -> Vec<&'a GrantId> {
    of.map(|grant| &grant.id).collect()
}

impl Bench {
    async fn grant(&self, new: NewGrant, most: usize) -> Result<GrantId, Error> {
        self.store.create_grant(new, admits(most)).await.map(|granted| match granted {
            Granted::New(id) | Granted::Existing(id) => id,
        })
    }

    async fn given_up(&self) -> KeyId {
        let key = self.new_key().await.key;
        self.store.force_state(key, KeyState::Disabled).await.unwrap();
        key
    }

    async fn delete(&self, key: KeyId) {
        self.store.give_up_material(key, GiveUp::Asked { date: 1 }, &[]).await.unwrap();
        self.store.delete_key(key).await.unwrap();
    }
}

#[tokio::test]
async fn a_grant_is_found_by_key_by_grantee_and_by_who_retires_it() {
    let mut bench = Bench::new().await;
    let (key, elsewhere) = (bench.new_key().await.key, bench.new_key().await.key);
    let (app, admin) = (bench.principal("app").await, bench.principal("admin").await);
    let pairs: BTreeMap<_, _> = [("Purpose".to_owned(), "a b\"".to_owned()), ("x".to_owned(), String::new())].into();
    let new = NewGrant {
        retiring: Some(admin.clone()),
        issuer: admin.clone(),
        operations: vec!["Decrypt".into(), "Encrypt".into(), "CreateGrant".into()],
        constraint: Some(Constraint { kind: ConstraintKind::Equals, pairs: pairs.clone() }),
        ..grant(key, &app, "nightly")
    };
    bench.clock.advance(Duration::from_millis(5));
    let before = bench.store.catalogue();
    let id = bench.grant(new.clone(), 9).await.unwrap();
    let now = bench.store.catalogue();
    assert_eq!(now.keys_changed_since(&before), Some([].into()), "a grant changes no key");
    assert!(now.access_changed_since(&before) && !now.access_changed_since(&now));
    let other = bench.grant(grant(elsewhere, &app, ""), 9).await.unwrap();
    bench.reopen().await;
    let catalogue = bench.store.catalogue();
    let found = catalogue.grant(key, &id).unwrap();
    assert_eq!((&found.grantee, &found.retiring, &found.issuer), (&app, &Some(admin.clone()), &admin));
    assert_eq!((found.name.as_str(), found.issuing_account.as_str(), found.created_at), ("nightly", "111122223333", 5));
    assert_eq!(found.operations, ["Decrypt", "Encrypt", "CreateGrant"], "in their order");
    assert_eq!(found.constraint, new.constraint);
    assert!(found.allows("Encrypt") && !found.allows("DescribeKey"));
    assert!(catalogue.grant(elsewhere, &id).is_none(), "another key's");
    assert_eq!(ids(catalogue.grants_of(&app, key)), [&id]);
    assert_eq!(ids(catalogue.grants_of(&app, elsewhere)), [&other]);
    assert!(ids(catalogue.grants_of(&admin, key)).is_empty());
    assert_eq!(ids(catalogue.retirable_after(&admin, None)), [&id]);
    assert!(ids(catalogue.retirable_after(&admin, Some(&id))).is_empty());

    let wrong = refused(bench.store.remove_grant(elsewhere, &id).await);
    assert_eq!(wrong, AccessError::NoGrant(elsewhere, id.clone()));
    bench.store.force_state(key, KeyState::PendingDeletion).await.unwrap();
    bench.store.remove_grant(key, &id).await.expect("whatever the key is in");
    assert_eq!(refused(bench.store.remove_grant(key, &id).await), AccessError::NoGrant(key, id));
    bench.is_whole("a grant is revoked").await;
    assert!(bench.store.catalogue().retirable_after(&admin, None).next().is_none());
    let pending = bench.grant(new.clone(), 9).await;
    assert!(matches!(pending, Err(Error::KeyState(..))), "{pending:?}");
    bench.store.delete_principal(&admin).await.unwrap();
    let stranger = NewGrant { key: elsewhere, ..new };
    assert_eq!(refused(bench.grant(stranger, 9).await), AccessError::NoPrincipal(admin));
    let blank = NewGrant { operations: vec!["En crypt".into()], ..grant(elsewhere, &app, "") };
    assert!(matches!(bench.grant(blank, 9).await, Err(Error::Contradiction(_))));
}

#[tokio::test]
async fn the_same_call_with_a_name_makes_one_grant() {
    let bench = Bench::new().await;
    let (key, elsewhere, app) = (bench.new_key().await.key, bench.new_key().await.key, bench.principal("app").await);
    let named = grant(key, &app, "nightly");
    let Granted::New(id) = bench.store.create_grant(named.clone(), admits(4)).await.unwrap() else {
        panic!("it is new")
    };
    let before = bench.store.revision();
    let again = bench.store.create_grant(named.clone(), admits(1)).await.expect("it needs no room");
    assert_eq!((again, bench.store.revision()), (Granted::Existing(id.clone()), before));
    // At once: none makes a second one.
    let called = (0..4).map(|_| bench.store.create_grant(named.clone(), admits(4)));
    for granted in futures_util::future::join_all(called).await {
        assert_eq!(granted.unwrap(), Granted::Existing(id.clone()));
    }
    let different = [
        NewGrant { parameters: [2; 32], ..named.clone() },
        NewGrant { name: "other".into(), ..named.clone() },
        NewGrant { key: elsewhere, ..named.clone() },
        NewGrant { name: String::new(), ..named.clone() },
        NewGrant { name: String::new(), ..named.clone() },
    ];
    for new in different {
        let granted = bench.store.create_grant(new.clone(), admits(9)).await.unwrap();
        assert!(matches!(granted, Granted::New(_)), "{new:?}");
    }
    // What was revoked does not come back by a call that is repeated: it is a new one.
    bench.store.remove_grant(key, &id).await.unwrap();
    let made = bench.store.create_grant(named, admits(9)).await.unwrap();
    assert!(matches!(made, Granted::New(new) if new != id));
}

#[tokio::test]
async fn a_principal_has_so_many_grants_of_a_key_and_no_more() {
    let bench = Bench::new().await;
    let (key, elsewhere, app) = (bench.new_key().await.key, bench.new_key().await.key, bench.principal("app").await);
    let (other, most) = (bench.principal("other").await, limits::GRANTS_PER_GRANTEE);
    let mut named = None;
    for index in 0..most {
        named = Some(grant(key, &app, &format!("{index}")));
        bench.grant(grant(key, &app, &format!("{index}")), 9_999).await.unwrap();
    }
    let refused = bench.grant(grant(key, &app, ""), 9_999).await;
    assert!(is_quota(refused, AccessQuota::GrantsOfGrantee, most));
    assert_eq!(bench.store.catalogue().grants_of(&app, key).count(), most);
    assert_eq!(bench.store.catalogue().grant_count_of(key), most);
    let again = bench.store.create_grant(named.unwrap(), admits(9_999)).await.expect("it needs no room");
    let Granted::Existing(id) = again else { panic!("{again:?}") };
    bench.grant(grant(elsewhere, &app, ""), 9_999).await.expect("another key's are not counted");
    bench.grant(grant(key, &other, ""), 9_999).await.expect("another grantee's are not counted");
    bench.store.remove_grant(key, &id).await.unwrap();
    bench.grant(grant(key, &app, ""), 9_999).await.expect("there is room again");
}

#[tokio::test]
async fn a_key_has_so_many_grants_and_no_more() {
    let mut bench = Bench::new().await;
    let (key, elsewhere, app) = (bench.new_key().await.key, bench.new_key().await.key, bench.principal("app").await);
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        ids.insert(bench.grant(grant(key, &app, ""), 3).await.unwrap());
    }
    assert!(is_quota(bench.grant(grant(key, &app, ""), 3).await, AccessQuota::Grants, 3));
    bench.grant(grant(elsewhere, &app, ""), 1).await.expect("another key's are not counted");
    bench.reopen().await;
    let catalogue = bench.store.catalogue();
    assert_eq!(catalogue.grant_count_of(key), 3);
    let listed: Vec<_> = catalogue.grants_after(key, None).map(|of| of.id.clone()).collect();
    assert!(listed.iter().eq(&ids), "in a stable order");
    assert!(catalogue.grants_after(key, Some(&listed[0])).map(|of| &of.id).eq(&listed[1..]));
    bench.store.remove_grant(key, &listed[1]).await.unwrap();
    let called = (0..4).map(|_| bench.grant(grant(key, &app, ""), 3));
    let made = futures_util::future::join_all(called).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "between counting and making nobody comes");
    assert_eq!(bench.store.catalogue().grant_count_of(key), 3);
}

#[tokio::test]
async fn grants_and_policy_go_with_their_key() {
    let bench = Bench::new().await;
    let (app, key, kept) = (bench.principal("app").await, bench.given_up().await, bench.new_key().await.key);
    let policy = NewKeyPolicy { document: "{}".into(), names: [(arn("app"), app.clone())].into() };
    bench.store.put_key_policy(key, policy, LIVING).await.unwrap();
    for of in [key, key, kept] {
        bench.grant(grant(of, &app, ""), 9).await.unwrap();
    }
    bench.delete(key).await;
    bench.is_whole("few go with it").await;
    let catalogue = bench.store.catalogue();
    assert_eq!((catalogue.grant_count_of(key), catalogue.grants_of(&app, key).count()), (0, 0));
    assert_eq!(catalogue.retirable_after(&app, None).count(), 1);
}

/// More than the change log holds entries: they go in steps, each of which a catalogue can follow.
#[tokio::test]
async fn very_many_grants_go_in_steps() {
    const MANY: i64 = 1_300;
    let bench = Bench::new().await;
    let (app, key) = (bench.principal("app").await, bench.given_up().await);
    bench.grant(grant(key, &app, ""), 9).await.unwrap();
    let made = bench.store.change(move |database| {
        Box::pin(async move {
            let copies = "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < $1) \
                          INSERT INTO grants (id, key_id, name, grantee, retiring, issuing_account, issuer, operations, \
                          parameters, created_at) SELECT 'grant-' || n, key_id, name, grantee, retiring, \
                          issuing_account, issuer, operations, parameters, created_at FROM grants, many";
            database.execute(copies, values![MANY]).await?;
            database.execute("UPDATE keys SET grant_count = $1 WHERE id = $2", values![MANY + 1, key]).await?;
            let revision = database.revision().await?;
            crate::log::break_off(database, revision).await
        })
    });
    made.await.unwrap();
    assert_eq!(bench.store.catalogue().grant_count_of(key), 1_301);
    bench.store.give_up_material(key, GiveUp::Asked { date: 1 }, &[]).await.unwrap();
    let before = bench.store.catalogue();
    bench.store.delete_key(key).await.unwrap();
    let now = bench.store.catalogue();
    assert_eq!(now.revision() - before.revision(), 3, "512, 512, and the rest with the key");
    assert!(now.key(key).is_none() && now.retirable_after(&app, None).next().is_none());
    bench.is_whole("all are gone").await;
}
