//! ListKeys: every key, in the order of the ids.

use crate::core::{page, validate};
use crate::{Error, Page, RequestContext, Service};
use model::id::KeyId;
use model::operation::Operation;

impl Service {
    /// Lists keys: id and ARN.
    pub async fn list_keys(
        &self,
        call: &RequestContext,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<(KeyId, String)>, Error> {
        let (marker, resource) = (marker.to_owned(), self.core.arn_of(Operation::ListKeys, ""));
        self.core
            .on_catalogue(call, Operation::ListKeys, resource, move |core| {
                let limit = validate::page_limit(limit)?;
                let after = page::after('k', &marker, KeyId::parse)?;
                let catalogue = core.store().catalogue();
                let entries = catalogue.keys_after(after).map(|key| (key.id, core.scope().key_arn(key.id)));
                Ok(page::cut('k', entries, limit, |(id, _)| *id))
            })
            .await
    }
}
