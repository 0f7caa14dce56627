//! All operations over a service whose key store has no HSMs in use, and the shapes of all answers against the model.

mod bench;
mod facts;
mod flows;
mod shapes;
mod walk;

use serde_json::Value;

pub(in crate::aws) use self::bench::{ANNA, Bench};
use crate::aws::model::{self, Input};

/// A request as the model reads it.
pub(in crate::aws) fn input(operation: &str, asked: &Value) -> Input {
    let operation = model::operation(operation).unwrap_or_else(|| panic!("no operation {operation}"));
    operation.read(asked.to_string().as_bytes()).unwrap_or_else(|wrong| panic!("{}: {wrong:?}", operation.name()))
}
