//! Who may do what: principals, their policies, the policies of keys, grants.

use std::collections::BTreeSet;
use std::time::Duration;

use super::bench::{Bench, Manner, exception, plain, sealed};
use crate::GrantTokens;
use crate::core::recorder::Phase;
use crate::{CreateAliasInput, CreateKeyInput, Error, PutKeyPolicyInput, ReEncryptInput, RequestContext};
use model::exception::Exception;
use model::id::{KeyId, PolicyName, PrincipalId};
use model::operation::Operation;
use store::Admits;
use store::access::{Constraint, ConstraintKind, Granted, Holder, NewAttachment, NewGrant, NewKeyPolicy, NewPolicy};
use store::access::{Names, NewPrincipal};

pub(super) const HERE: &str = "111122223333";
const ELSEWHERE: &str = "999900001111";
pub(super) const ROOT: &str = "arn:aws:iam::111122223333:root";

/// Two zones, with `cn:admin` for administrator.
pub(super) async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.service.set_administrators(["cn:admin".to_owned()].into());
    bench
}

pub(super) fn by(bench: &Bench, name: &str) -> RequestContext {
    bench.call_of(&format!("cn:{name}"), Duration::from_secs(30))
}

pub(super) fn arn(account: &str, name: &str) -> String {
    format!("arn:aws:iam::{account}:user/{name}")
}

/// A principal that is known by the certificate of its name.
pub(super) async fn principal(bench: &Bench, account: &str, name: &str) -> PrincipalId {
    let identities = BTreeSet::from([format!("cn:{name}")]);
    bench.store.create_principal(NewPrincipal { identities, ..NewPrincipal::new(&arn(account, name)) }).await.unwrap()
}

/// Gives a principal a policy with these statements.
pub(super) async fn attach(bench: &Bench, to: &PrincipalId, name: &str, statements: &str) {
    let (policy, document) =
        (PolicyName::from(name), format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statements}]}}"));
    bench.store.put_policy(NewPolicy::new(&policy, &document)).await.unwrap();
    attach_as_it_is(bench, to, name, false).await;
}

pub(super) async fn attach_as_it_is(bench: &Bench, to: &PrincipalId, name: &str, built_in: bool) {
    let (policy, holder) = (PolicyName::from(name), Holder::Principal(to.clone()));
    bench.store.attach_policy(NewAttachment { policy, built_in, holder, most: 10 }).await.unwrap();
}

pub(super) fn statement(effect: &str, action: &str, resource: &str) -> String {
    format!("{{\"Effect\":\"{effect}\",\"Action\":\"{action}\",\"Resource\":\"{resource}\"}}")
}

pub(super) fn of_key(effect: &str, principal: &str, action: &str) -> String {
    format!(
        "{{\"Effect\":\"{effect}\",\"Principal\":{{\"AWS\":\"{principal}\"}},\"Action\":\"{action}\",\"Resource\":\"*\"}}"
    )
}

pub(super) async fn put(bench: &Bench, key: KeyId, statements: &[String], names: &[(&str, &PrincipalId)]) {
    let document = format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{}]}}", statements.join(","));
    let names: Names = names.iter().map(|(arn, id)| ((*arn).to_owned(), (*id).clone())).collect();
    let states = Operation::DescribeKey.spec().allowed_states;
    bench.store.put_key_policy(key, NewKeyPolicy { document, names }, states).await.unwrap();
}

pub(super) async fn grant(
    bench: &Bench,
    key: KeyId,
    to: &PrincipalId,
    operations: &[&str],
    tenant: Option<&str>,
) -> Granted {
    let pairs = |value: &str| [("tenant".to_owned(), value.to_owned())].into();
    let new = NewGrant {
        key,
        name: String::new(),
        grantee: to.clone(),
        retiring: None,
        issuing_account: HERE.to_owned(),
        issuer: HERE.into(),
        operations: operations.iter().map(|one| (*one).to_owned()).collect(),
        constraint: tenant.map(|value| Constraint { kind: ConstraintKind::Subset, pairs: pairs(value) }),
        parameters: [0; 32],
    };
    let states = Operation::DescribeKey.spec().allowed_states;
    bench.store.create_grant(new, Admits { states, most: 10 }).await.unwrap()
}

pub(super) async fn created(bench: &Bench) -> crate::KeyMetadata {
    bench.service.create_key(&by(bench, "admin"), CreateKeyInput::default()).await.unwrap()
}

