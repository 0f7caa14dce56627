//! What an import does: the difference between what should be here and what is. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use super::wanted::{Grant, IMPORTED_FROM, Wanted};
use proto::v1::{self as wire, KeyState};

/// What no import brings over.
pub(super) const NOT_CARRIED: &[&str] = &[
    "key material: what was encrypted in AWS opens in AWS alone, until it is encrypted anew here",
    "grant tokens: they are of the old grants",
    "rotation: `keystorectl key rotation enable` has a new key rotated by itself",
    "dates of creation and of last use",
];

/// What is here already, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Here {
    /// The account, where the caller may know it.
    pub(super) account: Option<String>,
    /// Keys that an earlier import made.
    pub(super) keys: Vec<HereKey>,
    /// The id of the key of each alias.
    pub(super) aliases: BTreeMap<String, String>,
    /// Principals that there are not, of those who are asked for.
    pub(super) unknown: BTreeSet<String>,
    /// What the service says of each policy.
    pub(super) findings: BTreeMap<String, Vec<Finding>>,
}

/// A key that an earlier import made.
#[derive(Clone, Debug, Default)]
pub(super) struct HereKey {
    pub(super) key_id: String,
    pub(super) arn: String,
    pub(super) old_arn: String,
    pub(super) state: KeyState,
    pub(super) key_store_id: String,
    pub(super) description: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) policy: String,
    pub(super) grants: BTreeSet<Grant>,
}

/// What is wrong or doubtful about a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) error: bool,
    pub(super) line: u32,
    pub(super) place: String,
    pub(super) problem: String,
}

impl From<wire::PolicyFinding> for Finding {
    fn from(wire::PolicyFinding { error, place, line, problem }: wire::PolicyFinding) -> Self {
        Self { error, line, place, problem }
    }
}

/// How keys are made.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Making {
    /// Empty: in the only key store that there is.
    pub(super) key_store_id: String,
    pub(super) bypass_lockout_check: bool,
}

/// The plan.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Plan {
    pub(super) making: Making,
    pub(super) keys: Vec<KeyPlan>,
    /// Keys that are not imported: ARN, or id where no more is known.
    pub(super) left_out: Vec<LeftOut>,
    pub(super) not_carried_over: &'static [&'static str],
}

/// A key that is not imported.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LeftOut {
    pub(super) key: String,
    pub(super) reason: String,
}

/// What is done for one key.
#[derive(Clone, Debug, Serialize)]
pub(super) struct KeyPlan {
    pub(super) old_arn: String,
    /// Absent where it is yet to be made.
    pub(super) new_arn: Option<String>,
    pub(super) description: String,
    pub(super) tags: BTreeMap<String, String>,
    /// All that it is to have, with the ARNs that they had.
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) grants: BTreeSet<Grant>,
    pub(super) disabled: bool,
    pub(super) policy: String,
    pub(super) policy_findings: Vec<Finding>,
    /// In their order. Keys are made before anything else is done for any.
    pub(super) steps: Vec<Step>,
    pub(super) notes: Vec<String>,
    /// Why it cannot be done. As long as there is one, nothing is done for any key.
    pub(super) problems: Vec<String>,
    /// The policy as it was.
    #[serde(skip)]
    pub(super) source: String,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(super) enum Step {
    /// With description, tags and policy.
    CreateKey,
    UpdateDescription,
    TagResource {
        tags: BTreeMap<String, String>,
    },
    PutKeyPolicy,
    CreateGrant {
        grant: Grant,
    },
    CreateAlias {
        alias_name: String,
    },
    DisableKey,
}

impl Step {
    /// For a person.
    pub(super) fn text(&self) -> String {
        match self {
            Self::CreateKey => "make the key, with its description, tags and policy".to_owned(),
            Self::UpdateDescription => "describe it anew".to_owned(),
            Self::TagResource { tags } => format!("tag it with {}", crate::names::tags_text(tags)),
            Self::PutKeyPolicy => "put its policy".to_owned(),
            Self::CreateGrant { grant } => format!("grant {}", grant.text()),
            Self::CreateAlias { alias_name } => format!("give it {alias_name}"),
            Self::DisableKey => "disable it".to_owned(),
        }
    }
}

/// Makes the plan.
pub(super) fn plan(wanted: Vec<Wanted>, left_out: Vec<(String, String)>, here: &Here, making: Making) -> Plan {
    let keys = wanted.into_iter().map(|wanted| one(wanted, here, &making)).collect();
    let left_out = left_out.into_iter().map(|(key, reason)| LeftOut { key, reason }).collect();
    Plan { keys, left_out, making, not_carried_over: NOT_CARRIED }
}

