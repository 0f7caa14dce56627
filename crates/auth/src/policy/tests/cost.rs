//! What a decision costs, in what can be counted: how often a request's values are looked at.

use std::cell::Cell;

use super::world::{Given, arn, compile, key_policy};
use crate::policy::{Kind, Pairs, Policy, Rules, decide};

/// Tags that count how often they are looked at.
#[derive(Default)]
struct Counted(Cell<usize>);

impl Pairs for Counted {
    fn each<'a>(&'a self, _: &mut dyn FnMut(&'a str, &'a str)) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_statement_without_conditions_looks_at_nothing() {
    let tagged = |whom: &str, action: &str| {
        let condition = "{\"StringEquals\": {\"aws:PrincipalTag/a\": \"1\"}}";
        format!(
            "{{\"Effect\": \"Allow\", \"Principal\": {{\"AWS\": \"{}\"}}, \"Action\": \"{action}\", \"Resource\": \"*\", \"Condition\": {condition}}}",
            arn(whom)
        )
    };
    let plain = "{\"Effect\": \"Allow\", \"Principal\": \"*\", \"Action\": \"kms:*\", \"Resource\": \"*\"}".to_owned();
    let looked = |statements: &[String]| {
        let (policy, tags) = (key_policy(statements), Counted::default());
        Given::parse("anna kms:Encrypt key").with(|request| {
            let mut request = *request;
            request.caller.tags = &tags;
            assert!(decide(&request, &Rules { key_policy: Some(&policy), ..Rules::default() }).is_allowed());
        });
        tags.0.get()
    };
    assert_eq!(
        looked(&[plain.clone(), tagged("bert", "*"), tagged("anna", "kms:Decrypt")]),
        0,
        "other people and actions"
    );
    assert_eq!(looked(&[plain.clone(), tagged("anna", "*")]), 0, "it is allowed already");
    assert_eq!(looked(&[tagged("anna", "*"), plain]), 1);
}

/// There may be as many variables as a policy has room for, and each was a look at all tags for each of several values.
#[test]
fn tags_are_gone_through_once_whatever_asks_for_them() {
    let variables: Vec<_> = (0..200).map(|index| format!("\"${{aws:PrincipalTag/{index}}}\"")).collect();
    let condition = format!(
        "{{\"StringNotEquals\": {{\"kms:EncryptionContext:x\": [{}]}}, \"StringEquals\": {{\"aws:PrincipalTag/a\": \"1\"}}}}",
        variables.join(",")
    );
    let statement = format!(
        "{{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:*\", \"Resource\": \"*\", \"Condition\": {condition}}}"
    );
    let (policy, tags) = (key_policy(&vec![statement; 3]), Counted::default());
    Given::parse("anna kms:Encrypt key ctx:x=1 ctx:X=2").with(|request| {
        let mut request = *request;
        request.caller.tags = &tags;
        assert!(!decide(&request, &Rules { key_policy: Some(&policy), ..Rules::default() }).is_allowed());
    });
    assert_eq!(tags.0.get(), 1);
}

/// A policy of almost 32 KiB whose statements are all about the request, and a request with 64 pairs.
pub(super) fn large() -> (Policy, Given) {
    let statement = |index: usize| {
        format!(
            "{{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"kms:*\",\"Resource\":\"*\",\"Condition\":{{\"StringEquals\":\
             {{\"kms:EncryptionContext:name-{:02}\":\"other\"}}}}}}",
            index % 64
        )
    };
    let statements: Vec<_> = (0..230).map(statement).collect();
    let text = super::world::text(&statements);
    assert!((32_000..=32_768).contains(&text.len()), "{}", text.len());
    let pairs: Vec<_> = (0..64).map(|index| format!("ctx:name-{index:02}=value")).collect();
    (
        compile("default", &text, Kind::Key { arn: None }),
        Given::parse(&format!("anna kms:Encrypt key {}", pairs.join(" "))),
    )
}

#[test]
fn a_large_policy_and_a_large_context_are_decided() {
    let (policy, given) = large();
    given.with(|request| {
        assert!(!decide(request, &Rules { key_policy: Some(&policy), ..Rules::default() }).is_allowed());
    });
}
