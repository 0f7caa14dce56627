use serde_json::json;

use super::super::mapping::Mapping;
use super::super::read::{Account, OldKey};
use super::super::shapes;
use super::super::wanted::{IMPORTED_FROM, wanted};
use super::*;
use crate::import_settings::show::Shown;
use crate::printer::Report as _;

const APP: &str = "arn:aws:iam::000000000000:user/app";
const POLICY: &str = r#"{ "Version": "2012-10-17", "Statement": [{ "Sid": "Enable IAM User Permissions", "Effect": "Allow",
  "Principal": { "AWS": "arn:aws:iam::111122223333:root" }, "Action": "kms:*", "Resource": "*" }] }"#;

fn arn(id: &str) -> String {
    format!("arn:aws:kms:us-east-1:111122223333:key/{id}")
}

fn new_arn(id: &str) -> String {
    format!("arn:aws:kms:eu-central-1:000000000000:key/new-{id}")
}

fn grant(members: &serde_json::Value) -> shapes::Grant {
    let mut grant = json!({
        "KeyId": arn("a"), "GrantId": "0c23", "Name": "", "IssuingAccount": "arn:aws:iam::111122223333:root",
        "CreationDate": "2024-01-01T00:00:00+00:00", "GranteePrincipal": "arn:aws:iam::111122223333:role/app",
        "Operations": ["Decrypt", "GenerateDataKey"],
    });
    grant.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    serde_json::from_value(grant).unwrap()
}

/// A key with two tags, one alias and one grant.
fn key(id: &str, members: &serde_json::Value) -> OldKey {
    let mut metadata = json!({
        "KeyId": id, "Arn": arn(id), "Description": "invoices", "KeyState": "Enabled", "KeyUsage": "ENCRYPT_DECRYPT",
        "KeyManager": "CUSTOMER", "Origin": "AWS_KMS", "KeySpec": "SYMMETRIC_DEFAULT",
    });
    metadata.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let tag = |name: &str| shapes::Tag { tag_key: name.to_owned(), tag_value: "x".to_owned() };
    OldKey {
        metadata: serde_json::from_value(metadata).unwrap(),
        policy: POLICY.to_owned(),
        policy_file: format!("account/{id}/get-key-policy.json").into(),
        grants: vec![grant(&json!({ "Constraints": { "EncryptionContextSubset": { "Tenant": "7" } } }))],
        tags: vec![tag("team"), tag("aws:cloudformation:stack-name")],
    }
}

fn account(keys: Vec<OldKey>) -> Account {
    let alias = |key: &OldKey| shapes::Alias {
        alias_name: format!("alias/{}", key.metadata.key_id),
        alias_arn: format!("arn:aws:kms:us-east-1:111122223333:alias/{}", key.metadata.key_id),
        target_key_id: Some(key.metadata.key_id.clone()),
    };
    Account { aliases: keys.iter().map(alias).collect(), keys, left_out: Vec::new() }
}

fn mapping() -> Mapping {
    let pairs = [("111122223333", "000000000000"), ("arn:aws:iam::111122223333:role/app", APP)];
    Mapping::new(pairs.map(|(old, new)| (old.to_owned(), new.to_owned()))).unwrap()
}

fn planned(account: &Account, here: &Here) -> Plan {
    let made = here.keys.iter().map(|key| (key.old_arn.clone(), key.arn.clone())).collect();
    plan(wanted(account, &mapping(), &made).unwrap(), Vec::new(), here, Making::default())
}

/// What is here after a plan was carried out.
fn after(plan: &Plan) -> Here {
    let id = |key: &KeyPlan| key.old_arn.rsplit('/').next().unwrap().to_owned();
    let made = |key: &KeyPlan| HereKey {
        key_id: format!("new-{}", id(key)),
        arn: new_arn(&id(key)),
        old_arn: key.old_arn.clone(),
        state: if key.disabled { KeyState::Disabled } else { KeyState::Enabled },
        key_store_id: "cks-1".to_owned(),
        description: key.description.clone(),
        tags: key.tags.clone(),
        policy: key.policy.clone(),
        grants: key.grants.clone(),
    };
    let aliases = plan
        .keys
        .iter()
        .flat_map(|key| key.aliases.keys().map(move |alias| (alias.clone(), format!("new-{}", id(key)))));
    Here { keys: plan.keys.iter().map(made).collect(), aliases: aliases.collect(), ..Here::default() }
}

