//! Policies, compiled once per change and not once per call: those that are attached to principals and groups, those that
//! are part of the program, and those of keys.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use auth::policy::{Bindings, KEY_POLICY, Kind, Policy};
use model::id::{PolicyName, PrincipalId, Scope};
use store::Catalogue;
use store::access::{KeyPolicy, Names};

/// A policy; `None` where this release cannot read it.
pub(crate) type Compiled = Option<Arc<Policy>>;

/// The identity policies of one revision of the catalogue.
#[derive(Clone, Default)]
pub(crate) struct Directory {
    policies: BTreeMap<PolicyName, (Arc<store::access::Policy>, Compiled)>,
}

impl Directory {
    /// Those of a catalogue. What did not change is taken over.
    pub(crate) fn next(&self, catalogue: &Catalogue) -> Self {
        let compiled = |policy: &Arc<store::access::Policy>| {
            let known = self.policies.get(&policy.name).filter(|(known, _)| known == policy);
            let compiled = known.map_or_else(
                || saved(&policy.name, &policy.document, &policy.names, Kind::Identity),
                |(_, compiled)| compiled.clone(),
            );
            (policy.name.clone(), (Arc::clone(policy), compiled))
        };
        Self { policies: catalogue.policies_after(None).map(compiled).collect() }
    }

    /// A policy, be it a part of the program. One that is gone was detached before from whomever it was attached to.
    pub(crate) fn policy(&self, name: &PolicyName) -> Compiled {
        let own = || self.policies.get(name).and_then(|(_, compiled)| compiled.clone());
        managed(name).map_or_else(own, |managed| managed.policy.clone())
    }
}

/// A policy that is part of the program.
pub(crate) struct Managed {
    pub(crate) name: PolicyName,
    pub(crate) description: &'static str,
    pub(crate) document: &'static str,
    policy: Compiled,
}

/// Name, what it is for, document.
const MANAGED: [(&str, &str, &str); 5] = [
    (
        "Administrator",
        "Everything, and with it the giving of permissions to others.",
        r#"{
  "Version": "2012-10-17",
  "Statement": [{"Sid": "Everything", "Effect": "Allow", "Action": "*", "Resource": "*"}]
}"#,
    ),
    (
        "Operator",
        "The running of key stores, clusters and HSMs, and a look at keys; neither their use nor permissions.",
        r#"{
  "Version": "2012-10-17",
  "Statement": [
    {"Sid": "Stores", "Effect": "Allow", "Action": "kms:*CustomKeyStore*", "Resource": "*"},
    {
      "Sid": "Clusters", "Effect": "Allow", "Resource": "*",
      "Action": [
        "keystored:DescribeClusters", "keystored:AddHsm", "keystored:ResealPins", "keystored:ResyncKeys",
        "keystored:GetStatistics", "keystored:DiagnoseHsm"
      ]
    },
    {
      "Sid": "AuditLog", "Effect": "Allow", "Resource": "*",
      "Action": ["keystored:GetAuditHead", "keystored:GetAuditKeys"]
    },
    {
      "Sid": "Keys", "Effect": "Allow", "Resource": "*",
      "Action": [
        "kms:DescribeKey", "kms:ListKeys", "kms:ListAliases", "kms:ListResourceTags", "kms:GetKeyLastUsage",
        "kms:GetKeyRotationStatus", "kms:ListKeyRotations"
      ]
    }
  ]
}"#,
    ),
    (
        "Auditor",
        "A look at everything; no use of keys, and no change.",
        r#"{
  "Version": "2012-10-17",
  "Statement": [{
    "Sid": "Look", "Effect": "Allow", "Resource": "*",
    "Action": [
      "kms:Describe*", "kms:Get*", "kms:List*", "keystored:Describe*", "keystored:Get*", "keystored:List*",
      "keystored:Explain*", "keystored:Check*"
    ]
  }]
}"#,
    ),
    (
        "KeyUser",
        "The use of keys whose policies leave it to identity policies.",
        r#"{
  "Version": "2012-10-17",
  "Statement": [{
    "Sid": "Use", "Effect": "Allow", "Resource": "*",
    "Action": [
      "kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey",
      "kms:GenerateDataKeyWithoutPlaintext", "kms:GenerateRandom", "kms:DescribeKey", "kms:ListKeys", "kms:ListAliases"
    ]
  }]
}"#,
    ),
    (
        "Approver",
        "A look at calls that others have to approve, and a say in them.",
        r#"{
  "Version": "2012-10-17",
  "Statement": [{
    "Sid": "Approve", "Effect": "Allow", "Resource": "*",
    "Action": ["keystored:Approve", "keystored:DescribeApproval", "keystored:ListApprovals"]
  }]
}"#,
    ),
];

