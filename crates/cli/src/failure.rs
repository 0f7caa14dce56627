//! What can go wrong, with the exit code that tells a script and the hint that tells a person what to do next.

use std::process::ExitCode;

use client::{self, Code, Fault, Trouble, seal};
use model::key_store::ConnectionErrorCode;
use model::outage::Outage;

/// Exit codes other than 0. They are part of the interface: scripts read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// The service or an HSM refused, or a connect came to nothing, or a fault in the service broke the call off.
    Refused = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No connection, or none under this certificate.
    Unreachable = 3,
    /// The same call may succeed in a moment.
    Retryable = 4,
    /// Trouble with a local file.
    Local = 5,
    /// The user ended it; 128 and SIGINT, as shells have it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    /// AWS KMS's exception name, where the service gave one.
    pub(super) exception: Option<String>,
    /// Where a connect came to nothing.
    pub(super) connection_error: Option<ConnectionErrorCode>,
    /// gRPC's code, where there was a call.
    pub(super) code: Option<Code>,
    /// What is wrong with the connection, where there is none.
    pub(super) trouble: Option<Trouble>,
    pub(super) message: String,
    /// By which the call is found in the service's log.
    pub(super) request_id: Option<String>,
    /// The approval that the call waits for, where others have to approve it.
    pub(super) approval_id: Option<Box<str>>,
    /// What to do next.
    pub(super) hint: Option<String>,
}

impl Failure {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(super) fn local(message: impl Into<String>) -> Self {
        Self::new(Exit::Local, message)
    }

    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            exception: None,
            connection_error: None,
            code: None,
            trouble: None,
            message: message.into(),
            request_id: None,
            approval_id: None,
            hint: None,
        }
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Whether the same may succeed later though nobody changes anything here: no connection is one of those, and a certificate
    /// that is not taken is not.
    pub(super) fn may_pass(&self) -> bool {
        match self.exit {
            Exit::Retryable => true,
            Exit::Unreachable => {
                self.code != Some(Code::Unauthenticated) && matches!(self.trouble, None | Some(Trouble::Connection))
            }
            Exit::Refused => self.was_broken_off(),
            _ => false,
        }
    }

    /// A fault in the service ended the call, which may have been done all the same.
    pub(super) fn was_broken_off(&self) -> bool {
        self.exit == Exit::Refused && self.code == Some(Code::Internal)
    }

    /// The same with this hint instead, where the service gave this exception: what it means depends on the command.
    pub(super) fn hinted_where(self, exception: &str, hint: &str) -> Self {
        if self.exception.as_deref() == Some(exception) { self.with_hint(hint) } else { self }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let exit = match error.fault() {
            Fault::Caller | Fault::Unclear => Exit::Refused,
            Fault::Connection => Exit::Unreachable,
            Fault::Service => Exit::Retryable,
        };
        let hint = match &error.approval_id {
            Some(id) => Some(format!(
                "others look at it with `keystorectl approval show {id}` and approve it with `keystorectl approval approve \
                 {id}`; then repeat the same command"
            )),
            None => hint(exit, &error).map(str::to_owned),
        };
        let client::Error { exception, message, code, request_id, trouble, approval_id, .. } = error;
        let approval_id = approval_id.map(String::into_boxed_str);
        let code = Some(code);
        Self { exit, exception, connection_error: None, code, trouble, message, request_id, approval_id, hint }
    }
}

const CLIENT_CERTIFICATE: &str = "--cert and --cert-key must be a certificate of the client CA that is valid now and names you (a SPIFFE \
                                  URI, a DNS name or a common name)";

