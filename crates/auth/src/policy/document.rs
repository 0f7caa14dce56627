//! A policy's text as its statements: which elements there are, and that they have the right shape.

use super::condition::Effect;
use super::finding::{Findings, Place, Problem, Severity};
use super::json::{Node, Value, parse};

/// Longest text of a policy. AWS's limit of key policies, and that of our identity policies too.
pub use model::limits::POLICY_BYTES;

const ELEMENTS: &str = "Version, Id and Statement";
const STATEMENT: &str = "Sid, Effect, Principal, NotPrincipal, Action, NotAction, Resource, NotResource and Condition";

/// A text that has been read.
pub(super) struct Document {
    root: Node,
}

/// One statement's elements.
pub(super) struct Parts<'n> {
    /// The statement.
    pub(super) node: &'n Node,
    /// From 0; absent where the policy has one statement that is in no list.
    pub(super) item: Option<usize>,
    /// Its name, for people.
    pub(super) sid: Option<(&'n str, &'n Node)>,
    /// What it does.
    pub(super) effect: Effect,
    /// Principal, or NotPrincipal (`true`).
    pub(super) principal: Option<(&'n Node, bool)>,
    /// Action, or NotAction (`true`).
    pub(super) action: Option<(&'n Node, bool)>,
    /// Resource, or NotResource (`true`).
    pub(super) resource: Option<(&'n Node, bool)>,
    /// Condition, with its operators; absent where the statement has none.
    pub(super) condition: Option<&'n Node>,
}

impl Document {
    /// Reads a text, as far as it is JSON of a legal size.
    pub(super) fn read(text: &str, findings: &mut Findings<'_>) -> Option<Self> {
        let mut error = |at, problem| findings.add(Severity::Error, &Place::WHOLE, at, problem);
        if text.len() > POLICY_BYTES {
            error(0, Problem::TooLong { bytes: text.len(), most: POLICY_BYTES });
            return None;
        }
        let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{ff}');
        if let Some((at, c)) = text.char_indices().find(|(_, c)| !legal(*c)) {
            error(at, Problem::Character(c));
            return None;
        }
        match parse(text) {
            Ok(root) => Some(Self { root }),
            Err(unreadable) => {
                error(unreadable.at, Problem::Json(unreadable.why));
                None
            }
        }
    }

    /// The whole.
    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// Whether `${…}` is a variable, and the statements.
    pub(super) fn statements<'n>(&'n self, findings: &mut Findings<'_>) -> (bool, Vec<Parts<'n>>) {
        let whole = Place::WHOLE;
        let Value::Object(members) = &self.root.value else {
            findings.error(&whole, &self.root, Problem::Expected("an object with Version and Statement"));
            return (false, Vec::new());
        };
        // AWS takes a policy without a version for one of the old language.
        let (mut variables, mut statements, mut any) = (false, Vec::new(), false);
        for (name, node) in members {
            let place = whole.member(name);
            match (&**name, &node.value) {
                ("Version", Value::Text(version)) if version == "2012-10-17" => variables = true,
                ("Version", Value::Text(version)) if version == "2008-10-17" => {}
                ("Version", _) => findings.error(&place, node, Problem::Version),
                ("Id", Value::Text(_)) => {}
                ("Id", _) => findings.error(&place, node, Problem::Expected("a string")),
                ("Statement", Value::Array(items)) => {
                    any = true;
                    if items.is_empty() {
                        findings.error(&place, node, Problem::EmptyList);
                    }
                    let each = items.iter().enumerate();
                    statements.extend(
                        each.filter_map(|(index, node)| statement(&place.item(index), Some(index), node, findings)),
                    );
                }
                ("Statement", _) => {
                    any = true;
                    statements.extend(statement(&place, None, node, findings));
                }
                _ => findings.error(&place, node, Problem::UnknownElement(ELEMENTS)),
            }
        }
        if !any {
            findings.error(&whole, &self.root, Problem::Missing("Statement"));
        }
        (variables, statements)
    }
}

fn statement<'n>(
    place: &Place<'_>,
    item: Option<usize>,
    node: &'n Node,
    findings: &mut Findings<'_>,
) -> Option<Parts<'n>> {
    let Value::Object(members) = &node.value else {
        findings.error(place, node, Problem::Expected("an object with Effect and more"));
        return None;
    };
    let (mut sid, mut effect, mut condition) = (None, None, None);
    let (mut principal, mut action, mut resource) = (None, None, None);
    for (name, node) in members {
        let place = place.member(name);
        let mut either = |slot: &mut Option<(&'n Node, bool)>, not, names: (&'static str, &'static str)| {
            if slot.replace((node, not)).is_some() {
                findings.error(&place, node, Problem::Both(names.0, names.1));
            }
        };
        match (&**name, &node.value) {
            ("Sid", Value::Text(text)) => sid = Some((text.as_str(), node)),
            ("Sid", _) => findings.error(&place, node, Problem::Expected("a string")),
            ("Effect", Value::Text(text)) if text == "Allow" => effect = Some(Effect::Allow),
            ("Effect", Value::Text(text)) if text == "Deny" => effect = Some(Effect::Deny),
            ("Effect", _) => findings.error(&place, node, Problem::Effect),
            ("Principal", _) => either(&mut principal, false, ("Principal", "NotPrincipal")),
            ("NotPrincipal", _) => either(&mut principal, true, ("Principal", "NotPrincipal")),
            ("Action", _) => either(&mut action, false, ("Action", "NotAction")),
            ("NotAction", _) => either(&mut action, true, ("Action", "NotAction")),
            ("Resource", _) => either(&mut resource, false, ("Resource", "NotResource")),
            ("NotResource", _) => either(&mut resource, true, ("Resource", "NotResource")),
            ("Condition", _) => condition = Some(node),
            _ => findings.error(&place, node, Problem::UnknownElement(STATEMENT)),
        }
    }
    if !members.iter().any(|(name, _)| name == "Effect") {
        findings.error(place, node, Problem::Missing("Effect"));
    }
    Some(Parts { node, item, sid, effect: effect?, principal, action, resource, condition })
}

/// The strings of an element that is one or a list of them, each with its place.
pub(super) fn strings<'n>(
    place: &Place<'_>,
    node: &'n Node,
    findings: &mut Findings<'_>,
    take: &mut dyn FnMut(&Place<'_>, &'n Node, &'n str, &mut Findings<'_>),
) {
    let expected = Problem::Expected("a string or a list of strings");
    match &node.value {
        Value::Text(text) => take(place, node, text, findings),
        Value::Array(items) if items.is_empty() => findings.error(place, node, Problem::EmptyList),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                match &item.value {
                    Value::Text(text) => take(&place.item(index), item, text, findings),
                    _ => findings.error(&place.item(index), item, expected.clone()),
                }
            }
        }
        _ => findings.error(place, node, expected),
    }
}
