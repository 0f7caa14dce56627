//! Carries a plan out, step by step, until one fails. The next import finds what was done.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use super::mapping::Mapping;
use super::plan::{KeyPlan, Plan, Step, hexadecimal};
use super::policy::{Names, rewritten};
use super::wanted::Grant;
use crate::failure::{Exit, Failure};
use crate::printer::Printer;
use client::Client;
use proto::v1 as wire;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Applied {
    pub(super) done: Vec<Done>,
    /// What was not done because something before it failed.
    pub(super) left: Vec<Done>,
    /// Old ARNs of keys and aliases, and the new ones that are there.
    pub(super) mapping: BTreeMap<String, String>,
    /// What the service found doubtful about a policy that was put.
    pub(super) warnings: Vec<String>,
}

/// A step that was done, or is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Done {
    pub(super) old_arn: String,
    pub(super) new_arn: Option<String>,
    pub(super) step: Step,
}

/// One run.
struct Run<'a> {
    client: &'a Client,
    printer: &'a Printer,
    plan: &'a Plan,
    mapping: &'a Mapping,
    /// New ARNs, by old ones.
    keys: BTreeMap<String, Option<String>>,
    applied: Applied,
}

/// Does what the plan says. What was done is told in any case.
pub(super) async fn apply(
    client: &Client,
    printer: &Printer,
    plan: &Plan,
    mapping: &Mapping,
) -> (Applied, Result<(), Failure>) {
    let keys = plan.keys.iter().map(|key| (key.old_arn.clone(), key.new_arn.clone())).collect();
    let mut run = Run { client, printer, plan, mapping, keys, applied: Applied::default() };
    let mut steps = order(plan).into_iter();
    let mut outcome = Ok(());
    for (key, step) in steps.by_ref() {
        if let Err(failure) = run.step(key, step).await {
            let message = format!("{}: cannot {}: {}", key.old_arn, step.text(), failure.message);
            outcome = Err(Failure { message, ..failure });
            run.applied.left.push(run.told(key, step));
            break;
        }
        run.applied.done.push(run.told(key, step));
    }
    let left: Vec<Done> = steps.map(|(key, step)| run.told(key, step)).collect();
    run.applied.left.extend(left);
    run.applied.mapping = run.named();
    (run.applied, outcome)
}

/// All steps in the order in which they are done: policies may name keys that have to be made first.
fn order(plan: &Plan) -> Vec<(&KeyPlan, &Step)> {
    let all = || plan.keys.iter().flat_map(|key| key.steps.iter().map(move |step| (key, step)));
    let (first, then) = (|step: &Step| *step == Step::CreateKey, |step: &Step| *step != Step::CreateKey);
    all().filter(|(_, step)| first(step)).chain(all().filter(|(_, step)| then(step))).collect()
}

/// The same key again, where an answer was lost. A day later the tag tells.
fn token(old_arn: &str) -> String {
    format!("import-{}", hexadecimal(digest(&SHA256, old_arn.as_bytes()).as_ref()))
}

