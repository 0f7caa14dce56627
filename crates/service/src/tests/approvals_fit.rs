//! Approvers are asked only for what could be carried out, and what they approved is what is done.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::approvals::{approvals, approve, arn, asked, attach, bench, by, created, principal, put};
use super::bench::{Bench, FREE, anchor};
use crate::core::access::Named;
use crate::{
    AddHsmInput, Attached, CreateAliasInput, CreateGrantInput, CreateKeyInput, CreateKeyStoreInput,
    CreatePrincipalInput, Error, PutKeyPolicyInput, PutPolicyInput, RateLimits, RequestContext, UpdateKeyStoreInput,
};
use model::exception::Exception;
use model::operation::Operation;
use model::secret::Secret;

const LOCKED_OUT: &str = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":\"*\",\
                          \"Action\":\"kms:Encrypt\",\"Resource\":\"*\"}]}";

fn document(action: &str) -> String {
    format!(
        "{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Action\":\"{action}\",\"Resource\":\"*\"}}]}}"
    )
}

fn to(name: &str) -> Attached {
    Attached::Principal(arn(name))
}

/// Each of these calls is wrong in a way that needs neither a secret nor an HSM to be seen.
async fn wrong(bench: &Bench, call: &RequestContext, key: &str) -> Vec<(&'static str, Result<(), Error>, Exception)> {
    use Exception as E;
    let (s, key_id, nobody) = (&bench.service, key.to_owned(), arn("nobody"));
    let policy =
        |policy: &str| PutKeyPolicyInput { key_id: key_id.clone(), policy: policy.into(), ..Default::default() };
    let put = |name: &str, document: &str, description: Option<String>| PutPolicyInput {
        name: name.into(),
        document: document.into(),
        description,
    };
    let grant = |grantee: &str, operation: &str, name: String| CreateGrantInput {
        key_id: key_id.clone(),
        grantee: grantee.into(),
        operations: vec![operation.into()],
        name,
        ..Default::default()
    };
    let make =
        |policy: &str, description: String| CreateKeyInput { policy: policy.into(), description, ..Default::default() };
    let principal = |name: &str, identity: &str| CreatePrincipalInput {
        arn: arn(name),
        identities: vec![identity.into()],
        ..Default::default()
    };
    let alias =
        |name: &str| CreateAliasInput { alias_name: name.into(), target_key_id: key_id.clone(), ..Default::default() };
    let (long, both) = ("x".repeat(8_193), PutKeyPolicyInput { default_policy: true, ..policy("{}") });
    let twice = || vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
    let far = key_id.clone();
    let secret = || Secret::new(b"90713582".to_vec());
    let (used, connected) = (bench.fake.id.as_str(), bench.key_store.to_string());
    let store = |name: &str, cluster: &str, trust_anchor: String| CreateKeyStoreInput {
        name: name.into(),
        cluster_id: cluster.into(),
        trust_anchor,
        password: secret(),
    };
    let hsm = |cluster: &str, wrapped: usize| AddHsmInput {
        cluster_id: cluster.into(),
        hsm_id: "hsm-c".into(),
        identity_certificate: "PEM".into(),
        transport_certificate: "PEM".into(),
        member_hsm_id: "hsm-0".into(),
        member_wrapped_key: vec![1; wrapped].into(),
        password: secret(),
        wrapped_key: bytes::Bytes::new(),
        wrap_only: true,
    };
    let update = || UpdateKeyStoreInput { key_store_id: connected.clone(), ..Default::default() };
    let short = store("new", FREE, anchor());
    let short = CreateKeyStoreInput { password: Secret::new(b"1".to_vec()), ..short };
    vec![
        (
            "a store's name",
            s.create_key_store(call, store("main", FREE, anchor())).await.map(drop),
            E::CustomKeyStoreNameInUse,
        ),
        (
            "a store's cluster",
            s.create_key_store(call, store("new", used, anchor())).await.map(drop),
            E::CloudHsmClusterInUse,
        ),
        (
            "no cluster",
            s.create_key_store(call, store("new", "cluster-nonenonenon", anchor())).await.map(drop),
            E::CloudHsmClusterNotFound,
        ),
        (
            "no anchor",
            s.create_key_store(call, store("new", FREE, "PEM".into())).await.map(drop),
            E::IncorrectTrustAnchor,
        ),
        ("no PIN", s.create_key_store(call, short).await.map(drop), E::Validation),
        ("an HSM without a store", s.add_hsm(call, hsm(FREE, 256)).await.map(drop), E::CustomKeyStoreInvalidState),
        ("a wrapped key", s.add_hsm(call, hsm(used, 3)).await.map(drop), E::Validation),
        ("an HSM that is not configured", s.add_hsm(call, hsm(used, 256)).await.map(drop), E::Validation),
        ("no change", s.update_key_store(call, update()).await, E::Validation),
        (
            "a PIN while it is in use",
            s.update_key_store(call, UpdateKeyStoreInput { password: Some(secret()), ..update() }).await,
            E::CustomKeyStoreInvalidState,
        ),
        (
            "a cluster that cannot be",
            s.update_key_store(call, UpdateKeyStoreInput { cluster_id: Some("x".into()), ..update() }).await,
            E::CustomKeyStoreInvalidState,
        ),
        ("a malformed key policy", s.put_key_policy(call, policy("{}")).await.map(drop), E::MalformedPolicyDocument),
        ("a lock-out", s.put_key_policy(call, policy(LOCKED_OUT)).await.map(drop), E::MalformedPolicyDocument),
        ("two key policies", s.put_key_policy(call, both).await.map(drop), E::Validation),
        (
            "a new key's policy",
            s.create_key(call, make("{}", String::new())).await.map(drop),
            E::MalformedPolicyDocument,
        ),
        ("a new key's description", s.create_key(call, make("", long.clone())).await.map(drop), E::Validation),
        ("a malformed policy", s.put_policy(call, put("mine", "{}", None)).await.map(drop), E::MalformedPolicyDocument),
        ("a built-in policy", s.put_policy(call, put("Auditor", &document("*"), None)).await.map(drop), E::Validation),
        (
            "a policy's description",
            s.put_policy(call, put("m", &document("*"), Some(long.clone()))).await.map(drop),
            E::Validation,
        ),
        ("no policy", s.attach_policy(call, "None", to("bert")).await, E::NotFound),
        ("no holder", s.attach_policy(call, "Auditor", to("nobody")).await, E::NotFound),
        ("no group", s.attach_policy(call, "Auditor", Attached::Group("none".into())).await, E::NotFound),
        ("nothing to detach", s.detach_policy(call, "None", to("bert")).await, E::NotFound),
        ("nothing to delete", s.delete_policy(call, "None").await, E::NotFound),
        (
            "a grant for nobody",
            s.create_grant(call, grant(&nobody, "Encrypt", String::new())).await.map(drop),
            E::InvalidArn,
        ),
        (
            "a grant of nothing",
            s.create_grant(call, grant(&arn("bert"), "Sign", String::new())).await.map(drop),
            E::Validation,
        ),
        (
            "a grant's name",
            s.create_grant(call, grant(&arn("bert"), "Encrypt", long.clone())).await.map(drop),
            E::Validation,
        ),
        ("no grant", s.revoke_grant(call, &key_id, "ab", false).await, E::NotFound),
        ("no group to delete", s.delete_group(call, "none").await, E::NotFound),
        ("a group that there is", s.create_group(call, "red").await, E::AlreadyExists),
        ("no group to be in", s.add_group_member(call, "none", &arn("bert")).await, E::NotFound),
        ("no member", s.add_group_member(call, "red", &nobody).await, E::NotFound),
        (
            "a principal that there is",
            s.create_principal(call, principal("bert", "cn:x")).await.map(drop),
            E::AlreadyExists,
        ),
        (
            "somebody's certificate",
            s.create_principal(call, principal("new", "cn:bert")).await.map(drop),
            E::AlreadyExists,
        ),
        ("somebody's further one", s.add_principal_identity(call, &arn("carl"), "cn:bert").await, E::AlreadyExists),
        ("no identity", s.remove_principal_identity(call, &arn("carl"), "cn:bert").await, E::NotFound),
        ("nobody to delete", s.delete_principal(call, &nobody).await, E::NotFound),
        ("a principal's tags", s.tag_principal(call, &arn("carl"), twice()).await, E::Tag),
        ("a key's tags", s.tag_resource(call, &key_id, twice()).await, E::Tag),
        ("a key's description", s.update_key_description(call, &key_id, long).await, E::Validation),
        ("a waiting period", s.schedule_key_deletion(call, &key_id, Some(3)).await.map(drop), E::Validation),
        ("a rotation period", s.enable_key_rotation(call, &key_id, Some(3)).await, E::Validation),
        ("an alias of AWS's", s.create_alias(call, alias("alias/aws/x")).await, E::InvalidAliasName),
        ("another key's ARN", off(bench, call, &far).await, E::Validation),
    ]
}

