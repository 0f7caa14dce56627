//! From the words by which calls name things to what permission is asked about, whether there is such a thing or not.

use super::access::Named;
use super::{Core, validate};
use crate::{Error, RequestContext};
use model::exception::Exception;
use model::id::{ALIAS_PREFIX, AliasName, KeyId, KeyReference, KeyReferenceError};
use model::limits;
use model::operation::{Operation, Resource};
use store::Catalogue;

/// The alias by which a text names a key, alone or in an ARN.
pub(crate) fn alias_in(text: &str) -> Option<AliasName> {
    let name = text.starts_with(ALIAS_PREFIX).then_some(text);
    let name = name.or_else(|| text.strip_prefix("arn:")?.splitn(5, ':').nth(4))?;
    AliasName::parse(name)
}

impl Core {
    /// The key that a request names, whether there is one with this id or not. Where the operation takes aliases, an
    /// alias stands for the key that has it in this catalogue.
    pub(crate) fn key_named(
        &self,
        call: &RequestContext,
        operation: Operation,
        text: &str,
        catalogue: &Catalogue,
    ) -> Result<KeyId, Error> {
        validate::key_reference(text)?;
        let takes_aliases = operation.spec().resource == Resource::KeyOrAlias;
        let reference = self.scope().parse_key_reference(text).map_err(|error| match error {
            KeyReferenceError::OtherAccount => self.in_other_account(call, operation),
            KeyReferenceError::UnknownAlias(_) if !takes_aliases => KeyReferenceError::AliasNotTaken.into(),
            error => error.into(),
        });
        match reference? {
            KeyReference::Id(id) => Ok(id),
            KeyReference::Alias(_) if !takes_aliases => Err(KeyReferenceError::AliasNotTaken.into()),
            KeyReference::Alias(name) => {
                let unknown = || KeyReferenceError::UnknownAlias(self.scope().alias_arn(name.as_str()));
                Ok(catalogue.key_with_alias(&name).ok_or_else(unknown)?.id)
            }
        }
    }

    /// What AWS says of a key of another account, whether there is one or not: no policy here can let anybody use it.
    fn in_other_account(&self, call: &RequestContext, operation: Operation) -> Error {
        let keyring = self.keyring();
        let (_, who) = keyring.party(&call.principal);
        let permission = operation.spec().permission;
        let what =
            format!("User: {who} is not authorized to perform: {permission} {}", KeyReferenceError::OtherAccount);
        Error::permanent(Exception::AccessDenied, what)
    }

    /// Whether a request names a key by an alias that no key has.
    pub(crate) fn is_unknown_alias(&self, operation: Operation, text: &str, named: &Result<KeyId, Error>) -> bool {
        let not_found = matches!(named, Err(error) if error.exception == Exception::NotFound);
        let is_ours = || matches!(self.scope().parse_key_reference(text), Ok(KeyReference::Alias(_)));
        not_found && operation.spec().resource == Resource::KeyOrAlias && is_ours()
    }

    /// What a call names that is no key.
    pub(crate) fn arn_of(&self, operation: Operation, id: &str) -> Named {
        let named = self.arn_of_name(operation, id).unwrap_or_else(Named::refused);
        match operation.spec().resource {
            Resource::Alias => named.named_by("aliasName", id),
            Resource::KeyStore => named.named_by("customKeyStoreId", id),
            Resource::Cluster => named.named_by("clusterId", id),
            Resource::Principal => named.named_by("principalArn", id),
            Resource::Group => named.named_by("groupName", id),
            Resource::Policy => named.named_by("policyName", id),
            Resource::Key | Resource::KeyOrAlias | Resource::Approval | Resource::AuditLog | Resource::Account => named,
        }
    }

    fn arn_of_name(&self, operation: Operation, id: &str) -> Result<Named, Error> {
        let scope = self.scope();
        Ok(match operation.spec().resource {
            Resource::Alias => Named::other(scope.alias_arn(validate::alias_name(id)?)),
            _ if id.is_empty() => Named::nothing(),
            Resource::KeyStore => {
                validate::length("customKeyStoreId", id.len(), 1, limits::KEY_STORE_ID_BYTES)?;
                Named::other(scope.key_store_arn(id))
            }
            Resource::Cluster => Named::other(scope.cluster_arn(validate::cluster_id(id)?.as_str())),
            Resource::Principal => {
                validate::principal_arn(scope, "principalArn", id)?;
                Named::other(id)
            }
            Resource::Group => Named::other(scope.group_arn(validate::access_name("groupName", id)?)),
            Resource::Policy => Named::other(scope.policy_arn(validate::access_name("policyName", id)?)),
            Resource::Key | Resource::KeyOrAlias | Resource::Approval | Resource::AuditLog | Resource::Account => {
                Named::nothing()
            }
        })
    }
}
