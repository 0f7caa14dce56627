//! From the text of a policy to what is decided by, with everything that is wrong or doubtful about it.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::id::{PolicyName, PrincipalId};

use super::actions::{self, Actions, Asked};
use super::compiled::{Compiled, Kind, Policy, Refused, Since, Statement};
use super::condition::{Condition, Effect};
use super::document::{Document, Parts, strings};
use super::finding::{Finding, Findings, Place, Problem, Severity};
use super::json::{Node, Value};
use super::keys::Key;
use super::lockout::lock_out;
use super::operator::{Operator, Quantifier, Test};
use super::principal::{Bindings, Named, Whom, principal};
use super::reach::{self, Home};
use super::resource::{Resource, Resources};
use super::variable::Template;

/// How many characters a policy may have tried at each place of a request's text. With the longest text that is some
/// milliseconds, and more than any policy needs that was not made to be slow. This bound and the next are for what is put:
/// a policy that was put under other bounds decides as it did.
const TRIED_CHARS: usize = 128;
/// How often a policy may have all gone through that a caller sends, such as an encryption context of thousands of characters
/// or hundreds of names. That comes to some milliseconds as well, and an item of a batch has a context of its own.
const PASSES: usize = 256;

/// Everything that is wrong or doubtful about a policy: for people, before it is put.
#[must_use]
pub fn check(
    text: &str,
    kind: Kind<'_>,
    home: Option<Home<'_>>,
    resolve: &dyn Fn(&str) -> Option<PrincipalId>,
) -> Vec<Finding> {
    match Policy::compile_at(&"".into(), text, kind, home, resolve) {
        Ok(compiled) => compiled.warnings,
        Err(Refused(findings)) => findings,
    }
}

impl Policy {
    /// Reads a policy. `resolve` says whom an ARN means: the directory when a policy is put, and [`Bindings::resolve`] when
    /// a stored one is read again. Accounts and `*` are not asked for.
    pub fn compile(
        name: &PolicyName,
        text: &str,
        kind: Kind<'_>,
        resolve: &dyn Fn(&str) -> Option<PrincipalId>,
    ) -> Result<Compiled, Refused> {
        Self::compile_at(name, text, kind, None, resolve)
    }

    /// The same, with a look at whether its resources can be anything in this installation.
    pub fn compile_at(
        name: &PolicyName,
        text: &str,
        kind: Kind<'_>,
        home: Option<Home<'_>>,
        resolve: &dyn Fn(&str) -> Option<PrincipalId>,
    ) -> Result<Compiled, Refused> {
        Self::read(name, text, (kind, Since::Now), home, resolve)
    }

    /// Reads a policy that was put before, perhaps under a release that took more. What would be refused today for what it
    /// costs, or for an offset that is none, is a warning of it ([`Problem::is_of_today`]): one that cannot be read denies
    /// whatever it has a say in.
    pub fn compile_saved(
        name: &PolicyName,
        text: &str,
        kind: Kind<'_>,
        resolve: &dyn Fn(&str) -> Option<PrincipalId>,
    ) -> Result<Compiled, Refused> {
        Self::read(name, text, (kind, Since::Before), None, resolve)
    }

    fn read(
        name: &PolicyName,
        text: &str,
        (kind, since): (Kind<'_>, Since),
        home: Option<Home<'_>>,
        resolve: &dyn Fn(&str) -> Option<PrincipalId>,
    ) -> Result<Compiled, Refused> {
        let mut findings = Findings::of(text);
        let policy = Document::read(text, &mut findings).map(|document| {
            let (variables, parts) = document.statements(&mut findings);
            let (bindings, findings) = (Bindings::default(), &mut findings);
            let mut reader = Reader { kind, since, home, resolve, variables, bindings, findings };
            let statements: Box<[_]> = parts.iter().map(|parts| reader.statement(parts)).collect();
            reader.whole(&document, &parts, &statements);
            let bindings = reader.bindings;
            Self { name: name.clone(), of_key: matches!(kind, Kind::Key { .. }), statements, bindings }
        });
        match policy {
            Some(policy) if !findings.has_errors() => Ok(Compiled { policy, warnings: findings.into_all() }),
            _ => Err(Refused(findings.into_all())),
        }
    }
}

/// What the statement of a condition does.
#[derive(Clone, Copy)]
struct About<'s> {
    effect: Effect,
    actions: Option<&'s Actions>,
}

