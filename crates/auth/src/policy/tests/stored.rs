//! Policies that are kept: they hold by ids, and say whether what they decide can be kept too.

use super::decisions::all;
use super::world::{Given, HERE, KEY, arn, compile, id, identity_policy, key_policy, short, text};
use crate::policy::{Bindings, Kind, Policy, Problem, Rules, decide, keeps_control, shown};

fn allow(whom: &str, action: &str, condition: &str) -> String {
    format!(
        "{{\"Effect\": \"Allow\", \"Principal\": {{\"AWS\": \"{whom}\"}}, \"Action\": \"{action}\", \"Resource\": \"*\"{condition}}}"
    )
}

#[test]
fn whoever_comes_later_under_the_same_arn_inherits_nothing() {
    let text = text(&[allow(&arn("anna"), "kms:*", "")]);
    let kind = Kind::Key { arn: Some(KEY) };
    let put = compile("default", &text, kind);
    assert_eq!(put.bindings().pairs().iter().collect::<Vec<_>>(), [(&arn("anna"), &id("anna"))]);
    let saved = Bindings::new(put.bindings().pairs().clone());
    // Anna is gone, and another one has her name.
    let again = |arn: &str| (arn == super::world::arn("anna")).then(|| id("anna2"));
    let stored = Policy::compile(put.name(), &text, kind, &|arn| saved.resolve(arn)).unwrap().policy;
    let newly = Policy::compile(put.name(), &text, kind, &again).unwrap().policy;
    let allowed = |policy: &Policy, id: &str| {
        Given::parse("anna kms:Encrypt key").with(|request| {
            let id = super::world::id(id);
            let mut request = *request;
            request.caller.id = &id;
            decide(&request, &Rules { key_policy: Some(policy), ..Rules::default() }).is_allowed()
        })
    };
    assert!(allowed(&stored, "anna") && !allowed(&stored, "anna2"));
    assert!(allowed(&newly, "anna2") && !allowed(&newly, "anna"));
    assert_eq!(shown(&text, &saved, &again), text.replace(&arn("anna"), "AIDAANNA"));
    assert_eq!(shown(&text, &saved, &super::world::resolve), text);
}

#[test]
fn a_stored_policy_decides_as_it_did_when_it_was_put() {
    let mut compared = 0;
    for asked in all().iter().filter(|asked| !asked.case.key.is_empty()) {
        let (put, own) = (key_policy(&asked.case.key), identity_policy(&asked.case.own));
        let text = text(&asked.case.key);
        let kind = Kind::Key { arn: Some(KEY) };
        let stored = Policy::compile(put.name(), &text, kind, &|arn| put.bindings().resolve(arn)).unwrap().policy;
        asked.given.with(|request| {
            let rules =
                |policy| Rules { key_policy: Some(policy), identity_policies: &own, grants: &asked.case.grants };
            assert_eq!(decide(request, &rules(&put)), decide(request, &rules(&stored)), "{}", asked.place);
        });
        compared += 1;
    }
    assert!(compared > 300);
}

