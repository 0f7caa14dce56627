//! What is wrong or doubtful about policies, each with its place.

use super::world::{KEY, id, resolve};
use crate::policy::{Finding, Home, Kind, POLICY_BYTES, Policy, Problem, Refused, Severity, check};

const HOME: Home<'static> = Home { partition: "aws", region: "eu-central-1", account: "111122223333" };

pub(super) fn of_key(text: &str) -> Vec<String> {
    check(text, Kind::Key { arn: Some(KEY) }, Some(HOME), &resolve).iter().map(said).collect()
}

fn of_identity(text: &str) -> Vec<String> {
    check(text, Kind::Identity, Some(HOME), &resolve).iter().map(said).collect()
}

fn said(finding: &Finding) -> String {
    let sign = if finding.severity == Severity::Error { "error" } else { "warning" };
    format!("{sign} {finding}")
}

/// A key policy with one statement that lets anna do everything, and another one.
fn with(statement: &str) -> String {
    format!(
        "{{\"Version\": \"2012-10-17\",\n \"Statement\": [\n{{\"Effect\": \"Allow\", \"Principal\": {{\"AWS\": \
         \"111122223333\"}}, \"Action\": \"kms:*\", \"Resource\": \"*\"}},\n{statement}]}}"
    )
}

/// One with this condition.
pub(super) fn condition(condition: &str) -> String {
    with(&format!(
        "{{\"Effect\": \"Allow\", \"Principal\": \"*\", \"Action\": \"kms:Encrypt\", \"Resource\": \"*\",\n\
         \"Condition\": {condition}}}"
    ))
}

/// Compares what is said with what has to be. `…` stands for the rest of a sentence.
#[track_caller]
pub(super) fn assert_said(said: &[String], expected: &[&str]) {
    let same = said.len() == expected.len()
        && said.iter().zip(expected).all(|(said, expected)| match expected.strip_suffix('…') {
            Some(beginning) => said.starts_with(beginning),
            None => said == expected,
        });
    assert!(same, "said:\n{}\nexpected:\n{}", said.join("\n"), expected.join("\n"));
}

#[test]
fn what_is_fine_has_no_finding() {
    assert_said(
        &of_key(&with(
            "{\"Sid\": \"Use of the key\", \"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:Encrypt\", \"Resource\": \"*\"}",
        )),
        &[],
    );
    let aws_default = "{\"Version\":\"2012-10-17\",\"Id\":\"key-default-1\",\"Statement\":[{\"Sid\":\"Enable IAM User \
        Permissions\",\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"arn:aws:iam::111122223333:root\"},\"Action\":\"kms:*\",\"Resource\":\"*\"}]}";
    assert_said(&of_key(aws_default), &[]);
    let one = "{\"Version\":\"2012-10-17\",\"Statement\":{\"Sid\":\"A1\",\"Effect\":\"Allow\",\"Action\":[\"kms:Encrypt\"],\"Resource\":[\"arn:aws:kms:*:*:key/*\"]}}";
    assert_said(&of_identity(one), &[]);
}

#[test]
fn what_is_not_known_is_refused_with_its_place() {
    assert_said(
        &of_key(&condition(
            "{\"StringEquals\": {\"kms:Foo\": \"1\", \"kms:CallerAccount\": \"1\"},\n\"StringEqual\": {}}",
        )),
        &[
            "error Statement[1].Condition.StringEquals.\"kms:Foo\" (line 5): there is no such condition key",
            "error Statement[1].Condition.StringEqual (line 6): there is no such condition operator",
        ],
    );
    for operator in ["ForSomeValues:StringEquals", "NullIfExists", "BinaryNotEquals", "ForAnyValue:Null"] {
        let said = of_key(&condition(&format!("{{\"{operator}\": {{\"aws:username\": \"x\"}}}}")));
        assert!(said[0].contains("there is no such condition operator"), "{said:?}");
    }
}

#[test]
fn one_statement_that_is_in_no_list_has_its_place_too() {
    let text = "{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"kms:*\",\"Resource\":\"*\",\"Condition\":{\"Bool\":{\"aws:Foo\":1}}}}";
    assert_said(
        &of_key(text),
        &["error Statement.Condition.Bool.\"aws:Foo\" (line 1): there is no such condition key"],
    );
}

