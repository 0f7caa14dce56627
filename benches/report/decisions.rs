//! What it takes to decide by large policies and large encryption contexts, and by policies that were made to be slow: in this
//! process alone, in one thread. Who may put a key's policy must not be able to hold others up by it.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, SystemTime};

use auth::policy::{
    Caller, Circumstances, Key, Kind, POLICY_BYTES, Parameters, Policy, Request, Rules, Target, decide,
};
use model::clock::Clock;
use model::context::EncryptionContext;
use model::id::PrincipalId;
use model::limits;
use serde_json::{Value, json};

use super::table::{Must, Row, extremes, median};
use super::{Options, Outcome, said};

const ACCOUNT: &str = "111122223333";
const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const CALLER: &str = "arn:aws:iam::111122223333:user/anna";

/// A policy, what is asked of it, and what that may take in µs.
struct Case {
    what: &'static str,
    policy: Policy,
    context: EncryptionContext,
    most_micros: f64,
}

/// Measures; a line for each case.
pub(super) fn rows(options: &Options, clock: &Clock) -> Outcome<Vec<Row>> {
    let now = clock.calendar();
    let row = |case: Case| {
        let figures: Vec<f64> = (0..options.rounds).map(|_| round(&case, now, options.length, clock)).collect();
        let (least, most) = extremes(&figures);
        Row::new(
            case.what,
            median(&figures),
            Must::StayUnder(case.most_micros, "µs"),
            format!("{least:.1} to {most:.1} µs"),
        )
    };
    Ok(cases()?.into_iter().map(row).collect())
}

/// Microseconds for each decision.
fn round(case: &Case, now: SystemTime, length: Duration, clock: &Clock) -> f64 {
    let id = PrincipalId::from("AIDAANNA");
    let key = Key { spec: "SYMMETRIC_DEFAULT", usage: "ENCRYPT_DECRYPT", origin: "AWS_CLOUDHSM", aliases: &() };
    let request = Request {
        caller: Caller { id: &id, arn: CALLER, account: ACCOUNT, tags: &() },
        action: "kms:Encrypt",
        target: Target { arn: ARN, account: ACCOUNT, key: Some(key), tags: &() },
        circumstances: Circumstances {
            time: now,
            source: None,
            secure: true,
            user_agent: None,
            interface: "grpc",
            region: "eu-central-1",
        },
        parameters: Parameters { encryption_context: Some(&case.context), ..Parameters::default() },
    };
    let rules = Rules { key_policy: Some(&case.policy), ..Rules::default() };
    let (start, mut decided) = (clock.now(), 0_u32);
    loop {
        black_box(decide(black_box(&request), &rules).is_allowed());
        decided += 1;
        let taken = clock.now() - start;
        if taken >= length {
            return taken.as_secs_f64() * 1e6 / f64::from(decided);
        }
    }
}

fn cases() -> Outcome<Vec<Case>> {
    const ONE: &str = "kms:EncryptionContext:x";
    const NAME: &str = "abcdefghij";
    const NAMES: &str = "kms:EncryptionContextKeys";
    let name = |index: usize| format!("name-{:02}", index % 64);
    let equal = |index: usize| one("StringEquals", &format!("kms:EncryptionContext:{}", name(index)), &["other"]);
    let pairs = (0..64).map(|index| (name(index), "value".to_owned()));
    // As long as a value may be, and as many names as there may be.
    let long = |of: &str| [("x".to_owned(), of.repeat((limits::CONTEXT_BYTES - 5) / of.len()))];
    let names = (0..limits::CONTEXT_BYTES / 7).map(|index| (format!("{index:03x}"), String::new()));
    let capital = [(NAME.to_owned(), "\u{c4}".repeat((limits::CONTEXT_BYTES - NAME.len() - 4) / 2))];
    Ok(vec![
        case("a decision: a policy of 32 KiB, a context of 64 pairs", full(&equal)?, pairs, 100.0)?,
        case("one made to be slow: * and ?, a long value", most("StringLike", ONE, "*a?b*")?, long("a"), SLOW)?,
        case("one made to be slow: *, a long value", most("StringLike", ONE, "*zqe*")?, long("zq"), SLOW)?,
        case("one made to be slow: *, many names", most("ForAnyValue:StringLike", NAMES, "*ab*")?, names, SLOW)?,
        case("one made to be slow: without case, a long value", policy(&without_case(NAME))?, capital, SLOW)?,
    ])
}

/// What a policy that was made to be slow may take.
const SLOW: f64 = 20_000.0;

fn case(
    what: &'static str,
    policy: Policy,
    pairs: impl IntoIterator<Item = (String, String)>,
    most_micros: f64,
) -> Outcome<Case> {
    let context = EncryptionContext::new(pairs.into_iter().collect::<BTreeMap<_, _>>());
    let context = context.map_err(|_| "the encryption context is too large".to_owned())?;
    Ok(Case { what, policy, context, most_micros })
}

/// A statement that nothing of the request meets, so that what comes after it is looked at too.
fn one(operator: &str, key: &str, values: &[&str]) -> Value {
    json!({
        "Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*", "Condition": { operator: { key: values } },
    })
}

/// A policy of as many statements as fit.
fn full(statement: &dyn Fn(usize) -> Value) -> Outcome<Policy> {
    let mut statements: Vec<String> = Vec::new();
    let text =
        |statements: &[String]| format!("{{\"Version\":\"2012-10-17\",\"Statement\":[{}]}}", statements.join(","));
    loop {
        statements.push(statement(statements.len()).to_string());
        if text(&statements).len() > POLICY_BYTES {
            statements.pop();
            return policy(&text(&statements));
        }
    }
}

/// As many conditions as there is room for, each on the same value, in one statement, and all of them met.
fn without_case(name: &str) -> String {
    let spelled = |index: usize| -> String {
        let letters = name.chars().enumerate();
        letters.map(|(bit, c)| if index >> bit & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect()
    };
    let conditions = (0..700).map(|index| (format!("kms:EncryptionContext:{}", spelled(index)), Value::from("a")));
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*",
            "Condition": { "StringNotEqualsIgnoreCase": Value::Object(conditions.collect()) },
        }],
    })
    .to_string()
}

/// One of as many values as are taken. What is refused says where the bound is.
fn most(operator: &str, key: &str, value: &str) -> Outcome<Policy> {
    let text = |count: usize| {
        let statement = one(operator, key, &vec![value; count]);
        json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string()
    };
    let most = (1..POLICY_BYTES).take_while(|count| policy(&text(*count)).is_ok()).last();
    policy(&text(most.ok_or("not one such value is taken")?))
}

fn policy(text: &str) -> Outcome<Policy> {
    let compiled = Policy::compile(&"bench".into(), text, Kind::Key { arn: Some(ARN) }, &|_| None);
    Ok(compiled.map_err(said("reading a policy"))?.policy)
}