pub(super) async fn encrypt(bench: &Bench, name: &str, key: &str, tenant: Option<&str>) -> Result<Vec<u8>, Error> {
    let pairs: Vec<_> = tenant.map(|tenant| ("tenant", tenant)).into_iter().collect();
    let item = crate::EncryptInput { context: super::bench::context(&pairs), ..plain(key, b"secret") };
    let mut done = bench.service.encrypt(&by(bench, name), vec![item]).await?;
    done.remove(0).map(|done| done.ciphertext)
}

pub(super) fn is_denied<T: std::fmt::Debug>(result: Result<T, Error>) -> bool {
    match result {
        Ok(_) => false,
        Err(error) if error.exception == Exception::AccessDenied => true,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_certificate_without_a_principal_may_do_nothing_and_is_told_what_to_do() {
    let bench = bench().await;
    let key = created(&bench).await;
    let (service, eve) = (&bench.service, by(&bench, "eve"));
    for error in [
        service.describe_key_with(&eve, &key.arn, GrantTokens::default()).await.unwrap_err(),
        service.list_keys(&eve, crate::ListKeysInput::default()).await.unwrap_err(),
        service.generate_random(&eve, Some(1), "", crate::Extras::default()).await.unwrap_err(),
        service.create_key(&eve, CreateKeyInput::default()).await.unwrap_err(),
        encrypt(&bench, "eve", &key.arn, None).await.unwrap_err(),
    ] {
        assert_eq!(error.exception, Exception::AccessDenied);
        assert!(error.message.starts_with("cn:eve is mapped to no principal"), "{error}");
    }
}

#[tokio::test]
async fn an_administrator_may_do_everything_whatever_policies_say() {
    let bench = bench().await;
    let key = created(&bench).await;
    put(&bench, key.id, &[of_key("Deny", "*", "kms:*")], &[]).await;
    let admin = principal(&bench, HERE, "admin").await;
    attach(&bench, &admin, "none", &statement("Deny", "*", "*")).await;
    encrypt(&bench, "admin", &key.arn, None).await.unwrap();
    bench.service.describe_key_with(&by(&bench, "admin"), &key.arn, GrantTokens::default()).await.unwrap();
    // The list is another one from now on.
    bench.service.set_administrators(BTreeSet::new());
    assert!(is_denied(encrypt(&bench, "admin", &key.arn, None).await));
}

#[tokio::test]
async fn a_key_leaves_it_to_identity_policies_where_its_policy_names_the_account() {
    let bench = bench().await;
    let (key, other) = (created(&bench).await, created(&bench).await);
    let anna = principal(&bench, HERE, "anna").await;
    let bert = principal(&bench, HERE, "bert").await;
    assert!(is_denied(encrypt(&bench, "anna", &key.arn, None).await));
    attach(&bench, &anna, "one", &statement("Allow", "kms:Encrypt", &key.arn)).await;
    let blob = encrypt(&bench, "anna", &key.arn, None).await.unwrap();
    assert!(is_denied(encrypt(&bench, "anna", &other.arn, None).await), "another key");
    assert!(is_denied(bench.service.decrypt(&by(&bench, "anna"), vec![sealed(&blob)]).await.unwrap().remove(0)));
    assert!(is_denied(encrypt(&bench, "bert", &key.arn, None).await), "somebody else");
    // One whose policy does not name it does not leave it to anybody; whoever it names itself needs nothing else.
    put(&bench, key.id, &[of_key("Allow", &arn(HERE, "bert"), "kms:Encrypt")], &[(&arn(HERE, "bert"), &bert)]).await;
    assert!(is_denied(encrypt(&bench, "anna", &key.arn, None).await));
    encrypt(&bench, "bert", &key.arn, None).await.unwrap();
    // One that is made anew under an old name inherits nothing.
    bench.store.delete_principal(&bert).await.unwrap();
    assert!(is_denied(encrypt(&bench, "bert", &key.arn, None).await), "mapped to nobody");
    principal(&bench, HERE, "bert").await;
    assert!(is_denied(encrypt(&bench, "bert", &key.arn, None).await), "somebody else of this name");
}

/// It may be of a release that had no such bounds. Were it not read, nobody could use the key, nor put another policy.
#[tokio::test]
async fn a_policy_that_is_there_decides_although_it_would_not_be_taken_today() {
    let bench = bench().await;
    let (key, named) = (created(&bench).await, arn(HERE, "anna"));
    let anna = principal(&bench, HERE, "anna").await;
    let values = vec!["\"*acb*\""; 300].join(",");
    let condition = format!("{{\"StringNotLike\":{{\"kms:EncryptionContext:tenant\":[{values}]}}}}");
    let plain = of_key("Allow", &named, "kms:*");
    let costly = plain.replace(",\"Action\"", &format!(",\"Condition\":{condition},\"Action\""));
    let of_key = |statement: &str| PutKeyPolicyInput {
        key_id: key.arn.clone(),
        policy: format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statement}]}}"),
        ..PutKeyPolicyInput::default()
    };
    let refused = bench.service.put_key_policy(&by(&bench, "admin"), of_key(&costly)).await;
    assert_eq!(exception(refused), Exception::MalformedPolicyDocument);
    put(&bench, key.id, &[costly], &[(&named, &anna)]).await;
    encrypt(&bench, "anna", &key.arn, Some("7")).await.unwrap();
    assert!(is_denied(encrypt(&bench, "anna", &key.arn, Some("-acb-")).await));
    bench.service.put_key_policy(&by(&bench, "anna"), of_key(&plain)).await.unwrap();
    encrypt(&bench, "anna", &key.arn, Some("-acb-")).await.unwrap();
}

