//! PutKeyPolicy, GetKeyPolicy, ListKeyPolicies: the policy of a key, which is the root of who may do what with it.

use std::borrow::Cow;
use std::sync::Arc;

use super::policies::Read;
use crate::core::access::{Details, NO_KEY};
use crate::core::authority::{Judge, Subject};
use crate::core::directory::default_document;
use crate::core::meant::Meant;
use crate::core::proposal::Proposal;
use crate::core::repeated::{Again, Done};
use crate::core::{Core, validate};
use crate::{Error, RequestContext, Service};
use auth::policy::{KEY_POLICY, Kind};
use model::exception::Exception;
use model::id::KeyId;
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
    /// The policy; to be empty where the default one is to be put.
    pub policy: String,
    /// The default policy is to be put, which keys have for which none was put.
    pub default_policy: bool,
    /// The caller takes it upon itself that nobody can change the policy again.
    pub bypass_lockout_check: bool,
}

impl Service {
    /// Puts the policy of a key. Gives what is doubtful about it. When this returns, the former one no longer counts.
    pub async fn put_key_policy(&self, call: &RequestContext, input: PutKeyPolicyInput) -> Result<Vec<String>, Error> {
        let (key_id, bypass_lockout_check) = (input.key_id.clone(), input.bypass_lockout_check);
        let (operation, of_task) = (Operation::PutKeyPolicy, call.clone());
        let wanted = Arc::new(Wanted { input, names: Meant::default() });
        let [said, looked, same] = [&wanted; 3].map(Arc::clone);
        let done = Done::default();
        let again = Again::seen(&done, "", move |core, call, key| same.is_put(core, call, key));
        let details = Details {
            bypass_lockout_check: Some(bypass_lockout_check),
            policy_name: known_name(&wanted.input.policy_name),
            decided_once: true,
            ..Details::default()
        };
        let details = details
            .asking(move |core, say| said.proposal(core, say))
            .if_before(move |core, call, key| looked.read(core, call, key).map(drop))
            .unless_done(again);
        let work = move |core: Core, key: Arc<Key>| async move {
            let read = wanted.read(&core, &of_task, key.id)?;
            let (names, warnings) = read.taken(&wanted.names)?;
            if done.is_found() {
                return Ok(warnings);
            }
            let document = wanted.document(&core)?.into_owned();
            let (new, states) = (NewKeyPolicy { document, names }, operation.spec().allowed_states);
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
        let [said, policy_name] = [policy_name; 2].map(str::to_owned);
        let details = Details::default().asking(move |_, say| say.text("policyName", &said));
        let work = move |core: Core, key: Arc<Key>| async move {
            is_default(&policy_name)?;
            Ok(match &key.policy {
                Some(policy) => core.shown_policy(&policy.document, &policy.names),
                None => default_document(core.scope()),
            })
        };
        self.core.on_key_with(call, Operation::GetKeyPolicy, key_id, details, work).await
    }

    /// Lists the names of a key's policies: each has one.
    pub async fn list_key_policies(
        &self,
        call: &RequestContext,
        key_id: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Vec<String>, Error> {
        let [said, marker] = [marker; 2].map(str::to_owned);
        let details = Details::default().asking(move |_, say| say.page(limit, &said));
        let work = move |_: Core, _: Arc<Key>| async move {
            validate::page_limit(limit)?;
            // No page has another one behind it, so that none gives a marker. AWS's model has no exception for one that was
            // not given, as it has for other lists, which leaves the common one for what a parameter must not be.
            match marker.is_empty() {
                true => Ok(vec![KEY_POLICY.to_owned()]),
                false => Err(Error::validation("marker: this list has one page, and gives no marker; leave it out")),
            }
        };
        self.core.on_key_with(call, Operation::ListKeyPolicies, key_id, details, work).await
    }
}

/// The name of the policy by which AWS shares a key with other accounts. No key has it here.
const SHARED: &str = "AWS_RAM";

/// What is to be put, and whom it names once others are told of it.
struct Wanted {
    input: PutKeyPolicyInput,
    names: Meant<Names>,
}

impl Wanted {
    fn document(&self, core: &Core) -> Result<Cow<'_, str>, Error> {
        match (self.input.default_policy, self.input.policy.is_empty()) {
            (true, true) => Ok(default_document(core.scope()).into()),
            (true, false) => Err(Error::validation("policy: give a policy or have the default one put, not both")),
            (false, _) => Ok(self.input.policy.as_str().into()),
        }
    }

    fn proposal(&self, core: &Core, say: Proposal) -> Proposal {
        let PutKeyPolicyInput { policy_name, policy, default_policy, bypass_lockout_check, .. } = &self.input;
        let say = say
            .text("policyName", policy_name)
            .policy("policy", policy, || core.whom_it_names(policy, KIND, &self.names));
        // AWS has no such parameter.
        let say = if *default_policy {
            say.flag("defaultPolicy", true)
        } else {
            say.others_alone(|say| say.flag("defaultPolicy", false))
        };
        say.flag("bypassPolicyLockoutSafetyCheck", *bypass_lockout_check)
    }

    /// Whether it is the key's policy already, and means the same principals.
    fn is_put(&self, core: &Core, call: &RequestContext, key: KeyId) -> bool {
        // What is wrong with it is told where it is looked at.
        let (Ok(document), Ok(read)) = (self.document(core), self.read(core, call, key)) else { return false };
        let catalogue = core.store().catalogue();
        let Some(key) = catalogue.key(key) else { return false };
        match &key.policy {
            Some(policy) => *policy.document == *document && policy.names == *read.0.policy.bindings().pairs(),
            None => *document == *default_document(core.scope()),
        }
    }

    /// The policy, if it may be that of this key.
    fn read(&self, core: &Core, call: &RequestContext, key: KeyId) -> Result<Read, Error> {
        if self.input.policy_name == SHARED {
            return Err(Error::validation("The AWS_RAM policy can only be managed by the RAM service."));
        }
        is_default(&self.input.policy_name)?;
        let arn = core.scope().key_arn(key);
        let read = core.read_policy(&KEY_POLICY.into(), &self.document(core)?, Kind::Key { arn: Some(&arn) })?;
        if !self.input.bypass_lockout_check {
            core.judged(call, |judge| keeps_control(judge, &read.0.policy, Subject::key(judge.keyring(), key, &arn)))?;
        }
        Ok(read)
    }
}

/// A policy of a key, whichever that is.
const KIND: Kind<'static> = Kind::Key { arn: None };

impl Core {
    /// Whom the policy of a key that is to be made names.
    pub(crate) fn whom_new_key_names<'m>(&self, document: &str, meant: &'m Meant<Names>) -> Option<&'m Names> {
        self.whom_it_names(document, KIND, meant)
    }

    /// The policy that a key is to be made with; `None` where that is the default.
    pub(crate) fn policy_of_new_key(
        &self,
        call: &RequestContext,
        document: &str,
        bypass_lockout_check: bool,
        meant: &Meant<Names>,
    ) -> Result<Option<NewKeyPolicy>, Error> {
        if document.is_empty() {
            return Ok(None);
        }
        let read = self.read_policy(&KEY_POLICY.into(), document, KIND)?;
        if !bypass_lockout_check {
            // It has no id yet.
            let arn = self.scope().key_arn(NO_KEY);
            self.judged(call, |judge| keeps_control(judge, &read.0.policy, Subject::NoKey(&arn)))?;
        }
        let (names, _) = read.taken(meant)?;
        Ok(Some(NewKeyPolicy { document: document.to_owned(), names }))
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

/// The policy that a request means, as conditions see it, where there could be one of that name.
fn known_name(policy_name: &str) -> Option<&'static str> {
    match policy_name {
        "" | KEY_POLICY => Some(KEY_POLICY),
        SHARED => Some(SHARED),
        _ => None,
    }
}

fn is_default(policy_name: &str) -> Result<(), Error> {
    if known_name(policy_name) == Some(KEY_POLICY) {
        return Ok(());
    }
    let shown = validate::shown(policy_name);
    Err(Error::permanent(
        Exception::NotFound,
        format!("No such policy exists: {shown}; a key's is called {KEY_POLICY}"),
    ))
}
