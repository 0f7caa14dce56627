//! What a restore makes of who may do what, told beside the rest of the plan.

use std::io::{self, Write};
use std::sync::Arc;

use store::access::Principal;
use store::restore::AccessPlan;

/// A line under a heading: what there is, of whom.
type Lines = Vec<String>;

/// See [`AccessPlan::unsure`].
const UNSURE: &str = "\nAccess keys that come back disabled, since nobody knows whether they were deleted or disabled after the \
                      backup\n(keystorectl access-key enable; with --keep-access-keys they are as the backup has them):";

pub(super) fn tell(out: &mut (dyn Write + Send), plan: &AccessPlan) -> io::Result<()> {
    let headed = [
        ("\nAccess that was taken away since the backup stays away:", stays_away(plan)),
        (UNSURE, unsure(plan)),
        ("\nAccess that is as the backup has it again; look at it before anybody calls:", comes_back(plan)),
        ("\nAccess that the restored database will not know:", unknown(plan)),
    ];
    for (heading, lines) in headed {
        if lines.is_empty() {
            continue;
        }
        writeln!(out, "{heading}")?;
        for line in lines {
            writeln!(out, "  {line}")?;
        }
    }
    if plan.approvals > 0 {
        writeln!(out, "\nRequests for approval do not come back, since they may have been used: {}", plan.approvals)?;
    }
    Ok(())
}

fn stays_away(plan: &AccessPlan) -> Lines {
    let AccessPlan { deleted, identities, access_keys, inactive, memberships, attachments, revoked, .. } = plan;
    let deleted = deleted.iter().map(|principal| format!("{} stays deleted", named(principal)));
    let identities = identities.iter().map(|(id, name)| format!("{name} is no name of principal {id}"));
    let access_keys = access_keys.iter().map(|(id, key)| format!("access key {key} of principal {id} stays deleted"));
    let inactive = inactive.iter().map(|(id, key)| format!("access key {key} of principal {id} stays disabled"));
    let memberships = memberships.iter().map(|(id, group)| format!("principal {id} is not in group {group}"));
    let attachments = attachments.iter().map(|(of, policy)| format!("policy {policy} is not attached to {of}"));
    let revoked = revoked.iter().map(|(key, grant)| format!("grant {grant} of key {key} stays revoked"));
    let of_principals = deleted.chain(identities).chain(access_keys).chain(inactive);
    of_principals.chain(memberships).chain(attachments).chain(revoked).collect()
}

fn unsure(plan: &AccessPlan) -> Lines {
    plan.unsure.iter().map(|(id, key)| format!("access key {key} of principal {id}")).collect()
}

fn comes_back(plan: &AccessPlan) -> Lines {
    let AccessPlan { back, kept, key_policies, policies, groups, .. } = plan;
    let kept = kept.iter().map(|(id, key)| format!("access key {key} of principal {id} is active"));
    let back = back.iter().map(|principal| format!("{} is back", named(principal)));
    let key_policies = key_policies.iter().map(|key| format!("the policy of key {key}"));
    let policies = policies.iter().map(|name| format!("the policy {name}"));
    let groups = groups.iter().map(|name| format!("group {name} is back, without those who had left it"));
    back.chain(kept).chain(key_policies).chain(policies).chain(groups).collect()
}

fn unknown(plan: &AccessPlan) -> Lines {
    let access_keys = plan.unknown_access_keys.iter().map(|(id, key)| format!("access key {key} of principal {id}"));
    plan.unknown.iter().map(named).chain(access_keys).collect()
}

fn named(principal: &Arc<Principal>) -> String {
    format!("principal {} ({})", principal.arn, principal.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_told_and_nothing_else() {
        let told = |plan: &AccessPlan| {
            let mut out = Vec::new();
            tell(&mut out, plan).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(told(&AccessPlan::default()), "");
        let mut plan = AccessPlan::default();
        plan.memberships.push(("AIDAEXAMPLE".into(), "operators".into()));
        plan.inactive.push(("AIDAEXAMPLE".into(), "AKKSEXAMPLE".into()));
        plan.unsure.push(("AIDAEXAMPLE".into(), "AKKSUNSURE".into()));
        plan.kept.push(("AIDAEXAMPLE".into(), "AKKSKEPT".into()));
        plan.unknown_access_keys.push(("AIDAEXAMPLE".into(), "AKKSANOTHER".into()));
        plan.policies.push("may-decrypt".into());
        plan.approvals = 2;
        assert_eq!(
            told(&plan),
            "\nAccess that was taken away since the backup stays away:\n  access key AKKSEXAMPLE of principal AIDAEXAMPLE stays \
             disabled\n  principal AIDAEXAMPLE is not in group operators\n\
             \nAccess keys that come back disabled, since nobody knows whether they were deleted or disabled after the \
             backup\n(keystorectl access-key enable; with --keep-access-keys they are as the backup has them):\n  access key \
             AKKSUNSURE of principal AIDAEXAMPLE\n\
             \nAccess that is as the backup has it again; look at it before anybody calls:\n  access key AKKSKEPT of principal \
             AIDAEXAMPLE is active\n  the policy may-decrypt\n\
             \nAccess that the restored database will not know:\n  access key AKKSANOTHER of principal AIDAEXAMPLE\n\
             \nRequests for approval do not come back, since they may have been used: 2\n"
        );
    }
}