fn one(wanted: Wanted, here: &Here, making: &Making) -> KeyPlan {
    let (mut notes, mut problems) = (wanted.notes.clone(), Vec::new());
    let made: Vec<&HereKey> = here.keys.iter().filter(|key| key.old_arn == wanted.old_arn).collect();
    let known = made.first().copied();
    if made.len() > 1 {
        let arns: Vec<&str> = made.iter().map(|key| key.arn.as_str()).collect();
        problems.push(format!(
            "several keys are tagged as made from it: {}; take the tag from all but one",
            arns.join(", ")
        ));
    }
    problems.extend(known.and_then(|key| unfit(key, making)));
    // The tag by which it is found is one that others may give a key of theirs.
    let foreign = known.map_or(0, |key| key.grants.iter().filter(|grant| !wanted.grants.contains(grant)).count());
    if let Some(key) = known.filter(|_| foreign > 0) {
        problems.push(format!(
            "{} has {foreign} grants that are not among those of the old key: revoke them, or take the tag {IMPORTED_FROM} \
             from it if no import has made it",
            key.arn
        ));
    }
    notes.extend(about_policy(&wanted, here));
    let findings = here.findings.get(&wanted.policy.document).cloned().unwrap_or_default();
    match findings.iter().filter(|finding| finding.error).count() {
        0 => {}
        1 => problems.push("the service refuses its policy because of an error".to_owned()),
        errors => problems.push(format!("the service refuses its policy because of {errors} errors")),
    }
    let unknown: BTreeSet<&String> = wanted.parties().filter(|arn| here.unknown.contains(*arn)).collect();
    problems.extend(unknown.into_iter().map(|arn| {
        format!("its grants name {arn}, and there is no such principal: make it, or map it to another one")
    }));
    let mut steps = known.map_or_else(|| vec![Step::CreateKey], |key| changes(&wanted, key));
    let granted = known.map(|key| &key.grants);
    let missing = wanted.grants.iter().filter(|grant| granted.is_none_or(|granted| !granted.contains(grant)));
    let grants: Vec<Step> = missing.map(|grant| Step::CreateGrant { grant: grant.clone() }).collect();
    if let Some(key) = known.filter(|key| key.state == KeyState::Disabled && !grants.is_empty()) {
        problems.push(format!("{} is disabled, and gets grants only while it is enabled", key.arn));
    }
    // A key with the policy that it has for now, until others have their ARNs.
    if known.is_none() && !wanted.policy.waits_for.is_empty() {
        steps.push(Step::PutKeyPolicy);
    }
    steps.extend(grants);
    for alias in wanted.aliases.keys() {
        match (here.aliases.get(alias), known) {
            (None, _) => steps.push(Step::CreateAlias { alias_name: alias.clone() }),
            (Some(target), Some(key)) if *target == key.key_id => {}
            (Some(target), _) => problems.push(format!(
                "{alias} is the key {target} here: give that key another name, or take {alias} out of list-aliases.json"
            )),
        }
    }
    if wanted.disabled && known.is_none_or(|key| key.state == KeyState::Enabled) {
        steps.push(Step::DisableKey);
    }
    let Wanted { old_arn, description, tags, aliases, disabled, policy, source, grants, .. } = wanted;
    KeyPlan {
        old_arn,
        new_arn: known.map(|key| key.arn.clone()),
        description,
        tags,
        aliases,
        grants,
        disabled,
        policy: policy.document,
        policy_findings: findings,
        steps,
        notes,
        problems,
        source,
    }
}

/// Why a key that an earlier import made cannot be brought to what it should be.
fn unfit(key: &HereKey, making: &Making) -> Option<String> {
    let HereKey { arn, key_store_id, .. } = key;
    match key.state {
        KeyState::Creating => Some(format!("{arn} is being made from it this moment; try again")),
        KeyState::PendingDeletion => Some(format!(
            "{arn} was made from it and is pending deletion: cancel that, or take the tag {} from it",
            IMPORTED_FROM
        )),
        _ if !making.key_store_id.is_empty() && making.key_store_id != *key_store_id => {
            Some(format!("{arn} was made from it in {key_store_id}, and stays there"))
        }
        _ => None,
    }
}

/// What is changed of a key that is there, but for grants and aliases.
fn changes(wanted: &Wanted, key: &HereKey) -> Vec<Step> {
    let mut steps = Vec::new();
    if wanted.description != key.description {
        steps.push(Step::UpdateDescription);
    }
    let differs = |(name, value): &(&String, &String)| key.tags.get(*name) != Some(*value);
    let tags: BTreeMap<String, String> =
        wanted.tags.iter().filter(differs).map(|(name, value)| (name.clone(), value.clone())).collect();
    if !tags.is_empty() {
        steps.push(Step::TagResource { tags });
    }
    if wanted.policy.document != key.policy {
        steps.push(Step::PutKeyPolicy);
    }
    steps
}

fn about_policy(wanted: &Wanted, here: &Here) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(own) = &here.account {
        notes.extend(wanted.other_accounts(own).into_iter().map(|account| {
            format!("its policy names the account {account}, and this one is {own}: --map {account}={own} where that is meant")
        }));
    }
    notes.extend(wanted.policy.resources.iter().map(|resource| {
        format!("its policy has the resource {resource}, and is about the new key there only if that fits its ARN")
    }));
    if !wanted.policy.waits_for.is_empty() {
        notes.push(
            "its policy names keys that are imported too: their new ARNs take their places once they are made"
                .to_owned(),
        );
    }
    notes
}

impl Plan {
    /// Names the plan: SHA-256 of all that it says.
    pub(super) fn digest(&self) -> Result<String, serde_json::Error> {
        let said = serde_json::to_vec(self)?;
        Ok(hexadecimal(digest(&SHA256, &said).as_ref()))
    }

    pub(super) fn steps(&self) -> usize {
        self.keys.iter().map(|key| key.steps.len()).sum()
    }

    pub(super) fn problems(&self) -> usize {
        self.keys.iter().map(|key| key.problems.len()).sum()
    }
}

/// Bytes as text.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
