//! The operations on who may do what, from making a principal to the explanation of a verdict.

use std::time::Duration;

use super::bench::{Bench, exception, plain, sealed};
use crate::{
    Attached, CheckedPolicy, CreateGrantInput, CreateKeyInput, CreatePrincipalInput, Error, ExplainInput,
    PutKeyPolicyInput, PutPolicyInput, RequestContext, RetireGrantInput,
};
use auth::grant::ConstraintKind;
use model::exception::Exception;

pub(super) const ROOT: &str = "arn:aws:iam::111122223333:root";

pub(super) async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.service.set_administrators(["cn:admin".to_owned()].into());
    bench
}

pub(super) fn by(bench: &Bench, name: &str) -> RequestContext {
    bench.call_of(&format!("cn:{name}"), Duration::from_secs(30))
}

pub(super) fn arn(name: &str) -> String {
    format!("arn:aws:iam::111122223333:user/{name}")
}

pub(super) async fn principal(bench: &Bench, name: &str) {
    let input = CreatePrincipalInput { arn: arn(name), identities: vec![format!("cn:{name}")], ..Default::default() };
    bench.service.create_principal(&by(bench, "admin"), input).await.unwrap();
}

pub(super) async fn created(bench: &Bench) -> String {
    bench.service.create_key(&by(bench, "admin"), CreateKeyInput::default()).await.unwrap().arn
}

pub(super) async fn encrypt(bench: &Bench, name: &str, key: &str) -> Result<Vec<u8>, Error> {
    let mut done = bench.service.encrypt(&by(bench, name), vec![plain(key, b"secret")]).await?;
    done.remove(0).map(|done| done.ciphertext)
}

pub(super) fn policy(statements: &str) -> String {
    format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statements}]}}")
}

pub(super) fn of_key(principal: &str, action: &str) -> String {
    policy(&format!(
        "{{\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":\"{principal}\"}},\"Action\":\"{action}\",\"Resource\":\"*\"}}"
    ))
}

pub(super) fn put(key: &str, policy: String) -> PutKeyPolicyInput {
    PutKeyPolicyInput { key_id: key.to_owned(), policy, ..PutKeyPolicyInput::default() }
}

#[tokio::test]
async fn everybody_may_ask_who_he_is() {
    let bench = bench().await;
    let eve = bench.service.who_am_i(&by(&bench, "eve")).await.unwrap();
    assert_eq!((eve.identity.as_str(), eve.principal, eve.administrator), ("cn:eve", None, false));
    assert!(bench.service.who_am_i(&by(&bench, "admin")).await.unwrap().administrator);
    principal(&bench, "anna").await;
    let anna = bench.service.who_am_i(&by(&bench, "anna")).await.unwrap().principal.unwrap();
    assert_eq!(anna.arn, arn("anna"));
}