#[test]
fn text_that_is_no_policy() {
    assert_said(&of_key(""), &["error line 1: not JSON that can be read: EOF while parsing a value"]);
    assert_said(
        &of_key("{\n\"Version\": \"2012-10-17\"\n,,}"),
        &["error line 3: not JSON that can be read: key must be a string"],
    );
    assert_said(&of_key("[]"), &["error line 1: must be an object with Version and Statement"]);
    assert_said(&of_key("{\"Version\":\"2012-10-17\"}"), &["error line 1: Statement is missing"]);
    let twice = "{\"Version\":\"2012-10-17\",\n\"Statement\":[{\"Effect\":\"Deny\",\n\"Effect\":\"Allow\"}]}";
    assert_said(
        &of_key(twice),
        &["error line 3: not JSON that can be read: the name \"Effect\" stands twice in one object"],
    );
    let long = with("").replace("\n", &" ".repeat(POLICY_BYTES / 3));
    assert_said(&of_key(&long), &["error line 1: the policy has 32…"]);
    assert_said(
        &of_key("{\n\"Id\": \"\u{20ac}\"}"),
        &["error line 2: the character '€' is not allowed in a policy; …"],
    );
    let other = "{\"Version\":\"2013-01-01\",\"Id\":3,\"Statements\":[],\"Statement\":[]}";
    assert_said(
        &of_key(other),
        &[
            "error Version (line 1): must be 2012-10-17, or 2008-10-17 for a policy without variables",
            "error Id (line 1): must be a string",
            "error Statements (line 1): there is no such element; allowed here are Version, Id and Statement",
            "error Statement (line 1): an empty list says nothing; leave the element out or name something",
        ],
    );
}

#[test]
fn a_policy_of_exactly_the_limit_is_taken() {
    let text = with("{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:Encrypt\", \"Resource\": \"*\"}");
    let padded = format!("{text}{}", " ".repeat(POLICY_BYTES - text.len()));
    assert_said(&of_key(&padded), &[]);
    assert!(of_key(&format!("{padded} "))[0].contains("has 32769 bytes, at most 32768"));
}

#[test]
fn elements_of_statements() {
    let place = "error Statement[1]";
    for (statement, expected) in [
        ("3", " (line 4): must be an object with Effect and more"),
        ("{\"Principal\": \"*\", \"Action\": \"kms:*\", \"Resource\": \"*\"}", " (line 4): Effect is missing"),
        ("{\"Effect\": \"allow\"}", ".Effect (line 4): must be Allow or Deny, written like this"),
        (
            "{\"Effect\": \"Deny\", \"Action\": \"kms:*\", \"Resource\": \"*\"}",
            " (line 4): a key policy says in each statement…",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"NotPrincipal\": \"*\"}",
            ".NotPrincipal (line 4): has both Principal and NotPrincipal; …",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:*\", \"NotAction\": \"kms:*\", \"Resource\": \"*\"}",
            ".NotAction (line 4): has both…",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:*\", \"Resource\": [], \"Sid\": 1}",
            ".Sid (line 4): must be a string",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:*\", \"Resource\": []}",
            ".Resource (line 4): an empty list…",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": [\"kms:*\", 3], \"Resource\": \"*\"}",
            ".Action[1] (line 4): must be a string or…",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"Encrypt\", \"Resource\": \"*\"}",
            ".Action (line 4): \"Encrypt\" is no action; …",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:*\", \"Resource\": \"key/*\"}",
            ".Resource (line 4): \"key/*\" is no resource; …",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:*\", \"NotResource\": [\"*\", \"arn:aws:kms:*:${aws:PrincipalAccount}:key/*\"]}",
            ".NotResource[1] (line 4): \"arn:aws:kms:*:${aws:PrincipalAccount}:key/*\" has a variable before the fifth colon of the ARN; …",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:*\", \"Resource\": \"*\", \"When\": 1}",
            ".When (line 4): there is no such element; …",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:*\", \"Resource\": \"*\", \"Condition\": []}",
            ".Condition (line 4): must be an object…",
        ),
        (
            "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:*\", \"Resource\": \"*\", \"Condition\": {\"Bool\": 1}}",
            ".Condition.Bool (line 4): must be an object…",
        ),
    ] {
        let said = of_key(&with(statement));
        let expected = format!("{place}{expected}");
        let errors: Vec<_> = said.into_iter().filter(|said| said.starts_with("error")).collect();
        assert_said(&errors[..1], &[&expected]);
    }
}

