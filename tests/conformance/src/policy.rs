//! Policies as they are drawn, and how they are written: for the evaluator, and for the oracle.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// A policy.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Whether `${…}` is a variable: it is with the version 2012-10-17, and not with 2008-10-17.
    pub(crate) variables: bool,
    pub(crate) statements: Vec<Statement>,
}

/// A statement.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) effect: Effect,
    /// Left out where the policy is an identity's.
    pub(crate) whom: Whom,
    pub(crate) action: Element,
    pub(crate) resource: Element,
    pub(crate) conditions: Vec<Condition>,
}

/// Principal or NotPrincipal.
#[derive(Clone, Debug)]
pub(crate) enum Whom {
    /// `"*"`
    Everyone,
    /// `{"AWS": "*"}`
    EveryoneListed,
    /// ARNs and numbers of accounts, and perhaps a service.
    These { not: bool, all: Vec<String>, service: bool },
}

/// Action, Resource, or the negation of one.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) not: bool,
    pub(crate) texts: Vec<String>,
}

/// A condition.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub(crate) operator: Operator,
    /// As the policy writes it, in any case.
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
    /// Whether numbers and flags are written without quotation marks.
    pub(crate) bare: bool,
}

/// An operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operator {
    pub(crate) set: Set,
    pub(crate) base: &'static str,
    pub(crate) if_exists: bool,
}

/// A set operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    No,
    ForAll,
    ForAny,
}

/// For whom a policy is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reader {
    /// The evaluator.
    Ours,
    /// The oracle, which does not know some keys: those have other names in its questions. See DIFFERENCES.md.
    Oracle {
        /// Whether it knows `kms:CallerAccount` of the operation.
        caller_account: bool,
    },
}

/// Keys that the oracle does not know, and what stands for each.
const RENAMED: &[(&str, &str)] =
    &[("kms:EncryptionContext:", "aws:RequestTag/context-"), ("keystored:Interface", "aws:RequestTag/interface")];

impl Reader {
    /// A condition key, or a text with variables, as the reader knows it.
    pub(crate) fn key(self, text: &str) -> String {
        let Self::Oracle { caller_account } = self else { return text.to_owned() };
        let account: &[_] = if caller_account { &[] } else { &[("kms:CallerAccount", "aws:PrincipalAccount")] };
        RENAMED.iter().chain(account).fold(text.to_owned(), |text, (from, to)| replace(&text, from, to))
    }
}

/// Replaces a text, in whichever case it is.
fn replace(text: &str, from: &str, to: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.to_ascii_lowercase().find(&from.to_ascii_lowercase()) {
        out.push_str(&rest[..at]);
        out.push_str(to);
        rest = &rest[at + from.len()..];
    }
    out + rest
}

impl Operator {
    pub(crate) fn negated(&self) -> bool {
        self.base.contains("Not")
    }

    fn name(&self) -> String {
        let set = match self.set {
            Set::No => "",
            Set::ForAll => "ForAllValues:",
            Set::ForAny => "ForAnyValue:",
        };
        format!("{set}{}{}", self.base, if self.if_exists { "IfExists" } else { "" })
    }
}

impl Condition {
    fn value(&self, text: &str, reader: Reader) -> Value {
        if let (Reader::Oracle { .. }, "BinaryEquals") = (reader, self.operator.base) {
            // The oracle compares texts, and so is given the text.
            let bytes = STANDARD.decode(text).expect("base64 is drawn");
            return String::from_utf8(bytes).expect("text is drawn").into();
        }
        match text.parse::<i64>() {
            Ok(number) if self.bare => number.into(),
            _ if self.bare && text == "true" => true.into(),
            _ if self.bare && text == "false" => false.into(),
            _ => reader.key(text).into(),
        }
    }
}

fn one_or_list(mut all: Vec<Value>) -> Value {
    if all.len() == 1 { all.remove(0) } else { all.into() }
}

impl Element {
    fn json(&self, name: &str, reader: Reader) -> (String, Value) {
        let texts = self.texts.iter().map(|text| reader.key(text).into()).collect();
        (format!("{}{name}", if self.not { "Not" } else { "" }), one_or_list(texts))
    }
}

impl Statement {
    fn json(&self, of_key: bool, reader: Reader) -> Value {
        let mut members = Map::new();
        members.insert("Effect".to_owned(), format!("{:?}", self.effect).into());
        if of_key {
            let (name, value) = match &self.whom {
                Whom::Everyone => ("Principal", json!("*")),
                Whom::EveryoneListed => ("Principal", json!({"AWS": "*"})),
                Whom::These { not, all, service } => {
                    let mut kinds = json!({"AWS": one_or_list(all.iter().map(|one| json!(one)).collect())});
                    if *service {
                        kinds["Service"] = json!("s3.amazonaws.com");
                    }
                    (if *not { "NotPrincipal" } else { "Principal" }, kinds)
                }
            };
            members.insert(name.to_owned(), value);
        }
        members.extend([self.action.json("Action", reader), self.resource.json("Resource", reader)]);
        let mut operators: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for condition in &self.conditions {
            let values = condition.values.iter().map(|text| condition.value(text, reader)).collect();
            let keys = operators.entry(condition.operator.name()).or_default();
            keys.insert(reader.key(&condition.key), one_or_list(values));
        }
        if !operators.is_empty() {
            members.insert("Condition".to_owned(), json!(operators));
        }
        members.into()
    }
}

impl Document {
    /// The policy as a key's, or as an identity's.
    pub(crate) fn json(&self, of_key: bool, reader: Reader) -> Value {
        let statements: Vec<_> = self.statements.iter().map(|one| one.json(of_key, reader)).collect();
        let version = if self.variables { "2012-10-17" } else { "2008-10-17" };
        json!({"Version": version, "Statement": statements})
    }
}
