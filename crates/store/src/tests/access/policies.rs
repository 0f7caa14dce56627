//! Identity policies, key policies, and to whom they are attached.

use super::*;

/// With everything that a reader could be tempted to tidy.
const DOCUMENT: &str = "{\r\n\t\"Version\" : \"2012-10-17\", \"Id\":\"ä\u{1F511} '\"\"}  \n";

#[tokio::test]
async fn a_policy_is_kept_byte_for_byte_and_replaced_in_its_place() {
    let mut bench = Bench::new().await;
    let (id, name) = (bench.principal("app").await, policy("readers"));
    let new = NewPolicy {
        description: "may read".into(),
        names: [(arn("app"), id.clone())].into(),
        most: 1,
        ..NewPolicy::new(&name, DOCUMENT)
    };
    bench.clock.advance(Duration::from_millis(5));
    bench.store.put_policy(new.clone()).await.unwrap();
    bench.attach("readers", &Holder::Principal(id.clone()), 1).await.unwrap();
    bench.clock.advance(Duration::from_millis(5));
    bench.store.put_policy(NewPolicy { description: "reads".into(), names: [].into(), ..new.clone() }).await.unwrap();
    bench.is_whole("put again").await;
    bench.reopen().await;
    let catalogue = bench.store.catalogue();
    let kept = catalogue.policy(&name).unwrap();
    assert_eq!((&*kept.document, kept.description.as_str()), (DOCUMENT, "reads"));
    assert_eq!((kept.created_at, kept.updated_at, kept.names.len()), (5, 10, 0));
    assert_eq!(catalogue.policies_of(&id).collect::<Vec<_>>(), [&name], "it stays attached");
    let other = NewPolicy { name: policy("others"), ..new.clone() };
    assert!(is_quota(bench.store.put_policy(other).await, AccessQuota::Policies, 1));
    let stranger = NewPolicy { names: [(arn("app"), PrincipalId::from("AIDAX"))].into(), ..new };
    assert_eq!(refused(bench.store.put_policy(stranger).await), AccessError::PrincipalChanged(arn("app")));
}

#[tokio::test]
async fn a_policy_that_is_attached_stays() {
    let bench = Bench::new().await;
    let (id, store, name) = (bench.principal("app").await, &bench.store, policy("readers"));
    let (principal, admins) = (Holder::Principal(id.clone()), Holder::Group(group("admins")));
    store.create_group(&group("admins"), MANY).await.unwrap();
    assert_eq!(refused(bench.attach("readers", &principal, 9).await), AccessError::NoPolicy(name.clone()));
    store.put_policy(NewPolicy::new(&name, "{}")).await.unwrap();
    for holder in [&principal, &admins] {
        bench.attach("readers", holder, 1).await.unwrap();
        bench.attach("readers", holder, 1).await.expect("it is attached");
        assert!(matches!(
            refused(store.delete_policy(&name).await),
            AccessError::PolicyAttached(of, _) if of == name
        ));
    }
    let holders: Vec<_> = store.catalogue().holders_after(&name, None).cloned().collect();
    assert_eq!(holders, [principal.clone(), admins.clone()]);
    assert_eq!(store.catalogue().holders_after(&name, Some(&principal)).count(), 1);
    store.put_policy(NewPolicy::new(&policy("second"), "{}")).await.unwrap();
    assert!(is_quota(bench.attach("second", &principal, 1).await, AccessQuota::Attachments, 1));
    assert!(is_quota(bench.attach("second", &admins, 1).await, AccessQuota::Attachments, 1));
    for holder in [&principal, &admins] {
        store.detach_policy(&name, holder).await.unwrap();
        let again = refused(store.detach_policy(&name, holder).await);
        assert_eq!(again, AccessError::NotAttached(name.clone(), holder.clone()));
    }
    store.delete_policy(&name).await.unwrap();
    assert_eq!(refused(store.delete_policy(&name).await), AccessError::NoPolicy(name));
    bench.is_whole("detached and deleted").await;
}

