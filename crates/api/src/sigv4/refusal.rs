//! Why a request is not taken for its signer's, in AWS's names and words.

use std::borrow::Cow;

/// A request whose signature is not accepted. `Display` is AWS's text where AWS has one; it never holds what would help
/// to sign: neither the secret, nor the signature that would have been right, nor what that is made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    kind: Kind,
    message: Cow<'static, str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Not signed at all.
    Missing,
    /// What should be a signature cannot be read as one.
    Incomplete,
    /// It can be read, and does not hold for this request, here and now.
    Invalid,
    /// Made with a key that is not one of ours.
    UnknownKey,
}

impl Refusal {
    /// Nobody has the access key that a claim names, or it is disabled. AWS has one text for both, and so do we.
    #[must_use]
    pub const fn unknown_key() -> Self {
        Self {
            kind: Kind::UnknownKey,
            message: Cow::Borrowed("The security token included in the request is invalid."),
        }
    }

    /// The secret's signature is another one.
    pub(super) const fn mismatch() -> Self {
        Self {
            kind: Kind::Invalid,
            message: Cow::Borrowed(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                 Access Key and signing method. Consult the service documentation for details.",
            ),
        }
    }

    /// It is signed for a host that is none of this service's names.
    #[must_use]
    pub fn other_host(host: &[u8]) -> Self {
        let host = shown(host);
        Self::invalid(format!(
            "The request is signed for the host '{host}', which is none of the names of this service. Check the endpoint \
             that your client is configured with."
        ))
    }

    pub(super) const fn missing() -> Self {
        Self { kind: Kind::Missing, message: Cow::Borrowed("Missing Authentication Token") }
    }

    pub(super) fn incomplete(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Incomplete, message: message.into() }
    }

    pub(super) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Invalid, message: message.into() }
    }

    /// Its name among JSON services, such as KMS.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Missing => "MissingAuthenticationTokenException",
            Kind::Incomplete => "IncompleteSignatureException",
            Kind::Invalid => "InvalidSignatureException",
            Kind::UnknownKey => "UnrecognizedClientException",
        }
    }

    /// The status that goes with [`Refusal::name`].
    #[must_use]
    pub const fn status(&self) -> u16 {
        400
    }

    /// Its name among services of the query protocol, such as STS. A clock that is wrong is no exception: STS says
    /// SignatureDoesNotMatch to that too, and clients set their clocks by it.
    #[must_use]
    pub const fn query_name(&self) -> &'static str {
        match self.kind {
            Kind::Missing => "MissingAuthenticationToken",
            Kind::Incomplete => "IncompleteSignature",
            Kind::Invalid => "SignatureDoesNotMatch",
            Kind::UnknownKey => "InvalidClientTokenId",
        }
    }

    /// The status that goes with [`Refusal::query_name`].
    #[must_use]
    pub const fn query_status(&self) -> u16 {
        match self.kind {
            Kind::Incomplete => 400,
            Kind::Missing | Kind::Invalid | Kind::UnknownKey => 403,
        }
    }
}

/// What a caller sent, as far as a message shows it: its beginning, and nothing that could break a line or a terminal.
pub(super) fn shown(sent: impl AsRef<[u8]>) -> String {
    const LONGEST: usize = 128;
    let sent = sent.as_ref();
    let beginning = &sent[..sent.len().min(LONGEST)];
    let rest = if sent.len() > LONGEST { "…" } else { "" };
    format!("{}{rest}", beginning.escape_ascii())
}
