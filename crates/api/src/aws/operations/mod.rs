//! What each operation of AWS KMS asks of the use cases, and what their results look like to AWS's clients.
//!
//! Nothing about keys is decided here: an operation turns its members into a use case's input, and the result back. What
//! AWS could do with other keys than those of a custom key store is refused as AWS refuses it for such a key
//! ([`foreign`]). Members that AWS's clients may send and nothing here can honour (a recipient, a service principal, a
//! key of another Region's kind) are refused by name and never passed over.
//!
//! What fails before a use case has the call leaves `call.trace` untouched, so that the listener records the refusal.

mod aliases;
mod asked;
mod create_key;
mod crypto;
mod data_keys;
mod deletion;
mod foreign;
mod grants;
mod key_metadata;
mod key_stores;
mod keys;
mod output;
mod policies;
mod random;
mod rotation;
mod tags;
#[cfg(test)]
pub(super) mod tests;

use bytes::BytesMut;

use super::error::Failure;
use super::model::Input;
use service::{RequestContext, Service};

/// The JSON of an answer, or why there is none.
type Answer = Result<BytesMut, Failure>;

/// What a request says beside its body.
#[derive(Clone, Debug, Default)]
pub(super) struct CallExtras {
    /// The header `amz-sdk-invocation-id`, or PHP's `aws-sdk-invocation-id`: the same in each try of one call.
    pub(super) invocation_id: Option<String>,
}

/// Carries out an operation of the model. The answer may hold a plaintext: whoever writes it out wipes it.
pub(super) async fn answer(
    service: &Service,
    call: &RequestContext,
    operation: &str,
    mut input: Input,
    extras: &CallExtras,
) -> Answer {
    let asked = &mut input;
    match operation {
        "Encrypt" => crypto::encrypt(service, call, asked).await,
        "Decrypt" => crypto::decrypt(service, call, asked).await,
        "ReEncrypt" => crypto::re_encrypt(service, call, asked).await,
        "GenerateDataKey" => data_keys::generate(service, call, asked).await,
        "GenerateDataKeyWithoutPlaintext" => data_keys::generate_without_plaintext(service, call, asked).await,
        "GenerateRandom" => random::generate(service, call, asked).await,

        "CreateKey" => create_key::create(service, call, asked, extras).await,
        "DescribeKey" => keys::describe(service, call, asked).await,
        "ListKeys" => keys::list(service, call, asked).await,
        "EnableKey" => keys::enable(service, call, asked).await,
        "DisableKey" => keys::disable(service, call, asked).await,
        "UpdateKeyDescription" => keys::update_description(service, call, asked).await,
        "GetKeyLastUsage" => keys::last_usage(service, call, asked).await,
        "ScheduleKeyDeletion" => deletion::schedule(service, call, asked).await,
        "CancelKeyDeletion" => deletion::cancel(service, call, asked).await,

        "EnableKeyRotation" => rotation::enable(service, call, asked).await,
        "DisableKeyRotation" => rotation::disable(service, call, asked).await,
        "GetKeyRotationStatus" => rotation::status(service, call, asked).await,
        "RotateKeyOnDemand" => rotation::rotate(service, call, asked).await,
        "ListKeyRotations" => rotation::list(service, call, asked).await,

        "CreateAlias" => aliases::create(service, call, asked).await,
        "UpdateAlias" => aliases::update(service, call, asked).await,
        "DeleteAlias" => aliases::delete(service, call, asked).await,
        "ListAliases" => aliases::list(service, call, asked).await,
        "TagResource" => tags::tag(service, call, asked).await,
        "UntagResource" => tags::untag(service, call, asked).await,
        "ListResourceTags" => tags::list(service, call, asked).await,

        "PutKeyPolicy" => policies::put(service, call, asked).await,
        "GetKeyPolicy" => policies::get(service, call, asked).await,
        "ListKeyPolicies" => policies::list(service, call, asked).await,
        "CreateGrant" => grants::create(service, call, asked).await,
        "ListGrants" => grants::list(service, call, asked).await,
        "ListRetirableGrants" => grants::list_retirable(service, call, asked).await,
        "RetireGrant" => grants::retire(service, call, asked).await,
        "RevokeGrant" => grants::revoke(service, call, asked).await,

        "CreateCustomKeyStore" => key_stores::create(service, call, asked).await,
        "UpdateCustomKeyStore" => key_stores::update(service, call, asked).await,
        "DeleteCustomKeyStore" => key_stores::delete(service, call, asked).await,
        "DescribeCustomKeyStores" => key_stores::describe(service, call, asked).await,
        "ConnectCustomKeyStore" => key_stores::connect(service, call, asked).await,
        "DisconnectCustomKeyStore" => key_stores::disconnect(service, call, asked).await,

        other => match foreign::reason(other) {
            Some(reason) => foreign::refuse(service, call, other, reason, asked),
            None => Err(Failure::unknown_operation()),
        },
    }
}