/// The destroying of a key's material, with this for a confirmation.
async fn off(bench: &Bench, call: &RequestContext, confirmed: &str) -> Result<(), Error> {
    let service = &bench.service;
    let rule = service.core.approvals();
    service.set_approvals(crate::Approvals::default());
    let key = created(bench).await;
    service.disable_key(&by(bench, "admin"), &key).await.unwrap();
    service.set_approvals((*rule).clone());
    service.destroy_key_material(call, &key, confirmed).await.map(drop)
}

#[tokio::test]
async fn nobody_is_asked_for_what_could_not_be_carried_out() {
    let bench = bench().await;
    let key = created(&bench).await;
    principal(&bench, "eve").await;
    bench.configure(&[]);
    bench.service.create_group(&by(&bench, "admin"), "red").await.unwrap();
    let all: Vec<_> = Operation::ALL.iter().copied().filter(|one| one.can_need_approval()).collect();
    bench.service.set_approvals(approvals(&all, 1));
    for (what, refused, expected) in wrong(&bench, &by(&bench, "anna"), &key).await {
        let error = refused.expect_err(what);
        assert_eq!(error.exception, expected, "{what}: {error}");
    }
    // To whoever has no permission nothing of it is told.
    for (what, refused, _) in wrong(&bench, &by(&bench, "eve"), &key).await {
        let error = refused.expect_err(what);
        assert_eq!(error.exception, Exception::AccessDenied, "{what}: {error}");
        assert!(error.message.contains("is not authorized to perform"), "{what}: {error}");
    }
    assert_eq!(bench.store.catalogue().approvals_after(None).count(), 0, "nobody was asked");
}

