//! A PKCS#11 module that forwards to a real one, fails on demand, and has the habits of other HSMs. See README.md.

mod chaos;
mod codes;
mod control;
mod decide;
mod forward;
mod iv;
mod network;
mod personality;
mod rules;
mod state;

pub use control::Control;
pub use forward::C_GetFunctionList;
