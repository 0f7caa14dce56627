//! Explanations name what decides, and say what would be decided.

use super::bench::{Bench, context, plain};
use super::permissions::{ROOT, arn, bench, by, created, policy, principal, put};
use crate::{
    Attached, CallParameters, CreateAliasInput, CreateGrantInput, EncryptInput, ExplainInput, Explained, PutPolicyInput,
};
use store::access::NewPolicy;

async fn explain(bench: &Bench, input: ExplainInput) -> Explained {
    bench.service.explain_access(&by(bench, "admin"), input).await.unwrap()
}

fn of(principal: &str, action: &str, key_id: &str) -> ExplainInput {
    let of = str::to_owned;
    ExplainInput { principal: of(principal), action: of(action), key_id: of(key_id), ..ExplainInput::default() }
}

/// Gives a principal a policy with these statements.
async fn attach(bench: &Bench, name: &str, to: &str, statements: &str) {
    let input = PutPolicyInput { name: name.into(), document: policy(statements), ..PutPolicyInput::default() };
    bench.service.put_policy(&by(bench, "admin"), input).await.unwrap();
    bench.service.attach_policy(&by(bench, "admin"), name, Attached::Principal(arn(to))).await.unwrap();
}

#[tokio::test]
async fn who_is_bound_by_no_policy_and_who_is_nobody() {
    let bench = bench().await;
    let key = created(&bench).await;
    principal(&bench, "anna").await;
    let told = explain(&bench, of("cn:admin", "kms:Encrypt", &key)).await;
    assert!(told.allowed && told.reason.contains("no policy binds it"), "{told:?}");
    let told = explain(&bench, of("cn:eve", "kms:Encrypt", &key)).await;
    assert!(!told.allowed && told.reason == "denied: cn:eve is mapped to no principal", "{told:?}");
    let told = explain(&bench, of("cn:eve", "keystored:whoami", "")).await;
    assert!(told.allowed, "{told:?}");
    // By the name of its certificate and by its ARN it is the same.
    let by_name = explain(&bench, of("cn:anna", "kms:Encrypt", &key)).await;
    assert_eq!(by_name, explain(&bench, of(&arn("anna"), "kms:Encrypt", &key)).await);
    assert!(!by_name.allowed && by_name.change.contains("has to be attached"), "{by_name:?}");
    // One of its certificates is an administrator's, the other is not.
    bench.service.add_principal_identity(&by(&bench, "admin"), &arn("anna"), "cn:admin").await.unwrap();
    let told = explain(&bench, of(&arn("anna"), "kms:Encrypt", &key)).await;
    assert!(!told.allowed && told.reason.contains("allowed to cn:admin"), "{told:?}");
    bench.service.remove_principal_identity(&by(&bench, "admin"), &arn("anna"), "cn:anna").await.unwrap();
    let told = explain(&bench, of(&arn("anna"), "kms:Encrypt", &key)).await;
    assert!(told.allowed && told.reason.contains("no policy binds it"), "{told:?}");
    let nonsense = bench.service.explain_access(&by(&bench, "admin"), of("anna", "kms:Encrypt", &key)).await;
    assert_eq!(nonsense.unwrap_err().exception, model::exception::Exception::Validation);
}