#[tokio::test]
async fn who_is_of_another_account_needs_both_sides() {
    let bench = bench().await;
    let key = created(&bench).await;
    let carl = principal(&bench, ELSEWHERE, "carl").await;
    let named = arn(ELSEWHERE, "carl");
    attach(&bench, &carl, "use", &statement("Allow", "kms:*", "*")).await;
    assert!(is_denied(encrypt(&bench, "carl", &key.arn, None).await), "the key is not his account's");
    put(&bench, key.id, &[of_key("Allow", &named, "kms:*"), of_key("Allow", ROOT, "kms:*")], &[(&named, &carl)]).await;
    encrypt(&bench, "carl", &key.arn, None).await.unwrap();
    let refused = bench.service.disable_key(&by(&bench, "carl"), &key.arn).await;
    assert!(is_denied(refused), "AWS lets nobody of another account manage a key so");
    bench.store.detach_policy(&"use".into(), &Holder::Principal(carl)).await.unwrap();
    assert!(is_denied(encrypt(&bench, "carl", &key.arn, None).await));
}

#[tokio::test]
async fn grants_allow_beside_policies_what_no_policy_denies() {
    let bench = bench().await;
    let (key, other) = (created(&bench).await, created(&bench).await);
    let anna = principal(&bench, HERE, "anna").await;
    grant(&bench, key.id, &anna, &["Encrypt"], Some("7")).await;
    encrypt(&bench, "anna", &key.arn, Some("7")).await.unwrap();
    for tenant in [None, Some("8")] {
        assert!(is_denied(encrypt(&bench, "anna", &key.arn, tenant).await), "{tenant:?}");
    }
    assert!(is_denied(encrypt(&bench, "anna", &other.arn, Some("7")).await));
    assert!(is_denied(bench.service.describe_key_with(&by(&bench, "anna"), &key.arn, GrantTokens::default()).await));
    attach(&bench, &anna, "none", &statement("Deny", "kms:Encrypt", "*")).await;
    let error = encrypt(&bench, "anna", &key.arn, Some("7")).await.unwrap_err();
    assert_eq!(error.exception, Exception::AccessDenied);
    assert!(error.message.ends_with("with an explicit deny"), "{error}");
}

#[tokio::test]
async fn whether_there_is_such_a_key_is_told_to_who_may_use_it() {
    let bench = bench().await;
    let key = created(&bench).await;
    let none = key.arn.replace(&key.id.to_string(), "00000000-0000-4000-8000-000000000001");
    let anna = principal(&bench, HERE, "anna").await;
    principal(&bench, HERE, "eve").await;
    attach_as_it_is(&bench, &anna, "KeyUser", true).await;
    assert_eq!(exception(encrypt(&bench, "anna", &none, None).await), Exception::NotFound);
    let [one, other] = [encrypt(&bench, "eve", &key.arn, None).await, encrypt(&bench, "eve", &none, None).await]
        .map(Result::unwrap_err);
    assert_eq!(one.message.replace(&key.arn, &none), other.message);
    assert_eq!(other.exception, Exception::AccessDenied);
}