fn hint(exit: Exit, error: &client::Error) -> Option<&'static str> {
    if error.code == Code::Unauthenticated {
        return Some(CLIENT_CERTIFICATE);
    }
    if let Some(exception) = &error.exception {
        let hint = match exception.as_str() {
            "NotFoundException" => {
                "`keystorectl key list` shows the keys there are, `keystorectl alias list` their aliases"
            }
            "AccessDeniedException" => {
                "`keystorectl whoami` shows who you are to the service; `keystorectl access explain` shows what is missing, to \
                 whoever may ask"
            }
            "MalformedPolicyDocumentException" => {
                "`keystorectl access check FILE` shows all that is wrong with it (with --key-policy, as a key's)"
            }
            "AlreadyExistsException" => "take another name; `keystorectl alias update` gives an alias to another key",
            "CustomKeyStoreNotFoundException" => "`keystorectl key-store describe` shows the key stores there are",
            "InvalidCiphertextException" => {
                "the ciphertext must be complete and unaltered, and every --context pair the same as at encryption"
            }
            "IncorrectKeyException" => "leave --key out to decrypt under the key that the ciphertext names",
            "DisabledException" => "`keystorectl key enable KEY` puts it to use again",
            "KMSInvalidStateException" if !error.retryable => {
                "`keystorectl key describe KEY` shows the state of the key and where it is; one that is Unavailable waits \
                 for its key store: `keystorectl key-store connect`"
            }
            "KMSInvalidStateException" | "KeyUnavailableException" | "CloudHsmClusterInvalidConfigurationException" => {
                "`keystorectl key-store describe` shows the health of each HSM"
            }
            "CustomKeyStoreInvalidStateException" => {
                "`keystorectl key-store describe` shows its state; a FAILED one is disconnected first, then mended, then \
                 connected"
            }
            "CustomKeyStoreNameInUseException" => "take another name",
            "CustomKeyStoreHasCMKsException" => {
                "`keystorectl key list` shows the keys; a key store goes after its keys"
            }
            "CloudHsmClusterNotFoundException" => {
                "`keystorectl cluster status` shows the clusters of the configuration"
            }
            "CloudHsmClusterInUseException" => "`keystorectl cluster status` shows which key store is over it",
            "CloudHsmClusterNotActiveException" => {
                "`keystorectl cluster status` shows what is with each HSM; `keystored check` tells whether the ceremony \
                 was carried out"
            }
            "CloudHsmClusterNotRelatedException" => {
                "take a cluster that was certified under the trust anchor of the key store, or make another key store"
            }
            "IncorrectTrustAnchorException" => "give the customerCA.crt of the folder of this cluster's ceremony",
            "ConflictException" => {
                "things are not as the command takes them to be: look at what the message names, and repeat it; where that \
                 is a --client-token, give another one, or the same parameters as before"
            }
            "ThrottlingException" => "try again in a moment, with fewer calls at once",
            "LimitExceededException" => "this does not pass by itself; the message says which limit was reached",
            "DependencyTimeoutException" => "try again, or allow more time with --timeout",
            "KMSInternalException" if exit == Exit::Refused => {
                "it may have been done all the same: look before you repeat it; the log of the service has the details under \
                 the request id"
            }
            "KMSInternalException" => "try again; the log of the service has the details under the request id",
            _ => return None,
        };
        return Some(hint);
    }
    match (exit, error.code) {
        (_, Code::DeadlineExceeded) => Some("try again, or allow more time with --timeout"),
        (_, Code::Unimplemented) => Some("is this a keystored, and of this version?"),
        (Exit::Unreachable, _) => trouble_hint(error.trouble),
        _ => None,
    }
}

/// What to do about a connection that is not there.
fn trouble_hint(trouble: Option<Trouble>) -> Option<&'static str> {
    match trouble {
        Some(Trouble::Address) => None,
        Some(Trouble::Files) => {
            Some("--ca, --cert and --cert-key must be PEM files, and the key the one of the certificate")
        }
        Some(Trouble::ClientCertificate) => Some(CLIENT_CERTIFICATE),
        Some(Trouble::ServerCertificate) => Some("--ca must be the CA of the service at this very address"),
        Some(Trouble::Connection) | None => {
            Some("check the address and that keystored runs; after `keystored dev`, give --env-file dev/dev.env")
        }
    }
}

impl From<seal::Error> for Failure {
    fn from(error: seal::Error) -> Self {
        let hint = match &error {
            seal::Error::Service(service) if service.exception.as_deref() == Some("InvalidCiphertextException") => {
                return Self::from(service.clone())
                    .with_hint("the header of the file was altered, or the file was sealed with another service");
            }
            seal::Error::Service(service) => return service.clone().into(),
            seal::Error::Interrupted => return Self::new(Exit::Interrupted, "interrupted; nothing was written"),
            seal::Error::Exists(_) => Some("give --force to replace it"),
            seal::Error::Output { cause, .. } | seal::Error::Write(cause)
                if Outage::of(cause) == Some(Outage::Full) =>
            {
                Some("free space on its disk; nothing was written")
            }
            seal::Error::SameFile(_) => Some("give the output another name"),
            seal::Error::NotSealed => Some("only what `keystorectl file seal` wrote can be opened"),
            seal::Error::Version(_) => Some("use a newer keystorectl"),
            seal::Error::Header(_) | seal::Error::Chunk { .. } => {
                Some("nothing was written; take another copy of the sealed file")
            }
            seal::Error::TooLarge => Some("seal it with a larger --chunk-kib"),
            _ => None,
        };
        Self { hint: hint.map(str::to_owned), ..Self::local(error.to_string()) }
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::local(error.to_string())
    }
}