struct Reader<'r, 't> {
    kind: Kind<'r>,
    since: Since,
    home: Option<Home<'r>>,
    resolve: &'r dyn Fn(&str) -> Option<PrincipalId>,
    /// Whether `${…}` is a variable.
    variables: bool,
    bindings: Bindings,
    findings: &'r mut Findings<'t>,
}

impl Reader<'_, '_> {
    fn statement(&mut self, parts: &Parts<'_>) -> Statement {
        let list = Place::WHOLE.member("Statement");
        let place = parts.item.map_or(list, |index| list.item(index));
        let whom = self.whom(&place, parts);
        let actions = parts.action.map(|(node, all_but)| self.actions(&place, node, all_but));
        let resources = parts.resource.map(|(node, all_but)| self.resources(&place, node, all_but, actions.as_ref()));
        for (missing, name) in [(actions.is_none(), "Action"), (resources.is_none(), "Resource")] {
            match self.kind {
                _ if !missing => {}
                // AWS takes it, and does nothing with it.
                Kind::Key { .. } => self.findings.warning(&place, parts.node, Problem::WithoutEffect(name)),
                Kind::Identity => self.findings.error(&place, parts.node, Problem::Missing(name)),
            }
        }
        let about = About { effect: parts.effect, actions: actions.as_ref() };
        let conditions = parts.condition.map(|node| self.conditions(&place, node, about)).unwrap_or_default();
        let sid = parts.sid.map(|(text, _)| Arc::from(text));
        Statement { sid, effect: parts.effect, whom, actions, resources, conditions: conditions.into() }
    }

    fn whom(&mut self, place: &Place<'_>, parts: &Parts<'_>) -> Whom {
        match (self.kind, parts.principal) {
            (Kind::Identity, None) => Whom::Holder,
            (Kind::Identity, Some((node, not))) => {
                let place = place.member(if not { "NotPrincipal" } else { "Principal" });
                self.findings.error(&place, node, Problem::PrincipalOfIdentity);
                Whom::Holder
            }
            (Kind::Key { .. }, None) => {
                self.findings.error(place, parts.node, Problem::NoPrincipal);
                Whom::These([].into())
            }
            (Kind::Key { .. }, Some((node, false))) => {
                Whom::These(self.principals(&place.member("Principal"), node).into())
            }
            (Kind::Key { .. }, Some((node, true))) => {
                let place = place.member("NotPrincipal");
                let all = self.principals(&place, node);
                let id = all.iter().any(|one| matches!(one, Named::Id(_)));
                let account = all.iter().any(|one| matches!(one, Named::Account(_)));
                if all.contains(&Named::Everyone) {
                    self.findings.error(&place, node, Problem::NobodyLeft);
                } else if parts.effect == Effect::Allow {
                    self.findings.warning(&place, node, Problem::AllowAllBut);
                } else if id && !account {
                    self.findings.warning(&place, node, Problem::AllButWithoutAccount);
                }
                Whom::AllBut(all.into())
            }
        }
    }

    fn principals(&mut self, place: &Place<'_>, node: &Node) -> Vec<Named> {
        let mut all = Vec::new();
        match &node.value {
            Value::Text(text) if text == "*" => all.push(Named::Everyone),
            Value::Text(text) => self.findings.error(place, node, Problem::PrincipalForm(text.clone())),
            Value::Object(members) if members.is_empty() => self.findings.error(place, node, Problem::EmptyList),
            Value::Object(members) => {
                for (kind, node) in members {
                    let place = place.member(kind);
                    let aws = match &**kind {
                        "AWS" => true,
                        "Service" | "Federated" | "CanonicalUser" => {
                            self.findings.warning(&place, node, Problem::NobodyCalls(kind.clone()));
                            false
                        }
                        _ => {
                            self.findings.error(&place, node, Problem::PrincipalKind);
                            continue;
                        }
                    };
                    let (resolve, own, bindings) = (self.resolve, self.partition(), &mut self.bindings);
                    strings(&place, node, self.findings, &mut |place, node, text, findings| {
                        if !aws {
                            return all.push(Named::Nobody);
                        }
                        match principal(text, own.as_deref(), resolve) {
                            Ok(named) => {
                                if let Named::Id(id) = &named {
                                    bindings.bind(text, id.clone());
                                }
                                all.push(named);
                            }
                            Err(problem) => findings.error(place, node, problem),
                        }
                    });
                }
            }
            _ => self.findings.error(place, node, Problem::Expected("\"*\" or an object such as {\"AWS\": …}")),
        }
        all
    }

