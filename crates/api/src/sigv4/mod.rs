//! Placeholder: signatures of requests.

use std::time::SystemTime;

use http::request::Parts;

/// What a signature must be for.
pub struct Expected<'a> {
    /// The region.
    pub region: &'a str,
    /// Of one of these services.
    pub services: &'a [&'a str],
}

/// What a request claims.
pub struct Claim(String);

/// Why it is not taken.
#[derive(Debug, thiserror::Error)]
#[error("Missing Authentication Token")]
pub struct Refusal;

/// Judges by the head.
pub fn claim(_: &Parts, _: &Expected<'_>, _: SystemTime) -> Result<Claim, Refusal> {
    Err(Refusal)
}

impl Claim {
    /// The key.
    pub fn access_key_id(&self) -> &str {
        &self.0
    }

    /// The service.
    pub fn service(&self) -> &str {
        &self.0
    }

    /// Judges by all.
    pub fn verify(&self, _: &str, _: &Parts, _: &[u8]) -> Result<(), Refusal> {
        Err(Refusal)
    }
}

impl Refusal {
    /// No such key.
    pub const fn unknown_key() -> Self {
        Self
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        "MissingAuthenticationTokenException"
    }

    /// Its status.
    pub const fn status(&self) -> u16 {
        400
    }

    /// Its name in STS.
    pub const fn query_name(&self) -> &'static str {
        "MissingAuthenticationToken"
    }

    /// Its status there.
    pub const fn query_status(&self) -> u16 {
        403
    }
}
