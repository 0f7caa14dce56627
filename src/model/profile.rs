//! Vendors' habits that decide how an HSM is run.

use serde::{Deserialize, Serialize};

/// Which vendor's habits to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// SoftHSM 2.6: threads of one module instance hinder each other, hot copies pay.
    SoftHsm,
    /// Anything else: no assumption beyond the standard.
    Generic,
}