static BUILT_IN: LazyLock<[Managed; 5]> = LazyLock::new(|| {
    MANAGED.map(|(name, description, document)| {
        let name = PolicyName::from(name);
        let policy = saved(&name, document, &Names::new(), Kind::Identity);
        Managed { name, description, document, policy }
    })
});

/// The policies that are part of the program.
pub(crate) fn all_managed() -> &'static [Managed] {
    &*BUILT_IN
}

/// The policy of this name that is part of the program.
pub(crate) fn managed(name: &PolicyName) -> Option<&'static Managed> {
    all_managed().iter().find(|managed| managed.name == *name)
}

/// The policy of a key for which none was put: AWS's, and with it the same for what AWS does not have. `kms:*` names no
/// permission that is keystored's own, so that a policy that is brought along from AWS gives none.
pub(crate) fn default_document(scope: &Scope) -> String {
    let Scope { partition, account, .. } = scope;
    format!(
        r#"{{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {{
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "arn:{partition}:iam::{account}:root"
    }},
    "Action" : "kms:*",
    "Resource" : "*"
  }}, {{
    "Sid" : "Enable keystored's own permissions",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "arn:{partition}:iam::{account}:root"
    }},
    "Action" : "keystored:*",
    "Resource" : "*"
  }} ]
}}"#
    )
}

/// The same, compiled.
pub(crate) fn default_policy(scope: &Scope) -> Compiled {
    saved(&KEY_POLICY.into(), &default_document(scope), &Names::new(), Kind::Key { arn: None })
}

/// The policy that was put for a key.
pub(crate) fn of_key(policy: &KeyPolicy, arn: &str) -> Compiled {
    saved(&KEY_POLICY.into(), &policy.document, &policy.names, Kind::Key { arn: Some(arn) })
}

/// A policy as it is in the metadata: whom its ARNs meant when it was put they mean still, and what was taken then is.
fn saved(name: &PolicyName, document: &str, names: &Names, kind: Kind<'_>) -> Compiled {
    let bindings = Bindings::new(names.clone());
    let resolve = |arn: &str| -> Option<PrincipalId> { bindings.resolve(arn) };
    // Those of keys have one name, which says of none whose it is.
    let key = if let Kind::Key { arn } = kind { arn } else { None };
    match Policy::compile_saved(name, document, kind, &resolve) {
        Ok(compiled) => {
            for finding in compiled.warnings.iter().filter(|finding| finding.problem.is_of_today()) {
                tracing::warn!(policy = %name, key, %finding,
                    "a policy would not be taken as it is today; it decides as it did, and should be put anew without this");
            }
            Some(Arc::new(compiled.policy))
        }
        Err(error) => {
            tracing::error!(policy = %name, key, %error,
                "a policy cannot be read, so that whom it is about may do nothing; have it put anew");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_part_of_the_program_can_be_read_and_has_nothing_doubtful() {
        for Managed { name, document, policy, .. } in all_managed() {
            assert!(policy.is_some(), "{name}");
            let findings = auth::policy::check(document, Kind::Identity, None, &|_| None);
            assert!(findings.iter().all(|finding| finding.severity < auth::policy::Severity::Warning), "{findings:?}");
        }
        let scope = Scope { partition: "aws".into(), region: "eu-central-1".into(), account: "111122223333".into() };
        assert!(default_policy(&scope).is_some());
        let findings = auth::policy::check(&default_document(&scope), Kind::Key { arn: None }, None, &|_| None);
        assert_eq!(findings, []);
    }
}
