//! What is wrong or doubtful about conditions, each with its place.

use super::findings::{assert_said, condition, of_key};

#[test]
fn values_of_conditions() {
    for (operator, key, value, expected) in [
        ("NumericLessThan", "kms:RotationPeriodInDays", "\"many\"", " (line 5): \"many\" is not a number"),
        ("NumericLessThan", "kms:RotationPeriodInDays", "[1, \"1O\"]", "[1] (line 5): \"1O\" is not a number"),
        ("DateLessThan", "aws:CurrentTime", "\"2026-02-30\"", " (line 5): \"2026-02-30\" is not a date of ISO 8601…"),
        ("Bool", "aws:SecureTransport", "\"yes\"", " (line 5): \"yes\" is not true or false"),
        ("Null", "aws:SourceIp", "\"absent\"", " (line 5): \"absent\" is not true or false"),
        // Variables are text: what is compared as something else has none, rather than one that is never met.
        ("Null", "aws:SourceIp", "\"${aws:username}\"", " (line 5): \"${aws:username}\" is not true or false"),
        ("Bool", "aws:SecureTransport", "\"${aws:username}\"", " (line 5): \"${aws:username}\" is not true or false"),
        (
            "NumericEquals",
            "kms:RotationPeriodInDays",
            "\"${aws:PrincipalTag/days}\"",
            " (line 5): \"${aws:PrincipalTag/days}\" is not a number",
        ),
        ("NumericLessThan", "kms:RotationPeriodInDays", "1e999", " (line 5): \"1e999\" is not a number"),
        ("IpAddress", "aws:SourceIp", "\"10.0.0.0/40\"", " (line 5): \"10.0.0.0/40\" is not an IP address…"),
        ("BinaryEquals", "kms:EncryptionContext:x", "\"not base64!\"", " (line 5): \"not base64!\" is not base64"),
        (
            "ArnLike",
            "aws:PrincipalArn",
            "\"arn:aws:iam::1\"",
            " (line 5): \"arn:aws:iam::1\" is not an ARN of six parts…",
        ),
        ("ArnLike", "aws:PrincipalArn", "\"user/a:b:c:d:e:f\"", " (line 5): \"user/a:b:c:d:e:f\" is not an ARN…"),
        ("StringEquals", "aws:username", "[]", " (line 5): an empty list says nothing…"),
        ("StringEquals", "aws:username", "null", " (line 5): must be a string, a number, true or false, …"),
        ("StringEquals", "aws:username", "[\"a\", {}]", "[1] (line 5): must be a string, a number, …"),
        (
            "StringLike",
            "aws:username",
            "\"${aws:username\"",
            " (line 5): the variable that begins with \"${aws:username\" is not well-formed…",
        ),
        (
            "StringLike",
            "aws:username",
            "\"${aws:Foo}\"",
            " (line 5): there is no condition key \"aws:Foo\", and so no such variable",
        ),
        ("StringLike", "aws:username", "\"${}\"", " (line 5): the variable that begins with \"${}\"…"),
        ("StringLike", "aws:username", "\"${aws:username, x}\"", " (line 5): the variable that begins with…"),
        (
            "StringLike",
            "aws:username",
            "\"${aws:TagKeys}\"",
            " (line 5): \"aws:TagKeys\" has several values and cannot be a variable",
        ),
    ] {
        let place = format!("error Statement[1].Condition.{operator}.\"{key}\"");
        let said = of_key(&condition(&format!("{{\"{operator}\": {{\"{key}\": {value}}}}}")));
        assert_said(&said, &[&format!("{place}{expected}")]);
    }
}

