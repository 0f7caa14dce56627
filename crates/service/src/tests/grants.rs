//! Grants: what they allow with which contexts, who may pass them on, who may end them.

use std::collections::BTreeMap;

use super::bench::{Bench, context, exception, plain, sealed};
use super::permissions::{ROOT, arn, bench, by, created, encrypt, of_key, policy, principal, put};
use crate::GrantTokens;
use crate::{
    Attached, CreateGrantInput, CreatedGrant, DecryptInput, EncryptInput, Error, PutPolicyInput, RetireGrantInput,
};
use ConstraintKind::{Equals, Subset};
use auth::grant::ConstraintKind;
use model::exception::Exception;

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A grant of some operations to somebody, with a constraint where there is one.
fn input(
    key: &str,
    to: &str,
    operations: &[&str],
    constraint: Option<(ConstraintKind, Pairs<'_>)>,
) -> CreateGrantInput {
    CreateGrantInput {
        key_id: key.to_owned(),
        grantee: arn(to),
        operations: operations.iter().map(|one| (*one).to_owned()).collect(),
        constraint: constraint.map(|(kind, pairs)| (kind, context(pairs))),
        ..CreateGrantInput::default()
    }
}

async fn grant(bench: &Bench, by_whom: &str, input: CreateGrantInput) -> Result<CreatedGrant, Error> {
    bench.service.create_grant(&by(bench, by_whom), input).await
}

/// What somebody encrypts with a context, and what becomes of its decryption.
async fn decrypted(bench: &Bench, name: &str, key: &str, pairs: BTreeMap<String, String>) -> Result<(), Error> {
    let item = EncryptInput { context: pairs.clone(), ..plain(key, b"secret") };
    let blob = bench.service.encrypt(&by(bench, "admin"), vec![item]).await.unwrap().remove(0).unwrap().ciphertext;
    let item = DecryptInput { context: pairs, ..sealed(&blob) };
    bench.service.decrypt(&by(bench, name), vec![item]).await?.remove(0).map(drop)
}

fn allowed(result: Result<(), Error>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.exception, Exception::AccessDenied, "{error}");
            false
        }
    }
}

/// The operations that AWS documents for grants on symmetric encryption keys, whether there are calls of them here or not.
#[tokio::test]
async fn what_a_grant_cannot_allow_is_told_with_what_it_can() {
    let (bench, key) = with_people(&["bob"]).await;
    let refused = grant(&bench, "admin", input(&key, "bob", &["Encrypt", "Sign"], None)).await.map(drop).unwrap_err();
    let documented = "Decrypt, Encrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, GenerateDataKeyPair, \
                      GenerateDataKeyPairWithoutPlaintext, ReEncryptFrom, ReEncryptTo, CreateGrant, RetireGrant, \
                      DescribeKey";
    let text =
        format!("operations: 'Sign' is nothing that a grant can allow with a symmetric key; it can allow {documented}");
    assert_eq!((refused.exception, refused.message), (Exception::Validation, text));
    let all: Vec<&str> = documented.split(", ").collect();
    grant(&bench, "admin", input(&key, "bob", &all, None)).await.unwrap();
}

async fn with_people(names: &[&str]) -> (Bench, String) {
    let bench = bench().await;
    let key = created(&bench).await;
    for name in names {
        principal(&bench, name).await;
    }
    (bench, key)
}

