//! Errors of the layers below, as callers may know them.

use crate::core::validate;
use model::exception::Exception;
use model::id::{ApprovalId, GrantId, KeyReferenceError};
use model::key::KeyState;
use model::key_store::ConnectionState;
use model::operation::{Effect, Operation};
use store::{AccessError, Key, Version};
use telemetry::sampled::{self, Line};

/// What went wrong, as the caller may know it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{exception}: {message}")]
pub struct Error {
    /// AWS's exception name.
    pub exception: Exception,
    /// For humans: what happened, to which key, and what to do. Empty for InvalidCiphertextException.
    pub message: String,
    /// The same call may succeed in a moment.
    pub retryable: bool,
    /// The approval that the call waits for, where others have to approve it.
    pub approval: Option<ApprovalId>,
}

impl Error {
    /// An error of this name.
    #[must_use]
    pub fn new(exception: Exception, message: impl Into<String>, retryable: bool) -> Self {
        Self { exception, message: message.into(), retryable, approval: None }
    }

    /// An error that the same call would meet again.
    pub(crate) fn permanent(exception: Exception, message: impl Into<String>) -> Self {
        Self::new(exception, message, false)
    }

    /// An error that the same call may not meet again.
    pub(crate) fn transient(exception: Exception, message: impl Into<String>) -> Self {
        Self::new(exception, message, true)
    }