#[tokio::test]
async fn an_alias_needs_a_permission_of_its_own_and_one_of_its_key() {
    let bench = bench().await;
    let key = created(&bench).await;
    let anna = principal(&bench, HERE, "anna").await;
    let create = async |name: &str| {
        let input = CreateAliasInput { alias_name: name.into(), target_key_id: key.arn.clone(), ..Default::default() };
        bench.service.create_alias(&by(&bench, "anna"), input).await
    };
    let alias = "arn:aws:kms:eu-central-1:111122223333:alias/";
    attach(&bench, &anna, "alias", &statement("Allow", "kms:CreateAlias", &format!("{alias}a*"))).await;
    assert!(is_denied(create("alias/a1").await), "the key is missing");
    attach(&bench, &anna, "key", &statement("Allow", "kms:CreateAlias", &key.arn)).await;
    create("alias/a1").await.unwrap();
    assert!(is_denied(create("alias/b1").await), "the alias is missing");
    assert!(is_denied(bench.service.delete_alias(&by(&bench, "anna"), "alias/a1").await));
    // A condition may be about the alias that the request names.
    let by_alias = "{\"Effect\":\"Allow\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\",\"Condition\":{\"StringEquals\":\
                    {\"kms:RequestAlias\":\"alias/a1\"}}}";
    attach(&bench, &anna, "by-alias", by_alias).await;
    encrypt(&bench, "anna", "alias/a1", None).await.unwrap();
    encrypt(&bench, "anna", &format!("{alias}a1"), None).await.unwrap();
    assert!(is_denied(encrypt(&bench, "anna", &key.arn, None).await));
}

#[tokio::test]
async fn conditions_see_what_an_operation_is_called_with() {
    let bench = bench().await;
    let key = created(&bench).await;
    let anna = principal(&bench, HERE, "anna").await;
    let when = |action: &str, operator: &str, name: &str, value: &str| {
        format!(
            "{{\"Effect\":\"Allow\",\"Action\":\"{action}\",\"Resource\":\"*\",\"Condition\":{{\"{operator}\":\
             {{\"{name}\":\"{value}\"}}}}}}"
        )
    };
    let statements = [
        when("kms:ScheduleKeyDeletion", "NumericEquals", "kms:ScheduleKeyDeletionPendingWindowInDays", "14"),
        when("kms:TagResource", "StringEquals", "aws:RequestTag/team", "red"),
        when("kms:EnableKeyRotation", "NumericEquals", "kms:RotationPeriodInDays", "365"),
        when("kms:PutKeyPolicy", "StringEquals", "kms:PolicyName", "default"),
        statement("Allow", "kms:CancelKeyDeletion", "*"),
    ];
    attach(&bench, &anna, "some", &statements.join(",")).await;
    let (service, call) = (&bench.service, by(&bench, "anna"));
    let tag = |value: &str| vec![("team".to_owned(), value.to_owned())];
    assert!(is_denied(service.tag_resource(&call, &key.arn, tag("blue")).await));
    service.tag_resource(&call, &key.arn, tag("red")).await.unwrap();
    assert!(is_denied(service.enable_key_rotation(&call, &key.arn, Some(90)).await));
    service.enable_key_rotation(&call, &key.arn, None).await.unwrap();
    let put = |policy_name: &str| {
        let (key_id, policy_name) = (key.arn.clone(), policy_name.to_owned());
        let input = PutKeyPolicyInput { key_id, policy_name, default_policy: true, ..PutKeyPolicyInput::default() };
        service.put_key_policy(&call, input)
    };
    for name in ["", "default"] {
        put(name).await.unwrap();
    }
    for name in ["AWS_RAM", "other"] {
        assert!(is_denied(put(name).await), "{name}");
    }
    for days in [None, Some(7)] {
        assert!(is_denied(service.schedule_key_deletion(&call, &key.arn, days).await), "{days:?}");
    }
    service.schedule_key_deletion(&call, &key.arn, Some(14)).await.unwrap();
}