#[tokio::test]
async fn a_constraint_is_about_the_context_that_comes_with_the_call() {
    let (bench, key) = with_people(&["anna"]).await;
    let (one, two): (Pairs<'_>, Pairs<'_>) = (&[("tenant", "7")], &[("tenant", "7"), ("stage", "live")]);
    for (kind, constraint, given, expected) in [
        (Subset, one, one, true),
        (Subset, one, two, true),
        (Subset, two, one, false),
        (Subset, one, &[], false),
        (Subset, one, &[("tenant", "8")][..], false),
        (Subset, one, &[("TENANT", "7")], true),
        (Subset, one, &[("tenant", "7"), ("Tenant", "8")], false),
        (Equals, one, one, true),
        (Equals, one, two, false),
        (Equals, two, two, true),
        (Equals, one, &[("Tenant", "7")], true),
        (Equals, &[("tenant", "Ab")], &[("tenant", "ab")], false),
        (Equals, one, &[], false),
    ] {
        let made =
            grant(&bench, "admin", input(&key, "anna", &["Decrypt", "DescribeKey"], Some((kind, constraint)))).await;
        let case = format!("{kind:?} {constraint:?} {given:?}");
        assert_eq!(allowed(decrypted(&bench, "anna", &key, context(given)).await), expected, "{case}");
        // What has no context is not constrained; what is not granted is not allowed.
        bench.service.describe_key_with(&by(&bench, "anna"), &key, GrantTokens::default()).await.unwrap();
        assert_eq!(exception(encrypt(&bench, "anna", &key).await), Exception::AccessDenied);
        // Effective at once.
        let id = made.unwrap().id;
        bench.service.revoke_grant(&by(&bench, "admin"), &key, id.as_str(), false).await.unwrap();
        assert!(!allowed(decrypted(&bench, "anna", &key, context(given)).await), "{case}");
        let shown = bench.service.describe_key_with(&by(&bench, "anna"), &key, GrantTokens::default()).await;
        assert_eq!(exception(shown), Exception::AccessDenied, "{case}");
    }
}

#[tokio::test]
async fn by_a_grant_nobody_passes_on_more_than_it_allows() {
    let (one, other): (Pairs<'_>, Pairs<'_>) = (&[("tenant", "7")], &[("tenant", "8")]);
    let more: Pairs<'_> = &[("tenant", "7"), ("stage", "live")];
    for (constraint, operations, passed, expected) in [
        (None, &["Decrypt"][..], None, true),
        (None, &["Decrypt", "CreateGrant"], None, true),
        (None, &["Encrypt"], None, false),
        (None, &["Decrypt", "Encrypt"], None, false),
        (None, &["RetireGrant"], None, false),
        (None, &["Decrypt"], Some((Subset, one)), true),
        (Some((Subset, one)), &["Decrypt"], None, false),
        (Some((Subset, one)), &["Decrypt"], Some((Subset, one)), true),
        (Some((Subset, one)), &["Decrypt"], Some((Subset, more)), true),
        (Some((Subset, one)), &["Decrypt"], Some((Equals, more)), true),
        (Some((Subset, one)), &["Decrypt"], Some((Subset, other)), false),
        (Some((Subset, more)), &["Decrypt"], Some((Subset, one)), false),
        (Some((Equals, one)), &["Decrypt"], Some((Equals, one)), true),
        (Some((Equals, one)), &["Decrypt"], Some((Subset, one)), false),
        (Some((Equals, one)), &["Decrypt"], Some((Equals, more)), false),
        // Constraints do not bind what has no context, and are no less asked for.
        (Some((Subset, one)), &["CreateGrant", "DescribeKey"], None, false),
    ] {
        let (bench, key) = with_people(&["anna", "bert"]).await;
        let passable = &["Decrypt", "DescribeKey", "CreateGrant"];
        grant(&bench, "admin", input(&key, "anna", passable, constraint)).await.unwrap();
        let passing = grant(&bench, "anna", input(&key, "bert", operations, passed)).await;
        let case = format!("{constraint:?} {operations:?} {passed:?}");
        assert_eq!(allowed(passing.map(drop)), expected, "{case}");
        // Who may make grants by a policy is not bound so.
        let statement = "{\"Effect\":\"Allow\",\"Action\":\"kms:CreateGrant\",\"Resource\":\"*\"}";
        let own = PutPolicyInput { name: "grants".into(), document: policy(statement), ..PutPolicyInput::default() };
        bench.service.put_policy(&by(&bench, "admin"), own).await.unwrap();
        bench.service.attach_policy(&by(&bench, "admin"), "grants", Attached::Principal(arn("anna"))).await.unwrap();
        grant(&bench, "anna", input(&key, "bert", operations, passed)).await.unwrap();
    }
}