impl From<ceremony::Error> for Failure {
    fn from(error: ceremony::Error) -> Self {
        match &error {
            ceremony::Error::Hsm { .. } => {
                Self::new(Exit::Refused, error.to_string()).with_hint("the same command goes on from where it stopped")
            }
            ceremony::Error::Inconsistent(_) => Self::new(Exit::Refused, error.to_string()),
            ceremony::Error::LockDir(why) => Self::local(why.to_string()).with_hint(why.remedy()),
            ceremony::Error::Folder { .. } | ceremony::Error::StateDir { .. } => Self::local(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(exception: Option<&str>, code: Code, retryable: bool) -> client::Error {
        client::Error {
            exception: exception.map(str::to_owned),
            message: "text".to_owned(),
            retryable,
            code,
            request_id: None,
            trouble: None,
            approval_id: None,
        }
    }

    #[test]
    fn exit_codes_say_whose_turn_it_is() {
        for (exception, code, retryable, exit) in [
            (Some("NotFoundException"), Code::NotFound, false, Exit::Refused),
            (Some("ValidationException"), Code::InvalidArgument, false, Exit::Refused),
            (Some("KMSInvalidStateException"), Code::FailedPrecondition, false, Exit::Refused),
            (Some("KMSInvalidStateException"), Code::Unavailable, true, Exit::Retryable),
            (Some("ThrottlingException"), Code::ResourceExhausted, true, Exit::Retryable),
            (None, Code::DeadlineExceeded, true, Exit::Retryable),
            (None, Code::Unavailable, false, Exit::Unreachable),
            (None, Code::Unauthenticated, false, Exit::Unreachable),
            (Some("AccessDeniedException"), Code::PermissionDenied, false, Exit::Refused),
            (Some("KMSInternalException"), Code::Unavailable, true, Exit::Retryable),
            (Some("KMSInternalException"), Code::Internal, false, Exit::Refused),
        ] {
            assert_eq!(Failure::from(error(exception, code, retryable)).exit, exit, "{exception:?} {code:?}");
        }
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        let of = |code, trouble| Failure::from(client::Error { trouble, ..error(None, code, false) }).may_pass();
        assert!(of(Code::Unavailable, None) && of(Code::Unavailable, Some(Trouble::Connection)));
        assert!(of(Code::DeadlineExceeded, None));
        assert!(Failure::from(error(Some("ThrottlingException"), Code::ResourceExhausted, true)).may_pass());
        let stays = [Trouble::Address, Trouble::Files, Trouble::ClientCertificate, Trouble::ServerCertificate];
        assert!(stays.into_iter().all(|trouble| !of(Code::Unavailable, Some(trouble))));
        assert!(!of(Code::Unauthenticated, None));
        assert!(!Failure::from(error(Some("AccessDeniedException"), Code::PermissionDenied, false)).may_pass());
        assert!(!Failure::local("a file").may_pass());
    }

    /// The service says of it that it is not to be repeated as it is.
    #[test]
    fn what_a_fault_broke_off_is_looked_at_before_it_is_repeated() {
        let failure = Failure::from(error(Some("KMSInternalException"), Code::Internal, false));
        assert!(failure.was_broken_off() && failure.may_pass(), "{failure:?}");
        assert!(failure.hint.unwrap().contains("look before you repeat it"));
        let passing = Failure::from(error(Some("KMSInternalException"), Code::Unavailable, true));
        assert!(!passing.was_broken_off() && passing.hint.unwrap().starts_with("try again"));
    }

    #[test]
    fn what_waits_for_others_says_what_these_do() {
        let denied = error(Some("AccessDeniedException"), Code::PermissionDenied, false);
        assert!(Failure::from(denied.clone()).hint.unwrap().contains("keystorectl whoami"));
        let waits = Failure::from(client::Error { approval_id: Some("apr-1".to_owned()), ..denied });
        assert!(waits.hint.as_ref().unwrap().contains("`keystorectl approval show apr-1`"), "{waits:?}");
        assert_eq!(waits.approval_id.as_deref(), Some("apr-1"));
    }

    #[test]
    fn a_conflict_says_what_to_look_at() {
        let conflict = Failure::from(error(Some("ConflictException"), Code::AlreadyExists, false));
        assert!(conflict.hint.unwrap().contains("--client-token"));
    }

    #[test]
    fn an_altered_file_is_local_trouble_and_an_altered_header_the_services_refusal() {
        let chunk = Failure::from(seal::Error::Chunk { number: 3 });
        assert_eq!(chunk.exit, Exit::Local);
        assert!(chunk.message.contains("chunk 3"));
        let refused = error(Some("InvalidCiphertextException"), Code::InvalidArgument, false);
        let header = Failure::from(seal::Error::Service(refused));
        assert_eq!(header.exit, Exit::Refused);
        assert!(header.hint.unwrap().contains("header of the file"));
    }
}