    /// The partition of the key, where it is known.
    fn partition(&self) -> Option<String> {
        let Kind::Key { arn: Some(arn) } = self.kind else { return None };
        arn.split(':').nth(1).map(str::to_owned)
    }

    fn actions(&mut self, place: &Place<'_>, node: &Node, all_but: bool) -> Actions {
        let place = place.member(if all_but { "NotAction" } else { "Action" });
        let mut all = Vec::new();
        strings(&place, node, self.findings, &mut |place, node, text, findings| match actions::pattern(text) {
            Ok(pattern) => {
                if actions::bits(&pattern) == 0 {
                    findings.warning(place, node, Problem::NoOperation(text.to_owned()));
                }
                all.push(pattern);
            }
            Err(problem) => findings.error(place, node, problem),
        });
        let actions = Actions::new(all, all_but);
        if actions.leave_nothing() {
            self.findings.warning(&place, node, Problem::NothingLeft);
        }
        actions
    }

    fn resources(&mut self, place: &Place<'_>, node: &Node, all_but: bool, actions: Option<&Actions>) -> Resources {
        let place = place.member(if all_but { "NotResource" } else { "Resource" });
        let (kind, home, variables) = (self.kind, self.home, self.variables);
        let mut all = Vec::new();
        strings(&place, node, self.findings, &mut |place, node, text, findings| {
            plain_variable(text, variables, place, node, findings);
            match Resource::parse(text, variables) {
                Ok(resource) => {
                    if let Some(why) = resource.templates().find_map(Template::without_value) {
                        findings.warning(place, node, Problem::NoValue(why));
                    }
                    if let Some(doubt) = reach::doubt(&resource, text, all_but, kind, home, actions) {
                        findings.warning(place, node, doubt);
                    }
                    all.push(resource);
                }
                Err(problem) => findings.error(place, node, problem),
            }
        });
        let resources = Resources::new(all, all_but);
        if resources.leave_nothing() {
            self.findings.warning(&place, node, Problem::NothingLeft);
        }
        resources
    }

    fn conditions(&mut self, place: &Place<'_>, node: &Node, about: About<'_>) -> Vec<Condition> {
        let place = place.member("Condition");
        let mut all = Vec::new();
        let Value::Object(operators) = &node.value else {
            self.findings.error(&place, node, Problem::Expected("an object with operators"));
            return all;
        };
        if operators.is_empty() {
            self.findings.warning(&place, node, Problem::EmptyCondition);
        }
        for (name, node) in operators {
            let place = place.member(name);
            let Some(operator) = Operator::find(name) else {
                self.findings.error(&place, node, Problem::UnknownOperator);
                continue;
            };
            let Value::Object(keys) = &node.value else {
                self.findings.error(&place, node, Problem::Expected("an object with condition keys"));
                continue;
            };
            if keys.is_empty() {
                self.findings.warning(&place, node, Problem::EmptyCondition);
            }
            for (name, node) in keys {
                let place = place.member(name);
                match Key::find(name) {
                    Some(key) => all.extend(self.condition(&place, node, key, operator, about)),
                    None => self.findings.error(&place, node, Problem::UnknownKey),
                }
            }
        }
        all
    }

