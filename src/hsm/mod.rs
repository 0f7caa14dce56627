//! One HSM: the worker processes that hold its module, and the supervisor that holds them.
//!
//! [`protocol`] is what crosses the process border. [`supervisor`] is the parent's side and knows no PKCS#11;
//! [`worker`] is the child's side and knows no async runtime.

pub mod protocol;
pub mod supervisor;
pub mod worker;
