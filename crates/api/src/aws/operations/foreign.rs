//! Operations that a key of a custom key store cannot have, or that come later: refused as AWS refuses them for such a
//! key.
//!
//! The key is looked at first, as DescribeKey looks at it and with its permission: whoever may not see it learns nothing
//! of whether it is there, and a key that is not there is told from one that cannot do it. That look is no call of its
//! own: what is on record is the operation that was asked for, as refused.

use super::Answer;
use super::asked::{grant_tokens, names_alias, text};
use crate::aws::error::Failure;
use crate::aws::model::Input;
use model::exception::Exception;
use model::id::KeyReferenceError;
use service::{RequestContext, Service};

/// Why an operation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Keys for encryption are for nothing else.
    Usage,
    /// Key pairs for data are made under keys in no custom key store.
    KeyPair,
    /// A symmetric key has no public half.
    PublicKey,
    /// The material is made in the HSMs.
    Import,
    /// A key of a custom key store belongs to one Region.
    MultiRegion,
}

/// Why an operation of AWS KMS is refused; `None` for those that are not, and for what is no operation.
pub(super) fn reason(operation: &str) -> Option<Reason> {
    Some(match operation {
        "Sign" | "Verify" | "GenerateMac" | "VerifyMac" | "DeriveSharedSecret" | "Encapsulate" | "Decapsulate" => {
            Reason::Usage
        }
        "GenerateDataKeyPair" | "GenerateDataKeyPairWithoutPlaintext" => Reason::KeyPair,
        "GetPublicKey" => Reason::PublicKey,
        "GetParametersForImport" | "ImportKeyMaterial" | "DeleteImportedKeyMaterial" => Reason::Import,
        "ReplicateKey" | "UpdatePrimaryRegion" => Reason::MultiRegion,
        _ => return None,
    })
}

/// Refuses an operation, to whoever may see the key.
pub(super) fn refuse(
    service: &Service,
    call: &RequestContext,
    operation: &str,
    reason: Reason,
    asked: &mut Input,
) -> Answer {
    let key_id = text(asked, "KeyId");
    // The caller's rate binds whatever is named.
    let looked = service.key_of_refused(call, &key_id, grant_tokens(asked));
    let throttled = looked.as_ref().is_err_and(|error| error.exception == Exception::Throttling);
    // These name a key by its id or ARN alone. What is said of an alias is the same whether there is one.
    if matches!(reason, Reason::Import | Reason::MultiRegion) && names_alias(&key_id) && !throttled {
        return Err(Failure::new(Exception::InvalidArn, KeyReferenceError::AliasNotTaken.to_string()));
    }
    Err(refusal(operation, reason, &looked?.arn))
}

fn refusal(operation: &str, reason: Reason, arn: &str) -> Failure {
    match reason {
        Reason::Usage => {
            let what = format!("{arn} key usage is ENCRYPT_DECRYPT which is not valid for {operation}.");
            Failure::new(Exception::InvalidKeyUsage, what)
        }
        Reason::KeyPair => Failure::unsupported(format!(
            "{arn} is in a custom key store, with whose keys {operation} is not supported."
        )),
        Reason::PublicKey => {
            Failure::unsupported(format!("{arn} is a symmetric encryption key, which has no public key."))
        }
        Reason::Import => {
            Failure::unsupported(format!("{arn} origin is AWS_CLOUDHSM which is not valid for this operation."))
        }
        Reason::MultiRegion => Failure::unsupported(format!("{arn} is not a multi-region primary key.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_aws_s() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        let of = |operation: &str| {
            let failure = refusal(operation, reason(operation).unwrap(), arn);
            assert_eq!(failure.status, 400);
            (failure.name, failure.message)
        };
        let usage = format!("{arn} key usage is ENCRYPT_DECRYPT which is not valid for GenerateMac.");
        assert_eq!(of("GenerateMac"), ("InvalidKeyUsageException", usage));
        let origin = format!("{arn} origin is AWS_CLOUDHSM which is not valid for this operation.");
        for operation in ["GetParametersForImport", "ImportKeyMaterial", "DeleteImportedKeyMaterial"] {
            assert_eq!(of(operation), ("UnsupportedOperationException", origin.clone()));
        }
        for operation in ["GenerateDataKeyPair", "GetPublicKey", "ReplicateKey", "UpdatePrimaryRegion"] {
            let (name, message) = of(operation);
            assert_eq!(name, "UnsupportedOperationException");
            assert!(message.starts_with(arn) && message.ends_with('.'), "{message}");
        }
        assert_eq!(reason("Encrypt"), None);
        assert_eq!(reason("Sing"), None);
    }
}
