//! What things are: ids, keys, states, the operation table, the ciphertext and its context, limits, and how
//! text may look.
//!
//! Ground floor: imports no other room, does no I/O, and everything in it is a value or a pure function.

#![forbid(unsafe_code)]

pub mod call_options;
pub mod ciphertext;
pub mod clock;
pub mod context;
pub mod exception;
pub mod given;
pub mod id;
pub mod identity;
pub mod key;
pub mod key_store;
pub mod limits;
pub mod lock;
pub mod operation;
pub mod outage;
pub mod pin;
pub mod profile;
pub mod sandbox;
pub mod secret;
pub mod step;
pub mod text;
mod zone;