#[tokio::test]
async fn re_encrypt_asks_both_keys_and_tells_whether_they_are_one() {
    let bench = bench().await;
    let (key, other) = (created(&bench).await, created(&bench).await);
    let anna = principal(&bench, HERE, "anna").await;
    let blob = encrypt(&bench, "admin", &key.arn, None).await.unwrap();
    let re_encrypt = async |to: &str| {
        let (ciphertext, destination_key_id) = (blob.clone().into(), to.to_owned());
        let input = ReEncryptInput { ciphertext, destination_key_id, ..ReEncryptInput::default() };
        bench.service.re_encrypt(&by(&bench, "anna"), vec![input]).await.unwrap().remove(0).map(drop)
    };
    attach(&bench, &anna, "from", &statement("Allow", "kms:ReEncryptFrom", &key.arn)).await;
    assert!(is_denied(re_encrypt(&other.arn).await));
    let same = "{\"Effect\":\"Allow\",\"Action\":\"kms:ReEncryptTo\",\"Resource\":\"*\",\"Condition\":{\"Bool\":\
                {\"kms:ReEncryptOnSameKey\":\"true\"}}}";
    attach(&bench, &anna, "same", same).await;
    re_encrypt(&key.arn).await.unwrap();
    assert!(is_denied(re_encrypt(&other.arn).await), "not the same");
    attach(&bench, &anna, "to", &statement("Allow", "kms:ReEncryptTo", &other.arn)).await;
    re_encrypt(&other.arn).await.unwrap();
    attach(&bench, &anna, "not", &statement("Deny", "kms:ReEncryptFrom", "*")).await;
    assert!(is_denied(re_encrypt(&other.arn).await));
}

/// What takes access away while a call's record is made.
#[derive(Clone, Copy, Debug)]
enum Taken {
    KeyPolicy,
    IdentityPolicy,
    Principal,
    Grant,
}

#[tokio::test]
async fn what_is_taken_away_while_the_record_is_made_is_withheld_and_on_record() {
    for taken in [Taken::KeyPolicy, Taken::IdentityPolicy, Taken::Principal, Taken::Grant] {
        let bench = bench().await;
        let key = created(&bench).await;
        let anna = principal(&bench, HERE, "anna").await;
        let granted = match taken {
            Taken::Grant => Some(grant(&bench, key.id, &anna, &["Encrypt"], None).await),
            _ => {
                attach_as_it_is(&bench, &anna, "KeyUser", true).await;
                None
            }
        };
        encrypt(&bench, "anna", &key.arn, None).await.unwrap();
        bench.recorder.taken();
        bench.recorder.is(Manner::Slow);
        let call = encrypt(&bench, "anna", &key.arn, None);
        tokio::pin!(call);
        tokio::select! {
            biased;
            answered = &mut call => panic!("{taken:?}: answered before the record: {answered:?}"),
            () = bench.recorder.given(1) => {}
        }
        bench.recorder.is(Manner::Quick);
        match (taken, &granted) {
            (Taken::KeyPolicy, _) => put(&bench, key.id, &[of_key("Deny", "*", "kms:Encrypt")], &[]).await,
            (Taken::Principal, _) => bench.store.delete_principal(&anna).await.unwrap(),
            (Taken::Grant, Some(Granted::New(id) | Granted::Existing(id))) => {
                bench.store.remove_grant(key.id, id).await.unwrap();
            }
            _ => {
                let holder = Holder::Principal(anna.clone());
                bench.store.detach_policy(&"KeyUser".into(), &holder).await.unwrap();
            }
        }
        bench.recorder.accepts.send_replace(1);
        assert!(is_denied(call.await), "{taken:?}");
        let told: Vec<_> = bench.recorder.taken().into_iter().map(|record| record.phase).collect();
        assert_eq!(told, [Phase::Ended, Phase::Withheld], "{taken:?}");
    }
}

#[tokio::test]
async fn policies_of_the_program_are_what_they_say() {
    let bench = bench().await;
    let key = created(&bench).await;
    for (name, uses, looks, connects) in [
        ("Administrator", true, true, true),
        ("Operator", false, true, true),
        ("Auditor", false, true, false),
        ("KeyUser", true, true, false),
    ] {
        let id = principal(&bench, HERE, name).await;
        attach_as_it_is(&bench, &id, name, true).await;
        assert_eq!(!is_denied(encrypt(&bench, name, &key.arn, None).await), uses, "{name}");
        assert_eq!(
            !is_denied(bench.service.describe_key_with(&by(&bench, name), &key.arn, GrantTokens::default()).await),
            looks,
            "{name}"
        );
        let connect = bench.service.connect_key_store(&by(&bench, name), "cks-00000000000000000").await;
        let may = connect.unwrap_err().exception == Exception::CustomKeyStoreNotFound;
        assert_eq!(may, connects, "{name}");
    }
}