    /// A parameter is not what it must be.
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::permanent(Exception::Validation, message)
    }

    /// The one answer to every bad ciphertext.
    pub(crate) fn invalid_ciphertext() -> Self {
        Self::permanent(Exception::InvalidCiphertext, String::new())
    }

    /// The deadline passed.
    pub(crate) fn late() -> Self {
        Self::transient(
            Exception::DependencyTimeout,
            "there was no answer from an HSM before the deadline; try again, or with a longer deadline",
        )
    }

    /// The record of the call was not accepted, so that nothing of it is given out.
    pub(crate) fn not_recorded(operation: Operation) -> Self {
        match operation.spec().effect {
            Effect::Uses | Effect::Shows => Self::transient(
                Exception::KmsInternal,
                "the call could not be recorded, and nothing is given out without its record; try again in a moment",
            ),
            Effect::Changes => Self::permanent(
                Exception::KmsInternal,
                "the call could not be recorded, and its answer is withheld; what it asked for was done all the same, so \
                 look before it is repeated",
            ),
        }
    }

    /// Something was changed during each of several last looks at the results of a batch, and a further one would take too
    /// long to have everybody wait for it who changes something.
    pub(crate) fn changed_all_the_time() -> Self {
        Self::transient(
            Exception::KmsInternal,
            "keys or permissions were changed each time that the results of the batch were looked at before they are given \
             out, so that they are withheld; try again in a moment, with fewer items at once",
        )
    }

    /// That the call is about to be carried out was not accepted by the log, so that it was not.
    pub(crate) fn not_intended() -> Self {
        Self::transient(
            Exception::KmsInternal,
            "the call could not be recorded, and nothing is changed without a record; nothing was done, try again in a \
             moment",
        )
    }

    /// A fault in the program broke the call off, perhaps after its work. The panic's place is in the log.
    pub(crate) fn broken_off() -> Self {
        Self::internal("a call was broken off by a fault")
    }

    /// The daemon's own fault. What was asked for may have been done: it is looked for before it is asked for again.
    pub(crate) fn internal(what: &str) -> Self {
        if sampled::whole(Line::OwnFault, &what) {
            tracing::error!(what, "internal error");
        }
        Self::permanent(Exception::KmsInternal, "internal error; the daemon's log says more")
    }

    /// A key that is not there.
    pub(crate) fn no_key(arn: &str) -> Self {
        Self::permanent(Exception::NotFound, format!("Key '{arn}' does not exist"))
    }

    /// A key's state forbids what was asked for. AWS's texts.
    pub(crate) fn in_state(arn: &str, state: KeyState) -> Self {
        let invalid = |message: String| Self::permanent(Exception::KmsInvalidState, message);
        match state {
            KeyState::Disabled => Self::permanent(Exception::Disabled, format!("{arn} is disabled.")),
            KeyState::PendingDeletion => invalid(format!("{arn} is pending deletion.")),
            KeyState::Creating => Self::transient(Exception::KmsInvalidState, format!("{arn} is creating.")),
            // Only the destroying of material is illegal for these.
            KeyState::Enabled => invalid(format!("{arn} is enabled; disable it first.")),
            KeyState::Unavailable => invalid(format!("{arn} is unavailable.")),
        }
    }

    /// A key store that is not there.
    pub(crate) fn no_key_store(id: &str) -> Self {
        Self::no_such_key_store("id", id)
    }

    /// A key store that is not there, by what it was looked for.
    pub(crate) fn no_such_key_store(what: &str, value: &str) -> Self {
        let shown = validate::shown(value);
        Self::permanent(Exception::CustomKeyStoreNotFound, format!("there is no key store with the {what} '{shown}'"))
    }

    /// A cluster that the configuration does not describe.
    pub(crate) fn no_cluster(id: &str) -> Self {
        let shown = validate::shown(id);
        Self::permanent(Exception::CloudHsmClusterNotFound, format!("the configuration describes no cluster '{shown}'"))
    }

    /// What a cluster said about an operation on a key (or on none, for random bytes and the making of keys).
    pub(crate) fn of_cluster(error: cluster::Error, key_arn: Option<&str>) -> Self {
        match error {
            cluster::Error::BadCiphertext => Self::invalid_ciphertext(),
            cluster::Error::Busy => {
                Self::transient(Exception::Throttling, "the HSMs that could do it are busy; try again in a moment")
            }
            cluster::Error::WouldMissDeadline(wait) => Self::transient(
                Exception::Throttling,
                format!(
                    "so much waits for the HSMs (some {} ms of work) that the answer would have come after the deadline; \
                     nothing was begun: try again in a moment, or with a longer deadline",
                    wait.as_millis()
                ),
            ),
            cluster::Error::DeadlineExceeded => Self::late(),
            // Of a version that was being made: whoever uses one says which it is.
            cluster::Error::KeyGone => removed_everywhere(key_arn.unwrap_or("the key"), Escrow::Kept),
            cluster::Error::NoZone(why) => {
                Self::transient(Exception::KmsInvalidState, format!("no HSM answers at the moment: {why}"))
            }
            cluster::Error::Refused(why) => Self::permanent(
                Exception::KmsInvalidState,
                format!("no HSM answers, and none will before an operator has seen to them: {why}"),
            ),
            cluster::Error::TooFewZones(why) => Self::permanent(
                Exception::CloudHsmClusterInvalidConfiguration,
                format!("HSMs in at least two zones must be reachable: {why}"),
            ),
            cluster::Error::Hsm { hsm, fault } => {
                // Function and code are for operators; callers learn which HSM to ask them about.
                if sampled::whole(Line::Hsm, &hsm) {
                    tracing::warn!(%hsm, function = %fault.function, code = fault.code, class = ?fault.class, %fault,
                        key = key_arn, "an HSM refused");
                }
                Self::transient(Exception::KmsInternal, format!("HSM {hsm} failed; the daemon's log says how"))
            }
        }
    }

    /// What the metadata said about a change.
    pub(crate) fn of_store(error: store::Error) -> Self {
        match error {
            store::Error::TokenConflict => Self::permanent(Exception::Conflict, error.to_string()),
            store::Error::NameInUse(_) => Self::permanent(Exception::CustomKeyStoreNameInUse, error.to_string()),
            store::Error::ClusterInUse(_) => Self::permanent(Exception::CloudHsmClusterInUse, error.to_string()),
            store::Error::Quota(_) => Self::permanent(Exception::LimitExceeded, error.to_string()),
            store::Error::TooManyKeys(..) => Self::permanent(
                Exception::LimitExceeded,
                format!("{error}; those that wait for deletion count as well. Have keys deleted, or the limit raised"),
            ),
            store::Error::TooManyTags(_) => Self::permanent(Exception::Tag, validate::TOO_MANY_TAGS),
            store::Error::HasKeys => Self::permanent(
                Exception::CustomKeyStoreHasCmks,
                "the key store has keys; one with keys, pending deletion or not, cannot be deleted",
            ),
            store::Error::State(state) => Self::permanent(
                Exception::CustomKeyStoreInvalidState,
                format!("the key store is {}; {}", state.name(), way_out(state)),
            ),
            store::Error::NoKeyStore(_) => Self::permanent(Exception::CustomKeyStoreNotFound, error.to_string()),
            store::Error::Access(error) => Self::of_access(&error),
            // The store has said it in the log; here it is each caller's to know.
            transient if transient.passes() => Self::unrecorded(&transient),
            other => Self::internal(&other.to_string()),
        }
    }

    /// A grant that a key does not have.
    pub(crate) fn no_grant(id: &GrantId) -> Self {
        Self::permanent(Exception::NotFound, format!("Grant ID {} not found", validate::shown(id.as_str())))
    }

    /// What stands against a change of who may do what.
    fn of_access(error: &AccessError) -> Self {
        let exception = match error {
            AccessError::NoPrincipal(_)
            | AccessError::NoIdentity(..)
            | AccessError::NoAccessKey(..)
            | AccessError::NoGroup(_)
            | AccessError::NoMember(..)
            | AccessError::NoPolicy(_)
            | AccessError::NotAttached(..)
            | AccessError::NoGrant(..)
            | AccessError::NoApproval(_) => Exception::NotFound,
            AccessError::ArnInUse(_) | AccessError::IdentityInUse(..) | AccessError::GroupInUse(_) => {
                Exception::AlreadyExists
            }
            AccessError::PrincipalChanged(_) => Exception::MalformedPolicyDocument,
            AccessError::NameTooLong(_) => Exception::Validation,
            AccessError::TooMany { .. } => Exception::LimitExceeded,
            AccessError::PolicyAttached(..)
            | AccessError::OtherRequest(_)
            | AccessError::ApprovalOver(..)
            | AccessError::ApprovalExpired(_)
            | AccessError::VotedDown(..)
            | AccessError::NotApproved { .. }
            | AccessError::OwnRequest(_) => Exception::Conflict,
        };
        Self::permanent(exception, error.to_string())
    }

    /// Something could not be recorded, for a reason that passes.
    pub(crate) fn unrecorded(error: &store::Error) -> Self {
        Self::transient(Exception::KmsInternal, format!("this could not be recorded: {error}; then call again"))
    }
}