#[tokio::test]
async fn principals_groups_and_policies_are_made_attached_and_taken_away() {
    let bench = bench().await;
    let (service, admin, key) = (&bench.service, by(&bench, "admin"), created(&bench).await);
    principal(&bench, "anna").await;
    let again = CreatePrincipalInput { arn: arn("anna"), ..CreatePrincipalInput::default() };
    assert_eq!(exception(service.create_principal(&admin, again).await), Exception::AlreadyExists);
    assert_eq!(exception(service.describe_principal(&by(&bench, "anna"), &arn("anna")).await), Exception::AccessDenied);
    service.create_group(&admin, "users").await.unwrap();
    service.add_group_member(&admin, "users", &arn("anna")).await.unwrap();
    service.attach_policy(&admin, "KeyUser", Attached::Group("users".into())).await.unwrap();
    encrypt(&bench, "anna", &key).await.unwrap();
    assert_eq!(service.list_group_members(&admin, "users", None, "").await.unwrap().items, [arn("anna")]);
    assert_eq!(service.list_groups(&admin, None, "").await.unwrap().items[0].policies, ["KeyUser"]);
    service.remove_group_member(&admin, "users", &arn("anna")).await.unwrap();
    assert_eq!(exception(encrypt(&bench, "anna", &key).await), Exception::AccessDenied);
    // A policy of one's own.
    let document = policy("{\"Effect\":\"Allow\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\"}");
    let input = |name: &str, document: &str| PutPolicyInput {
        name: name.into(),
        document: document.into(),
        ..PutPolicyInput::default()
    };
    assert_eq!(service.put_policy(&admin, input("mine", &document)).await.unwrap(), [""; 0]);
    assert_eq!(exception(service.put_policy(&admin, input("KeyUser", &document)).await), Exception::Validation);
    let malformed = service.put_policy(&admin, input("mine", "{}")).await;
    assert_eq!(exception(malformed), Exception::MalformedPolicyDocument);
    let long = "x".repeat(32_769);
    assert_eq!(exception(service.put_policy(&admin, input("mine", &long)).await), Exception::LimitExceeded);
    let to_anna = || Attached::Principal(arn("anna"));
    service.attach_policy(&admin, "mine", to_anna()).await.unwrap();
    encrypt(&bench, "anna", &key).await.unwrap();
    assert_eq!(service.get_policy(&admin, "mine").await.unwrap().document, document);
    let all = service.list_policies(&admin, None, "").await.unwrap().items;
    let names: Vec<_> = all.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["Administrator", "Operator", "Auditor", "KeyUser", "Approver", "mine"]);
    assert_eq!(exception(service.delete_policy(&admin, "mine").await), Exception::Conflict);
    service.detach_policy(&admin, "mine", to_anna()).await.unwrap();
    assert_eq!(exception(encrypt(&bench, "anna", &key).await), Exception::AccessDenied);
    service.delete_policy(&admin, "mine").await.unwrap();
    service.delete_group(&admin, "users").await.unwrap();
    // A certificate that is taken away takes effect on connections that are open.
    service.attach_policy(&admin, "KeyUser", to_anna()).await.unwrap();
    service.add_principal_identity(&admin, &arn("anna"), "cn:anna2").await.unwrap();
    encrypt(&bench, "anna2", &key).await.unwrap();
    service.remove_principal_identity(&admin, &arn("anna"), "cn:anna2").await.unwrap();
    assert_eq!(exception(encrypt(&bench, "anna2", &key).await), Exception::AccessDenied);
    service.tag_principal(&admin, &arn("anna"), vec![("team".into(), "red".into())]).await.unwrap();
    let anna = service.describe_principal(&admin, &arn("anna")).await.unwrap();
    assert_eq!((anna.tags.len(), anna.policies, anna.identities.len()), (1, vec!["KeyUser".to_owned()], 1));
    service.untag_principal(&admin, &arn("anna"), vec!["team".into()]).await.unwrap();
    service.delete_principal(&admin, &arn("anna")).await.unwrap();
    assert_eq!(exception(encrypt(&bench, "anna", &key).await), Exception::AccessDenied);
    assert_eq!(exception(service.describe_principal(&admin, &arn("anna")).await), Exception::NotFound);
    assert_eq!(exception(service.describe_principal(&admin, "anna").await), Exception::InvalidArn);
}

#[tokio::test]
async fn a_key_policy_is_kept_as_it_was_put_and_locks_nobody_out_by_mistake() {
    let bench = bench().await;
    let (service, admin, key) = (&bench.service, by(&bench, "admin"), created(&bench).await);
    assert_eq!(service.list_key_policies(&admin, &key, None, "").await.unwrap(), ["default"]);
    assert_eq!(exception(service.list_key_policies(&admin, &key, None, "q1").await), Exception::Validation);
    let default = service.get_key_policy(&admin, &key, "default").await.unwrap();
    assert!(default.contains("Enable IAM User Permissions") && default.contains(ROOT), "{default}");
    assert_eq!(exception(service.get_key_policy(&admin, &key, "other").await), Exception::NotFound);
    let refused = service.put_key_policy(&admin, put(&key, of_key(&arn("anna"), "kms:*"))).await;
    assert_eq!(exception(refused), Exception::MalformedPolicyDocument, "there is no anna");
    principal(&bench, "anna").await;
    let of_anna = of_key(&arn("anna"), "kms:*");
    service.put_key_policy(&admin, put(&key, of_anna.clone())).await.unwrap();
    assert_eq!(service.get_key_policy(&admin, &key, "").await.unwrap(), of_anna);
    encrypt(&bench, "anna", &key).await.unwrap();
    // Anna may not take it away from herself, unless she says that she wants to.
    let out = put(&key, of_key(&arn("anna"), "kms:Encrypt"));
    let anna = by(&bench, "anna");
    let refused = service.put_key_policy(&anna, out.clone()).await;
    assert_eq!(exception(refused), Exception::MalformedPolicyDocument);
    service.put_key_policy(&anna, PutKeyPolicyInput { bypass_lockout_check: true, ..out.clone() }).await.unwrap();
    assert_eq!(exception(service.put_key_policy(&anna, out).await), Exception::AccessDenied);
    // Who is gone is named by id.
    let id = service.describe_principal(&admin, &arn("anna")).await.unwrap().id;
    service.delete_principal(&admin, &arn("anna")).await.unwrap();
    assert!(service.get_key_policy(&admin, &key, "").await.unwrap().contains(id.as_str()));
}

