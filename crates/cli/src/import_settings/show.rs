//! Plans and what came of them, as they are shown.

use serde::Serialize;

use super::apply::{Applied, Done};
use super::plan::{KeyPlan, Plan};
use crate::names::tags_text;
use crate::policy::document;
use crate::printer::{Report, facts, wrapped_table};
use model::text;

/// A plan and its name.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    /// SHA-256 of the plan; `--plan` takes it.
    pub(super) digest: &'a str,
    #[serde(flatten)]
    pub(super) plan: &'a Plan,
}

impl Report for Shown<'_> {
    fn text(&self) -> String {
        let Self { digest, plan } = self;
        let mut blocks: Vec<String> = plan.keys.iter().map(key).collect();
        if !plan.left_out.is_empty() {
            let rows = plan.left_out.iter().map(|left| vec![left.key.clone(), left.reason.clone()]);
            blocks.push(wrapped_table(&["not imported", "because"], rows));
        }
        let not: Vec<String> = plan.not_carried_over.iter().map(|what| format!("  - {what}")).collect();
        blocks.push(format!("Not carried over:\n{}", not.join("\n")));
        let steps = plan.steps();
        blocks.push(match (plan.problems(), steps) {
            (0, 0) => "Nothing is to be done.".to_owned(),
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
    let mut lines = vec![facts([
        ("Old key", key.old_arn.clone()),
        ("New key", key.new_arn.clone().unwrap_or_else(|| "to be made".to_owned())),
        ("Description", key.description.clone()),
        ("Tags", tags_text(&key.tags)),
        ("Aliases", aliases.join(", ")),
        ("State", if key.disabled { "Disabled".to_owned() } else { String::new() }),
    ])];
    lines.push("Policy".to_owned());
    lines.extend(document::shown(&key.policy).lines().map(|line| format!("    {line}")));
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
