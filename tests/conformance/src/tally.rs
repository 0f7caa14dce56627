//! What was drawn, and what decided: a run that compares nothing of interest fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::case::{Case, Verdict};
use crate::differences::Class;
use crate::keys::Class as Values;
use crate::policy::{Condition, Document, Element, Set, Statement, Whom};
use crate::world::{HERE, Thing};

/// Of so many cases it is looked at what decided.
const LOOKED_AT: usize = 2_000;
/// So often each of the things that can decide has to do so among them.
const LEAST: usize = 3;
/// Shares of verdicts, in percent: at least, at most.
const SHARES: &[(Verdict, usize, usize)] =
    &[(Verdict::Allowed, 35, 60), (Verdict::ExplicitlyDenied, 12, 40), (Verdict::ImplicitlyDenied, 15, 50)];
const KEY_POLICY: &str = "a key policy";
const IDENTITY_POLICY: &str = "an identity policy";
/// What decides beside operators.
const OTHERS: &[&str] = &[
    "IfExists",
    "ForAllValues",
    "ForAnyValue",
    "a variable",
    "NotAction",
    "NotResource",
    "NotPrincipal",
    "an action with a wildcard",
    "a resource with a wildcard",
];
/// At most so many cases may differ, in percent.
const DIFFERING: usize = 25;

/// The counts of a run.
#[derive(Default)]
pub(crate) struct Tally {
    cases: usize,
    verdicts: BTreeMap<(String, Verdict), usize>,
    differing: usize,
    explained: BTreeMap<Class, usize>,
    decided: BTreeMap<(String, bool), usize>,
}

impl Tally {
    /// A case that was decided like this by the evaluator, and otherwise by the oracle where classes explain it.
    pub(crate) fn case(&mut self, case: &Case, verdict: Verdict, classes: &BTreeSet<Class>) {
        self.cases += 1;
        self.differing += usize::from(!classes.is_empty());
        classes.iter().for_each(|class| *self.explained.entry(*class).or_default() += 1);
        *self.verdicts.entry((situation(case), verdict)).or_default() += 1;
        if self.cases <= LOOKED_AT {
            for what in deciding(case, verdict) {
                *self.decided.entry(what).or_default() += 1;
            }
        }
    }

    fn of(&self, verdict: Verdict) -> usize {
        self.verdicts.iter().filter(|((_, one), _)| *one == verdict).map(|(_, count)| count).sum()
    }

    /// Why the run says nothing, if it does not.
    pub(crate) fn poor(&self) -> Vec<String> {
        let percent = |count: usize| count * 100 / self.cases.max(1);
        let mut found = Vec::new();
        for (verdict, least, most) in SHARES {
            let share = percent(self.of(*verdict));
            if !(*least..=*most).contains(&share) {
                found.push(format!("{share} % of the cases are {verdict:?}, not {least} to {most} %"));
            }
        }
        if percent(self.differing) > DIFFERING {
            found.push(format!("{} % of the cases differ", percent(self.differing)));
        }
        let least = LEAST * self.cases.min(LOOKED_AT) / LOOKED_AT;
        for what in expected() {
            let count = self.decided.get(&what).copied().unwrap_or_default();
            if count < least {
                let (name, met) = what;
                found.push(format!(
                    "{name} decided {count} times by being {}, not {least}",
                    if met { "met" } else { "not met" }
                ));
            }
        }
        found
    }
}

/// Everything on which verdicts have to hang now and then: met, and not met.
fn expected() -> impl Iterator<Item = (String, bool)> {
    let operators = Values::ALL.iter().flat_map(|class| class.operators());
    let both = operators.chain(OTHERS).flat_map(|name| [((*name).to_owned(), true), ((*name).to_owned(), false)]);
    both.chain([(KEY_POLICY.to_owned(), true), (IDENTITY_POLICY.to_owned(), true)])
}

fn situation(case: &Case) -> String {
    let account = if case.ask.who.account() == HERE { "same account" } else { "cross account" };
    let root = if case.ask.who.is_root() { ", root" } else { "" };
    let policies = match (case.ask.action.thing, &case.key, case.own.is_empty()) {
        (Thing::Alias | Thing::Nothing, ..) => "no key",
        (Thing::Key, None, true) => "no policy",
        (Thing::Key, None, false) => "identity policies only",
        (Thing::Key, Some(_), true) => "key policy only",
        (Thing::Key, Some(_), false) => "both",
    };
    format!("{policies}, {account}{root}")
}