#[tokio::test]
async fn grants_are_made_listed_passed_on_retired_and_revoked() {
    let bench = bench().await;
    let (service, admin, key) = (&bench.service, by(&bench, "admin"), created(&bench).await);
    for name in ["anna", "bert", "carl"] {
        principal(&bench, name).await;
    }
    let input = |to: &str, operations: &[&str]| CreateGrantInput {
        key_id: key.clone(),
        grantee: arn(to),
        operations: operations.iter().map(|one| (*one).to_owned()).collect(),
        ..CreateGrantInput::default()
    };
    let named = CreateGrantInput {
        name: "once".into(),
        retiring: arn("carl"),
        ..input("anna", &["Encrypt", "CreateGrant", "DescribeKey"])
    };
    let first = service.create_grant(&admin, named.clone()).await.unwrap();
    let second = service.create_grant(&admin, named.clone()).await.unwrap();
    assert!(first.id == second.id && first.token != second.token);
    encrypt(&bench, "anna", &key).await.unwrap();
    // By a grant nothing is passed on but what it allows.
    let anna = by(&bench, "anna");
    assert_eq!(
        exception(service.create_grant(&anna, input("bert", &["Decrypt"])).await.map(drop)),
        Exception::AccessDenied
    );
    let passed = service.create_grant(&anna, input("bert", &["Encrypt"])).await.unwrap();
    encrypt(&bench, "bert", &key).await.unwrap();
    for (bad, expected) in [
        (input("bert", &["Sign"]), Exception::Validation),
        (input("bert", &[]), Exception::Validation),
        (input("nobody", &["Encrypt"]), Exception::InvalidArn),
        (
            CreateGrantInput { constraint: Some((ConstraintKind::Subset, [].into())), ..input("bert", &["Encrypt"]) },
            Exception::Validation,
        ),
        (CreateGrantInput { dry_run: true, ..input("bert", &["Encrypt"]) }, Exception::DryRunOperation),
    ] {
        assert_eq!(exception(service.create_grant(&admin, bad).await.map(drop)), expected);
    }
    let list = async |id: &str, to: &str| service.list_grants(&admin, &key, id, to, None, "").await.unwrap().items;
    assert_eq!((list("", "").await.len(), list(passed.id.as_str(), "").await.len()), (2, 1));
    assert_eq!(list("", &arn("anna")).await[0].retiring, Some(arn("carl")));
    assert_eq!(service.list_retirable_grants(&admin, &arn("carl"), None, "").await.unwrap().items.len(), 1);
    for (retiring, expected) in [("carl", Exception::InvalidArn), (&*arn("nobody"), Exception::InvalidArn)] {
        let refused = service.list_retirable_grants(&admin, retiring, None, "").await;
        assert_eq!(exception(refused.map(drop)), expected, "{retiring}");
    }
    // The grant says who may retire it; key policies have no say.
    let by_token = |token: &str| RetireGrantInput { token: token.into(), ..RetireGrantInput::default() };
    assert_eq!(
        exception(service.retire_grant(&by(&bench, "bert"), by_token(&first.token)).await),
        Exception::AccessDenied
    );
    let nonsense = service.retire_grant(&admin, by_token("00ff")).await;
    assert_eq!(exception(nonsense), Exception::InvalidGrantToken);
    let carl = by(&bench, "carl");
    let dry = RetireGrantInput { dry_run: true, ..by_token(&first.token) };
    assert_eq!(exception(service.retire_grant(&carl, dry).await), Exception::DryRunOperation);
    service.retire_grant(&carl, by_token(&first.token)).await.unwrap();
    assert_eq!(exception(encrypt(&bench, "anna", &key).await), Exception::AccessDenied);
    assert_eq!(exception(service.retire_grant(&carl, by_token(&second.token)).await), Exception::NotFound);
    // What was passed on stands by itself.
    let blob = encrypt(&bench, "bert", &key).await.unwrap();
    let of_bert = service.revoke_grant(&by(&bench, "bert"), &key, passed.id.as_str(), false).await;
    assert_eq!(exception(of_bert), Exception::AccessDenied);
    assert_eq!(exception(service.revoke_grant(&admin, &key, "no id", false).await), Exception::InvalidGrantId);
    service.revoke_grant(&admin, &key, passed.id.as_str(), false).await.unwrap();
    assert_eq!(exception(encrypt(&bench, "bert", &key).await), Exception::AccessDenied);
    assert_eq!(exception(service.revoke_grant(&admin, &key, passed.id.as_str(), false).await), Exception::NotFound);
    let refused = service.decrypt(&by(&bench, "bert"), vec![sealed(&blob)]).await.unwrap().remove(0);
    assert_eq!(exception(refused), Exception::AccessDenied);
}