impl From<KeyReferenceError> for Error {
    fn from(error: KeyReferenceError) -> Self {
        let exception = match error {
            KeyReferenceError::MalformedArn(_) | KeyReferenceError::AliasNotTaken => Exception::InvalidArn,
            KeyReferenceError::OtherAccount => Exception::AccessDenied,
            KeyReferenceError::NotAKeyId(_)
            | KeyReferenceError::Elsewhere(_)
            | KeyReferenceError::UnknownAlias(_)
            | KeyReferenceError::MultiRegion(_) => Exception::NotFound,
        };
        Self::permanent(exception, error.to_string())
    }
}

/// What an operator can do in a state that forbids something.
const fn way_out(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::Disconnected => "connect it first",
        ConnectionState::Connecting => "wait until it is connected, or disconnect it",
        ConnectionState::Connected => "disconnect it first",
        ConnectionState::Disconnecting => "wait until it is disconnected",
        ConnectionState::Failed => "disconnect it, mend what failed, connect it",
    }
}

/// Whether a version whose objects are gone can be placed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escrow {
    /// From its escrow.
    Kept,
    /// It was made in place.
    None,
}

impl Escrow {
    /// What there is of a version.
    pub(crate) fn of(version: Option<&Version>) -> Self {
        if version.is_some_and(|version| version.in_place) { Self::None } else { Self::Kept }
    }
}

/// The objects of a version that is used are gone in every HSM. An older one leaves the key usable.
pub(crate) fn version_removed_everywhere(key: &Key, key_arn: &str, version: u32) -> Error {
    let escrow = Escrow::of(key.version(version));
    match version == key.current_version {
        true => removed_everywhere(key_arn, escrow),
        false => removed_everywhere(&format!("Version {version} of {key_arn}"), escrow),
    }
}

/// The objects of a key, or of a version of it, are gone in every HSM.
pub(crate) fn removed_everywhere(what: &str, escrow: Escrow) -> Error {
    let way_out = match escrow {
        Escrow::Kept => "has the key placed again from its escrow",
        Escrow::None => {
            "whether the vendor's own means bring the HSM's objects back: the key was made in place, and there is no other \
             copy of it"
        }
    };
    Error::permanent(
        Exception::KmsInvalidState,
        format!(
            "{what} is unavailable. Its objects were removed in every HSM that held it: an operator finds out who \
             removed them and why, and {way_out}."
        ),
    )
}
