//! Statements that would allow a request but for one element.

use super::world::{Given, HERE, THERE, arn, identity_policy, key_policy};
use crate::policy::{Lack, Rules, nearest};

fn statement(more: &str) -> String {
    format!("{{\"Effect\": \"Allow\", {more}}}")
}

/// What `nearest` says: policy, statement, element and sentence.
fn near(key: &[String], own: &[String], line: &str, most: usize) -> Vec<String> {
    let (key, own) = (key_policy(key), identity_policy(own));
    let rules = Rules { key_policy: Some(&key), identity_policies: &own, grants: &[] };
    Given::parse(line).with(|request| {
        let said = nearest(request, &rules, most);
        said.iter().map(|one| format!("{}: {}: {}", one.statement, one.lacks.element(), one.lacks)).collect()
    })
}

fn root() -> String {
    statement(&format!("\"Principal\": {{\"AWS\": \"{}\"}}, \"Action\": \"kms:*\", \"Resource\": \"*\"", arn("root")))
}

#[test]
fn a_condition_says_what_was_seen() {
    let own = [
        statement(
            "\"Action\": \"kms:Decrypt\", \"Resource\": \"*\", \"Condition\": {\"StringEquals\": \
             {\"kms:EncryptionContext:purpose\": \"invoice\"}}",
        ),
        statement(
            "\"Action\": \"kms:*\", \"Resource\": \"*\", \"Condition\": {\"IpAddressIfExists\": {\"aws:SourceIp\": \
             \"10.0.0.0/8\"}, \"ForAnyValue:StringLike\": {\"kms:ResourceAliases\": \"alias/x*\"}}",
        ),
        statement(
            "\"Action\": \"kms:*\", \"Resource\": \"*\", \"Condition\": {\"Bool\": {\"aws:MultiFactorAuthPresent\": \"true\"}}",
        ),
    ];
    let said = near(&[root()], &own, "anna kms:Decrypt key ctx:purpose=salary ip=192.0.2.1 aliases=alias/a,alias/b", 5);
    assert_eq!(
        said,
        [
            "identity policy own statement 0: Condition: StringEquals of kms:EncryptionContext:purpose is not met: the \
             request has \"salary\"",
            "identity policy own statement 1: Condition: IpAddressIfExists of aws:SourceIp is not met: the request has \
             \"192.0.2.1\"; ForAnyValue:StringLike of kms:ResourceAliases is not met: the request has \"alias/a\", \
             \"alias/b\"",
            "identity policy own statement 2: Condition: Bool of aws:MultiFactorAuthPresent is not met: the request does \
             not have it",
        ]
    );
    let absent = near(&[root()], &own[..1], "anna kms:Decrypt key", 5);
    assert!(absent[0].ends_with("purpose is not met: the request does not have it"), "{absent:?}");
}

#[test]
fn one_element_is_near_and_two_are_not() {
    let bert = statement(&format!(
        "\"Sid\": \"Bert\", \"Principal\": {{\"AWS\": \"{}\"}}, \"Action\": \"kms:Decrypt\", \"Resource\": \"*\"",
        arn("bert")
    ));
    let own = [
        statement("\"Action\": \"kms:Encrypt\", \"Resource\": \"*\""),
        statement("\"Action\": \"kms:Decrypt\", \"Resource\": \"arn:aws:kms:*:*:alias/*\""),
        statement("\"Action\": \"kms:Encrypt\", \"Resource\": \"arn:aws:kms:*:*:alias/*\""),
        "{\"Effect\": \"Deny\", \"Action\": \"kms:Encrypt\", \"Resource\": \"*\"}".to_owned(),
    ];
    let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let said = near(&[root(), bert], &own, "anna kms:Decrypt key", 5);
    let expected = [
        format!("identity policy own statement 1: Resource: it is not about {key}"),
        "identity policy own statement 0: Action: it is not about kms:Decrypt".to_owned(),
        format!("key policy default statement 1 (Bert): Principal: it is not about {}", arn("anna")),
    ];
    assert_eq!(said, expected);
    assert_eq!(near(&[root()], &own, "anna kms:Decrypt key", 1), expected[..1], "no more than are asked for");
}

#[test]
fn nothing_is_near_where_no_statement_helps() {
    let all = [statement("\"Action\": \"kms:Decrypt\", \"Resource\": \"*\"")];
    assert!(near(&[root()], &all, "carla kms:PutKeyPolicy key", 5).is_empty(), "{THERE} is not {HERE}");
    assert!(near(&[root()], &all, "carla kms:CreateKey *", 5).is_empty());
    assert_eq!(near(&[root()], &all, "anna kms:CreateKey *", 5).len(), 1);
}

#[test]
fn long_values_are_cut() {
    let own = [statement(
        "\"Action\": \"kms:Decrypt\", \"Resource\": \"*\", \"Condition\": {\"StringEquals\": {\"kms:EncryptionContext:a\": \"b\"}}",
    )];
    let (key, own) = (key_policy(&[root()]), identity_policy(&own));
    let rules = Rules { key_policy: Some(&key), identity_policies: &own, grants: &[] };
    let line = format!("anna kms:Decrypt key ctx:a={}", "x".repeat(1_000));
    Given::parse(&line).with(|request| {
        let said = nearest(request, &rules, 5);
        let Lack::Condition(unmet) = &said[0].lacks else { panic!("{said:?}") };
        assert_eq!(unmet[0].seen, [format!("{}…", "x".repeat(100))]);
    });
}