/// One that could not be read would deny everything that it has a say in.
#[test]
fn a_stored_policy_that_would_be_refused_today_decides_all_the_same() {
    let values = |value: &str, times: usize| vec![format!("\"{value}\""); times].join(",");
    let costly = format!("{{\"StringLike\": {{\"kms:EncryptionContext:x\": [{}]}}}}", values("*a?b*", 150));
    let many = format!("{{\"StringLike\": {{\"kms:EncryptionContext:x\": [{}]}}}}", values("*acb*", 300));
    let offset = "{\"DateGreaterThan\": {\"aws:CurrentTime\": [\"2026-01-01T00:00:00+01:75\"]}}".to_owned();
    let kind = Kind::Key { arn: Some(KEY) };
    for (condition, problem, at) in [
        (costly, Problem::TooSlow, ""),
        (many, Problem::TooManyPasses, ""),
        (
            offset,
            Problem::Value {
                value: "2026-01-01T00:00:00+01:75".into(),
                expected: "a date of ISO 8601 or a number of seconds since 1970",
            },
            "Statement[0].Condition.DateGreaterThan.\"aws:CurrentTime\"[0]",
        ),
    ] {
        let text = text(&[allow(&arn("anna"), "kms:*", &format!(", \"Condition\": {condition}"))]);
        let put = Policy::compile(&"default".into(), &text, kind, &super::world::resolve).unwrap_err();
        assert_eq!(put.0.iter().map(|one| &one.problem).collect::<Vec<_>>(), [&problem]);
        let stored = Policy::compile_saved(&"default".into(), &text, kind, &super::world::resolve).unwrap();
        let told: Vec<_> = stored.warnings.iter().filter(|one| one.problem.is_of_today()).collect();
        assert_eq!(told.iter().map(|one| (&one.problem, &*one.place)).collect::<Vec<_>>(), [(&problem, at)]);
        let rules = Rules { key_policy: Some(&stored.policy), ..Rules::default() };
        let decided = |line: &str| Given::parse(line).with(|request| decide(request, &rules).is_allowed());
        assert!(decided("anna kms:Encrypt key ctx:x=--acb--"), "{problem}");
        assert!(!decided("bert kms:Encrypt key ctx:x=--acb--"), "{problem}");
    }
    let wrong =
        text(&[allow(&arn("anna"), "kms:*", ", \"Condition\": {\"DateLessThan\": {\"aws:CurrentTime\": \"soon\"}}")]);
    assert!(Policy::compile_saved(&"default".into(), &wrong, kind, &super::world::resolve).is_err());
}

#[test]
fn what_depends_on_the_single_request_is_known() {
    let depends = |condition: &str, action: &str| {
        let condition = format!(", \"Condition\": {condition}");
        key_policy(&[allow(HERE, "kms:*", ""), allow(HERE, "kms:Encrypt", &condition)]).depends_on_request(action)
    };
    for of_caller_and_key in [
        "{\"StringEquals\": {\"aws:PrincipalTag/team\": \"${aws:ResourceTag/team}\"}}",
        "{\"ArnLike\": {\"aws:PrincipalArn\": \"arn:aws:iam::*:user/${aws:username}\"}}",
        "{\"ForAnyValue:StringLike\": {\"kms:ResourceAliases\": \"alias/*\"}, \"Bool\": {\"kms:MultiRegion\": \"false\"}}",
        "{\"StringNotEquals\": {\"kms:ViaService\": \"x\", \"kms:CallerAccount\": \"x\", \"kms:KeySpec\": \"x\"}}",
    ] {
        assert!(!depends(of_caller_and_key, "kms:Encrypt"), "{of_caller_and_key}");
    }
    for of_request in [
        "{\"StringEquals\": {\"kms:EncryptionContext:x\": \"1\"}}",
        "{\"Null\": {\"kms:EncryptionContextKeys\": \"true\"}}",
        "{\"DateLessThan\": {\"aws:CurrentTime\": \"2030\"}}",
        "{\"IpAddress\": {\"aws:SourceIp\": \"10.0.0.0/8\"}}",
        "{\"StringEquals\": {\"aws:ResourceTag/x\": \"${kms:EncryptionContext:x}\"}}",
        "{\"StringEquals\": {\"keystored:Interface\": \"grpc\"}}",
        "{\"StringLike\": {\"aws:UserAgent\": \"*\"}}",
        "{\"StringLike\": {\"kms:RequestAlias\": \"*\"}}",
    ] {
        assert!(depends(of_request, "kms:Encrypt"), "{of_request}");
        assert!(!depends(of_request, "kms:Decrypt"), "the other statement has no condition: {of_request}");
    }
    let own = |resource: &str| {
        let statement = format!("{{\"Effect\": \"Allow\", \"Action\": \"kms:*\", \"Resource\": \"{resource}\"}}");
        identity_policy(&[statement])[0].depends_on_request("kms:Encrypt")
    };
    assert!(!own("arn:aws:kms:*:*:alias/${aws:PrincipalTag/team}-*"));
    assert!(own("arn:aws:kms:*:*:alias/${aws:UserAgent}"));
}

