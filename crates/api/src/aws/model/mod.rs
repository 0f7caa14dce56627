//! The model of AWS KMS: which operations there are, and what their requests look like.
//!
//! Its facts are data (`model.json`), made of botocore's `service-2.json` by `scripts/aws-model.py`, so that a new model is
//! a difference of one file. [`ModelOperation::read`] turns a body into an [`Input`] by them, and says what is wrong with
//! one in AWS's words:
//!
//! - What is no JSON or of another type is [`Wrong::Serialization`]. The texts are those that services of AWS's with the
//!   same protocol were seen to answer with, without the parts of values that some of them repeat. Three things are
//!   stricter than AWS: no member twice, no fraction for an integer (AWS cuts it off), and no words for a truth value.
//! - What breaks a constraint is [`Wrong::Validation`], all of it in one message.
//! - `null` is as if the member was not there; in a list or a map it is refused.
//! - What the model does not know is ignored, but for what must not be (`unknown.rs`).
//!
//! **Invariant:** no value of a blob, and none that is a secret, is in a message; of others, as much as `violations.rs` says.
//! **Invariant:** what is read is wiped.

mod facts;
mod input;
mod json;
mod pattern;
mod read;
#[cfg(test)]
mod tests;
mod unknown;
mod violations;

pub use facts::ModelOperation;
pub use input::{Input, Object};
pub use read::Wrong;

use std::fmt;

use facts::MODEL;

/// The operation of this name, in exactly these letters.
#[must_use]
pub fn operation(name: &str) -> Option<&'static ModelOperation> {
    MODEL.operations.get(name)
}

/// All operations, by name.
pub fn operations() -> impl Iterator<Item = &'static ModelOperation> {
    MODEL.operations.values()
}

impl ModelOperation {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether its answer has a body. Where the model knows none, AWS answers with an empty one.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.has_output
    }

    /// Whether the model names an exception among those that this operation may end with.
    #[must_use]
    pub fn knows_exception(&self, name: &str) -> bool {
        self.exceptions.contains(&name)
    }

    /// Reads a body.
    ///
    /// # Errors
    ///
    /// [`Wrong`]; the caller's fault always.
    pub fn read(&self, body: &[u8]) -> Result<Input, Wrong> {
        read::request(&MODEL, self.input, self.name, body).map(|members| Input::new(self.name, members))
    }
}

impl fmt::Debug for ModelOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