impl Run<'_> {
    async fn step(&mut self, key: &KeyPlan, step: &Step) -> Result<(), Failure> {
        let client = self.client;
        if *step == Step::CreateKey {
            let arn = self.create(key).await?;
            self.printer.note(format!("{}: made {arn}", key.old_arn));
            self.keys.insert(key.old_arn.clone(), Some(arn));
            return Ok(());
        }
        let arn = self.arn(key)?;
        match step {
            Step::CreateKey => {}
            Step::UpdateDescription => client.update_key_description(&arn, &key.description).await?,
            Step::TagResource { tags } => client.tag_resource(&arn, wire_tags(tags)).await?,
            Step::PutKeyPolicy => {
                let names = Names { own: &key.old_arn, keys: &self.keys, mapping: self.mapping };
                let policy = rewritten(&key.source, &names).map_err(Failure::local)?.document;
                let request = wire::PutKeyPolicyRequest {
                    key_id: arn.clone(),
                    policy,
                    bypass_policy_lockout_safety_check: self.plan.making.bypass_lockout_check,
                    ..Default::default()
                };
                let warnings = client.put_key_policy(request).await?;
                self.applied.warnings.extend(warnings.into_iter().map(|warning| format!("{arn}: {warning}")));
            }
            Step::CreateGrant { grant } => drop(client.create_grant(wire_grant(&arn, grant)).await?),
            Step::CreateAlias { alias_name } => {
                let request = wire::CreateAliasRequest {
                    alias_name: alias_name.clone(),
                    target_key_id: arn.clone(),
                    ..Default::default()
                };
                client.create_alias(request).await?;
            }
            Step::DisableKey => client.disable_key(&arn).await?,
        }
        self.printer.note(format!("{arn}: {}", step.text()));
        Ok(())
    }

    async fn create(&self, key: &KeyPlan) -> Result<String, Failure> {
        let request = wire::CreateKeyRequest {
            key_store_id: self.plan.making.key_store_id.clone(),
            description: key.description.clone(),
            client_token: token(&key.old_arn),
            tags: wire_tags(&key.tags),
            policy: key.policy.clone(),
            bypass_policy_lockout_safety_check: self.plan.making.bypass_lockout_check,
        };
        let hint = "an import of the last day made a key from it with other parameters, and you cannot see it or the tag \
                    was taken from it; try again a day later, or as who imported it";
        let made = self.client.create_key(request).await;
        let made = made.map_err(|error| Failure::from(error).hinted_where("ConflictException", hint))?;
        if made.key_state() == wire::KeyState::PendingDeletion {
            let what = format!("{} was made from it within the last day, and is pending deletion", made.arn);
            return Err(Failure::new(Exit::Refused, what).with_hint("cancel the deletion, or try again a day later"));
        }
        Ok(made.arn)
    }

    fn arn(&self, key: &KeyPlan) -> Result<String, Failure> {
        let made = self.keys.get(&key.old_arn).cloned().flatten();
        made.ok_or_else(|| Failure::local("the key has not been made"))
    }

    fn told(&self, key: &KeyPlan, step: &Step) -> Done {
        let new_arn = self.keys.get(&key.old_arn).cloned().flatten();
        Done { old_arn: key.old_arn.clone(), new_arn, step: step.clone() }
    }

    /// Keys that are there, and aliases that are theirs.
    fn named(&self) -> BTreeMap<String, String> {
        let mut named = BTreeMap::new();
        for key in &self.plan.keys {
            let Some(Some(new)) = self.keys.get(&key.old_arn) else { continue };
            named.insert(key.old_arn.clone(), new.clone());
            let left = |alias: &str| {
                let is_it = |done: &Done| matches!(&done.step, Step::CreateAlias { alias_name } if alias_name == alias);
                self.applied.left.iter().any(|done| is_it(done) && done.old_arn == key.old_arn)
            };
            let there = key.aliases.iter().filter(|(alias, _)| !left(alias));
            named.extend(there.filter_map(|(alias, old)| Some((old.clone(), format!("{}:{alias}", scope(new)?)))));
        }
        named
    }
}

/// What stands before the resource in an ARN.
fn scope(arn: &str) -> Option<&str> {
    arn.rsplit_once(":key/").map(|(scope, _)| scope)
}

fn wire_tags(tags: &BTreeMap<String, String>) -> Vec<wire::Tag> {
    tags.iter().map(|(name, value)| wire::Tag { tag_key: name.clone(), tag_value: value.clone() }).collect()
}

fn wire_grant(key_id: &str, grant: &Grant) -> wire::CreateGrantRequest {
    let pairs = |pairs: &BTreeMap<String, String>| pairs.clone().into_iter().collect();
    let constraints = wire::GrantConstraints {
        encryption_context_subset: pairs(&grant.context_subset),
        encryption_context_equals: pairs(&grant.context_equals),
    };
    wire::CreateGrantRequest {
        key_id: key_id.to_owned(),
        grantee_principal: grant.grantee.clone(),
        retiring_principal: grant.retiring.clone().unwrap_or_default(),
        operations: grant.operations.iter().cloned().collect(),
        constraints: (constraints != wire::GrantConstraints::default()).then_some(constraints),
        name: grant.name.clone(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_for_the_same_key_and_short_enough() {
        let arn = "arn:aws:kms:us-east-1:111122223333:key/a";
        assert_eq!(token(arn), token(arn));
        assert_ne!(token(arn), token("arn:aws:kms:us-east-1:111122223333:key/b"));
        assert!(token(arn).len() <= model::limits::CLIENT_TOKEN_CHARS);
    }

    #[test]
    fn the_scope_of_a_key_is_that_of_its_aliases() {
        assert_eq!(scope("arn:aws:kms:eu-central-1:000000000000:key/1"), Some("arn:aws:kms:eu-central-1:000000000000"));
        assert_eq!(scope("arn:x"), None);
    }

    #[test]
    fn an_empty_constraint_is_none() {
        let grant = Grant {
            grantee: "arn:g".to_owned(),
            retiring: None,
            operations: ["Decrypt".to_owned()].into(),
            context_subset: BTreeMap::new(),
            context_equals: BTreeMap::new(),
            name: String::new(),
        };
        assert_eq!(wire_grant("k", &grant).constraints, None);
        let with = Grant { context_equals: [("a".to_owned(), "b".to_owned())].into(), ..grant };
        let constraints = wire_grant("k", &with).constraints.unwrap();
        assert_eq!(constraints.encryption_context_equals["a"], "b");
        assert!(constraints.encryption_context_subset.is_empty());
    }
}