#[test]
fn principals() {
    let principal = |principal: &str| {
        let effect = "\"Effect\": \"Deny\", \"Action\": \"kms:*\", \"Resource\": \"*\"";
        of_key(&with(&format!("{{{effect}, {principal}}}")))
    };
    for (text, expected) in [
        (
            "\"arn:aws:iam::111122223333:user/anna\"",
            "error Statement[1].Principal (line 4): \"arn:aws:iam::111122223333:user/anna\" is no principal; …",
        ),
        ("{\"AWS\": \"anna\"}", "error Statement[1].Principal.AWS (line 4): \"anna\" is no principal; …"),
        (
            "{\"AWS\": [\"*\", \"arn:aws:iam::111122223333:user/*\"]}",
            "error Statement[1].Principal.AWS[1] (line 4): \"arn:aws:iam::111122223333:user/*\" is no…",
        ),
        ("{\"AWS\": \"AIDAANNA\"}", "error Statement[1].Principal.AWS (line 4): \"AIDAANNA\" is no principal; …"),
        (
            "{\"AWS\": \"arn:aws:iam::111122223333:user/nobody\"}",
            "error Statement[1].Principal.AWS (line 4): \"arn:aws:iam::111122223333:user/nobody\" names no principal that there is",
        ),
        (
            "{\"AWS\": \"arn:aws-cn:iam::111122223333:root\"}",
            "error Statement[1].Principal.AWS (line 4): \"arn:aws-cn:iam::111122223333:root\" names no principal that there is",
        ),
        ("{\"AWS\": \"1111\"}", "error Statement[1].Principal.AWS (line 4): \"1111\" is no…"),
        ("{\"AWS\": []}", "error Statement[1].Principal.AWS (line 4): an empty list…"),
        ("{}", "error Statement[1].Principal (line 4): an empty list…"),
        ("{\"Who\": \"*\"}", "error Statement[1].Principal.Who (line 4): there are principals of the kinds AWS, …"),
        (
            "{\"Service\": \"kms.amazonaws.com\"}",
            "warning Statement[1].Principal.Service (line 4): Service principals never call here",
        ),
        (
            "{\"Federated\": [\"cognito\"]}",
            "warning Statement[1].Principal.Federated (line 4): Federated principals never call here",
        ),
    ] {
        assert_said(&principal(&format!("\"Principal\": {text}")), &[expected]);
    }
    assert_said(
        &principal("\"NotPrincipal\": \"*\""),
        &["error Statement[1].NotPrincipal (line 4): leaves out everybody, and so is about nobody"],
    );
    assert_said(
        &principal("\"NotPrincipal\": {\"AWS\": \"arn:aws:iam::111122223333:user/anna\"}"),
        &[
            "warning Statement[1].NotPrincipal (line 4): leaves nobody out unless the account is named too: …",
            "warning line 1: a statement denies kms:PutKeyPolicy to everybody: …",
        ],
    );
    let identity = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"kms:*\",\"Resource\":\"*\"}]}";
    assert_said(
        &of_identity(identity),
        &[
            "error Statement[0].Principal (line 1): an identity policy is about whom it is attached to: take Principal out",
        ],
    );
}

#[test]
fn identity_policies_are_complete() {
    let statement = |more: &str| {
        of_identity(&format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\"{more}}}]}}"))
    };
    assert_said(&statement(",\"Action\":\"kms:*\""), &["error Statement[0] (line 1): Resource is missing"]);
    assert_said(&statement(",\"Resource\":\"*\""), &["error Statement[0] (line 1): Action is missing"]);
    let sid = ",\"Action\":\"kms:*\",\"Resource\":\"*\",\"Sid\":\"with blanks\"";
    assert_said(
        &statement(sid),
        &["error Statement[0].Sid (line 1): the Sid of an identity policy is made of letters and digits"],
    );
    let one = "{\"Effect\":\"Allow\",\"Action\":\"kms:*\",\"Resource\":\"*\",\"Sid\":\"A\"}";
    let twice = of_identity(&format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{one},{one}]}}"));
    assert_said(&twice, &["error Statement[1].Sid (line 1): the Sid \"A\" stands twice"]);
}

