//! Policies that would lock everybody out, who put them or not.

use super::findings::{assert_said, of_key};
use super::world::{KEY, resolve};
use crate::policy::{Home, Kind, check};

const NO_STATEMENT: &str = "warning line 1: no statement lets anybody call kms:PutKeyPolicy: nobody but an administrator of the \
                            configuration could change the policy again";
const DENIED: &str = "warning line 1: a statement denies kms:PutKeyPolicy to everybody: nobody but an administrator of the \
                      configuration could change the policy again";

fn policy(statement: &str) -> String {
    format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{statement}]}}")
}

fn statement(effect: &str, whom: &str, action: &str, more: &str) -> String {
    format!("{{\"Effect\":\"{effect}\",{whom},\"Action\":\"{action}\",{more}}}")
}

const ANYTHING: &str = "\"Resource\":\"*\"";
const EVERYBODY: &str = "\"Principal\":\"*\"";

/// The last thing that is said of a policy.
fn last(text: &str) -> Option<String> {
    of_key(text).pop()
}

#[test]
fn a_policy_by_which_nobody_may_change_it() {
    let allow = |whom: &str, action: &str, more: &str| policy(&statement("Allow", whom, action, more));
    assert_said(&of_key(&allow(EVERYBODY, "kms:Encrypt", ANYTHING)), &[NO_STATEMENT]);
    assert_said(&of_key(&allow(EVERYBODY, "kms:Put*", ANYTHING)), &[]);
    for (whom, more) in [
        ("\"Principal\":{\"Service\":\"x\"}", ANYTHING.to_owned()),
        (EVERYBODY, format!("{ANYTHING},\"Condition\":{{\"StringEquals\":{{\"kms:ViaService\":\"x\"}}}}")),
        (EVERYBODY, "\"Resource\":\"arn:aws:kms:*:*:alias/x\"".to_owned()),
        (EVERYBODY, format!("\"NotResource\":\"{KEY}\"")),
    ] {
        assert_eq!(last(&allow(whom, "kms:*", &more)).as_deref(), Some(NO_STATEMENT), "{whom} {more}");
    }
    // What depends on the request may be met.
    let office = format!("{ANYTHING},\"Condition\":{{\"IpAddress\":{{\"aws:SourceIp\":\"10.0.0.0/8\"}}}}");
    let tagged = "\"Resource\":\"arn:aws:kms:*:*:key/${aws:PrincipalTag/key}\"";
    for more in [office.as_str(), tagged, "\"NotResource\":\"arn:aws:kms:*:*:key/${aws:PrincipalTag/key}\""] {
        assert_said(&of_key(&allow(EVERYBODY, "kms:*", more)), &[]);
    }
}

#[test]
fn a_policy_that_denies_everybody_to_change_it() {
    let account = |number: &str| format!("\"Principal\":{{\"AWS\":\"{number}\"}}");
    let with = |whom: &str, action: &str, more: &str| {
        let all = statement("Allow", &account("111122223333"), "kms:*", ANYTHING);
        policy(&[all, statement("Deny", whom, action, more)].join(","))
    };
    let anna = "arn:aws:iam::111122223333:user/anna";
    let but = |all: &str| format!("\"NotPrincipal\":{{\"AWS\":[{all}]}}");
    let only_key = format!("\"Resource\":\"{KEY}\"");
    for (whom, action, more) in [
        (EVERYBODY.to_owned(), "kms:*", ANYTHING),
        (EVERYBODY.to_owned(), "*", "\"Resource\":\"arn:aws:kms:*\""),
        (EVERYBODY.to_owned(), "kms:PutKeyPolicy", &only_key),
        (EVERYBODY.to_owned(), "kms:Put*", "\"NotResource\":\"arn:aws:kms:*:*:alias/*\""),
        (account("111122223333"), "kms:*", ANYTHING),
        (but(&format!("\"{anna}\"")), "kms:*", ANYTHING),
        (but("\"111122223333\""), "kms:*", ANYTHING),
        (but(&format!("\"{anna}\",\"999900001111\"")), "kms:*", ANYTHING),
    ] {
        assert_eq!(last(&with(&whom, action, more)).as_deref(), Some(DENIED), "{whom} {action} {more}");
    }
    let office = format!("{ANYTHING},\"Condition\":{{\"NotIpAddress\":{{\"aws:SourceIp\":\"10.0.0.0/8\"}}}}");
    for (whom, action, more) in [
        (EVERYBODY.to_owned(), "kms:Decrypt", ANYTHING),
        (EVERYBODY.to_owned(), "kms:*", &office),
        (account("999900001111"), "kms:*", ANYTHING),
        (account(anna), "kms:*", ANYTHING),
        (but(&format!("\"{anna}\",\"111122223333\"")), "kms:*", ANYTHING),
    ] {
        assert_said(&of_key(&with(&whom, action, more)), &[]);
    }
    // Whichever key it is of.
    let home = Home { partition: "aws", region: "eu-central-1", account: "111122223333" };
    let said = |text: &str, home| check(text, Kind::Key { arn: None }, home, &resolve).len();
    for whom in [EVERYBODY, &account("111122223333")] {
        assert_eq!(said(&with(whom, "kms:*", ANYTHING), Some(home)), 1, "{whom}");
    }
    assert_eq!(said(&with(EVERYBODY, "kms:*", &only_key), Some(home)), 0, "it may be another key's");
    assert_eq!(said(&with(&account("111122223333"), "kms:*", ANYTHING), None), 0, "it may be of another account");
}
