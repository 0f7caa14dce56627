//! Plans and what came of them, as they are shown.

use serde::Serialize;
use serde_json::Value;

use super::apply::{Applied, Done};
use super::plan::{KeyPlan, Plan};
use crate::names::tags_text;
use crate::policy::document;
use crate::printer::{Report, facts};
use model::text;

/// A plan and its name.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    /// SHA-256 of the plan; `--plan` takes it.
    pub(super) digest: &'a str,
    #[serde(flatten)]
    pub(super) plan: &'a Plan,
    /// Somebody is asked whether it is to be done.
    #[serde(skip)]
    pub(super) asks: bool,
}

impl Report for Shown<'_> {
    fn text(&self) -> String {
        let Self { digest, plan, asks } = self;
        let mut blocks: Vec<String> = plan.keys.iter().map(key).collect();
        if !plan.left_out.is_empty() {
            // Each on one line, however long: a broken ARN cannot be copied.
            let left = plan.left_out.iter().map(|left| one_line("  - ", &format!("{}: {}", left.key, left.reason)));
            blocks.push(format!("Not imported:\n{}", left.collect::<Vec<_>>().join("\n")));
        }
        let not: Vec<String> = plan.not_carried_over.iter().map(|what| format!("  - {what}")).collect();
        blocks.push(format!("Not carried over:\n{}", not.join("\n")));
        let steps = plan.steps();
        blocks.push(match (plan.problems(), steps) {
            (0, 0) => "Nothing is to be done.".to_owned(),
            (0, _) if *asks => {
                format!("Plan {digest}: {} for {}.", counted(steps, "step"), counted(plan.keys.len(), "key"))
            }
            (0, _) => format!(
                "Plan {digest}: {} for {}. Nothing was done; --apply does it, --plan PLAN only if it is still this one.",
                counted(steps, "step"),
                counted(plan.keys.len(), "key")
            ),
            (problems, _) => format!("Nothing can be done because of {}.", counted(problems, "problem")),
        });
        blocks.join("\n\n")
    }
}

fn key(key: &KeyPlan) -> String {
    let aliases: Vec<&str> = key.aliases.keys().map(String::as_str).collect();
    let default = default_for(&key.policy);
    let mut lines = vec![facts([
        ("Old key", key.old_arn.clone()),
        ("New key", key.new_arn.clone().unwrap_or_else(|| "to be made".to_owned())),
        ("Description", key.description.clone()),
        ("Tags", tags_text(&key.tags)),
        ("Aliases", aliases.join(", ")),
        ("State", if key.disabled { "Disabled".to_owned() } else { String::new() }),
        ("Policy", default.as_ref().map(|root| format!("the default one, for {root}")).unwrap_or_default()),
    ])];
    if default.is_none() {
        lines.push("Policy".to_owned());
        lines.extend(document::shown(&key.policy).lines().map(|line| format!("    {line}")));
    }
    for finding in &key.policy_findings {
        let kind = if finding.error { "error" } else { "warning" };
        let place = if finding.place.is_empty() { String::new() } else { format!("{} ", finding.place) };
        lines.push(one_line("  ", &format!("{kind}: {place}(line {}): {}", finding.line, finding.problem)));
    }
    lines.extend(key.notes.iter().map(|note| one_line("  ", &format!("note: {note}"))));
    lines.extend(key.problems.iter().map(|problem| one_line("  ", &format!("problem: {problem}"))));
    match &key.steps[..] {
        [] => lines.push("To do: nothing".to_owned()),
        steps => {
            lines.push("To do".to_owned());
            lines.extend(steps.iter().map(|step| one_line("  - ", &step.text())));
        }
    }
    lines.join("\n")
}

