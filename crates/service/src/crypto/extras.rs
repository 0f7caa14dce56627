//! What requests may carry beside what they are about.

use crate::Error;
use crate::core::grant_token::GrantTokens;
use model::exception::Exception;

/// What AWS KMS's requests may carry beside what they are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Everything is to be decided that can be decided without an HSM, and nothing done.
    pub dry_run: bool,
    /// Of a dry run: the ciphertext is neither needed nor looked at.
    pub ignore_ciphertext: bool,
    /// There is a modifier of dry runs with it that nobody knows.
    pub unknown_modifier: bool,
    /// They add nothing: a grant counts from when it was made.
    pub grant_tokens: GrantTokens,
    /// There is a recipient with it, for whom the answer is to be encrypted.
    pub recipient: bool,
}

impl Extras {
    /// Refuses what no call of anybody may come with. Ignored, a recipient would have a plaintext come back that only an
    /// enclave was to see.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let unsupported = |message: &str| Err(Error::permanent(Exception::UnsupportedOperation, message));
        self.grant_tokens.check()?;
        if self.recipient {
            return unsupported(
                "recipients are not supported: this service checks no attestation documents, and encrypts no answer for an \
                 enclave. Call without a recipient, from where the plaintext may be seen",
            );
        }
        if self.unknown_modifier {
            return Err(Error::validation("dryRunModifiers: the only one there is is IGNORE_CIPHERTEXT"));
        }
        if self.ignore_ciphertext && !self.dry_run {
            return Err(Error::validation(
                "dryRunModifiers: only a dry run takes modifiers; set dryRun, or leave them out",
            ));
        }
        Ok(())
    }
}

impl Error {
    /// The end of a dry run that found nothing to refuse.
    pub(crate) fn dry_run() -> Self {
        let message = "The request would have succeeded, but the DryRun option is set.";
        Self::permanent(Exception::DryRunOperation, message)
    }
}