/// They are attached by their names alone.
#[tokio::test]
async fn a_policy_that_is_part_of_the_program_is_attached_without_being_kept() {
    let mut bench = Bench::new().await;
    let id = bench.principal("app").await;
    let (name, holder) = (policy("KeystoredAdministrator"), Holder::Principal(id.clone()));
    let attachment = NewAttachment { policy: name.clone(), built_in: true, holder: holder.clone(), most: 1 };
    bench.store.attach_policy(attachment.clone()).await.unwrap();
    bench.reopen().await;
    let catalogue = bench.store.catalogue();
    assert_eq!(catalogue.policies_of(&id).collect::<Vec<_>>(), [&name]);
    assert!(catalogue.policy(&name).is_none() && catalogue.policies_after(None).next().is_none());
    bench.store.detach_policy(&name, &holder).await.unwrap();
    bench.store.attach_policy(attachment).await.unwrap();
    bench.store.delete_principal(&id).await.unwrap();
    assert_eq!(bench.store.catalogue().holders_after(&name, None).count(), 0);
}

#[tokio::test]
async fn a_key_has_the_policy_that_was_put_or_none() {
    let mut bench = Bench::new().await;
    let (id, key) = (bench.principal("app").await, bench.new_key().await.key);
    assert_eq!(bench.store.catalogue().key(key).unwrap().policy, None);
    let new = NewKeyPolicy { document: DOCUMENT.into(), names: [(arn("app"), id.clone())].into() };
    let (keys, access) = (bench.store.catalogue(), bench.store.catalogue());
    bench.clock.advance(Duration::from_millis(5));
    bench.store.put_key_policy(key, new.clone(), LIVING).await.unwrap();
    let now = bench.store.catalogue();
    assert_eq!(now.keys_changed_since(&keys), Some([key].into()));
    assert!(!now.access_changed_since(&access), "it is the key's");
    bench.is_whole("a key's policy").await;
    bench.reopen().await;
    let kept = bench.store.catalogue().key(key).unwrap().policy.clone().unwrap();
    assert_eq!((&*kept.document, &kept.names, kept.updated_at), (DOCUMENT, &new.names, 5));
    let again = NewKeyPolicy { document: "{}".into(), names: [].into() };
    bench.store.put_key_policy(key, again, LIVING).await.unwrap();
    let kept = bench.store.catalogue().key(key).unwrap().policy.clone().unwrap();
    assert_eq!((&*kept.document, kept.names.len()), ("{}", 0));

    bench.store.force_state(key, KeyState::PendingDeletion).await.unwrap();
    let pending = bench.store.put_key_policy(key, new.clone(), LIVING).await;
    assert!(matches!(pending, Err(Error::KeyState(of, KeyState::PendingDeletion)) if of == key), "{pending:?}");
    let missing = bench.store.put_key_policy(KeyId::random(), new.clone(), LIVING).await;
    assert!(matches!(missing, Err(Error::Missing(_))), "{missing:?}");

    // From the beginning, and with the same client token once.
    let of = || NewKey::new(&bench.key_store, &hsms());
    let begun = bench.store.begin_key_with_policy(of(), Some(new.clone()), Some(&token("t", 1))).await.unwrap();
    let Begun::New(made) = begun else { panic!("it is new") };
    assert_eq!(&*bench.store.catalogue().key(made).unwrap().policy.as_ref().unwrap().document, DOCUMENT);
    let begun = bench.store.begin_key_with_policy(of(), Some(new.clone()), Some(&token("t", 1))).await.unwrap();
    assert_eq!(begun, Begun::Existing(made));
    bench.store.delete_principal(&id).await.unwrap();
    let keys = bench.store.catalogue().key_count();
    refused(bench.store.begin_key_with_policy(of(), Some(new), None).await);
    assert_eq!(bench.store.catalogue().key_count(), keys, "no key without its policy");
    bench.store.abandon_key(made).await.unwrap();
    bench.is_whole("the policy went with the key").await;
}