/// For whom a policy is the one that AWS gives to keys without any: it lets an account decide, and says nothing else. Most
/// keys have it, and nobody has to read it again and again.
fn default_for(policy: &str) -> Option<String> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    let only = |value: &Value| match value {
        Value::Array(values) => <&[Value; 1]>::try_from(values.as_slice()).ok().map(|[one]| one.clone()),
        one => Some(one.clone()),
    };
    let mut statement = only(policy.get("Statement")?)?;
    let statement = statement.as_object_mut()?;
    statement.remove("Sid");
    let principal = statement.remove("Principal")?;
    let principal = principal.as_object().filter(|principal| principal.len() == 1)?;
    let root = only(principal.get("AWS")?)?.as_str().filter(|arn| arn.ends_with(":root"))?.to_owned();
    let mut member = |name: &str| statement.remove(name).and_then(|value| only(&value));
    let parts = ["Effect", "Action", "Resource"].map(|name| member(name).unwrap_or_default());
    let is_default = parts.iter().map(Value::as_str).eq(["Allow", "kms:*", "*"].map(Some)) && statement.is_empty();
    is_default.then_some(root)
}

impl Report for Applied {
    fn text(&self) -> String {
        let mut blocks: Vec<String> = self.warnings.iter().map(|warning| one_line("warning: ", warning)).collect();
        if !self.left.is_empty() {
            let left = |done: &Done| one_line("  - ", &format!("{}: {}", done.old_arn, done.step.text()));
            blocks.push(format!("Not done:\n{}", self.left.iter().map(left).collect::<Vec<_>>().join("\n")));
        }
        if !self.mapping.is_empty() {
            blocks.push(mapping_lines(self).trim_end().to_owned());
        }
        blocks.push(match (self.done.len(), self.left.len()) {
            (0, 0) => "Nothing was to be done.".to_owned(),
            (done, 0) => format!("Done: {}.", counted(done, "step")),
            (done, left) => format!("Done: {}; {left} are left. The same command goes on.", counted(done, "step")),
        });
        blocks.join("\n\n")
    }
}

/// The new ARNs of old ones, as `--map-file` reads them.
pub(super) fn mapping_lines(applied: &Applied) -> String {
    applied.mapping.iter().map(|(old, new)| format!("{old}={new}\n")).collect()
}

fn one_line(before: &str, what: &str) -> String {
    format!("{before}{}", text::shown(what))
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_is_known_whatever_its_words() {
        const ROOT: &str = "arn:aws:iam::000000000000:root";
        let of = |statement: Value| default_for(&serde_json::json!({ "Statement": statement }).to_string());
        let statement = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            let mut statement = serde_json::json!({
                "Sid": "Allow access for Key Administrators", "Effect": "Allow", "Action": "kms:*", "Resource": "*",
                "Principal": { "AWS": ROOT },
            });
            change(statement.as_object_mut().unwrap());
            statement
        };
        let plain = statement(&|_| {});
        assert_eq!(of(plain.clone()).as_deref(), Some(ROOT));
        assert_eq!(of(Value::from(vec![plain.clone()])).as_deref(), Some(ROOT));
        let listed = statement(&|it| drop(it.insert("Action".to_owned(), vec!["kms:*"].into())));
        assert_eq!(of(listed).as_deref(), Some(ROOT));
        for other in [
            statement(&|it| drop(it.insert("Effect".to_owned(), "Deny".into()))),
            statement(&|it| drop(it.insert("Action".to_owned(), "kms:Encrypt".into()))),
            statement(&|it| drop(it.insert("Condition".to_owned(), Value::default()))),
            statement(&|it| drop(it.remove("Resource"))),
            statement(&|it| drop(it.insert("Principal".to_owned(), "*".into()))),
            statement(&|it| {
                drop(it.insert("Principal".to_owned(), serde_json::json!({ "AWS": [ROOT, "arn:a:root"] })))
            }),
            Value::from(vec![plain.clone(), plain]),
            Value::default(),
        ] {
            assert_eq!(of(other.clone()), None, "{other}");
        }
        assert_eq!(default_for("no JSON"), None);
    }
}