fn newcomer(bench: &Bench) -> AddHsmInput {
    AddHsmInput {
        cluster_id: bench.fake.id.to_string(),
        hsm_id: "hsm-c".into(),
        identity_certificate: "PEM".into(),
        transport_certificate: "PEM".into(),
        member_hsm_id: "hsm-0".into(),
        member_wrapped_key: vec![1; 256].into(),
        password: Secret::new(b"90713582".to_vec()),
        wrapped_key: bytes::Bytes::new(),
        wrap_only: true,
    }
}

/// Nobody is asked to approve an HSM that could hold none of the keys, or not all of them.
#[tokio::test]
async fn an_hsm_that_could_not_hold_the_keys_is_refused_before_anybody_is_asked() {
    let small = |room: u64| {
        let mut hsm = supervisor::Settings::of_a_test("hsm-c", "zone-c");
        hsm.capabilities.objects.keys_max = 16 + room;
        hsm
    };
    let bench = bench().await;
    created(&bench).await;
    created(&bench).await;
    bench.service.set_approvals(approvals(&[Operation::AddHsm], 1));
    let anna = by(&bench, "anna");
    bench.configure(&[small(1)]);
    let refused = bench.service.add_hsm(&anna, newcomer(&bench)).await.unwrap_err();
    assert_eq!((refused.exception, refused.retryable), (Exception::LimitExceeded, false), "{refused}");
    assert!(refused.message.contains("room for 1 versions") && refused.message.contains("has 2"), "{refused}");
    bench.configure(&[small(2)]);
    asked(bench.service.add_hsm(&anna, newcomer(&bench)).await.map(drop));

    let begun = store::NewKey { in_place: true, ..store::NewKey::new(&bench.key_store, &["hsm-0".into()]) };
    bench.store.begin_key(begun, None).await.unwrap();
    let refused = bench.service.add_hsm(&anna, newcomer(&bench)).await.unwrap_err();
    assert_eq!(refused.exception, Exception::CloudHsmClusterInvalidConfiguration, "{refused}");
    assert!(refused.message.contains("made in place"), "{refused}");
    assert_eq!(bench.store.catalogue().approvals_after(None).count(), 1, "nobody was asked but for the one that fits");
}

/// What has come up since is found when the call is carried out.
#[tokio::test]
async fn what_stands_against_an_approved_hsm_is_looked_at_again() {
    let bench = bench().await;
    bench.service.set_approvals(approvals(&[Operation::AddHsm], 1));
    let anna = by(&bench, "anna");
    bench.configure(&[supervisor::Settings::of_a_test("hsm-c", "zone-c")]);
    let id = asked(bench.service.add_hsm(&anna, newcomer(&bench)).await.map(drop));
    approve(&bench, "bert", &id).await.unwrap();
    bench.configure(&[]);
    let refused = bench.service.add_hsm(&anna, newcomer(&bench)).await.unwrap_err();
    assert_eq!(refused.exception, Exception::Validation, "{refused}");
    assert!(refused.message.contains("not in the configuration"), "{refused}");
}

#[tokio::test]
async fn a_policy_that_is_replaced_is_another_one() {
    let bench = bench().await;
    put(&bench, "Mine", "{\"Effect\":\"Allow\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\"}").await;
    bench.service.set_approvals(approvals(&[Operation::AttachPolicy, Operation::DetachPolicy], 1));
    let (service, anna) = (&bench.service, by(&bench, "anna"));
    let attach = async || service.attach_policy(&anna, "Mine", to("carl")).await;
    let detach = async || service.detach_policy(&anna, "Mine", to("carl")).await;
    let id = asked(attach().await);
    approve(&bench, "bert", &id).await.unwrap();
    put(&bench, "Mine", "{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\"}").await;
    let next = asked(attach().await);
    assert_ne!(next, id, "it says something else by now");
    approve(&bench, "bert", &next).await.unwrap();
    attach().await.unwrap();
    let id = asked(detach().await);
    approve(&bench, "bert", &id).await.unwrap();
    put(&bench, "Mine", "{\"Effect\":\"Deny\",\"Action\":\"*\",\"Resource\":\"*\"}").await;
    let next = asked(detach().await);
    assert_ne!(next, id);
    approve(&bench, "bert", &next).await.unwrap();
    detach().await.unwrap();
}

