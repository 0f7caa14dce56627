//! ListAliases: all aliases, or those of one key, in the order of their names.

use crate::core::{page, validate};
use crate::{Error, Page, RequestContext, Service};
use model::id::{AliasName, KeyId};
use model::limits::{LIST_ALIASES_DEFAULT, LIST_ALIASES_LIMIT};
use model::operation::Operation;
use store::{Alias, Key};

/// An alias as ListAliases shows it.
#[derive(Clone, Debug)]
pub struct AliasEntry {
    /// With its prefix `alias/`.
    pub name: AliasName,
    /// Its ARN.
    pub arn: String,
    /// The key that has it.
    pub target: KeyId,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// When it was given to that key, likewise.
    pub updated_at: i64,
}

impl Service {
    /// Lists aliases; an empty `key_id` stands for all keys, else it is a key id or key ARN.
    pub async fn list_aliases(
        &self,
        call: &RequestContext,
        key_id: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<AliasEntry>, Error> {
        let operation = Operation::ListAliases;
        let of_task = call.clone();
        let said = (key_id.to_owned(), marker.to_owned());
        let resource = self.core.arn_of(operation, "");
        let resource = resource.asking(move |_, say| say.text("keyId", &said.0).page(limit, &said.1));
        let (key_id, marker) = (key_id.to_owned(), marker.to_owned());
        self.core
            .on_catalogue(call, operation, resource, move |core| {
                let limit = validate::page_limit_of(limit, LIST_ALIASES_DEFAULT, LIST_ALIASES_LIMIT)?;
                let after = page::after('a', &marker, AliasName::parse)?;
                let (scope, catalogue) = (core.scope(), core.store().catalogue());
                let entry = |alias: &Alias, key: &Key| AliasEntry {
                    name: alias.name.clone(),
                    arn: scope.alias_arn(alias.name.as_str()),
                    target: key.id,
                    created_at: alias.created_at,
                    updated_at: alias.updated_at,
                };
                let name = |entry: &AliasEntry| entry.name.clone();
                if key_id.is_empty() {
                    let all = catalogue.aliases_after(after.as_ref()).map(|(alias, key)| entry(alias, key));
                    return Ok(page::cut('a', all, limit, name));
                }
                let id = core.key_named(&of_task, operation, &key_id, &catalogue)?;
                let key = catalogue.key(id).ok_or_else(|| Error::no_key(&scope.key_arn(id)))?;
                let further = |alias: &&Alias| after.as_ref().is_none_or(|after| alias.name > *after);
                let of_key = key.aliases.iter().filter(further).map(|alias| entry(alias, key));
                Ok(page::cut('a', of_key, limit, name))
            })
            .await
    }
}