fn kinds(steps: &[Step]) -> Vec<&'static str> {
    let kind = |step: &Step| match step {
        Step::CreateKey => "create",
        Step::UpdateDescription => "describe",
        Step::TagResource { .. } => "tag",
        Step::PutKeyPolicy => "policy",
        Step::CreateGrant { .. } => "grant",
        Step::CreateAlias { .. } => "alias",
        Step::DisableKey => "disable",
    };
    steps.iter().map(kind).collect()
}

#[test]
fn a_new_key_is_made_with_all_that_the_old_one_had() {
    let account = account(vec![key("a", &json!({})), key("b", &json!({ "KeyState": "Disabled" }))]);
    let plan = planned(&account, &Here::default());
    let [a, b] = &plan.keys[..] else { panic!("{plan:?}") };
    assert_eq!(kinds(&a.steps), ["create", "grant", "alias"]);
    assert_eq!(kinds(&b.steps), ["create", "grant", "alias", "disable"]);
    assert_eq!(a.policy, POLICY.replace("111122223333", "000000000000"));
    assert_eq!(a.tags, [("team".to_owned(), "x".to_owned()), (IMPORTED_FROM.to_owned(), arn("a"))].into());
    assert!(a.notes.iter().any(|note| note.contains("aws:cloudformation:stack-name")));
    let grant = a.grants.first().unwrap();
    assert_eq!((grant.grantee.as_str(), &grant.context_subset["Tenant"]), (APP, &"7".to_owned()));
    assert_eq!(plan.problems(), 0);
    // And once all of it is here, there is nothing to do: by another plan, which has another name.
    let again = planned(&account, &after(&plan));
    assert_eq!(again.steps(), 0, "{again:?}");
    assert_ne!(again.digest().unwrap(), plan.digest().unwrap());
    assert_eq!(planned(&account, &Here::default()).digest().unwrap(), plan.digest().unwrap());
    // Whoever has let somebody else into a key that looks like an import of this one is not given its alias.
    let mut open = after(&plan);
    let foreign = Grant { grantee: "arn:aws:iam::000000000000:user/mallory".to_owned(), ..grant.clone() };
    open.keys[0].grants.insert(foreign);
    let refused = planned(&account, &open);
    assert!(refused.problems() == 1 && refused.keys[0].problems[0].contains("1 grants"), "{refused:?}");
    let text = Shown { digest: "d", plan: &again, asks: false }.text();
    assert!(text.contains("Nothing is to be done.") && text.contains(&new_arn("a")), "{text}");
}

#[test]
fn only_what_differs_is_changed() {
    let account = account(vec![key("a", &json!({}))]);
    let mut here = after(&planned(&account, &Here::default()));
    let made = &mut here.keys[0];
    made.description = "other".to_owned();
    made.tags.insert("team".to_owned(), "y".to_owned());
    made.tags.insert("own".to_owned(), "z".to_owned());
    made.policy = "{}".to_owned();
    made.grants.clear();
    here.aliases.clear();
    let plan = planned(&account, &here);
    assert_eq!(kinds(&plan.keys[0].steps), ["describe", "tag", "policy", "grant", "alias"]);
    assert_eq!(plan.keys[0].steps[1], Step::TagResource { tags: [("team".to_owned(), "x".to_owned())].into() });
}

