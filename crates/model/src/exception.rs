//! The names by which callers know an error: AWS KMS's exception names.

use std::fmt;

macro_rules! exceptions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// One of AWS's exception names, as it stands on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Exception { $($(#[$doc])* $variant),+ }

        impl Exception {
            /// All of them, in the order of this file.
            pub const ALL: &[Exception] = &[$(Exception::$variant),+];

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Exception::$variant => $name),+ }
            }
        }
    };
}

exceptions! {
    /// A parameter is missing, malformed or out of its bounds. Caller's fault.
    Validation = "ValidationException",
    /// The key does not exist. Caller's fault.
    NotFound = "NotFoundException",
    /// Not an ARN, or not one of this kind. Caller's fault.
    InvalidArn = "InvalidArnException",
    /// The key is disabled. Caller's fault.
    Disabled = "DisabledException",
    /// The key's state or the state of its store forbids the operation, or no HSM answered.
    KmsInvalidState = "KMSInvalidStateException",
    /// The ciphertext or its context is wrong; never with a reason. Caller's fault.
    InvalidCiphertext = "InvalidCiphertextException",
    /// The ciphertext is another key's than the one named. Caller's fault.
    IncorrectKey = "IncorrectKeyException",
    /// The key's usage forbids the operation. Caller's fault.
    InvalidKeyUsage = "InvalidKeyUsageException",
    /// This service does not do that. Caller's fault.
    UnsupportedOperation = "UnsupportedOperationException",
    /// The same `client_token` was used with other parameters. Caller's fault.
    Conflict = "ConflictException",
    /// There is one of this name already. Caller's fault.
    AlreadyExists = "AlreadyExistsException",
    /// No alias may have this name. Caller's fault.
    InvalidAliasName = "InvalidAliasNameException",
    /// A policy cannot be read, names somebody whom there is not, or would lock its caller out. Caller's fault.
    MalformedPolicyDocument = "MalformedPolicyDocumentException",
    /// A grant token that this service did not give. Caller's fault.
    InvalidGrantToken = "InvalidGrantTokenException",
    /// Not what the id of a grant looks like. Caller's fault.
    InvalidGrantId = "InvalidGrantIdException",
    /// A tag is not as tags must be. Caller's fault.
    Tag = "TagException",
    /// Everything would have worked, but the caller asked for a dry run.
    DryRunOperation = "DryRunOperationException",
    /// A list marker that this service did not give. Caller's fault.
    InvalidMarker = "InvalidMarkerException",
    /// A quota is used up.
    LimitExceeded = "LimitExceededException",
    /// The caller may not do that.
    AccessDenied = "AccessDeniedException",
    /// Too much at once; the same call may succeed in a moment.
    Throttling = "ThrottlingException",
    /// The key store does not exist. Caller's fault.
    CustomKeyStoreNotFound = "CustomKeyStoreNotFoundException",
    /// The state of the key store forbids the operation.
    CustomKeyStoreInvalidState = "CustomKeyStoreInvalidStateException",
    /// Another key store has this name.
    CustomKeyStoreNameInUse = "CustomKeyStoreNameInUseException",
    /// A key store with keys cannot be deleted.
    CustomKeyStoreHasCmks = "CustomKeyStoreHasCMKsException",
    /// The configuration describes no such cluster. Caller's fault.
    CloudHsmClusterNotFound = "CloudHsmClusterNotFoundException",
    /// The cluster belongs to another key store.
    CloudHsmClusterInUse = "CloudHsmClusterInUseException",
    /// No HSM of the cluster can be reached, or the ceremony was not carried out.
    CloudHsmClusterNotActive = "CloudHsmClusterNotActiveException",
    /// The cluster's HSMs are certified by another authority than the key store's trust anchor.
    CloudHsmClusterNotRelated = "CloudHsmClusterNotRelatedException",
    /// The certificate is not the one under which the cluster's HSMs are certified. Caller's fault.
    IncorrectTrustAnchor = "IncorrectTrustAnchorException",
    /// Fewer than two HSMs in distinct zones can be reached.
    CloudHsmClusterInvalidConfiguration = "CloudHsmClusterInvalidConfigurationException",
    /// No answer within the caller's deadline.
    DependencyTimeout = "DependencyTimeoutException",
    /// Key material cannot be reached for the moment.
    KeyUnavailable = "KeyUnavailableException",
    /// Our fault.
    KmsInternal = "KMSInternalException",
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