#[test]
fn statements_without_effect() {
    let statement = |more: &str| of_key(&with(&format!("{{\"Effect\": \"Allow\", \"Principal\": \"*\"{more}}}")));
    assert_said(
        &statement(", \"Resource\": \"*\""),
        &["warning Statement[1] (line 4): has no Action, and so has no effect"],
    );
    assert_said(
        &statement(", \"Action\": \"kms:Encrypt\""),
        &["warning Statement[1] (line 4): has no Resource, and so has no effect"],
    );
    assert_said(
        &statement(", \"Action\": [\"kms:Encrypt\", \"kms:Sign\", \"s3:*\"], \"Resource\": \"*\""),
        &[
            "warning Statement[1].Action[1] (line 4): \"kms:Sign\" fits no operation",
            "warning Statement[1].Action[2] (line 4): \"s3:*\" fits no operation",
        ],
    );
    assert_said(
        &statement(", \"Action\": \"kms:Encrypt\", \"Resource\": \"arn:aws:kms:eu-central-1:111122223333:key/other\""),
        &[
            "warning Statement[1].Resource (line 4): \"arn:aws:kms:eu-central-1:111122223333:key/other\" cannot be this key; …",
        ],
    );
    let nothing = "leaves out everything, so the statement has no effect";
    assert_said(
        &of_key(&with("{\"Effect\": \"Deny\", \"Principal\": \"*\", \"NotAction\": \"*\", \"NotResource\": \"*\"}")),
        &[
            &format!("warning Statement[1].NotAction (line 4): {nothing}"),
            &format!("warning Statement[1].NotResource (line 4): {nothing}"),
        ],
    );
    let text = with(
        "{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:Encrypt\", \"Resource\": \"arn:aws:kms:*\"}",
    );
    assert_eq!(check(&text, Kind::Key { arn: None }, Some(HOME), &resolve), []);
}

#[test]
fn findings_are_bounded_and_errors_go_first() {
    let many: Vec<_> = (0..150).map(|index| format!("\"kms:Foo{index}\"")).collect();
    let statement = |more: &str| {
        format!(
            "{{\"Effect\": \"Allow\", \"Principal\": \"*\", \"Action\": [{}], \"Resource\": \"*\"{more}}}",
            many.join(",")
        )
    };
    assert_eq!(of_key(&with(&statement(""))).len(), 100);
    let Err(Refused(findings)) = Policy::compile(
        &"x".into(),
        &with(&statement(", \"No\": 1, \"Condition\": {\"What\": {}}")),
        Kind::Key { arn: None },
        &resolve,
    ) else {
        panic!()
    };
    assert_eq!(findings.len(), 100);
    assert!(findings.iter().any(|finding| finding.problem == Problem::UnknownOperator));
    // Nor is a name that stands in the place of each of them told whole.
    let values = vec!["\"${x}\""; 120].join(",");
    let long = format!(
        ", \"Condition\": {{\"StringEquals\": {{\"kms:EncryptionContext:{}\": [{values}]}}}}",
        "é".repeat(10_000)
    );
    let said = of_key(
        &with(&statement(&long).replace(&many.join(","), "\"kms:Encrypt\"")).replace("2012-10-17", "2008-10-17"),
    );
    let all: usize = said.iter().map(String::len).sum();
    assert!(said.len() == 100 && all < 100_000 && said.iter().any(|one| one.contains("éé\"…[")), "{all}: {}", said[99]);
    assert_eq!(resolve("arn:aws:iam::111122223333:user/anna"), Some(id("anna")));
}

