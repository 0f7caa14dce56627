//! What holds for all policies: of the decisions of the files, and of policies drawn at random.

use std::sync::Arc;

use proptest::prelude::*;

use super::decisions::all;
use super::world::{Case, Given, KEY, resolve};
use crate::policy::{Compiled, Kind, Policy, Rules, Severity, check, decide, shown};

const DENY_ALL: &str = "\"Effect\": \"Deny\", \"Action\": \"*\", \"Resource\": \"*\"";
const ALLOW_ALL: &str = "\"Effect\": \"Allow\", \"Action\": \"*\", \"Resource\": \"*\"";

fn is_allowed(case: &Case, given: &Given) -> bool {
    case.decide(given).starts_with("allow")
}

fn key(statement: &str) -> String {
    format!("{{{statement}, \"Principal\": \"*\"}}")
}

fn own(statement: &str) -> String {
    format!("{{{statement}}}")
}

/// The properties, for one case.
fn hold(case: &Case, given: &Given) -> Result<(), String> {
    let before = is_allowed(case, given);
    let after = |change: &dyn Fn(&mut Case)| {
        let mut case = case.clone();
        change(&mut case);
        is_allowed(&case, given)
    };
    let turned = after(&|case| {
        case.key.reverse();
        case.own.reverse();
        case.grants.reverse();
    });
    let rotated = after(&|case| {
        if !case.key.is_empty() {
            case.key.rotate_left(1);
        }
    });
    if before != turned || before != rotated {
        return Err("the order decides".to_owned());
    }
    // Retiring a grant is not decided by key policies.
    let of_policies = given.action != "kms:RetireGrant" && given.target == "key";
    for at in [0, usize::MAX] {
        let by_key = after(&|case| case.key.insert(at.min(case.key.len()), key(DENY_ALL)));
        let by_own = after(&|case| case.own.insert(at.min(case.own.len()), own(DENY_ALL)));
        if by_own || by_key && of_policies {
            return Err("a Deny of everything leaves something allowed".to_owned());
        }
        let by_key = after(&|case| case.key.insert(at.min(case.key.len()), key(ALLOW_ALL)));
        let by_own = after(&|case| case.own.insert(at.min(case.own.len()), own(ALLOW_ALL)));
        if before && !(by_key && by_own) {
            return Err("an Allow denies".to_owned());
        }
    }
    // Without any one of the statements: a Deny never allows, an Allow never denies.
    for index in 0..case.key.len() + case.own.len() {
        let mut fewer = case.clone();
        let gone = match index.checked_sub(case.key.len()) {
            None => fewer.key.remove(index),
            Some(index) => fewer.own.remove(index),
        };
        let without = is_allowed(&fewer, given);
        match gone.contains("\"Effect\": \"Deny\"") {
            true if before && !without => return Err(format!("allowed by a Deny: {gone}")),
            false if !before && without => return Err(format!("denied by an Allow: {gone}")),
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn they_hold_for_every_decision_of_the_files() {
    for asked in all() {
        if let Err(why) = hold(&asked.case, &asked.given) {
            panic!("{why}: {}", asked.place);
        }
    }
}

fn one_of(all: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(all)
}

const CONDITIONS: &[&str] = &[
    "",
    "",
    ", \"Condition\": {\"StringEquals\": {\"kms:EncryptionContext:t\": \"7\"}}",
    ", \"Condition\": {\"StringNotEquals\": {\"kms:EncryptionContext:t\": [\"7\", \"${aws:PrincipalTag/t}\"]}}",
    ", \"Condition\": {\"StringLike\": {\"aws:ResourceTag/t\": \"*${aws:PrincipalTag/t}*\"}}",
    ", \"Condition\": {\"ForAllValues:StringEquals\": {\"kms:EncryptionContextKeys\": [\"t\", \"u\"]}}",
    ", \"Condition\": {\"ForAnyValue:StringNotLike\": {\"kms:EncryptionContextKeys\": \"t*\"}}",
    ", \"Condition\": {\"NotIpAddress\": {\"aws:SourceIp\": \"10.0.0.0/8\"}}",
    ", \"Condition\": {\"NumericNotEquals\": {\"kms:EncryptionContext:t\": 7}}",
    ", \"Condition\": {\"Null\": {\"aws:PrincipalTag/t\": \"true\"}}",
];

fn statement(of_key: bool) -> impl Strategy<Value = String> {
    let action = one_of(&[
        "\"Action\": \"kms:*\"",
        "\"NotAction\": \"kms:Decrypt\"",
        "\"Action\": \"kms:?ncrypt\"",
        "\"Action\": \"*\"",
    ]);
    let resource = one_of(&[
        "\"Resource\": \"*\"",
        "\"NotResource\": \"arn:aws:kms:*:key/9*\"",
        "\"Resource\": \"arn:*:key/1234*\"",
    ]);
    let principal = one_of(&[
        "\"Principal\": \"*\"",
        "\"Principal\": {\"AWS\": \"111122223333\"}",
        "\"Principal\": {\"AWS\": \"999900001111\"}",
        "\"Principal\": {\"AWS\": \"arn:aws:iam::111122223333:user/anna\"}",
        "\"NotPrincipal\": {\"AWS\": [\"arn:aws:iam::111122223333:user/anna\", \"111122223333\"]}",
    ]);
    let effect = one_of(&["Allow", "Allow", "Deny"]);
    (effect, principal, action, resource, one_of(CONDITIONS)).prop_map(
        move |(effect, principal, action, resource, condition)| {
            let principal = if of_key { format!("{principal}, ") } else { String::new() };
            format!("{{\"Effect\": \"{effect}\", {principal}{action}, {resource}{condition}}}")
        },
    )
}

fn request() -> impl Strategy<Value = Given> {
    let who = one_of(&["anna", "bert", "root", "carla", "other-root"]);
    let action = one_of(&["kms:Encrypt", "kms:Decrypt", "kms:DescribeKey"]);
    let more = one_of(&[
        "",
        "ctx:t=7",
        "ctx:t=8 ctx:u=1",
        "ctx:t=7 ctx:T=8",
        "tag:t=7 keytag:t=x7x",
        "tag:t=* keytag:t=abc ip=10.0.0.1",
        "tag:t=7 ctx:t=7 ip=11.0.0.1",
        "ctx:x=1",
    ]);
    (who, action, more).prop_map(|(who, action, more)| Given::parse(&format!("{who} {action} key {more}")))
}

/// A policy that has a bit of everything.
const RICH: &str = r#"{"Version": "2012-10-17", "Id": "x", "Statement": [{"Sid": "A", "Effect": "Allow",
 "Principal": {"AWS": ["arn:aws:iam::111122223333:user/anna", "111122223333"], "Service": "x"},
 "Action": ["kms:En*", "kms:?ecrypt"], "Resource": "arn:aws:kms:*:*:key/${aws:username, 'x'}*",
 "Condition": {"ForAnyValue:StringLike": {"kms:EncryptionContextKeys": ["a*", "${*}", "é?"]},
 "NumericLessThan": {"kms:RotationPeriodInDays": 30.5}, "Null": {"aws:SourceIp": true},
 "ArnLike": {"aws:PrincipalArn": "arn:aws:iam::${aws:PrincipalAccount}:user/*"},
 "IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "::1"]}, "DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}},
 {"Effect": "Deny", "NotPrincipal": {"AWS": "111122223333"}, "NotAction": "*", "NotResource": "*"}]}"#;