    fn condition(
        &mut self,
        place: &Place<'_>,
        node: &Node,
        key: Key,
        operator: Operator,
        about: About<'_>,
    ) -> Option<Condition> {
        let (single, items): (_, &[Node]) = match &node.value {
            Value::Array(items) => (false, items),
            _ => (true, std::slice::from_ref(node)),
        };
        if items.is_empty() {
            self.findings.error(place, node, Problem::EmptyList);
            return None;
        }
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = if single { *place } else { place.item(index) };
            match &item.value {
                Value::Text(text) | Value::Number(text) => {
                    plain_variable(text, self.variables, &place, item, self.findings);
                    texts.push(text.as_str());
                }
                Value::Bool(flag) => texts.push(if *flag { "true" } else { "false" }),
                _ => {
                    let expected = Problem::Expected("a string, a number, true or false, or a list of them");
                    self.findings.error(&place, item, expected);
                    return None;
                }
            }
        }
        let at = |index: usize| if single { *place } else { place.item(index) };
        let read = |since| Condition::read(key.clone(), operator, &texts, self.variables, since);
        let condition = match read(Since::Now) {
            Err((index, problem)) if self.since == Since::Before => {
                let before = read(Since::Before);
                if before.is_ok() {
                    self.findings.warning(&at(index), &items[index], problem);
                }
                before
            }
            read => read,
        };
        match condition {
            Ok(condition) => {
                self.doubts(place, node, (&key, operator, &condition), about);
                Some(condition)
            }
            Err((index, problem)) => {
                self.findings.error(&at(index), &items[index], problem);
                None
            }
        }
    }

    fn doubts(
        &mut self,
        place: &Place<'_>,
        node: &Node,
        (key, operator, condition): (&Key, Operator, &Condition),
        about: About<'_>,
    ) {
        let mut warn = |problem| self.findings.warning(place, node, problem);
        if let Some(why) = condition.templates().find_map(Template::without_value) {
            warn(Problem::NoValue(why));
        }
        let Some(spec) = key.spec() else {
            if let Key::Never(_, why) = key {
                warn(Problem::NeverThere(why));
            }
            if !condition.met_where_absent() {
                warn(Problem::NeverMet);
            }
            return;
        };
        if !operator.reads(spec.class) {
            warn(Problem::OtherClass(spec.class.name()));
        }
        let set = operator.quantifier != Quantifier::Single;
        if set && !spec.many {
            warn(Problem::SetForOne);
        }
        if !set && spec.many && operator.test != Test::Null {
            warn(Problem::OneForMany);
        }
        let has = |action: &&str| about.actions.is_none_or(|actions| actions.have(&Asked::of(action)));
        if !condition.met_where_absent() && key.actions().is_some_and(|all| !all.iter().any(has)) {
            warn(Problem::OtherActions);
        }
        if operator.quantifier == Quantifier::ForAll && about.effect == Effect::Allow && !operator.if_exists {
            warn(Problem::MetWhereAbsent);
        }
    }

    /// What is about the statements together.
    fn whole(&mut self, document: &Document, parts: &[Parts<'_>], statements: &[Statement]) {
        let list = Place::WHOLE.member("Statement");
        let mut seen = BTreeSet::new();
        for parts in parts {
            let Some((sid, node)) = parts.sid else { continue };
            let place = parts.item.map_or(list, |index| list.item(index));
            let place = place.member("Sid");
            // Those of key policies may have blanks, and AWS does not say that they must differ.
            let identity = self.kind == Kind::Identity;
            if identity && !sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                self.findings.error(&place, node, Problem::SidForm);
            }
            if !sid.is_empty() && !seen.insert(sid) {
                let twice = Problem::SidTwice(sid.to_owned());
                if identity {
                    self.findings.error(&place, node, twice);
                } else {
                    self.findings.warning(&place, node, twice);
                }
            }
        }
        let costly = if self.since == Since::Before { Severity::Warning } else { Severity::Error };
        let start = document.root().span.start;
        let resources = statements.iter().flat_map(|one| one.resources.iter().flat_map(Resources::templates));
        let values = statements.iter().flat_map(|one| one.conditions.iter().flat_map(Condition::templates));
        if resources.chain(values).map(Template::tried_chars).sum::<usize>() > TRIED_CHARS {
            self.findings.add(costly, &Place::WHOLE, start, Problem::TooSlow);
        }
        let conditions = statements.iter().flat_map(|one| &one.conditions);
        if conditions.map(Condition::passes).sum::<usize>() > PASSES {
            self.findings.add(costly, &Place::WHOLE, start, Problem::TooManyPasses);
        }
        if let (Kind::Key { arn }, false) = (self.kind, self.findings.has_errors()) {
            let account = arn.and_then(|arn| arn.split(':').nth(4)).or(self.home.map(|home| home.account));
            if let Some(problem) = lock_out(statements, arn, account) {
                self.findings.warning(&Place::WHOLE, document.root(), problem);
            }
        }
    }
}

/// Says that `${…}` is no variable where it looks like one.
fn plain_variable(text: &str, variables: bool, place: &Place<'_>, node: &Node, findings: &mut Findings<'_>) {
    if !variables && text.contains("${") {
        findings.warning(place, node, Problem::PlainVariable);
    }
}