#[tokio::test]
async fn the_statement_or_the_grant_is_named() {
    let bench = bench().await;
    let key = created(&bench).await;
    for name in ["anna", "bert"] {
        principal(&bench, name).await;
    }
    let (allow, deny) = (
        "{\"Sid\":\"Use\",\"Effect\":\"Allow\",\"Action\":\"kms:Decrypt\",\"Resource\":\"*\"}",
        "{\"Sid\":\"Not\",\"Effect\":\"Deny\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\"}",
    );
    attach(&bench, "two", "anna", &[allow, deny].join(",")).await;
    let reason = async |action: &str, key: &str| explain(&bench, of("cn:anna", action, key)).await.reason;
    assert_eq!(reason("kms:Encrypt", &key).await, "denied by identity policy two statement 1 (Not)");
    let both = "allowed by key policy default statement 0 (Enable IAM User Permissions) and identity policy two statement 0 \
                (Use)";
    assert_eq!(reason("kms:Decrypt", &key).await, both);
    // Permissions are compared without case, as policies do.
    assert_eq!(reason("KMS:decrypt", &key).await, both);
    let own = format!(
        "{{\"Sid\":\"Own\",\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":\"{}\"}},\"Action\":\"kms:DescribeKey\",\
         \"Resource\":\"*\"}}",
        arn("anna")
    );
    let root = format!(
        "{{\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":\"{ROOT}\"}},\"Action\":\"kms:Put*\",\"Resource\":\"*\"}}"
    );
    bench.service.put_key_policy(&by(&bench, "admin"), put(&key, policy(&[root, own].join(",")))).await.unwrap();
    assert_eq!(reason("kms:DescribeKey", &key).await, "allowed by key policy default statement 1 (Own)");
    assert!(reason("kms:Decrypt", &key).await.starts_with("denied: the key policy neither allows it"));
    let grant = CreateGrantInput {
        key_id: key.clone(),
        grantee: arn("anna"),
        retiring: arn("bert"),
        operations: vec!["Decrypt".into()],
        constraint: Some((auth::grant::ConstraintKind::Subset, context(&[("tenant", "7")]))),
        ..CreateGrantInput::default()
    };
    let id = bench.service.create_grant(&by(&bench, "admin"), grant).await.unwrap().id;
    let with =
        |tenant: &str| ExplainInput { context: context(&[("tenant", tenant)]), ..of("cn:anna", "kms:Decrypt", &key) };
    assert_eq!(explain(&bench, with("7")).await.reason, format!("allowed by grant {id}"));
    assert!(!explain(&bench, with("8")).await.allowed);
    // Who may retire it is said by itself.
    let parameters = || CallParameters { grant_id: id.to_string(), ..CallParameters::default() };
    for (who, allowed) in [("cn:bert", true), ("cn:anna", false)] {
        let told = explain(&bench, ExplainInput { parameters: parameters(), ..of(who, "kms:RetireGrant", &key) }).await;
        assert_eq!(told.allowed, allowed, "{told:?}");
        assert!(!allowed || told.reason == format!("allowed by grant {id}"), "{told:?}");
    }
}