#[tokio::test]
async fn a_name_makes_the_same_grant_once() {
    let (bench, key) = with_people(&["anna", "bert"]).await;
    let named = || CreateGrantInput { name: "once".into(), ..input(&key, "anna", &["Encrypt", "Decrypt"], None) };
    let first = grant(&bench, "admin", named()).await.unwrap();
    let again = grant(&bench, "admin", named()).await.unwrap();
    assert!(first.id == again.id && first.token != again.token);
    let other = created(&bench).await;
    for (same, different) in [
        (true, CreateGrantInput { operations: vec!["Decrypt".into(), "Encrypt".into()], ..named() }),
        (false, CreateGrantInput { operations: vec!["Encrypt".into()], ..named() }),
        (false, CreateGrantInput { grantee: arn("bert"), ..named() }),
        (false, CreateGrantInput { retiring: arn("bert"), ..named() }),
        (false, CreateGrantInput { constraint: Some((Subset, context(&[("a", "1")]))), ..named() }),
        (false, CreateGrantInput { constraint: Some((Equals, context(&[("a", "1")]))), ..named() }),
        (false, CreateGrantInput { key_id: other.clone(), ..named() }),
        (false, CreateGrantInput { name: String::new(), ..named() }),
    ] {
        let case = format!("{different:?}");
        let made = grant(&bench, "admin", different).await.unwrap();
        assert_eq!(made.id == first.id, same, "{case}");
    }
    // Once it is gone the same call makes another one.
    bench.service.revoke_grant(&by(&bench, "admin"), &key, first.id.as_str(), false).await.unwrap();
    assert_ne!(grant(&bench, "admin", named()).await.unwrap().id, first.id);
}

#[tokio::test]
async fn a_grant_to_an_account_leaves_it_to_the_policies_of_its_principals() {
    let (bench, key) = with_people(&["anna", "bert"]).await;
    let (service, admin) = (&bench.service, by(&bench, "admin"));
    // The key's policy itself leaves nothing to them.
    service.put_key_policy(&admin, put(&key, of_key(&arn("bert"), "kms:DescribeKey"))).await.unwrap();
    let statement = "{\"Effect\":\"Allow\",\"Action\":\"kms:*\",\"Resource\":\"*\"}";
    let own = PutPolicyInput { name: "keys".into(), document: policy(statement), ..PutPolicyInput::default() };
    service.put_policy(&admin, own).await.unwrap();
    service.attach_policy(&admin, "keys", Attached::Principal(arn("anna"))).await.unwrap();
    let to = |root: &str| CreateGrantInput {
        grantee: root.to_owned(),
        retiring: root.to_owned(),
        name: "whole".into(),
        ..input(&key, "", &["Encrypt"], None)
    };
    assert_eq!(exception(encrypt(&bench, "anna", &key).await), Exception::AccessDenied);
    let made = grant(&bench, "admin", to(ROOT)).await.unwrap();
    assert_eq!(grant(&bench, "admin", to(ROOT)).await.unwrap().id, made.id, "by its name");
    encrypt(&bench, "anna", &key).await.unwrap();
    assert_eq!(exception(encrypt(&bench, "bert", &key).await), Exception::AccessDenied, "it has no policy");
    let listed = service.list_grants(&admin, &key, "", ROOT, None, "").await.unwrap().items;
    assert_eq!((listed.len(), &*listed[0].grantee, listed[0].retiring.as_deref()), (1, ROOT, Some(ROOT)));
    assert_eq!(service.list_grants(&admin, &key, "", &arn("anna"), None, "").await.unwrap().items.len(), 0);
    assert_eq!(service.list_retirable_grants(&admin, ROOT, None, "").await.unwrap().items.len(), 1);
    // Of an account that nobody here is of.
    let elsewhere = ROOT.replace("111122223333", "999999999999");
    assert_eq!(exception(grant(&bench, "admin", to(&elsewhere)).await.map(drop)), Exception::InvalidArn);
    assert_eq!(exception(service.list_retirable_grants(&admin, &elsewhere, None, "").await), Exception::InvalidArn);
    service.revoke_grant(&admin, &key, made.id.as_str(), false).await.unwrap();
    assert_eq!(exception(encrypt(&bench, "anna", &key).await), Exception::AccessDenied);
}