/// What the verdict hangs on: each name with whether it was met. One that was met does if the verdict is another one without
/// its statement, and one that was not if it is another one without the condition.
fn deciding(case: &Case, verdict: Verdict) -> BTreeSet<(String, bool)> {
    let mut found = BTreeSet::new();
    for at in 0..usize::from(case.key.is_some()) + case.own.len() {
        let of_key = case.key.is_some() && at == 0;
        let statements = document(&mut case.clone(), at).statements.clone();
        for (index, statement) in statements.iter().enumerate() {
            let other = |change: &dyn Fn(&mut Statement)| {
                let mut other = case.clone();
                change(&mut document(&mut other, at).statements[index]);
                !other.decide().is_ok_and(|(other, _)| other == verdict)
            };
            let applies =
                other(&|statement| statement.action = Element { not: false, texts: vec!["s3:None".to_owned()] });
            let mut hangs_on = |name: &str, met| found.insert((name.to_owned(), met));
            if applies {
                hangs_on(if of_key { KEY_POLICY } else { IDENTITY_POLICY }, true);
            }
            for (at, condition) in statement.conditions.iter().enumerate() {
                if applies || other(&|statement| _ = statement.conditions.remove(at)) {
                    names(condition).into_iter().for_each(|name| _ = hangs_on(name, applies));
                }
            }
            let Statement { whom, action, resource, .. } = statement;
            if action.not && (applies || other(&|statement| statement.action.not = false)) {
                hangs_on("NotAction", applies);
            }
            if resource.not && (applies || other(&|statement| statement.resource.not = false)) {
                hangs_on("NotResource", applies);
            }
            let not_principal = matches!(whom, Whom::These { not: true, .. }) && of_key;
            if not_principal && (applies || other(&|statement| statement.whom = Whom::Everyone)) {
                hangs_on("NotPrincipal", applies);
            }
            let everything = || vec!["*".to_owned()];
            let wild = |texts: &[String]| texts.iter().all(|text| text.contains(['*', '?']) && text.len() > 1);
            if wild(&action.texts)
                && !action.not
                && (applies || other(&|statement| statement.action.texts = everything()))
            {
                hangs_on("an action with a wildcard", applies);
            }
            if wild(&resource.texts)
                && !resource.not
                && (applies || other(&|statement| statement.resource.texts = everything()))
            {
                hangs_on("a resource with a wildcard", applies);
            }
        }
    }
    found
}

/// What a condition is made of.
fn names(Condition { operator, values, .. }: &Condition) -> Vec<&'static str> {
    let set = match operator.set {
        Set::No => None,
        Set::ForAll => Some("ForAllValues"),
        Set::ForAny => Some("ForAnyValue"),
    };
    let variable = values.iter().any(|text| text.contains(":") && text.contains("${"));
    let more = [set, operator.if_exists.then_some("IfExists"), variable.then_some("a variable")];
    [operator.base].into_iter().chain(more.into_iter().flatten()).collect()
}

fn document(case: &mut Case, at: usize) -> &mut Document {
    match (&mut case.key, at) {
        (Some(document), 0) => document,
        (Some(_), at) => &mut case.own[at - 1],
        (None, at) => &mut case.own[at],
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let situations: BTreeSet<_> = self.verdicts.keys().map(|(situation, _)| situation).collect();
        writeln!(f, "{:<44} {:>8} {:>8} {:>8}", "cases", "allowed", "denied", "implicit")?;
        let mut line = |name: &str, of: &dyn Fn(Verdict) -> usize| {
            let [allowed, explicit, implicit] =
                [Verdict::Allowed, Verdict::ExplicitlyDenied, Verdict::ImplicitlyDenied].map(of);
            writeln!(f, "{name:<44} {allowed:>8} {explicit:>8} {implicit:>8}")
        };
        for situation in situations {
            line(situation, &|verdict| self.verdicts.get(&(situation.clone(), verdict)).copied().unwrap_or_default())?;
        }
        line("all", &|verdict| self.of(verdict))?;
        writeln!(f, "decided by being met and by not being met, of the first {LOOKED_AT}:")?;
        let count = |name: &str, met| self.decided.get(&(name.to_owned(), met)).copied().unwrap_or_default();
        for (name, _) in expected().filter(|(_, met)| *met) {
            writeln!(f, "  {:>6} {:>6}  {name}", count(&name, true), count(&name, false))?;
        }
        writeln!(f, "the oracle differs in {}, all of them explained:", self.differing)?;
        self.explained.iter().try_for_each(|(class, count)| writeln!(f, "  {count:>6}  {}", class.heading()))
    }
}
