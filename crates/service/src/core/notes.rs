//! What a use case tells the record of its call, beside what that was asked for.

use std::fmt;
use std::sync::{Arc, Mutex};

use audit::event::{Fields, Value};
use model::lock::MutexExt as _;

/// Notes for a record, taken while the call is carried out. Clones are the same notes.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Noting>>);

/// What was noted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noting {
    /// What is answered, of what AWS records.
    pub(crate) response: Option<Fields>,
    /// What else is to be said.
    pub(crate) additional: Fields,
    /// ARNs of what it was about, too.
    pub(crate) resources: Vec<Arc<str>>,
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notes")
    }
}

impl Notes {
    /// This is what the call answers. It stands in the record of a call that succeeds.
    pub(crate) fn answer(&self, response: Fields) {
        self.0.lock_anyway().response = Some(response);
    }

    /// This is to be said, too.
    pub(crate) fn add(&self, name: &'static str, value: impl Into<Value>) {
        self.0.lock_anyway().additional.push(name, value.into());
    }

    /// It was about this, too.
    pub(crate) fn about(&self, arn: impl Into<Arc<str>>) {
        self.0.lock_anyway().resources.push(arn.into());
    }

    /// All of it.
    pub(crate) fn taken(&self) -> Noting {
        self.0.lock_anyway().clone()
    }
}