#[test]
fn conflicts_are_found_before_anything_is_done() {
    let account = account(vec![key("a", &json!({}))]);
    let nothing = Here::default();
    let done = after(&planned(&account, &nothing));
    let document = planned(&account, &nothing).keys[0].policy.clone();
    let error = Finding { error: true, line: 1, place: String::new(), problem: "no".to_owned() };
    let with = |change: &dyn Fn(&mut Here), here: &Here| {
        let mut here = here.clone();
        change(&mut here);
        planned(&account, &here)
    };
    for (plan, says) in [
        (with(&|here| drop(here.aliases.insert("alias/a".to_owned(), "other".to_owned())), &nothing), "the key other"),
        (with(&|here| drop(here.aliases.insert("alias/a".to_owned(), "other".to_owned())), &done), "the key other"),
        (with(&|here| here.unknown = [APP.to_owned()].into(), &nothing), "no such principal"),
        (with(&|here| drop(here.findings.insert(document.clone(), vec![error.clone()])), &nothing), "refuses"),
        (with(&|here| here.keys.push(here.keys[0].clone()), &done), "several keys"),
        (with(&|here| here.keys[0].state = KeyState::Creating, &done), "being made"),
        (with(&|here| here.keys[0].state = KeyState::PendingDeletion, &done), "pending deletion"),
        (
            with(
                &|here| {
                    here.keys[0].state = KeyState::Disabled;
                    here.keys[0].grants.clear();
                },
                &done,
            ),
            "only while it is enabled",
        ),
    ] {
        let told = &plan.keys[0].problems;
        assert!(told.len() == 1 && told[0].contains(says), "{says}: {told:?}");
        assert!(
            Shown { digest: "d", plan: &plan, asks: false }
                .text()
                .contains("Nothing can be done because of 1 problem.")
        );
    }
    let elsewhere = Making { key_store_id: "cks-2".to_owned(), ..Making::default() };
    let wanted = wanted(&account, &mapping(), &[(arn("a"), new_arn("a"))].into()).unwrap();
    assert!(plan(wanted, Vec::new(), &done, elsewhere).keys[0].problems[0].contains("cks-1"));
}

#[test]
fn a_key_that_was_taken_out_of_use_here_stays_so() {
    let account = account(vec![key("a", &json!({}))]);
    let mut here = after(&planned(&account, &Here::default()));
    here.keys[0].state = KeyState::Disabled;
    assert_eq!(planned(&account, &here).steps(), 0);
}

#[test]
fn grants_that_would_allow_more_or_nobody_are_left_out() {
    let mut old = key("a", &json!({}));
    let both = json!({ "EncryptionContextSubset": { "a": "b" }, "EncryptionContextEquals": { "a": "b" } });
    let session = "arn:aws:sts::111122223333:assumed-role/aws:ec2-infrastructure/i-1";
    let service_role = "arn:aws:iam::111122223333:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS";
    let refused = [
        json!({ "Constraints": { "SourceArn": "arn:s" } }),
        json!({ "Constraints": both }),
        json!({ "GranteePrincipal": session }),
        json!({ "GranteePrincipal": service_role }),
        json!({ "GranteePrincipal": "dynamodb.us-east-1.amazonaws.com" }),
        json!({ "GranteePrincipal": null, "GranteeServicePrincipal": "s3.amazonaws.com" }),
        json!({ "GranteePrincipal": "AIDAGONE" }),
        json!({ "GranteePrincipal": "arn:aws:iam::111122223333:root" }),
        json!({ "GranteePrincipal": null }),
    ];
    old.grants = refused.iter().map(grant).collect();
    let count = refused.len();
    let without = json!({ "RetiringPrincipal": session, "Name": "n" });
    old.grants.extend([&without, &without].map(grant));
    let plan = planned(&account(vec![old]), &Here::default());
    let KeyPlan { grants, notes, .. } = &plan.keys[0];
    assert_eq!(
        notes.iter().filter(|note| note.contains("is left out") && note.contains("grant")).count(),
        count,
        "{notes:?}"
    );
    assert_eq!(notes.iter().filter(|note| note.contains("without who may retire it")).count(), 2);
    assert!(notes.iter().any(|note| note.contains("made once")));
    assert_eq!((grants.len(), &grants.first().unwrap().retiring), (1, &None));
}