#[tokio::test]
async fn a_group_that_is_made_anew_is_another_one() {
    let bench = bench().await;
    let (service, anna, admin) = (&bench.service, by(&bench, "anna"), by(&bench, "admin"));
    service.create_group(&admin, "red").await.unwrap();
    let operations = [Operation::AddGroupMember, Operation::AttachPolicy, Operation::DeleteGroup];
    service.set_approvals(approvals(&operations, 1));
    let of = |at: usize| {
        let anna = &anna;
        async move {
            match at {
                0 => service.add_group_member(anna, "red", &arn("bert")).await,
                1 => service.attach_policy(anna, "Auditor", Attached::Group("red".into())).await,
                _ => service.delete_group(anna, "red").await,
            }
        }
    };
    for (at, operation) in operations.iter().enumerate() {
        let id = asked(of(at).await);
        approve(&bench, "bert", &id).await.unwrap();
        let rule = service.core.approvals();
        service.set_approvals(crate::Approvals::default());
        service.delete_group(&admin, "red").await.unwrap();
        bench.clock.advance(Duration::from_millis(1));
        service.create_group(&admin, "red").await.unwrap();
        service.set_approvals((*rule).clone());
        let next = asked(of(at).await);
        assert_ne!(next, id, "{operation:?} is about another group");
        approve(&bench, "bert", &next).await.unwrap();
        of(at).await.unwrap();
    }
}

#[tokio::test]
async fn the_default_policy_is_put_back() {
    let bench = bench().await;
    let key = created(&bench).await;
    let (service, anna) = (&bench.service, by(&bench, "anna"));
    let default = service.get_key_policy(&anna, &key, "").await.unwrap();
    let own = default.replace("\"Sid\"", " \"Sid\"");
    let input = PutKeyPolicyInput { key_id: key.clone(), policy: own.clone(), ..Default::default() };
    service.put_key_policy(&anna, input).await.unwrap();
    assert_eq!(service.get_key_policy(&anna, &key, "").await.unwrap(), own);
    let input = PutKeyPolicyInput { key_id: key.clone(), default_policy: true, ..Default::default() };
    service.put_key_policy(&anna, input).await.unwrap();
    assert_eq!(service.get_key_policy(&anna, &key, "").await.unwrap(), default);
}

#[tokio::test]
async fn a_policy_that_is_put_anew_keeps_its_description() {
    let bench = bench().await;
    let (service, anna) = (&bench.service, by(&bench, "anna"));
    let put = async |description: Option<&str>, action: &str| {
        let (name, description) = ("Mine".to_owned(), description.map(str::to_owned));
        let input = PutPolicyInput { name, description, document: document(action) };
        service.put_policy(&anna, input).await.unwrap();
        service.get_policy(&anna, "Mine").await.unwrap().description
    };
    assert_eq!(put(None, "*").await, "");
    assert_eq!(put(Some("what it is for"), "*").await, "what it is for");
    assert_eq!(put(None, "kms:*").await, "what it is for");
    assert_eq!(put(Some(""), "kms:*").await, "");
    attach(&bench, "Mine", "bert").await;
}

#[tokio::test]
async fn what_a_call_asks_for_is_said_only_where_others_are_asked() {
    let bench = bench().await;
    let (service, anna) = (&bench.service, by(&bench, "anna"));
    let said = Arc::new(AtomicUsize::new(0));
    let call = async || {
        let counted = Arc::clone(&said);
        let named = Named::nothing().asking(move |_, say| {
            say.others_alone(|say| {
                counted.fetch_add(1, Ordering::Relaxed);
                say
            })
        });
        service.core.on_one(&anna, Operation::CreateGroup, named, async { Ok(()) }).await
    };
    call().await.unwrap();
    assert_eq!(said.load(Ordering::Relaxed), 0, "nobody has to approve it");
    service.set_approvals(approvals(&[Operation::CreateGroup], 1));
    service.set_rate_limits(RateLimits { per_principal: NonZeroU32::new(1), ..RateLimits::default() });
    asked(call().await);
    assert_eq!(said.load(Ordering::Relaxed), 1);
    assert_eq!(call().await.unwrap_err().exception, Exception::Throttling);
    assert_eq!(said.load(Ordering::Relaxed), 1, "a call that is not let in costs nothing of it");
}