#[tokio::test]
async fn a_grant_says_who_may_retire_it() {
    let people = ["anna", "bert", "carl"];
    for (operations, retiring, by_whom, expected) in [
        (&["Encrypt"][..], "", "anna", false),
        (&["Encrypt", "RetireGrant"], "", "anna", true),
        (&["Encrypt"], "carl", "carl", true),
        (&["Encrypt"], "carl", "anna", false),
        (&["Encrypt", "RetireGrant"], "carl", "bert", false),
        // The account's administrators may always.
        (&["Encrypt"], "", "admin", true),
    ] {
        for by_token in [true, false] {
            let (bench, key) = with_people(&people).await;
            let retiring = if retiring.is_empty() { String::new() } else { arn(retiring) };
            let made = CreateGrantInput { retiring, ..input(&key, "anna", operations, None) };
            let made = grant(&bench, "admin", made).await.unwrap();
            encrypt(&bench, "anna", &key).await.unwrap();
            let named = match by_token {
                true => RetireGrantInput { token: made.token.clone(), ..RetireGrantInput::default() },
                false => {
                    let (key_arn, grant_id) = (key.clone(), made.id.to_string());
                    RetireGrantInput { key_arn, grant_id, ..RetireGrantInput::default() }
                }
            };
            // A Deny of an identity policy counts; an Allow alone does not.
            let attach = async |name: &str, effect: &str| {
                let statement =
                    format!("{{\"Effect\":\"{effect}\",\"Action\":\"kms:RetireGrant\",\"Resource\":\"*\"}}");
                let own =
                    PutPolicyInput { name: name.into(), document: policy(&statement), ..PutPolicyInput::default() };
                bench.service.put_policy(&by(&bench, "admin"), own).await.unwrap();
                for name_of in people {
                    let to = Attached::Principal(arn(name_of));
                    bench.service.attach_policy(&by(&bench, "admin"), name, to).await.unwrap();
                }
            };
            if by_whom != "admin" {
                attach("none", "Deny").await;
                assert!(!allowed(bench.service.retire_grant(&by(&bench, by_whom), named.clone()).await));
                for name in people {
                    let from = Attached::Principal(arn(name));
                    bench.service.detach_policy(&by(&bench, "admin"), "none", from).await.unwrap();
                }
            }
            let case = format!("{operations:?} {by_whom} by token: {by_token}");
            assert_eq!(allowed(bench.service.retire_grant(&by(&bench, by_whom), named).await), expected, "{case}");
            assert_eq!(encrypt(&bench, "anna", &key).await.is_ok(), !expected, "{case}");
        }
    }
}