#[test]
fn names_that_nobody_mapped_are_pointed_at() {
    let account = account(vec![key("a", &json!({}))]);
    let here = Here { account: Some("000000000000".to_owned()), ..Here::default() };
    let unmapped = wanted(&account, &Mapping::default(), &BTreeMap::new()).unwrap();
    let plan = plan(unmapped, Vec::new(), &here, Making::default());
    assert!(plan.keys[0].notes.iter().any(|note| note.contains("--map 111122223333=000000000000")), "{plan:?}");
    assert!(!planned(&account, &here).keys[0].notes.iter().any(|note| note.contains("--map")));
}

#[test]
fn a_policy_that_names_other_keys_is_put_once_they_are_made() {
    let mut old = key("a", &json!({}));
    old.policy = POLICY.replace(
        "\"*\" }]",
        &format!("\"*\", \"Condition\": {{ \"ArnEquals\": {{ \"aws:SourceArn\": \"{}\" }} }} }}]", arn("b")),
    );
    let account = account(vec![old, key("b", &json!({}))]);
    let first = planned(&account, &Here::default());
    assert_eq!(kinds(&first.keys[0].steps), ["create", "policy", "grant", "alias"]);
    assert_eq!(kinds(&first.keys[1].steps), ["create", "grant", "alias"]);
    // It broke off before the policy was put: the next plan has the new ARN in it.
    let second = planned(&account, &after(&first));
    assert_eq!(kinds(&second.keys[0].steps), ["policy"]);
    assert!(second.keys[0].policy.contains(&new_arn("b")) && !second.keys[0].policy.contains(&arn("b")));
}

#[test]
fn a_policy_that_is_no_json_is_told_with_its_file() {
    let old = OldKey { policy: "{\n  nonsense".to_owned(), ..key("a", &json!({})) };
    let failure = wanted(&account(vec![old]), &mapping(), &BTreeMap::new()).unwrap_err();
    assert!(failure.message.contains("account/a/get-key-policy.json") && failure.message.contains("line 2"));
}

#[test]
fn what_is_shown_is_in_lines_of_its_own() {
    let mut old = key("a", &json!({ "Description": "two\nlines\u{1b}[2J", "Origin": "EXTERNAL" }));
    old.metadata.multi_region_configuration = Some(shapes::MultiRegion { multi_region_key_type: "PRIMARY".to_owned() });
    let here = Here::default();
    let plan = plan(
        wanted(&account(vec![old]), &mapping(), &BTreeMap::new()).unwrap(),
        vec![(arn("z"), "AWS manages it".to_owned())],
        &here,
        Making::default(),
    );
    let text = Shown { digest: "5ea1", plan: &plan, asks: false }.text();
    for part in [
        r"two\nlines\u{1b}[2J",
        "to be made",
        "  - make the key",
        "  - grant Decrypt, GenerateDataKey for arn:aws:iam::000000000000:user/app, with Tenant=7",
        "  - give it alias/a",
        "note: it is a multi-Region key",
        "note: its material was imported",
        "the default one, for arn:aws:iam::000000000000:root",
        "  - arn:aws:kms:us-east-1:111122223333:key/z: AWS manages it\n",
        "Plan 5ea1: 3 steps for 1 key.",
        "key material",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("Statement"), "{text}");
    let asks = Shown { digest: "5ea1", plan: &plan, asks: true }.text();
    assert!(asks.ends_with("\nPlan 5ea1: 3 steps for 1 key."), "{asks}");
    let json = serde_json::to_value(Shown { digest: "5ea1", plan: &plan, asks: false }).unwrap();
    assert_eq!((&json["digest"], &json["keys"][0]["steps"][0]["step"]), (&json!("5ea1"), &json!("create_key")));
    assert_eq!(json["left_out"][0]["reason"], "AWS manages it");
}