#[tokio::test]
async fn a_verdict_is_explained_and_a_policy_checked() {
    let bench = bench().await;
    let (service, admin, key) = (&bench.service, by(&bench, "admin"), created(&bench).await);
    principal(&bench, "anna").await;
    let explain = async |key_id: &str| {
        let input = ExplainInput {
            principal: arn("anna"),
            action: "kms:Encrypt".into(),
            key_id: key_id.into(),
            ..ExplainInput::default()
        };
        service.explain_access(&admin, input).await.unwrap()
    };
    let before = explain(&key).await;
    assert!(!before.allowed && before.reason.contains("no identity policy allows it"), "{before:?}");
    assert!(before.change.contains("has to be attached"), "{before:?}");
    service.attach_policy(&admin, "KeyUser", Attached::Principal(arn("anna"))).await.unwrap();
    let after = explain(&key).await;
    assert!(after.allowed && after.reason.contains("KeyUser statement 0 (Use)"), "{after:?}");
    let findings = service.check_policy(&admin, "{}".into(), CheckedPolicy::AnyKey).await.unwrap();
    assert!(findings.iter().any(|finding| finding.is_error), "{findings:?}");
    assert_eq!(service.check_policy(&admin, of_key(ROOT, "kms:*"), CheckedPolicy::AnyKey).await.unwrap(), []);
    // Resources that can be nothing here are found, and those of another key where it is told which one this is.
    let other = created(&bench).await;
    let of_one = of_key(ROOT, "kms:*").replace("\"Resource\":\"*\"", &format!("\"Resource\":\"{other}\""));
    assert!(of_one.contains(&other), "{of_one}");
    let check = async |text: &str, of: CheckedPolicy| {
        let found = service.check_policy(&admin, text.to_owned(), of).await.unwrap();
        found.into_iter().map(|one| format!("{} {}", one.place, one.problem)).collect::<Vec<_>>()
    };
    assert_eq!(check(&of_one, CheckedPolicy::AnyKey).await, [""; 0]);
    assert_eq!(check(&of_one, CheckedPolicy::Key(other.clone())).await, [""; 0]);
    let found = check(&of_one, CheckedPolicy::Key(key.clone())).await;
    assert!(found.len() == 2 && found[0].contains("cannot be this key"), "{found:?}");
    assert!(found[1].contains("no statement lets anybody call kms:PutKeyPolicy"), "{found:?}");
    let far = policy("{\"Effect\":\"Allow\",\"Action\":\"kms:*\",\"Resource\":\"arn:aws:kms:*:999900001111:key/*\"}");
    let found = check(&far, CheckedPolicy::Identity).await;
    assert!(found.len() == 1 && found[0].starts_with("Statement[0].Resource \"arn:"), "{found:?}");
}

#[tokio::test]
async fn a_key_is_made_with_a_policy() {
    let bench = bench().await;
    let service = &bench.service;
    principal(&bench, "anna").await;
    service.attach_policy(&by(&bench, "admin"), "Administrator", Attached::Principal(arn("anna"))).await.unwrap();
    let make = async |policy: String, bypass: bool| {
        let input = CreateKeyInput { policy, bypass_lockout_check: bypass, ..CreateKeyInput::default() };
        service.create_key(&by(&bench, "anna"), input).await
    };
    let out = of_key(&arn("anna"), "kms:GetKeyPolicy");
    assert_eq!(exception(make(out.clone(), false).await), Exception::MalformedPolicyDocument);
    let key = make(out.clone(), true).await.unwrap();
    let shown = service.get_key_policy(&by(&bench, "anna"), &key.arn, "").await.unwrap();
    assert_eq!(shown, out);
    assert_eq!(exception(encrypt(&bench, "anna", &key.arn).await), Exception::AccessDenied);
    let key = make(of_key(&arn("anna"), "kms:*"), false).await.unwrap();
    encrypt(&bench, "anna", &key.arn).await.unwrap();
}
