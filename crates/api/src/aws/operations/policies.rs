//! PutKeyPolicy, GetKeyPolicy and ListKeyPolicies.

use serde::Serialize;

use super::Answer;
use super::asked::{flag, number, text};
use super::output::{json, nothing};
use crate::aws::model::Input;
use service::{PutKeyPolicyInput, RequestContext, Service};

/// The one policy that a key has.
const DEFAULT: &str = "default";

/// Puts the policy of a key. AWS has no place for what is doubtful about it: over gRPC it is shown.
pub(super) async fn put(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let input = PutKeyPolicyInput {
        default_policy: false,
        key_id: text(asked, "KeyId"),
        policy_name: text(asked, "PolicyName"),
        policy: text(asked, "Policy"),
        bypass_lockout_check: flag(asked, "BypassPolicyLockoutSafetyCheck"),
    };
    service.put_key_policy(call, input).await?;
    Ok(nothing())
}

/// Shows the policy of a key.
pub(super) async fn get(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    shown(service.get_key_policy(call, &text(asked, "KeyId"), &text(asked, "PolicyName")).await?)
}

/// Lists the names of a key's policies.
pub(super) async fn list(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let (key_id, limit, marker) = (text(asked, "KeyId"), number(asked, "Limit"), text(asked, "Marker"));
    listed(service.list_key_policies(call, &key_id, limit, &marker).await?)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PolicyAnswer {
    policy: String,
    policy_name: &'static str,
}

pub(super) fn shown(policy: String) -> Answer {
    json(&PolicyAnswer { policy, policy_name: DEFAULT })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PoliciesAnswer {
    policy_names: Vec<String>,
    truncated: bool,
}

/// They are few, and come on one page.
pub(super) fn listed(policy_names: Vec<String>) -> Answer {
    json(&PoliciesAnswer { policy_names, truncated: false })
}
