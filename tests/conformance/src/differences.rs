//! Where the oracle is known to decide otherwise: DIFFERENCES.md says of each class who is right.
//!
//! A difference is explained by a case that says the same in other words, in which the disputed element is replaced by what
//! it means by our reading. The oracle must decide that case as the evaluator decides the first one; so a class explains
//! what it is about and nothing beside it.

mod condition;
mod resource;
mod value;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use value::is_read;

use crate::case::Case;
use crate::policy::{Document, Effect, Statement, Whom};
use crate::world::{Ask, HERE, Thing, Who};

macro_rules! classes {
    ($($name:ident $text:literal;)+) => {
        /// A class of differences.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Class {
            $(#[doc = $text] $name,)+
        }

        impl Class {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its heading in DIFFERENCES.md.
            pub(crate) const fn heading(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

classes! {
    NotPrincipal "NotPrincipal in a Deny";
    OtherAccount "Operations that are not for other accounts";
    OldVersion "Variables in a policy of 2008-10-17";
    NoValue "A variable without a value in a negated condition of a Deny";
    NoValueResource "A variable without a value in NotResource";
    Empty "A variable whose value is empty";
    Sign "${*}, ${?} and ${$} where wildcards mean nothing";
    ShortArn "A resource of fewer than six parts";
    ResourceType "A wildcard in the type of a resource";
    AnyIfExists "ForAnyValue with IfExists and no value";
    SeveralValues "A key with several values and no set operator";
    Unreadable "A value of the request that the operator does not read";
    Number "A number with an exponent";
    Moment "A moment as a number";
    Address "Addresses";
    StarArn "The ARN *";
    VariableInArn "A variable before the fifth colon of an ARN in a condition";
}

/// What a case is read with: the classes that are looked for, and what the request says.
struct Reading<'a> {
    among: &'a BTreeSet<Class>,
    found: BTreeSet<Class>,
    ask: &'a Ask,
    /// By names in small letters.
    keys: BTreeMap<String, Vec<String>>,
}

/// The case in other words, and the classes of which there was something to replace.
pub(crate) fn reading(case: &Case, among: &BTreeSet<Class>) -> (Case, BTreeSet<Class>) {
    let keys = case.ask.condition_keys().into_iter().map(|(key, values)| (key.to_ascii_lowercase(), values)).collect();
    let mut reading = Reading { among, found: BTreeSet::new(), ask: &case.ask, keys };
    let key = case.key.as_ref().and_then(|document| reading.document(document, true));
    let own = case.own.iter().filter_map(|document| reading.document(document, false)).collect();
    let found = reading.found;
    (Case { ask: case.ask.clone(), key, own }, found)
}

impl Reading<'_> {
    /// Whether a class is looked for; and if so, there was something of it.
    fn found(&mut self, class: Class) -> bool {
        let sought = self.among.contains(&class);
        if sought {
            self.found.insert(class);
        }
        sought
    }

    /// Nothing where no statement is left.
    fn document(&mut self, document: &Document, of_key: bool) -> Option<Document> {
        let variables = document.variables;
        let statements = document.statements.iter().cloned();
        let statements: Vec<_> = statements.filter_map(|one| self.statement(one, of_key, variables)).collect();
        (!statements.is_empty()).then_some(Document { variables, statements })
    }

    /// Nothing where it does not apply.
    fn statement(&mut self, mut statement: Statement, of_key: bool, variables: bool) -> Option<Statement> {
        let Ask { who, action, .. } = self.ask;
        let across = who.account() != HERE && action.thing == Thing::Key;
        if of_key && statement.effect == Effect::Allow && across && !action.across && self.found(Class::OtherAccount) {
            return None;
        }
        if let (true, Effect::Deny, Whom::These { not: true, all, .. }) = (of_key, statement.effect, &statement.whom) {
            let spared = spares(all, *who);
            if self.found(Class::NotPrincipal) {
                if spared {
                    return None;
                }
                statement.whom = Whom::Everyone;
            }
        }
        if !self.resource(&mut statement, variables) {
            return None;
        }
        let mut conditions = Vec::new();
        for condition in statement.conditions {
            match self.condition(condition, statement.effect, variables) {
                condition::Read::Met => {}
                condition::Read::NotMet => return None,
                condition::Read::As(condition) => conditions.push(condition),
            }
        }
        statement.conditions = conditions;
        Some(statement)
    }
}

/// Whether NotPrincipal leaves somebody out of a Deny. AWS: both the principal and its account must be named.
fn spares(all: &[String], who: Who) -> bool {
    let root = format!("arn:aws:iam::{}:root", who.account());
    let account = all.iter().any(|one| *one == root || one == who.account());
    account && (who.is_root() || all.contains(&who.arn()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_class_is_explained_and_nothing_else_is() {
        let text = include_str!("../DIFFERENCES.md");
        let (_, classes) = text.split_once("\n# Where they differ\n").unwrap();
        let told: Vec<_> = classes.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let known: Vec<_> = Class::ALL.iter().map(|class| class.heading()).collect();
        assert_eq!(told, known);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]
        #[test]
        fn a_case_in_other_words_is_decided_like_the_case(case in crate::draw::case()) {
            let (read, found) = reading(&case, &Class::ALL.iter().copied().collect());
            prop_assert_eq!(read.decide().unwrap().0, case.decide().unwrap().0, "{:?}\n{}\n{}", found, case, read);
        }
    }
}