#[tokio::test]
async fn conditions_say_which_grants_may_be_made() {
    let (bench, key) = with_people(&["anna", "bert", "carl"]).await;
    let plain = || input(&key, "bert", &["Encrypt"], None);
    let constrained = |kind| input(&key, "bert", &["Encrypt"], Some((kind, &[("a", "1")])));
    let retired = || CreateGrantInput { retiring: arn("carl"), ..plain() };
    let two = || input(&key, "bert", &["Encrypt", "Decrypt"], None);
    let (bert, carl) = (arn("bert"), arn("carl"));
    let cases = [
        ("\"Bool\":{\"kms:GrantIsForAWSResource\":\"true\"}".to_owned(), plain(), false),
        ("\"Bool\":{\"kms:GrantIsForAWSResource\":\"false\"}".to_owned(), plain(), true),
        ("\"ForAllValues:StringEquals\":{\"kms:GrantOperations\":[\"Encrypt\"]}".to_owned(), plain(), true),
        ("\"ForAllValues:StringEquals\":{\"kms:GrantOperations\":[\"Encrypt\"]}".to_owned(), two(), false),
        ("\"ForAnyValue:StringEquals\":{\"kms:GrantOperations\":[\"Decrypt\"]}".to_owned(), two(), true),
        (
            "\"StringEquals\":{\"kms:GrantConstraintType\":\"EncryptionContextSubset\"}".to_owned(),
            constrained(Subset),
            true,
        ),
        (
            "\"StringEquals\":{\"kms:GrantConstraintType\":\"EncryptionContextSubset\"}".to_owned(),
            constrained(Equals),
            false,
        ),
        ("\"StringEquals\":{\"kms:GrantConstraintType\":\"EncryptionContextSubset\"}".to_owned(), plain(), false),
        (format!("\"ArnEquals\":{{\"kms:GranteePrincipal\":\"{bert}\"}}"), plain(), true),
        (format!("\"ArnEquals\":{{\"kms:GranteePrincipal\":\"{carl}\"}}"), plain(), false),
        (format!("\"ArnEquals\":{{\"kms:RetiringPrincipal\":\"{carl}\"}}"), retired(), true),
        (format!("\"ArnEquals\":{{\"kms:RetiringPrincipal\":\"{carl}\"}}"), plain(), false),
    ];
    for (number, (condition, wanted, expected)) in cases.into_iter().enumerate() {
        let statement = format!(
            "{{\"Effect\":\"Allow\",\"Action\":\"kms:CreateGrant\",\"Resource\":\"*\",\"Condition\":{{{condition}}}}}"
        );
        let own = PutPolicyInput { name: "own".into(), document: policy(&statement), ..PutPolicyInput::default() };
        bench.service.put_policy(&by(&bench, "admin"), own).await.unwrap();
        if number == 0 {
            bench.service.attach_policy(&by(&bench, "admin"), "own", Attached::Principal(arn("anna"))).await.unwrap();
        }
        assert_eq!(allowed(grant(&bench, "anna", wanted).await.map(drop)), expected, "{condition}");
    }
}

#[tokio::test]
async fn a_deny_is_stronger_than_a_grant_and_a_new_principal_inherits_none() {
    let (bench, key) = with_people(&["anna"]).await;
    let (service, admin) = (&bench.service, by(&bench, "admin"));
    grant(&bench, "admin", input(&key, "anna", &["Encrypt"], None)).await.unwrap();
    encrypt(&bench, "anna", &key).await.unwrap();
    let statement = |effect: &str, who: &str, action: &str| {
        format!(
            "{{\"Effect\":\"{effect}\",\"Principal\":{{\"AWS\":\"{who}\"}},\"Action\":\"{action}\",\"Resource\":\"*\"}}"
        )
    };
    let root = statement("Allow", ROOT, "kms:*");
    let denies = policy(&[statement("Deny", &arn("anna"), "kms:Encrypt"), root.clone()].join(","));
    service.put_key_policy(&admin, put(&key, denies)).await.unwrap();
    let refused = encrypt(&bench, "anna", &key).await.unwrap_err();
    assert!(refused.exception == Exception::AccessDenied && refused.message.ends_with("an explicit deny"), "{refused}");
    service.put_key_policy(&admin, put(&key, policy(&root))).await.unwrap();
    encrypt(&bench, "anna", &key).await.unwrap();
    let gone = service.describe_principal(&admin, &arn("anna")).await.unwrap().id;
    service.delete_principal(&admin, &arn("anna")).await.unwrap();
    principal(&bench, "anna").await;
    assert_eq!(exception(encrypt(&bench, "anna", &key).await), Exception::AccessDenied);
    let shown = service.list_grants(&admin, &key, "", "", None, "").await.unwrap().items;
    assert_eq!(shown[0].grantee, gone.to_string(), "it shows whom it was for");
    // What it was for is not given to the one of the same name either when the grant is ended.
    let (key_arn, grant_id) = (key.clone(), shown[0].id.to_string());
    let named = RetireGrantInput { key_arn, grant_id, ..RetireGrantInput::default() };
    assert!(!allowed(service.retire_grant(&by(&bench, "anna"), named).await));
}

