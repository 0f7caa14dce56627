//! Operations on key stores.

mod connect_key_store;
pub(crate) mod create_key_store;
mod delete_key_store;
pub(crate) mod describe_key_stores;
mod disconnect_key_store;
mod inspect;
pub(crate) mod reseal_pins;
pub(crate) mod update_key_store;