#[tokio::test]
async fn conditions_see_what_the_operation_would_be_called_with() {
    let bench = bench().await;
    let key = created(&bench).await;
    principal(&bench, "anna").await;
    let (alias_name, target_key_id) = ("alias/blue".to_owned(), key.clone());
    let alias = CreateAliasInput { alias_name, target_key_id, ..CreateAliasInput::default() };
    bench.service.create_alias(&by(&bench, "admin"), alias).await.unwrap();
    let when = |action: &str, condition: &str| {
        format!("{{\"Effect\":\"Allow\",\"Action\":\"{action}\",\"Resource\":\"*\",\"Condition\":{{{condition}}}}}")
    };
    let statements = [
        when("kms:Encrypt", "\"StringEquals\":{\"kms:RequestAlias\":\"alias/blue\"}"),
        when("kms:Decrypt", "\"ForAnyValue:StringEquals\":{\"kms:ResourceAliases\":\"alias/blue\"}"),
        when("kms:GenerateDataKey", "\"StringEquals\":{\"kms:EncryptionAlgorithm\":\"SYMMETRIC_DEFAULT\"}"),
        when("kms:ReEncryptTo", "\"Bool\":{\"kms:ReEncryptOnSameKey\":\"true\"}"),
        when("kms:TagResource", "\"StringEquals\":{\"aws:RequestTag/team\":\"red\"}"),
        when("kms:UntagResource", "\"ForAllValues:StringEquals\":{\"aws:TagKeys\":\"team\"}"),
        when("kms:ScheduleKeyDeletion", "\"NumericEquals\":{\"kms:ScheduleKeyDeletionPendingWindowInDays\":\"30\"}"),
        when("kms:EnableKeyRotation", "\"NumericLessThan\":{\"kms:RotationPeriodInDays\":\"100\"}"),
        when("kms:PutKeyPolicy", "\"Bool\":{\"kms:BypassPolicyLockoutSafetyCheck\":\"false\"}"),
        when("kms:CreateGrant", "\"ForAllValues:StringEquals\":{\"kms:GrantOperations\":\"Encrypt\"}"),
    ];
    attach(&bench, "own", "anna", &statements.join(",")).await;
    let pair = |value: &str| vec![("team".to_owned(), value.to_owned())];
    let grant = |operation: &str| {
        let (grantee, operations) = (arn("anna"), vec![operation.to_owned()]);
        Some(CreateGrantInput { grantee, operations, ..CreateGrantInput::default() })
    };
    let none = CallParameters::default;
    for (action, key_id, parameters, allowed) in [
        ("kms:Encrypt", "alias/blue", none(), true),
        ("kms:Encrypt", "arn:aws:kms:eu-central-1:111122223333:alias/blue", none(), true),
        ("kms:Encrypt", &key, none(), false),
        ("kms:Decrypt", &key, none(), true),
        ("kms:GenerateDataKey", &key, none(), true),
        ("kms:ReEncryptTo", &key, CallParameters { same_key: true, ..none() }, true),
        ("kms:ReEncryptTo", &key, none(), false),
        ("kms:TagResource", &key, CallParameters { tags: pair("red"), ..none() }, true),
        ("kms:TagResource", &key, CallParameters { tags: pair("blue"), ..none() }, false),
        ("kms:UntagResource", &key, CallParameters { tag_keys: vec!["team".into()], ..none() }, true),
        ("kms:UntagResource", &key, CallParameters { tag_keys: vec!["stage".into()], ..none() }, false),
        ("kms:ScheduleKeyDeletion", &key, none(), true),
        ("kms:ScheduleKeyDeletion", &key, CallParameters { pending_window_days: Some(7), ..none() }, false),
        ("kms:EnableKeyRotation", &key, none(), false),
        ("kms:EnableKeyRotation", &key, CallParameters { rotation_period_days: Some(90), ..none() }, true),
        ("kms:PutKeyPolicy", &key, none(), true),
        ("kms:PutKeyPolicy", &key, CallParameters { bypass_lockout_check: true, ..none() }, false),
        ("kms:CreateGrant", &key, CallParameters { grant: grant("Encrypt"), ..none() }, true),
        ("kms:CreateGrant", &key, CallParameters { grant: grant("Decrypt"), ..none() }, false),
    ] {
        let case = format!("{action} {key_id} {parameters:?}");
        let told = explain(&bench, ExplainInput { parameters, ..of("cn:anna", action, key_id) }).await;
        assert_eq!(told.allowed, allowed, "{case}: {told:?}");
    }
    // As it is when it is done.
    let item = |key: &str| vec![EncryptInput { ..plain(key, b"x") }];
    let anna = by(&bench, "anna");
    assert!(bench.service.encrypt(&anna, item("alias/blue")).await.unwrap().remove(0).is_ok());
    assert!(bench.service.encrypt(&anna, item(&key)).await.unwrap().remove(0).is_err());
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_is_named() {
    let bench = bench().await;
    let key = created(&bench).await;
    principal(&bench, "anna").await;
    attach(&bench, "odd", "anna", "{\"Effect\":\"Allow\",\"Action\":\"kms:*\",\"Resource\":\"*\"}").await;
    assert!(explain(&bench, of("cn:anna", "kms:Encrypt", &key)).await.allowed);
    // As another release may have left it.
    bench.store.put_policy(NewPolicy::new(&"odd".into(), "{\"Version\":\"2030-01-01\"}")).await.unwrap();
    let told = explain(&bench, of("cn:anna", "kms:Encrypt", &key)).await;
    assert!(!told.allowed && told.reason.contains("identity policy odd cannot be read"), "{told:?}");
    let refused = bench.service.encrypt(&by(&bench, "anna"), vec![plain(&key, b"x")]).await.unwrap().remove(0);
    assert!(refused.unwrap_err().message.contains("cannot be read"));
    let states = model::operation::Operation::DescribeKey.spec().allowed_states;
    let id = model::id::KeyId::parse(&key[key.len() - 36..]).unwrap();
    let odd = store::access::NewKeyPolicy { document: "[]".into(), names: store::access::Names::new() };
    bench.store.put_key_policy(id, odd, states).await.unwrap();
    bench.service.detach_policy(&by(&bench, "admin"), "odd", Attached::Principal(arn("anna"))).await.unwrap();
    let told = explain(&bench, of("cn:anna", "kms:Encrypt", &key)).await;
    assert!(!told.allowed && told.reason.contains(&format!("the policy of {key} cannot be read")), "{told:?}");
}

/// What is explained is what would be decided, or nothing: no verdict on what there is not.
#[tokio::test]
async fn what_cannot_be_asked_has_no_verdict() {
    use model::exception::Exception;
    let bench = bench().await;
    let key = created(&bench).await;
    principal(&bench, "anna").await;
    for policy in ["KeyUser", "Approver"] {
        bench.service.attach_policy(&by(&bench, "admin"), policy, Attached::Principal(arn("anna"))).await.unwrap();
    }
    let refused = async |action: &str, key_id: &str, resource: &str| {
        let input = ExplainInput { resource: resource.into(), ..of("cn:anna", action, key_id) };
        bench.service.explain_access(&by(&bench, "admin"), input).await.unwrap_err().exception
    };
    for nonsense in ["kms:Nonsense", "kms:Sign", "Decrypt", "kms:*", "keystored:DisconnectKeyStore"] {
        assert_eq!(refused(nonsense, &key, "").await, Exception::Validation, "{nonsense}");
    }
    assert_eq!(refused("kms:Decrypt", "", "").await, Exception::Validation);
    // Nobody is asked about a key, or about anything, in what is not done with it: the key's policy would say what it has no
    // say in.
    for of_no_key in ["kms:CreateKey", "kms:ListAliases", "kms:ConnectCustomKeyStore", "keystored:PutPolicy"] {
        for (by_id, by_arn) in [(key.as_str(), ""), ("", key.as_str())] {
            assert_eq!(refused(of_no_key, by_id, by_arn).await, Exception::Validation, "{of_no_key}");
        }
    }
    let store = "arn:aws:kms:eu-central-1:111122223333:key-store/cks-0123456789abcdef0";
    for of_nothing in ["kms:CreateKey", "kms:CreateCustomKeyStore", "kms:GenerateRandom"] {
        assert_eq!(refused(of_nothing, "", store).await, Exception::Validation, "{of_nothing}");
    }
    for action in ["kms:ConnectCustomKeyStore", "kms:CreateAlias"] {
        assert!(!explain(&bench, ExplainInput { resource: store.into(), ..of("cn:anna", action, "") }).await.allowed);
    }
    assert!(!explain(&bench, of("cn:anna", "kms:CreateAlias", &key)).await.allowed);
    // What is longer than a name can be is not looked at.
    let long = format!("{store}{}", "x".repeat(2_048 - store.len()));
    let told =
        explain(&bench, ExplainInput { resource: long.clone(), ..of("cn:anna", "kms:DeleteCustomKeyStore", "") });
    assert!(!told.await.allowed);
    assert_eq!(refused("kms:DeleteCustomKeyStore", "", &format!("{long}x")).await, Exception::Validation);
    for (principal, grant_id) in [(arn(&"x".repeat(512)), String::new()), (arn("anna"), "0".repeat(129))] {
        let parameters = CallParameters { grant_id, ..CallParameters::default() };
        let input = ExplainInput { parameters, ..of(&principal, "kms:RetireGrant", &key) };
        let refused = bench.service.explain_access(&by(&bench, "admin"), input).await.unwrap_err();
        assert_eq!(refused.exception, Exception::Validation, "{refused}");
    }
    let none = key.replace(&key[key.len() - 36..], "00000000-0000-4000-8000-000000000001");
    assert_eq!(refused("kms:Decrypt", &none, "").await, Exception::NotFound);
    assert_eq!(refused("kms:Decrypt", "", &none).await, Exception::NotFound);
    // The key's policy has its say, however the key is named; but not on approvals.
    let own = format!(
        "{{\"Effect\":\"Allow\",\"Principal\":{{\"AWS\":\"{ROOT}\"}},\"Action\":\"kms:*\",\"Resource\":\"*\"}},\
         {{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":[\"kms:Decrypt\",\"keystored:Approve\"],\"Resource\":\"*\"}}"
    );
    bench.service.put_key_policy(&by(&bench, "admin"), put(&key, policy(&own))).await.unwrap();
    let by_key = explain(&bench, of("cn:anna", "kms:Decrypt", &key)).await;
    let by_arn = ExplainInput { resource: key.clone(), ..of("cn:anna", "kms:Decrypt", "") };
    assert!(!by_key.allowed);
    assert_eq!(explain(&bench, by_arn).await, by_key);
    let approves = explain(&bench, of("cn:anna", "keystored:Approve", &key)).await;
    assert!(approves.allowed && approves.reason.contains("Approver"), "{approves:?}");
}

#[tokio::test]
async fn a_principal_without_a_name_is_not_made() {
    let bench = bench().await;
    use model::exception::Exception;
    for (nobody, why) in [("", Exception::Validation), (" ", Exception::InvalidArn)] {
        let input = crate::CreatePrincipalInput { arn: nobody.into(), ..Default::default() };
        let made = bench.service.create_principal(&by(&bench, "admin"), input).await;
        assert_eq!(made.unwrap_err().exception, why, "{nobody:?}");
    }
    // What stands against a change names principals as people do.
    principal(&bench, "anna").await;
    let input =
        crate::CreatePrincipalInput { arn: arn("bert"), identities: vec!["cn:anna".into()], ..Default::default() };
    let taken = bench.service.create_principal(&by(&bench, "admin"), input).await.unwrap_err();
    assert!(taken.message.contains(&arn("anna")), "{taken}");
}

#[tokio::test]
async fn what_nearly_allows_it_is_named() {
    let bench = bench().await;
    let key = created(&bench).await;
    principal(&bench, "anna").await;
    let statement = "{\"Sid\":\"Invoices\",\"Effect\":\"Allow\",\"Action\":\"kms:Decrypt\",\"Resource\":\"*\",\"Condition\":\
                     {\"StringEquals\":{\"kms:EncryptionContext:purpose\":\"invoice\"}}}";
    attach(&bench, "Own", "anna", statement).await;
    attach(&bench, "Others", "anna", "{\"Effect\":\"Allow\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\"}").await;
    let with = |purpose: &str| ExplainInput {
        context: [("purpose".to_owned(), purpose.to_owned())].into(),
        ..of(&arn("anna"), "kms:Decrypt", &key)
    };
    let told = explain(&bench, with("salary")).await;
    let said: Vec<_> =
        told.nearest.iter().map(|near| (near.policy.as_str(), near.index, near.element, &*near.why)).collect();
    assert_eq!(
        said,
        [
            (
                "Own",
                0,
                "Condition",
                "StringEquals of kms:EncryptionContext:purpose is not met: the request has \"salary\""
            ),
            ("Others", 0, "Action", "it is not about kms:Decrypt"),
        ]
    );
    assert_eq!(
        (told.allowed, told.nearest[0].of_key, told.nearest[0].sid.as_deref()),
        (false, false, Some("Invoices"))
    );
    let absent = explain(&bench, of(&arn("anna"), "kms:Decrypt", &key)).await;
    assert!(absent.nearest[0].why.ends_with("the request does not have it"), "{absent:?}");
    // Where it is allowed, and where a statement denies it, that is what has to change.
    assert_eq!(explain(&bench, with("invoice")).await.nearest, []);
    attach(&bench, "Never", "anna", "{\"Effect\":\"Deny\",\"Action\":\"kms:*\",\"Resource\":\"*\"}").await;
    let denied = explain(&bench, with("salary")).await;
    assert!(denied.nearest.is_empty() && denied.change.contains("has to go"), "{denied:?}");
}
