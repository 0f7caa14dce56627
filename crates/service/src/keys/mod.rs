//! Operations on keys.

pub(crate) mod create_key;
pub(crate) mod describe_key;
mod list_keys;
mod switch_key;