#[test]
fn resources_that_can_never_be_meant() {
    let identity = |element: &str, actions: &str, resource: &str| {
        of_identity(&format!(
            "{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Deny\",\"Action\":{actions},\"{element}\":\"{resource}\"}}]}}"
        ))
    };
    let place = "warning Statement[0]";
    for (actions, resource, expected) in [
        ("\"kms:*\"", "arn:aws:kms:eu-central-1:999900001111:key/*", "fits nothing that there is here…"),
        ("\"kms:*\"", "arn:aws:kms:us-east-1:111122223333:key/*", "fits nothing that there is here…"),
        ("\"kms:*\"", "arn:aws-cn:kms:*:*:key/*", "fits nothing that there is here…"),
        ("\"*\"", "arn:aws:s3:::bucket/*", "fits nothing that there is here…"),
        (
            "\"kms:Decrypt\"",
            "arn:aws:kms:*:*:alias/billing",
            "is nothing that an action of this statement is done with…",
        ),
        ("[\"kms:Decrypt\",\"kms:ReEncrypt*\"]", "arn:aws:kms:*:*:key-store/*", "is nothing that an action…"),
        (
            "\"kms:ListKeys\"",
            "arn:aws:kms:*:*:key/*",
            "never fits: the actions of this statement are done with nothing…",
        ),
    ] {
        let expected = format!("{place}.Resource (line 1): {resource:?} {expected}");
        assert_said(&identity("Resource", actions, resource), &[&expected]);
        let expected = format!("{place}.NotResource (line 1): {resource:?} fits nothing that this statement could be…");
        assert_said(&identity("NotResource", actions, resource), &[&expected]);
    }
    for (actions, resource) in [
        ("\"kms:CreateAlias\"", "arn:aws:kms:*:*:alias/billing"),
        ("\"kms:CreateAlias\"", "arn:aws:kms:*:*:key/*"),
        ("\"kms:*Alias\"", "arn:aws:kms:*:*:*/*"),
        ("\"kms:Decrypt\"", "arn:aws:kms:*:*:key/${aws:PrincipalTag/key}"),
        ("\"kms:ReEncryptFrom\"", "arn:aws:kms:*:*:key/*"),
        ("\"keystored:Approve\"", "arn:aws:kms:*:*:key-store/*"),
        ("\"keystored:ResyncKeys\"", "arn:aws:kms:*:*:key/*"),
        ("\"keystored:DeletePrincipal\"", "arn:aws:iam::999900001111:user/*"),
        ("\"kms:DisconnectCustomKeyStore\"", "arn:aws:kms:*:*:key-store/cks-1"),
        ("\"kms:TagResource\"", "*"),
    ] {
        assert_said(&identity("Resource", actions, resource), &[]);
    }
    // Actions that are none are told of once.
    let said = identity("Resource", "\"s3:*\"", "arn:aws:s3:::bucket/*");
    assert_said(&said, &[&format!("{place}.Action (line 1): \"s3:*\" fits no operation")]);
}

#[test]
fn resources_of_key_policies_that_are_not_this_key() {
    let with_resource = |element: &str, resource: &str| {
        with(&format!(
            "{{\"Effect\": \"Deny\", \"Principal\": \"*\", \"Action\": \"kms:Encrypt\", \"{element}\": \"{resource}\"}}"
        ))
    };
    let of_any = |text: &str| -> Vec<String> {
        check(text, Kind::Key { arn: None }, Some(HOME), &resolve).iter().map(said).collect()
    };
    for resource in [
        "arn:aws:kms:eu-central-1:111122223333:alias/billing",
        "arn:aws:kms:eu-central-1:999900001111:key/*",
        "arn:aws:kms:us-east-1:111122223333:key/${aws:username}",
        "arn:aws-cn:kms:*:*:key/*",
    ] {
        let text = with_resource("Resource", resource);
        let expected = format!("warning Statement[1].Resource (line 4): {resource:?} cannot be this key; …");
        assert_said(&of_key(&text), &[&expected]);
        assert_said(&of_any(&text), &[&expected]);
        let text = with_resource("NotResource", resource);
        let expected = format!("warning Statement[1].NotResource (line 4): {resource:?} fits nothing that…");
        assert_said(&of_key(&text), &[&expected]);
        assert_said(&of_any(&text), &[&expected]);
    }
    // Another key's ARN is one only where it is known which key this is.
    let other =
        with_resource("Resource", "arn:aws:kms:eu-central-1:111122223333:key/00000000-12ab-34cd-56ef-1234567890ab");
    assert_eq!((of_key(&other).len(), of_any(&other).len()), (1, 0));
    let own = with_resource("NotResource", "arn:aws:kms:*:*:key/*");
    assert_said(
        &of_key(&own),
        &["warning Statement[1].NotResource (line 4): leaves out everything, so the statement has no effect"],
    );
    assert_said(&of_any(&own), &[]);
}