#[test]
fn who_puts_a_policy_has_to_be_able_to_put_another() {
    let keeps = |statements: &[String], own: &[String], line: &str| {
        let (policy, own) = (key_policy(statements), identity_policy(own));
        Given::parse(line).with(|request| keeps_control(&policy, request, &own))
    };
    let may_put = "{\"Effect\": \"Allow\", \"Action\": \"kms:PutKeyPolicy\", \"Resource\": \"*\"}".to_owned();
    let root = [allow(&arn("root"), "kms:*", "")];
    assert!(keeps(&root, std::slice::from_ref(&may_put), "anna kms:CreateKey key"));
    assert!(!keeps(&root, &[], "anna kms:CreateKey key"), "it is left to identity policies, and none allows");
    assert!(keeps(&root, &[], "root kms:CreateKey key"));
    let anna = [allow(&arn("anna"), "kms:PutKeyPolicy", "")];
    assert!(keeps(&anna, &[], "anna kms:PutKeyPolicy key") && !keeps(&anna, &[may_put], "bert kms:PutKeyPolicy key"));
    let careful = [allow(
        &arn("anna"),
        "kms:*",
        ", \"Condition\": {\"Bool\": {\"kms:BypassPolicyLockoutSafetyCheck\": \"false\"}}",
    )];
    assert!(keeps(&careful, &[], "anna kms:PutKeyPolicy key"));
    let elsewhere =
        [allow(&arn("anna"), "kms:*", ", \"Condition\": {\"IpAddress\": {\"aws:SourceIp\": \"10.0.0.0/8\"}}")];
    assert!(!keeps(&elsewhere, &[], "anna kms:PutKeyPolicy key ip=192.0.2.1"));
    assert!(keeps(&elsewhere, &[], "anna kms:PutKeyPolicy key ip=10.0.0.1"));
    let denied = [allow(&arn("anna"), "kms:*", ""), allow(&arn("anna"), "kms:Put*", "").replace("Allow", "Deny")];
    assert!(!keeps(&denied, &[], "anna kms:PutKeyPolicy key"));
}

#[test]
fn a_key_policy_that_is_attached_to_somebody_says_nothing() {
    let policy = std::sync::Arc::new(key_policy(&[allow(&arn("anna"), "kms:*", "")]));
    let rules = Rules { identity_policies: std::slice::from_ref(&policy), ..Rules::default() };
    Given::parse("anna kms:CreateAlias alias/app").with(|request| assert!(!decide(request, &rules).is_allowed()));
}

#[test]
fn policies_and_grants_are_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Policy>();
    shared::<crate::grant::Grant>();
}

#[test]
fn verdicts_are_for_people_too() {
    let policy = key_policy(&[allow(&arn("root"), "kms:*", ", \"Sid\": \"Enable IAM\"")]);
    let own = identity_policy(&["{\"Effect\": \"Deny\", \"Action\": \"kms:*\", \"Resource\": \"*\"}".to_owned()]);
    let rules = |own| Rules { key_policy: Some(&policy), identity_policies: own, grants: &[] };
    Given::parse("root kms:Encrypt key").with(|request| {
        assert_eq!(decide(request, &rules(&[])).to_string(), "allowed by key policy default statement 0 (Enable IAM)");
        let denied = decide(request, &rules(&own));
        assert_eq!(
            (denied.to_string(), short(denied)),
            ("denied by identity policy own statement 0".into(), "deny own[0]".into())
        );
    });
    Given::parse("anna kms:Encrypt key").with(|request| {
        assert_eq!(decide(request, &rules(&[])).to_string(), "denied: no identity policy allows it");
    });
}
