//! Operations on keys.

pub(crate) mod create_alias;
pub(crate) mod create_key;
mod delete_alias;
pub(crate) mod delete_key;
pub(crate) mod describe_key;
pub(crate) mod destroy_key_material;
pub(crate) mod get_key_last_usage;
pub(crate) mod list_aliases;
pub(crate) mod list_keys;
mod list_resource_tags;
pub(crate) mod recorded;
pub(crate) mod rotate_key;
mod switch_key;
mod tag_resource;
pub(crate) mod token;
mod update_alias;
mod update_key_description;