proptest! {
    #[test]
    fn no_text_makes_them_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, "[\\[\\]{}\":,*?$'a0é\\\\:/ -]{0,3}"), 1..4),
        given in request(),
    ) {
        let mut text: Vec<char> = RICH.chars().collect();
        for (at, gone, new) in changes {
            let at = at.index(text.len());
            let end = (at + usize::from(gone)).min(text.len());
            text.splice(at..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        for kind in [Kind::Key { arn: Some(KEY) }, Kind::Key { arn: None }, Kind::Identity] {
            let compiled = Policy::compile(&"x".into(), &text, kind, &resolve);
            let errors = check(&text, kind, None, &resolve).iter().filter(|one| one.severity == Severity::Error).count();
            prop_assert_eq!(errors == 0, compiled.is_ok());
            if let Ok(Compiled { policy, .. }) = compiled {
                let identity_policies = [Arc::new(policy.clone())];
                let rules = Rules { key_policy: Some(&policy), identity_policies: &identity_policies, grants: &[] };
                given.with(|request| decide(request, &rules).is_allowed());
                let bindings = policy.bindings();
                prop_assert_eq!(shown(&text, bindings, &resolve), text.as_str());
                let gone = shown(&text, bindings, &|_| None);
                let same = Policy::compile(&"x".into(), &gone, kind, &resolve);
                prop_assert!(bindings.pairs().is_empty() || same.is_err(), "an id is no ARN");
            }
        }
    }

    #[test]
    fn they_hold_for_policies_drawn_at_random(
        key in prop::collection::vec(statement(true), 0..4),
        own in prop::collection::vec(statement(false), 0..3),
        grantee in prop::option::of(one_of(&["bert Encrypt,Decrypt subset:t:7", "carla Encrypt", "root Decrypt"])),
        given in request(),
    ) {
        let grants = grantee.map(|grantee| super::world::grant(&format!("g1 {grantee}"))).into_iter().collect();
        let case = Case { key, own, grants };
        prop_assert_eq!(hold(&case, &given), Ok(()));
    }
}
