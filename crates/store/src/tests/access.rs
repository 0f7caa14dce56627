//! Who may do what: what is kept of it, what it refuses, how many there may be.

mod access_keys;
mod approvals;
mod grants;
mod policies;
mod room;
mod whole;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::access::{Holder, NewAttachment, NewGrant, NewKeyPolicy, NewPolicy, NewPrincipal};
use crate::{AccessError, AccessQuota, Admits};
use model::id::{GroupName, PolicyName, PrincipalId};

const LIVING: &[KeyState] = &[KeyState::Creating, KeyState::Enabled, KeyState::Disabled];
const MANY: usize = usize::MAX;

fn admits(most: usize) -> Admits {
    Admits { states: LIVING, most }
}

fn arn(name: &str) -> String {
    format!("arn:aws:iam::111122223333:user/{name}")
}

fn cn(name: &str) -> String {
    format!("cn:{name}")
}

fn group(name: &str) -> GroupName {
    GroupName::from(name)
}

fn policy(name: &str) -> PolicyName {
    PolicyName::from(name)
}

/// What a change was refused for.
fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> AccessError {
    match outcome {
        Err(Error::Access(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn is_quota<T: std::fmt::Debug>(outcome: Result<T, Error>, of: AccessQuota, at: usize) -> bool {
    matches!(refused(outcome), AccessError::TooMany { quota, most, .. } if quota == of && most == at)
}

impl Bench {
    /// One who is known by a certificate's name.
    async fn principal(&self, name: &str) -> PrincipalId {
        let new = NewPrincipal { identities: [cn(name)].into(), ..NewPrincipal::new(&arn(name)) };
        self.store.create_principal(new).await.unwrap()
    }

    async fn attach(&self, name: &str, holder: &Holder, most: usize) -> Result<(), Error> {
        let (policy, holder) = (policy(name), holder.clone());
        self.store.attach_policy(NewAttachment { policy, built_in: false, holder, most }).await
    }

    /// Everything that a principal can have: an access key, a group, policies, tags, a grant, a key's policy that names it.
    async fn equipped(&self, name: &str) -> (PrincipalId, KeyId) {
        let (store, id, key) = (&self.store, self.principal(name).await, self.new_key().await.key);
        let names: BTreeMap<_, _> = [(arn(name), id.clone())].into();
        store.tag_principal(&id, &[("team".to_owned(), "payroll".to_owned())].into(), 50).await.unwrap();
        self.access_key(&id, MANY).await.unwrap();
        store.create_group(&group(name), MANY).await.unwrap();
        store.add_member(&group(name), &id, MANY).await.unwrap();
        store.put_policy(NewPolicy { names: names.clone(), ..NewPolicy::new(&policy(name), "{}") }).await.unwrap();
        self.attach(name, &Holder::Principal(id.clone()), MANY).await.unwrap();
        self.attach(name, &Holder::Group(group(name)), MANY).await.unwrap();
        let of_key = NewKeyPolicy { document: "{ }".into(), names };
        store.put_key_policy(key, of_key, LIVING).await.unwrap();
        store.create_grant(grant(key, &id, name), admits(MANY)).await.unwrap();
        (id, key)
    }

    /// What the catalogue shows is what somebody sees who reads everything.
    async fn is_whole(&self, what: &str) {
        let read = crate::load::catalogue(&mut copy::open(&self.file()).await.unwrap()).await.unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", self.store.catalogue()), "{what}");
    }
}

fn grant(key: KeyId, of: &PrincipalId, name: &str) -> NewGrant {
    NewGrant {
        key,
        name: name.into(),
        grantee: of.clone(),
        retiring: Some(of.clone()),
        issuing_account: "111122223333".into(),
        issuer: of.clone(),
        operations: vec!["Encrypt".into(), "Decrypt".into()],
        constraint: None,
        parameters: [1; 32],
    }
}

#[tokio::test]
async fn a_principal_is_found_by_its_id_its_arn_and_its_certificates() {
    let mut bench = Bench::new().await;
    bench.clock.advance(Duration::from_millis(5));
    let new = NewPrincipal {
        description: "the payroll".into(),
        identities: ["spiffe://example.org/app".into(), cn("app")].into(),
        tags: [("team".to_owned(), "payroll".to_owned())].into(),
        ..NewPrincipal::new(&arn("app"))
    };
    let id = bench.store.create_principal(new.clone()).await.unwrap();
    bench.clock.advance(Duration::from_millis(5));
    bench.store.add_identity(&id, "dns:app.example.org", 3).await.unwrap();
    bench.reopen().await;
    let catalogue = bench.store.catalogue();
    let found = catalogue.principal(&id).unwrap();
    assert_eq!((&*found.arn, found.description.as_str(), found.created_at), (&*arn("app"), "the payroll", 5));
    let identities: Vec<_> = found.identities.iter().map(|of| (of.name.as_str(), of.created_at)).collect();
    assert_eq!(identities, [("cn:app", 5), ("dns:app.example.org", 10), ("spiffe://example.org/app", 5)]);
    assert_eq!(found.tags, new.tags);
    assert_eq!(catalogue.principal_with_arn(&arn("app")).unwrap().id, id);
    for (name, _) in identities {
        assert_eq!(catalogue.principal_known_as(name).unwrap().id, id);
    }
    assert!(catalogue.principal_known_as("cn:App").is_none() && catalogue.principal_with_arn("cn:app").is_none());

    let refusal = refused(bench.store.create_principal(NewPrincipal::new(&arn("app"))).await);
    assert_eq!(refusal, AccessError::ArnInUse(arn("app")));
    let thief = NewPrincipal { identities: [cn("app")].into(), ..NewPrincipal::new(&arn("thief")) };
    let before = bench.store.revision();
    let refusal = refused(bench.store.create_principal(thief).await);
    assert_eq!(refusal, AccessError::IdentityInUse(cn("app"), id.clone()));
    assert_eq!(
        (bench.store.revision(), bench.store.catalogue().principal_count()),
        (before, 1),
        "nothing is left of it"
    );
}

#[tokio::test]
async fn an_identity_is_one_principal_s_at_a_time() {
    let bench = Bench::new().await;
    let (one, other, store) = (bench.principal("one").await, bench.principal("other").await, &bench.store);
    assert_eq!(
        refused(store.add_identity(&other, "cn:one", MANY).await),
        AccessError::IdentityInUse("cn:one".into(), one.clone())
    );
    assert_eq!(
        refused(store.remove_identity(&other, "cn:one").await),
        AccessError::NoIdentity(other.clone(), "cn:one".into())
    );
    store.remove_identity(&one, "cn:one").await.unwrap();
    assert!(store.catalogue().principal_known_as("cn:one").is_none(), "the last one may go");
    assert!(store.catalogue().principal(&one).is_some());
    store.add_identity(&other, "cn:one", MANY).await.unwrap();
    assert_eq!(store.catalogue().principal_known_as("cn:one").unwrap().id, other);
    let gone = PrincipalId::from("AIDA");
    assert_eq!(refused(store.add_identity(&gone, "cn:x", MANY).await), AccessError::NoPrincipal(gone.clone()));
    assert_eq!(refused(store.delete_principal(&gone).await), AccessError::NoPrincipal(gone));
}

/// Whoever has an old ARN inherits nothing of whoever had it before.
#[tokio::test]
async fn one_who_is_made_anew_under_an_old_arn_is_somebody_else() {
    let mut bench = Bench::new().await;
    let (old, key) = bench.equipped("app").await;
    bench.store.delete_principal(&old).await.unwrap();
    bench.is_whole("after the deletion").await;
    let catalogue = bench.store.catalogue();
    assert!(catalogue.principal_with_arn(&arn("app")).is_none() && catalogue.principal_known_as("cn:app").is_none());
    assert_eq!(catalogue.members_after(&group("app"), None).count(), 0);
    let holders: Vec<_> = catalogue.holders_after(&policy("app"), None).cloned().collect();
    assert_eq!(holders, [Holder::Group(group("app"))], "the group's own attachment stays");

    let new = bench.principal("app").await;
    assert_ne!(old, new);
    bench.reopen().await;
    let catalogue = bench.store.catalogue();
    let found = catalogue.principal_known_as("cn:app").unwrap();
    assert_eq!(found.id, new);
    assert!(
        found.access_keys.is_empty() && found.tags.is_empty() && found.groups.is_empty() && found.policies.is_empty()
    );
    assert_eq!(catalogue.policies_of(&new).count(), 0);
    assert_eq!(catalogue.grants_of(&new, key).count(), 0);
    assert_eq!(catalogue.retirable_after(&new, None).count(), 0);
    // Grants and policies keep the old id, for people to see.
    let kept = catalogue.grants_after(key, None).next().unwrap();
    assert_eq!((&kept.grantee, &kept.retiring), (&old, &Some(old.clone())));
    let named: Vec<_> = catalogue.key(key).unwrap().policy.as_ref().unwrap().names.values().cloned().collect();
    assert_eq!(named, std::slice::from_ref(&old));
    assert_eq!(catalogue.policy(&policy("app")).unwrap().names.values().collect::<Vec<_>>(), [&old]);
    // With what was looked up before nothing is put any more.
    let stale = NewKeyPolicy { document: "{}".into(), names: [(arn("app"), old.clone())].into() };
    assert_eq!(
        refused(bench.store.put_key_policy(key, stale, LIVING).await),
        AccessError::PrincipalChanged(arn("app"))
    );
}

#[tokio::test]
async fn so_many_principals_identities_and_tags_and_no_more() {
    let bench = Bench::new().await;
    let store = &bench.store;
    let create = |name: &str| store.create_principal(NewPrincipal { most: 2, ..NewPrincipal::new(&arn(name)) });
    let (one, _) = (create("a").await.unwrap(), create("b").await.unwrap());
    assert!(is_quota(create("c").await, AccessQuota::Principals, 2));
    store.add_identity(&one, "cn:1", 2).await.unwrap();
    store.add_identity(&one, "cn:2", 2).await.unwrap();
    assert!(is_quota(store.add_identity(&one, "cn:3", 2).await, AccessQuota::Identities, 2));
    let tags = |tags: &[&str]| tags.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect::<BTreeMap<_, _>>();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    store.tag_principal(&one, &tags(&["a", "b"]), 2).await.unwrap();
    assert!(is_quota(store.tag_principal(&one, &tags(&["b", "c"]), 2).await, AccessQuota::Tags, 2));
    store.tag_principal(&one, &tags(&["a"]), 1).await.expect("of what it has it may have more");
    store.untag_principal(&one, &names(&["a", "none"])).await.unwrap();
    assert_eq!(store.catalogue().principal(&one).unwrap().tags, tags(&["b"]));
    let pages: Vec<_> = store.catalogue().principals_after(Some(&arn("a"))).map(|of| of.arn.to_string()).collect();
    assert_eq!(pages, [arn("b")]);
}

#[tokio::test]
async fn a_group_has_members_and_takes_memberships_along() {
    let mut bench = Bench::new().await;
    let (one, other) = (bench.principal("one").await, bench.principal("other").await);
    let (payroll, audit) = (group("payroll"), group("audit"));
    bench.store.create_group(&payroll, 2).await.unwrap();
    assert_eq!(refused(bench.store.create_group(&payroll, 3).await), AccessError::GroupInUse(payroll.clone()));
    bench.store.create_group(&audit, 2).await.unwrap();
    assert!(is_quota(bench.store.create_group(&group("third"), 2).await, AccessQuota::Groups, 2));
    let long = group(&"g".repeat(129));
    assert!(matches!(refused(bench.store.create_group(&long, MANY).await), AccessError::NameTooLong(_)));
    for member in [&one, &other] {
        bench.store.add_member(&payroll, member, 1).await.unwrap();
    }
    let before = bench.store.revision();
    bench.store.add_member(&payroll, &one, 1).await.expect("it is in it");
    assert_eq!(bench.store.revision(), before);
    assert!(is_quota(bench.store.add_member(&audit, &one, 1).await, AccessQuota::Memberships, 1));
    let none = group("none");
    assert_eq!(refused(bench.store.add_member(&none, &one, 9).await), AccessError::NoGroup(none.clone()));
    assert_eq!(refused(bench.store.delete_group(&none).await), AccessError::NoGroup(none));
    assert_eq!(
        refused(bench.store.remove_member(&audit, &one).await),
        AccessError::NoMember(audit.clone(), one.clone())
    );
    let members = |catalogue: &crate::Catalogue| {
        catalogue.members_after(&payroll, None).map(|member| member.id.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(members(&bench.store.catalogue()), [one.clone(), other.clone()].into());
    bench.store.remove_member(&payroll, &other).await.unwrap();
    assert_eq!(members(&bench.store.catalogue()), [one.clone()].into());
    bench.attach_group("p", &payroll).await;
    assert_eq!(bench.store.catalogue().policies_of(&one).cloned().collect::<Vec<_>>(), [policy("p")]);
    bench.store.delete_group(&payroll).await.unwrap();
    bench.is_whole("without the group").await;
    bench.reopen().await;
    let catalogue = bench.store.catalogue();
    assert!(catalogue.principal(&one).unwrap().groups.is_empty() && catalogue.policies_of(&one).next().is_none());
    assert_eq!(catalogue.holders_after(&policy("p"), None).count(), 0);
    assert_eq!(catalogue.groups_after(None).map(|group| group.name.clone()).collect::<Vec<_>>(), [audit]);
    // One that is made anew has nobody in it.
    bench.store.create_group(&payroll, MANY).await.unwrap();
    assert_eq!(bench.store.catalogue().members_after(&payroll, None).count(), 0);
    assert!(bench.store.catalogue().group(&payroll).unwrap().policies.is_empty());
}

impl Bench {
    async fn attach_group(&self, name: &str, to: &GroupName) {
        self.store.put_policy(NewPolicy::new(&policy(name), "{}")).await.unwrap();
        self.attach(name, &Holder::Group(to.clone()), MANY).await.unwrap();
    }
}
