//! Operations on keys.

pub(crate) mod create_key;
pub(crate) mod delete_key;
pub(crate) mod describe_key;
pub(crate) mod destroy_key_material;
pub(crate) mod get_key_last_usage;
mod list_keys;
pub(crate) mod rotate_key;
mod switch_key;
