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

/// Whose kmsuser's PIN is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinScope {
    /// Each HSM has its own.
    #[default]
    Hsm,
    /// All HSMs of the cluster have the same: changed in one, it is changed in all.
    Cluster,
}

/// When kmsuser's PIN is rotated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotation {
    /// At each connect, as AWS KMS does.
    #[default]
    Connect,
    /// Never: this vendor's user cannot change its PIN.
    None,
}

/// Which ciphertexts are opened again, in another zone where there is one, before they are given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyWraps {
    /// Data keys that were made here, and what was encrypted anew: nobody else has looked at what they hold.
    #[default]
    DataKeys,
    /// Those, and whatever callers have encrypted.
    All,
    /// None.
    None,
}
