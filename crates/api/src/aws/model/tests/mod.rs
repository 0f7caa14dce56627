//! Tests of the whole: bodies in, inputs and AWS's messages out.

mod arbitrary;
mod every_constraint;
mod samples;
mod texts;
mod types;

use super::{Input, Wrong, operation};

fn read(name: &str, body: &str) -> Result<Input, Wrong> {
    operation(name).unwrap().read(body.as_bytes())
}

/// What ValidationException says.
fn validation(name: &str, body: &str) -> String {
    match read(name, body).err() {
        Some(Wrong::Validation(message)) => message,
        other => panic!("{name} {body}: {other:?}"),
    }
}

/// What SerializationException says.
fn serialization(name: &str, body: &str) -> String {
    match read(name, body).err() {
        Some(Wrong::Serialization(message)) => message,
        other => panic!("{name} {body}: {other:?}"),
    }
}
