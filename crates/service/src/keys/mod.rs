//! Operations on keys.

pub(crate) mod create_alias;
pub(crate) mod create_key;
mod delete_alias;
pub(crate) mod describe_key;
pub(crate) mod list_aliases;
pub(crate) mod list_keys;
mod list_resource_tags;
mod switch_key;
mod tag_resource;
mod token;
mod update_alias;
mod update_key_description;
