//! PutKeyPolicy, GetKeyPolicy, ListKeyPolicies: the policy of a key, which is the root of who may do what with it.

use std::sync::Arc;

use crate::core::access::{Details, NO_KEY};
use crate::core::authority::{Judge, Subject};
use crate::core::directory::{KEY_POLICY, default_document};
use crate::core::meant::Meant;
use crate::core::proposal::Proposal;
use crate::core::{Core, page, validate};
use crate::{Error, RequestContext, Service};
use auth::policy::Kind;
use model::exception::Exception;
use model::operation::Operation;
use store::Key;
use store::access::{Names, NewKeyPolicy};

/// What is to be put.
#[derive(Clone, Debug, Default)]
pub struct PutKeyPolicyInput {
    /// Key id or key ARN.
    pub key_id: String,
    /// `default`, or empty.
    pub policy_name: String,
    /// The policy.
    pub policy: String,
    /// The caller takes it upon itself that nobody can change the policy again.
    pub bypass_lockout_check: bool,
}

impl Service {
    /// Puts the policy of a key. Gives what is doubtful about it. When this returns, the former one counts no more.
    pub async fn put_key_policy(&self, call: &RequestContext, input: PutKeyPolicyInput) -> Result<Vec<String>, Error> {
        let PutKeyPolicyInput { key_id, policy_name, policy, bypass_lockout_check } = input;
        let (operation, of_task) = (Operation::PutKeyPolicy, call.clone());
        let details =
            Details { bypass_lockout_check: Some(bypass_lockout_check), decided_once: true, ..Details::default() };
        let meant = self.core.whom_it_names(operation, &policy, Kind::Key { arn: None });
        let proposal = Proposal::new()
            .text("policyName", &policy_name)
            .policy(&policy, &meant)
            .flag("bypassPolicyLockoutSafetyCheck", bypass_lockout_check);
        let details = details.asking(proposal);
        let work = move |core: Core, key: Arc<Key>| async move {
            is_default(&policy_name)?;
            let arn = core.scope().key_arn(key.id);
            let read = core.read_policy(&KEY_POLICY.into(), &policy, Kind::Key { arn: Some(&arn) })?;
            if !bypass_lockout_check {
                core.judged(&of_task, |judge| {
                    keeps_control(judge, &read.0.policy, Subject::key(judge.keyring(), key.id, &arn))
                })?;
            }
            let (names, warnings) = read.taken(&meant)?;
            let (new, states) = (NewKeyPolicy { document: policy, names }, operation.spec().allowed_states);
            core.store().put_key_policy(key.id, new, states).await.map_err(|error| core.of_store(error))?;
            tracing::info!(key = %key.id, bypass_lockout_check, "the policy of the key was put");
            Ok(warnings)
        };
        self.core.on_key_with(call, operation, &key_id, details, work).await
    }

    /// Shows the policy of a key as it was put; whoever is gone is named by id. `policy_name` is `default`, or empty.
    pub async fn get_key_policy(
        &self,
        call: &RequestContext,
        key_id: &str,
        policy_name: &str,
    ) -> Result<String, Error> {
        let policy_name = policy_name.to_owned();
        let work = move |core: Core, key: Arc<Key>| async move {
            is_default(&policy_name)?;
            Ok(match &key.policy {
                Some(policy) => core.shown_policy(&policy.document, &policy.names),
                None => default_document(core.scope()),
            })
        };
        self.core.on_key(call, Operation::GetKeyPolicy, key_id, work).await
    }

    /// Lists the names of a key's policies: each has one.
    pub async fn list_key_policies(
        &self,
        call: &RequestContext,
        key_id: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Vec<String>, Error> {
        let marker = marker.to_owned();
        let work = move |_: Core, _: Arc<Key>| async move {
            validate::page_limit(limit)?;
            // No page has another one behind it, so that none gives a marker.
            page::after('q', &marker, |_| None::<()>)?;
            Ok(vec![KEY_POLICY.to_owned()])
        };
        self.core.on_key(call, Operation::ListKeyPolicies, key_id, work).await
    }
}

impl Core {
    /// Whom the policy of a key that is to be made names.
    pub(crate) fn meant_by_new_key(&self, document: &str) -> Meant<Names> {
        self.whom_it_names(Operation::CreateKey, document, Kind::Key { arn: None })
    }

    /// The policy that a key is to be made with; `None` where that is the default.
    pub(crate) fn policy_of_new_key(
        &self,
        call: &RequestContext,
        document: String,
        bypass_lockout_check: bool,
        meant: &Meant<Names>,
    ) -> Result<Option<NewKeyPolicy>, Error> {
        if document.is_empty() {
            return Ok(None);
        }
        let read = self.read_policy(&KEY_POLICY.into(), &document, Kind::Key { arn: None })?;
        if !bypass_lockout_check {
            // It has no id yet.
            let arn = self.scope().key_arn(NO_KEY);
            self.judged(call, |judge| keeps_control(judge, &read.0.policy, Subject::NoKey(&arn)))?;
        }
        let (names, _) = read.taken(meant)?;
        Ok(Some(NewKeyPolicy { document, names }))
    }
}

/// The lock-out check.
fn keeps_control(judge: &Judge<'_>, policy: &auth::policy::Policy, subject: Subject<'_>) -> Result<(), Error> {
    if judge.would_keep_control(policy, subject) {
        return Ok(());
    }
    let what = "The new key policy will not allow you to update the key policy in the future. Have it allow \
                kms:PutKeyPolicy to the caller, or to the account and an identity policy to the caller, or bypass this \
                check.";
    Err(Error::permanent(Exception::MalformedPolicyDocument, what))
}

fn is_default(policy_name: &str) -> Result<(), Error> {
    if policy_name.is_empty() || policy_name == KEY_POLICY {
        return Ok(());
    }
    let shown = validate::shown(policy_name);
    Err(Error::permanent(
        Exception::NotFound,
        format!("No such policy exists: {shown}; a key's is called {KEY_POLICY}"),
    ))
}
