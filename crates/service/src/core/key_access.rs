//! From what a request names to keys that its caller may use: permission first, then whether there is such a key, then its
//! state.

use std::cell::RefCell;
use std::sync::Arc;

use crate::core::Core;
use crate::core::access::permitted;
use crate::core::keyring::{Entry, Keyring, Target};
use crate::{Error, RequestContext};
use auth::rule::Rules;
use model::context::EncryptionContext;
use model::id::{KeyId, KeyVersionId};
use model::operation::Operation;

/// Leads from key references to keys that the caller may use.
#[derive(Clone, Copy)]
pub(crate) struct KeyAccess<'a, 'k> {
    core: &'a Core,
    keyring: &'k Keyring,
    rules: &'a Rules,
    call: &'a RequestContext,
    operation: Operation,
    /// What the rules are asked about.
    permission: &'static str,
    /// Gets the ARNs of keys that were asked for and refused.
    refused: Option<&'a RefCell<Vec<Arc<str>>>>,
}

impl<'a, 'k> KeyAccess<'a, 'k> {
    pub(crate) fn new(
        core: &'a Core,
        keyring: &'k Keyring,
        rules: &'a Rules,
        call: &'a RequestContext,
        operation: Operation,
    ) -> Self {
        Self { core, keyring, rules, call, operation, permission: operation.spec().permission, refused: None }
    }

    /// Has the ARNs of keys that are refused put there.
    pub(crate) fn noting(self, refused: &'a RefCell<Vec<Arc<str>>>) -> Self {
        Self { refused: Some(refused), ..self }
    }

    /// The way to keys whose ciphertexts are opened, in an operation that has two.
    pub(crate) fn of_source(self) -> Self {
        Self { permission: self.operation.spec().source_permission.unwrap_or(self.permission), ..self }
    }

    /// The key that a request names.
    pub(crate) fn reference(&self, text: &str) -> Result<KeyId, Error> {
        self.core.key_named(self.operation, text, &self.keyring.catalogue)
    }

    /// The key with this id, if the caller may do this with it in its present state.
    pub(crate) fn open(&self, id: KeyId, context: Option<&EncryptionContext>) -> Result<&'k Entry, Error> {
        let entry = self.keyring.key(id);
        self.allowed(id, entry, context)?;
        let entry = entry.ok_or_else(|| self.unknown(id))?;
        let allowed = self.operation.spec().allowed_states;
        if allowed.contains(&entry.state) { Ok(entry) } else { Err(entry.refusal(allowed)) }
    }

    /// Whether there is such a key, for callers who may do this with it.
    pub(crate) fn knows(&self, id: KeyId, context: Option<&EncryptionContext>) -> Result<bool, Error> {
        let entry = self.keyring.key(id);
        self.allowed(id, entry, context)?;
        Ok(entry.is_some())
    }

    /// Whether there was such a key, for callers who may do this with it.
    pub(crate) fn was_deleted(&self, id: KeyId) -> bool {
        self.keyring.catalogue.destroyed_of(id).next().is_some()
    }

    /// The rules are asked about the ARN, whether there is such a key or not.
    fn allowed(&self, id: KeyId, entry: Option<&Entry>, context: Option<&EncryptionContext>) -> Result<(), Error> {
        let ask = |arn: &str| permitted(self.rules, self.call, self.permission, arn, context);
        let Some(entry) = entry else {
            let arn: Arc<str> = self.core.scope().key_arn(id).into();
            let allowed = ask(&arn);
            self.put_down(&arn);
            return allowed;
        };
        let allowed = ask(&entry.arn);
        // Leaves the counts of the entry alone, which all processors read, as long as nothing is refused.
        if allowed.is_err() || !self.operation.spec().allowed_states.contains(&entry.state) {
            self.put_down(&entry.arn);
        }
        allowed
    }

    /// Has a key put on record with an item that was refused for another reason than this key.
    pub(crate) fn note(&self, target: Target<'_>) {
        self.put_down(&target.entry.arn);
    }

    fn put_down(&self, arn: &Arc<str>) {
        if let Some(refused) = self.refused {
            refused.borrow_mut().push(Arc::clone(arn));
        }
    }

    /// The current version of the key that a request names.
    pub(crate) fn current(&self, text: &str, context: &EncryptionContext) -> Result<Target<'k>, Error> {
        let entry = self.open(self.reference(text)?, Some(context))?;
        entry.current().ok_or_else(|| entry.refusal(&[]))
    }

    /// A version of a key by its number; `None` where the key has none of that number.
    pub(crate) fn numbered(
        &self,
        version: KeyVersionId,
        context: &EncryptionContext,
    ) -> Result<Option<Target<'k>>, Error> {
        Ok(self.open(version.key, Some(context))?.numbered(version.version))
    }

    pub(crate) fn unknown(&self, id: KeyId) -> Error {
        Error::no_key(&self.core.scope().key_arn(id))
    }
}
