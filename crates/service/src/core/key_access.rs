//! From what a request names to keys that its caller may use: permission first, then whether there is such a key, then its
//! state.

use std::cell::RefCell;
use std::sync::Arc;

use crate::Error;
use crate::core::access::{NO_KEY, Said};
use crate::core::authority::{Judge, KEY_SPEC, Subject};
use crate::core::keyring::{Entry, Target};
use auth::policy::Parameters;
use model::id::KeyId;
use model::operation::{Operation, Plane};

/// Leads from key references to keys that the caller may use.
#[derive(Clone, Copy)]
pub(crate) struct KeyAccess<'a, 'k> {
    judge: &'a Judge<'k>,
    operation: Operation,
    /// What is asked for.
    permission: &'static str,
    /// Of an operation that has two keys: whether they are one.
    same_key: Option<bool>,
    /// Gets the ARNs of keys that were asked for and refused.
    refused: Option<&'a RefCell<Vec<Arc<str>>>>,
}

impl<'a, 'k> KeyAccess<'a, 'k> {
    pub(crate) fn new(judge: &'a Judge<'k>, operation: Operation) -> Self {
        Self { judge, operation, permission: operation.spec().permission, same_key: None, refused: None }
    }

    /// Has the ARNs of keys that are refused put there.
    pub(crate) fn noting(self, refused: &'a RefCell<Vec<Arc<str>>>) -> Self {
        Self { refused: Some(refused), ..self }
    }

    /// The way to keys whose ciphertexts are opened, in an operation that has two.
    pub(crate) fn of_source(self) -> Self {
        Self { permission: self.operation.spec().source_permission.unwrap_or(self.permission), ..self }
    }

    /// The same in an operation that has two keys, which are one, or are not.
    pub(crate) fn on_same_key(self, same_key: bool) -> Self {
        Self { same_key: Some(same_key), ..self }
    }

    /// The key that a request names, whoever asks.
    pub(crate) fn reference(&self, text: &str) -> Result<KeyId, Error> {
        self.judge.core().key_named(self.judge.call(), self.operation, text, &self.judge.keyring().catalogue)
    }

    /// The same; that there is no such alias is told to callers who may do this with a key.
    pub(crate) fn named(&self, text: &str, said: &Said) -> Result<KeyId, Error> {
        let (core, named) = (self.judge.core(), self.reference(text));
        if core.is_unknown_alias(self.operation, text, &named) {
            let arn = core.scope().key_arn(NO_KEY);
            self.judge.allows(self.permission, Subject::NoKey(&arn), self.parameters(said.parameters()))?;
        }
        named
    }

    /// The key with this id, if the caller may do this with it in its present state.
    pub(crate) fn open(&self, id: KeyId, parameters: Parameters<'_>) -> Result<&'k Entry, Error> {
        let entry = self.judge.keyring().key(id);
        self.allowed(id, entry, parameters)?;
        self.in_state(entry.ok_or_else(|| self.unknown(id))?)
    }

    /// A key with which the caller may do this, if it is in a state in which that can be done.
    pub(crate) fn in_state(&self, entry: &'k Entry) -> Result<&'k Entry, Error> {
        let allowed = self.operation.spec().allowed_states;
        if allowed.contains(&entry.state) { Ok(entry) } else { Err(entry.refusal(allowed)) }
    }

    /// The key of this id if there is one, for callers who may do this with it; in whatever state.
    pub(crate) fn find(&self, id: KeyId, said: &Said) -> Result<Option<&'k Entry>, Error> {
        let entry = self.judge.keyring().key(id);
        self.allowed(id, entry, said.parameters())?;
        Ok(entry)
    }

    /// Whether there was such a key, for callers who may do this with it.
    pub(crate) fn was_deleted(&self, id: KeyId) -> bool {
        self.judge.keyring().catalogue.destroyed_of(id).next().is_some()
    }

    /// The ARN is asked about, whether there is such a key or not.
    fn allowed(&self, id: KeyId, entry: Option<&Entry>, parameters: Parameters<'_>) -> Result<(), Error> {
        let parameters = self.parameters(parameters);
        let Some(entry) = entry else {
            let arn: Arc<str> = self.judge.core().scope().key_arn(id).into();
            let allowed = self.judge.allows(self.permission, Subject::NoKey(&arn), parameters);
            self.put_down(&arn);
            return allowed;
        };
        let allowed = self.judge.allows(self.permission, Subject::Key(entry), parameters);
        // Leaves the counts of the entry alone, which all processors read, as long as nothing is refused.
        if allowed.is_err() || !self.operation.spec().allowed_states.contains(&entry.state) {
            self.put_down(&entry.arn);
        }
        allowed
    }

    fn parameters<'p>(&self, parameters: Parameters<'p>) -> Parameters<'p> {
        let encryption_algorithm = (self.operation.spec().plane() == Plane::Data).then_some(KEY_SPEC);
        Parameters { encryption_algorithm, same_key: self.same_key, ..parameters }
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
    pub(crate) fn current(&self, text: &str, said: &Said) -> Result<Target<'k>, Error> {
        let entry = self.open(self.named(text, said)?, said.parameters())?;
        entry.current().ok_or_else(|| entry.refusal(&[]))
    }

    pub(crate) fn unknown(&self, id: KeyId) -> Error {
        Error::no_key(&self.judge.core().scope().key_arn(id))
    }
}