#[tokio::test]
async fn who_uses_keys_does_not_run_key_stores_nor_the_other_way_round() {
    let (bench, key) = with_people(&["user", "operator", "auditor"]).await;
    let (service, admin) = (&bench.service, by(&bench, "admin"));
    let (store, cluster) = (bench.key_store.as_str().to_owned(), bench.fake.id.to_string());
    for (name, managed) in [("user", "KeyUser"), ("operator", "Operator"), ("auditor", "Auditor")] {
        service.attach_policy(&admin, managed, Attached::Principal(arn(name))).await.unwrap();
    }
    let refused = |error: Error| error.exception == Exception::AccessDenied;
    for (name, uses, sees, runs) in
        [("user", true, false, false), ("operator", false, true, true), ("auditor", false, true, false)]
    {
        let call = by(&bench, name);
        assert_eq!(allowed(decrypted(&bench, name, &key, BTreeMap::new()).await), uses, "{name}");
        assert_eq!(encrypt(&bench, name, &key).await.is_ok(), uses, "{name}");
        assert_eq!(service.describe_key_stores(&call, &store, "", None, "").await.is_ok(), sees, "{name}");
        assert_eq!(service.list_principals(&call, None, "").await.is_ok(), name == "auditor", "{name}");
        // Nobody of them gives permissions, nor destroys.
        assert!(service.create_group(&call, "g").await.is_err_and(refused), "{name}");
        assert!(service.destroy_key_material(&call, &key, &key).await.is_err_and(refused), "{name}");
        assert!(grant(&bench, name, input(&key, name, &["Encrypt"], None)).await.is_err_and(refused), "{name}");
        let resync = crate::ResyncInput { cluster_id: cluster.clone(), ..crate::ResyncInput::default() };
        assert_eq!(!service.resync_keys(&call, resync).await.is_err_and(refused), runs, "{name}");
    }
    // A store that is named is asked about by its own ARN.
    let statement = format!(
        "{{\"Effect\":\"Deny\",\"Action\":\"kms:DisconnectCustomKeyStore\",\"Resource\":\"{}\"}}",
        service.core.scope().key_store_arn(&store)
    );
    let own = PutPolicyInput { name: "own".into(), document: policy(&statement), ..PutPolicyInput::default() };
    service.put_policy(&admin, own).await.unwrap();
    service.attach_policy(&admin, "own", Attached::Principal(arn("operator"))).await.unwrap();
    let operator = by(&bench, "operator");
    assert_eq!(exception(service.disconnect_key_store(&operator, &store).await), Exception::AccessDenied);
    let other = service.disconnect_key_store(&operator, "cks-00000000000000000").await;
    assert_eq!(exception(other), Exception::CustomKeyStoreNotFound);
    assert_eq!(exception(service.disconnect_key_store(&by(&bench, "user"), &store).await), Exception::AccessDenied);
    service.detach_policy(&admin, "own", Attached::Principal(arn("operator"))).await.unwrap();
    service.disconnect_key_store(&operator, &store).await.unwrap();
}

#[tokio::test]
async fn what_is_keystored_s_own_is_left_to_identity_policies_where_the_key_s_policy_names_it() {
    let (bench, key) = with_people(&["anna"]).await;
    let (service, admin) = (&bench.service, by(&bench, "admin"));
    service.attach_policy(&admin, "Administrator", Attached::Principal(arn("anna"))).await.unwrap();
    let default = service.get_key_policy(&admin, &key, "").await.unwrap();
    assert!(default.contains("\"kms:*\"") && default.contains("\"keystored:*\""), "{default}");
    // The default that is shown is one that can be put.
    service.put_key_policy(&admin, put(&key, default)).await.unwrap();
    let destroy = async |key: &str| service.destroy_key_material(&by(&bench, "anna"), key, "another ARN").await;
    assert_eq!(exception(destroy(&key).await), Exception::KmsInvalidState, "it may, and the key is enabled");
    // AWS's default, as it is brought along, says nothing of it.
    let aws = format!(
        "{{\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":\"{ROOT}\"}},\"Action\":\"kms:*\",\"Resource\":\"*\"}}"
    );
    service.put_key_policy(&admin, put(&key, policy(&aws))).await.unwrap();
    assert_eq!(exception(destroy(&key).await), Exception::AccessDenied);
    encrypt(&bench, "anna", &key).await.unwrap();
    let refused = service.destroy_key_material(&admin, &key, "another ARN").await;
    assert_eq!(exception(refused), Exception::KmsInvalidState, "no policy binds an administrator of the configuration");
}
