//! Who may do what: the rules are asked here, and nowhere else.
//!
//! Whether there is such a thing is told only to callers who may do with it what they ask for: the rules are asked about
//! the ARN before anything is looked up, and a denial reads the same whether there is a key, key store or cluster of that
//! name or none.

use std::sync::Arc;

use super::{Core, validate};
use crate::{Error, RequestContext};
use auth::request::{AuthorizationRequest, Conditions, NO_RESOURCE};
use auth::rule::{Reason, Rules, Verdict};
use model::context::EncryptionContext;
use model::exception::Exception;
use model::id::{KeyId, KeyReference, KeyReferenceError};
use model::limits;
use model::operation::{Operation, Resource};
use store::Catalogue;

impl Core {
    /// The rules of the moment.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.inner.rules.load_full()
    }

    /// Has other rules count from now on: when this returns, nothing is given out any more that they forbid.
    #[cfg(test)]
    pub(crate) fn set_rules(&self, rules: Rules) {
        self.inner.rules.store(Arc::new(rules));
        self.wait_for_releases();
    }

    /// The key that a request names, whether there is one with this id or not. Where the operation takes aliases, an
    /// alias stands for the key that has it in this catalogue.
    pub(crate) fn key_named(&self, operation: Operation, text: &str, catalogue: &Catalogue) -> Result<KeyId, Error> {
        validate::key_reference(text)?;
        match self.scope().parse_key_reference(text)? {
            KeyReference::Id(id) => Ok(id),
            KeyReference::Alias(_) if operation.spec().resource != Resource::KeyOrAlias => {
                Err(KeyReferenceError::NotAKeyId(validate::shown(text)).into())
            }
            KeyReference::Alias(name) => {
                let unknown = || KeyReferenceError::UnknownAlias(self.scope().alias_arn(name.as_str()));
                Ok(catalogue.key_with_alias(&name).ok_or_else(unknown)?.id)
            }
        }
    }

    /// The ARN of what a call names; `*` where it names nothing. What cannot be a name is an error, the same for
    /// everybody.
    pub(crate) fn arn_of(&self, operation: Operation, id: &str) -> Result<Arc<str>, Error> {
        let scope = self.scope();
        Ok(match operation.spec().resource {
            Resource::Alias => scope.alias_arn(validate::alias_name(id)?).into(),
            _ if id.is_empty() => NO_RESOURCE.into(),
            Resource::KeyStore => {
                validate::length("customKeyStoreId", id.len(), 1, limits::KEY_STORE_ID_BYTES)?;
                scope.key_store_arn(id).into()
            }
            Resource::Cluster => scope.cluster_arn(validate::cluster_id(id)?.as_str()).into(),
            Resource::Key | Resource::KeyOrAlias | Resource::Account => NO_RESOURCE.into(),
        })
    }
}

/// Asks the rules.
pub(crate) fn allowed(
    rules: &Rules,
    call: &RequestContext,
    operation: Operation,
    resource: &str,
    encryption_context: Option<&EncryptionContext>,
) -> Result<(), Error> {
    permitted(rules, call, operation.spec().permission, resource, encryption_context)
}

/// The same, about one permission of an operation that needs two.
pub(crate) fn permitted(
    rules: &Rules,
    call: &RequestContext,
    action: &'static str,
    resource: &str,
    encryption_context: Option<&EncryptionContext>,
) -> Result<(), Error> {
    let conditions = Conditions { encryption_context };
    match rules.decide(&AuthorizationRequest { context: call, action, resource, conditions }) {
        Verdict::Allow(_) => Ok(()),
        Verdict::Deny(reason) => {
            let because = match reason {
                Reason::Statement(_) => "with an explicit deny",
                Reason::NothingAllows => "because nothing allows it",
            };
            let who = call.principal.as_str();
            let what = format!("{who} is not authorized to perform {action} on {resource} {because}");
            Err(Error::permanent(Exception::AccessDenied, what))
        }
    }
}