#[test]
fn conditions_that_do_not_do_what_they_look_like() {
    for (text, expected) in [
        (
            "{\"StringNotEquals\": {\"kms:ViaService\": \"x\"}}",
            &["StringNotEquals.\"kms:ViaService\" (line 5): is never there, because no AWS service calls…"][..],
        ),
        (
            "{\"StringEquals\": {\"aws:SourceVpce\": \"x\"}}",
            &[
                "StringEquals.\"aws:SourceVpce\" (line 5): is never there, because there are no VPCs here",
                "StringEquals.\"aws:SourceVpce\" (line 5): is never met: the statement has no effect",
            ],
        ),
        (
            "{\"BoolIfExists\": {\"aws:MultiFactorAuthPresent\": \"true\"}}",
            &["BoolIfExists.\"aws:MultiFactorAuthPresent\" (line 5): is never there, because callers have no session…"],
        ),
        (
            "{\"Null\": {\"aws:PrincipalOrgID\": \"false\"}}",
            &[
                "Null.\"aws:PrincipalOrgID\" (line 5): is never there…",
                "Null.\"aws:PrincipalOrgID\" (line 5): is never met…",
            ],
        ),
        ("{\"Null\": {\"aws:PrincipalOrgID\": \"true\"}}", &["Null.\"aws:PrincipalOrgID\" (line 5): is never there…"]),
        (
            "{\"NumericEquals\": {\"kms:KeySpec\": \"1\"}}",
            &[
                "NumericEquals.\"kms:KeySpec\" (line 5): its values are text, which this operator does not read: where it cannot…",
            ],
        ),
        ("{\"DateLessThan\": {\"aws:EpochTime\": \"2026\"}}", &[]),
        (
            "{\"StringEquals\": {\"aws:username\": \"${aws:SourceIdentity}\"}}",
            &[
                "StringEquals.\"aws:username\" (line 5): has a variable that never has a value, because callers have no session…",
            ],
        ),
        ("{\"StringEquals\": {\"aws:username\": \"${aws:SourceIdentity, 'x'}\"}}", &[]),
        (
            "{\"ForAnyValue:StringEquals\": {\"aws:username\": \"x\"}}",
            &["\"ForAnyValue:StringEquals\".\"aws:username\" (line 5): has one value at most; …"],
        ),
        (
            "{\"NumericLessThan\": {\"kms:RotationPeriodInDays\": 90}}",
            &["NumericLessThan.\"kms:RotationPeriodInDays\" (line 5): no action of this statement has such a key…"],
        ),
        ("{\"NumericLessThanIfExists\": {\"kms:RotationPeriodInDays\": 90}}", &[]),
        (
            "{\"StringEquals\": {\"aws:TagKeys\": \"x\"}}",
            &[
                "StringEquals.\"aws:TagKeys\" (line 5): may have several values; …",
                "StringEquals.\"aws:TagKeys\" (line 5): no action of this statement has such a key…",
            ],
        ),
        (
            "{\"ForAllValues:StringEquals\": {\"aws:TagKeys\": \"x\"}}",
            &[
                "\"ForAllValues:StringEquals\".\"aws:TagKeys\" (line 5): ForAllValues is also met where the key is absent; …",
            ],
        ),
    ] {
        let expected: Vec<_> = expected.iter().map(|text| format!("warning Statement[1].Condition.{text}")).collect();
        assert_said(&of_key(&condition(text)), &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert_said(
        &of_key(&condition("{}")),
        &["warning Statement[1].Condition (line 5): is a condition that restricts nothing"],
    );
}

#[test]
fn the_old_version_has_no_variables() {
    let statement = "[{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"kms:*\",\"Resource\":\"*\",\"Condition\":{\"StringEquals\":{\"kms:EncryptionContext:x\":\"${aws:username}\"}}}]";
    let warning = [
        "warning Statement[0].Condition.StringEquals.\"kms:EncryptionContext:x\" (line 1): ${…} is a variable only under Version 2012-10-17; here it is plain text",
    ];
    assert_said(&of_key(&format!("{{\"Version\":\"2008-10-17\",\"Statement\":{statement}}}")), &warning);
    assert_said(&of_key(&format!("{{\"Statement\":{statement}}}")), &warning);
    assert_said(&of_key(&format!("{{\"Version\":\"2012-10-17\",\"Statement\":{statement}}}")), &[]);
}

#[test]
fn what_was_made_to_be_slow_is_refused() {
    let values = |value: &str, times: usize| vec![format!("\"{value}\""); times].join(",");
    let like =
        |values: &str| of_key(&condition(&format!("{{\"StringLike\": {{\"kms:EncryptionContext:x\": [{values}]}}}}")));
    assert_said(
        &like(&values(&format!("*{}?*", "a".repeat(1_100)), 1)),
        &["error line 1: too many ? between two * in this policy: …"],
    );
    assert_said(&like(&values("*a?b*", 43)), &["error line 1: too many ?…"]);
    assert_said(&like(&values("*a?b*", 42)), &[]);
    assert_said(&like(&values("*a*b*?", 1_000)), &[]);
    // Each goes through all that a caller may send.
    assert_said(&like(&values("*ab*", 256)), &[]);
    assert_said(
        &like(&values("*ab*", 257)),
        &["error line 1: too many conditions, wildcards, variables and IP networks on kms:EncryptionContextKeys…"],
    );
    assert_said(&like(&values("ab*", 1_000)), &[]);
    let keys = |values: &str| {
        of_key(&condition(&format!("{{\"ForAnyValue:StringLike\": {{\"kms:EncryptionContextKeys\": [{values}]}}}}")))
    };
    assert_said(&keys(&values("a*", 255)), &[]);
    assert_said(&keys(&values("a*", 256)), &["error line 1: too many conditions…"]);
    assert_said(&keys(&values("a", 1_000)), &[]);
    assert_said(&keys(&values("${aws:username}", 15)), &[]);
    assert_said(&keys(&values("${aws:username}", 16)), &["error line 1: too many conditions…"]);
    // What reads each name as something else costs more, and each network is compared with each of them. Of numbers one
    // decides, however many there are.
    let read = |operator: &str, values: &str| {
        let operator = format!("ForAnyValue:{operator}");
        of_key(&condition(&format!("{{\"{operator}\": {{\"kms:EncryptionContextKeys\": [{values}]}}}}")))
    };
    let other = |operator: &str| {
        format!(
            "warning Statement[1].Condition.\"ForAnyValue:{operator}\".\"kms:EncryptionContextKeys\" (line 5): its values are \
             text, which this operator does not read: …"
        )
    };
    assert_said(&read("IpAddress", &values("10.0.0.1", 252)), &[&other("IpAddress")]);
    assert_said(
        &read("IpAddress", &values("10.0.0.1", 253)),
        &[&other("IpAddress"), "error line 1: too many conditions, wildcards, variables and IP networks…"],
    );
    assert_said(&read("NumericEquals", &values("1", 7_000)), &[&other("NumericEquals")]);
    // The values of a key are as many as its owner wants.
    let aliases = |values: &str| {
        of_key(&condition(&format!("{{\"ForAnyValue:StringLike\": {{\"kms:ResourceAliases\": [{values}]}}}}")))
    };
    assert_said(&aliases(&values("alias/${aws:PrincipalTag/team}-*", 300)), &[]);
    // What a caller sends is folded for each of them.
    let folded = |key: &str, values: &str| {
        of_key(&condition(&format!("{{\"StringNotEqualsIgnoreCase\": {{\"{key}\": [{values}]}}}}")))
    };
    for key in ["kms:EncryptionContext:x", "aws:PrincipalTag/team"] {
        assert_said(&folded(key, &values("${kms:EncryptionContext:y}", 256)), &[]);
        assert_said(&folded(key, &values("${kms:EncryptionContext:y}", 257)), &["error line 1: too many conditions…"]);
        assert_said(&folded(key, &values("${aws:username}", 300)), &[]);
    }
}
