//! Which calls over AWS's interface never come to a use case: those that nobody has signed, those that cannot be read,
//! those that only AWS can carry out, those that nobody can, and those for which there is no room.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Response, Uri};

use super::answer::ERROR_TYPE;
use super::error::Failure;
use super::metering::{NO_ROOM, THROTTLING};
use super::target::{TARGET, Target, named};
use crate::receipt::{self, Headers};
use crate::recorded::{Refusals, Refused};
use crate::sigv4;
use ::model::exception::Exception;
use ::model::operation::Operation;
use auth::peer::{Peer, Principal};
use auth::request::Interface;
use service::Error;

/// AWS's.
#[derive(Clone, Copy, Debug)]
pub struct AwsRefusals;

/// In the extensions of an answer: the call came to no use case, and why.
#[derive(Clone, Debug)]
pub(super) struct Unheard {
    /// Who called, where that is proven.
    pub(super) principal: Option<Principal>,
    /// With which access key somebody claims to have signed, where that is not proven.
    pub(super) claimed: Option<String>,
    pub(super) asked: AskedFor,
    pub(super) failure: Failure,
    pub(super) request_id: Arc<str>,
}

/// What was asked for, as records know it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AskedFor {
    /// Absent for what only AWS has, and for what there is not.
    pub(super) operation: Option<Operation>,
    /// AWS's name of what only AWS has.
    pub(super) event: Option<&'static str>,
}

impl AskedFor {
    pub(super) fn of(target: &Target) -> Self {
        let operation = target.operation();
        match target {
            Target::Kms(asked) if operation.is_none() => Self { operation, event: Some(asked.name()) },
            _ => Self { operation, event: None },
        }
    }

    /// By the header alone.
    pub(super) fn named(target: Option<&HeaderValue>) -> Self {
        let operation = target.and_then(|target| named(target.to_str().ok()?));
        operation.map_or_else(Self::default, |operation| Self::of(&Target::Kms(operation)))
    }
}

impl Refusals for AwsRefusals {
    const INTERFACE: Interface = Interface::AwsJson;
    const RECEIPTS: Headers = receipt::AWS;
    type Asked = Option<HeaderValue>;

    fn asked(&self, _: &Uri, headers: &HeaderMap) -> Option<Self::Asked> {
        Some(headers.get(TARGET).cloned())
    }

    fn refused<A>(
        &self,
        target: Self::Asked,
        _: Option<&Peer>,
        _: SystemTime,
        answer: &mut Response<A>,
    ) -> Option<Refused> {
        let name = answer.headers().get(ERROR_TYPE)?;
        let full = name == THROTTLING;
        let unheard = answer.extensions_mut().remove::<Unheard>();
        // A call for which there was no room, so that nobody has read what it asks for.
        let unheard = unheard.or_else(|| {
            full.then(|| Unheard {
                principal: None,
                claimed: None,
                asked: AskedFor::named(target.as_ref()),
                failure: Failure::new(Exception::Throttling, NO_ROOM),
                request_id: "".into(),
            })
        });
        let Unheard { principal, claimed, asked: AskedFor { operation, event }, failure, request_id } = unheard?;
        // That a form asks for something else of STS is seen when it is read.
        let operation = operation.filter(|_| !matches!(failure.name, "InvalidAction" | "MissingAction"));
        Some(Refused { principal, request_id, operation, event, error: error(failure, claimed.as_deref()) })
    }
}

/// A failure in the service's words. What has a name of AWS's front end alone was not let in.
fn error(Failure { name, message, .. }: Failure, claimed: Option<&str>) -> Error {
    let named = Exception::ALL.iter().find(|exception| exception.name() == name).copied();
    let exception = named.unwrap_or(match name {
        "SerializationException" | "RequestEntityTooLargeException" | "RequestTimeoutException" => {
            Exception::Validation
        }
        "InvalidAction" | "MissingAction" | "UnknownOperationException" => Exception::Validation,
        _ => Exception::AccessDenied,
    });
    // Others read it than whoever has sent that, who may have taken the secret for the name of the key.
    let mut text = match sigv4::without_credential(&message) {
        "" => name.to_owned(),
        message => format!("{name}: {message}"),
    };
    if let Some(id) = claimed {
        text.push_str(&format!(" (said to be signed with the access key {id})"));
    }
    Error::new(exception, text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_aws_has_keeps_its_name() {
        let of = |target: &'static str| {
            let AskedFor { operation, event } = AskedFor::named(Some(&HeaderValue::from_static(target)));
            (operation, event)
        };
        assert_eq!(of("TrentService.Encrypt"), (Some(Operation::Encrypt), None));
        assert_eq!(of("TrentService.Sign"), (None, Some("Sign")));
        assert_eq!(of("TrentService.Sing"), (None, None));
        let AskedFor { operation, event } = AskedFor::named(None);
        assert_eq!((operation, event), (None, None));
    }

    #[test]
    fn a_record_says_what_clients_are_told_and_with_which_key_they_claim_to_sign() {
        let unknown = error(Failure::unknown_operation(), None);
        assert_eq!((unknown.exception, unknown.message.as_str()), (Exception::Validation, "UnknownOperationException"));
        let failure = Failure { name: "InvalidSignatureException", status: 400, message: "no".to_owned() };
        let refused = error(failure, Some("AKKS1"));
        let text = "InvalidSignatureException: no (said to be signed with the access key AKKS1)";
        assert_eq!((refused.exception, refused.message.as_str()), (Exception::AccessDenied, text));
        assert_eq!(error(Failure::unsupported("no"), None).exception, Exception::UnsupportedOperation);
    }
}
